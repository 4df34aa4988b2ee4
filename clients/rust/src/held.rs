//! A lock that is held: when its lease is renewed, when it is over, and who is told.

use crate::acquire::Acquire;
use crate::ask::{Ask, TOO_SHORT};
use crate::background::Background;
use crate::link::no_reply;
use crate::remote::Remote;
use crate::steps::Grant;
use crate::{Error, later, whole_ms};
use redis::{Cmd, FromRedisValue, from_redis_value};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// The levels of a hold that are not released, the innermost last. Who has them asks the server of this hold: one after
/// the other, so that what it says last is what it did last.
pub(crate) type Levels = tokio::sync::Mutex<Vec<u16>>;

/// The hold of one token, whatever its level.
pub(crate) struct Hold {
    pub(crate) remote: Arc<Remote>,
    pub(crate) ask: Ask,
    pub(crate) background: Background,
    fence: u64,
    acquired: Instant,
    levels: Arc<Levels>,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy)]
struct State {
    ends: Instant,
    lease: Duration,
    /// It was lost or released, and stays so.
    over: bool,
    lost: bool,
}

impl Hold {
    pub(crate) fn new(remote: Arc<Remote>, ask: Ask, grant: &Grant, background: Background) -> Arc<Self> {
        let hold = Arc::new(Self {
            remote,
            background,
            fence: grant.fence,
            acquired: Instant::now(),
            levels: Arc::new(Levels::new(vec![ask.level])),
            state: watch::Sender::new(State { ends: grant.ends, lease: ask.lease, over: false, lost: false }),
            ask,
        });
        tokio::spawn(hold.clone().keep());
        hold
    }

    pub(crate) async fn levels(&self) -> OwnedMutexGuard<Vec<u16>> {
        self.levels.clone().lock_owned().await
    }

    pub(crate) fn lease(&self) -> Duration {
        self.state.borrow().lease
    }

    /// What it was asked for, with the lease that it has by now: for so long a release is worth a try.
    fn asked(&self) -> Ask {
        Ask { lease: self.lease(), ..self.ask.clone() }
    }

    /// Once this is zero it stays so.
    pub(crate) fn remaining(&self) -> Duration {
        let State { ends, over, .. } = *self.state.borrow();
        let left = if over { Duration::ZERO } else { ends - Instant::now() };
        if left.is_zero() {
            self.lose();
        }
        left
    }

    /// The server has granted a level of it. False if it was lost meanwhile: nothing says after that that it is held.
    pub(crate) fn confirm_level(&self, ends: Instant, lease: Duration) -> bool {
        self.confirm(|state| {
            state.ends = state.ends.max(ends);
            state.lease = state.lease.max(lease);
        })
    }

    fn confirm(&self, how: impl FnOnce(&mut State)) -> bool {
        !self.remaining().is_zero()
            && self.state.send_if_modified(|state| {
                how(state);
                !state.over
            })
    }

    async fn extend(&self, lease: Duration) -> Result<(), Error> {
        let _levels = self.levels.lock().await;
        if self.remaining().is_zero() {
            return Err(Error::Lost);
        }
        // A shorter lease may begin even if its reply is lost, or nobody waits for it any more.
        let until = later(Instant::now(), lease).min(self.state.borrow().ends);
        self.state.send_if_modified(|state| std::mem::replace(&mut state.ends, until) > until);
        match self.remote.extend(&self.ask, lease, until).await {
            Ok(Some(ends)) if self.confirm(|state| (state.ends, state.lease) = (ends, lease)) => Ok(()),
            Ok(_) => {
                self.is_gone();
                Err(Error::Lost)
            }
            Err(error) => {
                // The connection of a session is gone, and the lock with it.
                if self.ask.session {
                    self.lose();
                }
                Err(error)
            }
        }
    }

    /// Renews the lease until it is over.
    async fn keep(self: Arc<Self>) {
        let mut changes = self.state.subscribe();
        let mut hung_up = std::pin::pin!(self.remote.hung_up());
        loop {
            let State { ends, lease, over, .. } = *changes.borrow_and_update();
            if over {
                return;
            }
            let renewing = async {
                if !self.ask.renew {
                    std::future::pending::<()>().await;
                }
                sleep_until(ends.checked_sub(lease / 3 * 2).unwrap_or(ends)).await;
                if self.extend(lease).await.is_err() {
                    // It is tried again, and lost when its time is over.
                    sleep(lease / 10).await;
                }
            };
            tokio::select! {
                biased;
                () = &mut hung_up => drop(self.lose()),
                () = sleep_until(ends) => drop(self.remaining()),
                () = renewing => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// Whether it was held until now.
    fn lose(&self) -> bool {
        self.state.send_if_modified(|state| {
            let was_held = !state.over;
            (state.over, state.lost) = (true, state.lost || was_held);
            was_held
        })
    }

    /// The server says that it is lost. Of several locks the token may still hold some, which nobody needs.
    pub(crate) fn is_gone(&self) {
        if self.lose() && self.ask.several {
            let (remote, ask) = (self.remote.clone(), self.asked());
            drop(self.background.spawn(async move { remote.release(&ask, None).await }));
        }
    }

    async fn release(&self, at_least: Duration) -> Result<bool, Error> {
        // An extension on its way must not come after the one that keeps the lock.
        let _levels = if at_least.is_zero() { None } else { Some(self.levels.lock().await) };
        let released = self.remote.release(&self.asked(), Some(later(self.acquired, at_least))).await;
        self.remote.end();
        released
    }

    /// The server gives back a level and what is above it, so one that is not the innermost waits for those.
    async fn release_level(&self, level: u16) -> Result<bool, Error> {
        let mut levels = self.levels.lock().await;
        let is_innermost = levels.last() == Some(&level);
        levels.retain(|other| *other != level);
        if !is_innermost {
            return Ok(true);
        }
        let outer = levels.last().copied().unwrap_or(self.ask.level);
        let ask = Ask { level: outer.saturating_add(1), ..self.asked() };
        self.remote.release(&ask, None).await
    }
}

/// A lock that is held, or one level of it.
///
/// Dropping it releases it: in the background, since dropping cannot wait. What the runtime does not come to do then,
/// because it ends, the end of the lease does. So call [`release`](Self::release) where it matters whether the lock was
/// held until now, and [`Locks::close`](crate::Locks::close) where the program ends.
#[must_use = "dropping it releases the lock"]
pub struct Held {
    hold: Arc<Hold>,
    level: u16,
    released: AtomicBool,
}

impl Held {
    pub(crate) fn new(hold: Arc<Hold>, level: u16) -> Self {
        Self { hold, level, released: AtomicBool::new(false) }
    }

    /// The name of the lock; of several, the first.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.hold.ask.name()
    }

    /// The names of all the locks, in the order in which they were given, without repeats.
    #[must_use]
    pub fn names(&self) -> &[Vec<u8>] {
        &self.hold.ask.names
    }

    /// Rises with each grant: pass it on to what you write to, so that it can refuse an older holder. Several locks have one
    /// together.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.hold.fence
    }

    /// What proves that the lock is ours. Other work that is given it and [`level`](Self::level) can ask for the next
    /// level, see [`Acquire::token`].
    #[must_use]
    pub fn token(&self) -> &str {
        &self.hold.ask.token
    }

    /// How deep it is held: 1, or more for what [`next_level`](Self::next_level) gave.
    #[must_use]
    pub fn level(&self) -> u16 {
        self.level
    }

    /// What is left of the lease, counted from before it was asked for.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        if self.released.load(Ordering::Acquire) { Duration::ZERO } else { self.hold.remaining() }
    }

    /// Whether it is held, as far as is known here; no server is asked. Never again once it is lost or released.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Is ready once the lock is lost. It never is if the lock is released before that, so wait for it beside something
    /// else, as in `tokio::select!`.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut state = self.hold.state.subscribe();
        async move {
            if state.wait_for(|state| state.lost).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Begins the lease anew, with this length from now on if one is given. An inner level makes it no shorter.
    ///
    /// # Errors
    /// [`Error::Lost`], or what the server or the library said last, when none could be asked before the lease was over.
    pub async fn extend(&self, lease: impl Into<Option<Duration>>) -> Result<(), Error> {
        let now = self.hold.lease();
        let lease = match lease.into().map(whole_ms) {
            Some(Duration::ZERO) => return Err(Error::Invalid(TOO_SHORT)),
            Some(lease) if self.is_inner() => lease.max(now),
            lease => lease.unwrap_or(now),
        };
        if self.is_held() { self.hold.extend(lease).await } else { Err(Error::Lost) }
    }

    /// Runs a command if the lock is held, in one step at the server: nobody else acquires the lock in between. The reply is
    /// that of the command.
    ///
    /// Its keys have to be in the slot of the lock, where there is a cluster; docs/commands.md says what cannot be guarded.
    /// Its reply is waited for as long as [`Locks::with_timeout`](crate::Locks::with_timeout) says, and it is not repeated: after
    /// an error of the connection it may have run or not, and also if this is dropped before its end.
    ///
    /// # Errors
    /// [`Error::Lost`] when the lock is not held any more: then nothing has run. [`Error::Redis`] with whatever the command,
    /// the server or the library says besides. [`Error::Invalid`] with several servers, which do not have it.
    pub async fn guard<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        self.guard_by(self.name(), command).await
    }

    /// [`guard`](Self::guard) by the one of several locks that has this name, and not by the first.
    ///
    /// # Errors
    /// Those of `guard`, and [`Error::Invalid`] when none of the locks has this name.
    pub async fn guard_by<T: FromRedisValue>(
        &self,
        name: impl AsRef<[u8]>,
        command: &Cmd,
    ) -> Result<T, Error> {
        let (hold, name) = (&self.hold, name.as_ref());
        if !self.names().iter().any(|held| held == name) {
            return Err(Error::Invalid("none of the locks that are held here has this name"));
        }
        if !self.is_held() {
            return Err(Error::Lost);
        }
        match hold.remote.guard(name, hold.ask.guard(name, command)).await {
            Ok(reply) => from_redis_value(reply).map_err(|error| Error::Redis(error.into())),
            Err(Error::Redis(error)) if error.code() == Some("NOTOWNER") => {
                hold.is_gone();
                Err(Error::Lost)
            }
            Err(error) => Err(error),
        }
    }

    /// For work that this work calls, and that locks by itself: the next level of the same hold, of several locks that of
    /// all. It is granted at once, and ends with the outer one.
    pub fn next_level(&self) -> Acquire {
        Acquire::level(self.hold.clone())
    }

    /// Gives it back. Goes on in the background if this is dropped before its end.
    ///
    /// # Errors
    /// [`Error::Lost`] when it was not held until now: somebody else may have held it during the work. Another error when
    /// no server could be asked until the lease was over.
    pub async fn release(&self) -> Result<(), Error> {
        match self.begin_release() {
            Some(releasing) => {
                releasing.await.unwrap_or_else(|_| Err(no_reply("the runtime has ended").into()))
            }
            None => Err(Error::Lost),
        }
    }

    fn is_inner(&self) -> bool {
        self.level != self.hold.ask.level
    }

    /// Whatever is known here, the server is asked once. None if it is not held.
    fn begin_release(&self) -> Option<JoinHandle<Result<(), Error>>> {
        let was_held = self.is_held();
        if self.released.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (hold, level, is_inner) = (self.hold.clone(), self.level, self.is_inner());
        if !is_inner {
            hold.state.send_modify(|state| state.over = true);
        }
        // Who was handed the token gives back a level. How long the lock lasts is up to the outer one.
        let is_outermost = hold.ask.level == 1;
        let at_least = if was_held && is_outermost { hold.ask.at_least } else { Duration::ZERO };
        let releasing = self.hold.background.spawn(async move {
            let released =
                if is_inner { hold.release_level(level).await } else { hold.release(at_least).await };
            if released? {
                return Ok(());
            }
            hold.is_gone();
            hold.state.send_modify(|state| (state.over, state.lost) = (true, true));
            Err(Error::Lost)
        });
        was_held.then_some(releasing)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.begin_release());
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the token: who reads it can release the lock.
        f.debug_struct("Held")
            .field("name", &String::from_utf8_lossy(self.name()))
            .field("fence", &self.fence())
            .field("level", &self.level())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}
