//! A lock that is held: when its lease is renewed, when it is over, and who is told.

use crate::acquire::Acquire;
use crate::ask::{Ask, TOO_SHORT};
use crate::background::Background;
use crate::link::no_reply;
use crate::remote::Remote;
use crate::steps::Grant;
use crate::{Error, later, lock, whole_ms};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, OwnedMutexGuard, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// The hold of one token, whatever its level.
pub(crate) struct Hold {
    pub(crate) remote: Arc<Remote>,
    pub(crate) ask: Ask,
    pub(crate) background: Background,
    fence: u64,
    acquired: Instant,
    state: Mutex<State>,
    changed: Notify,
    lost: watch::Sender<bool>,
    /// What is asked of the server for this hold goes one by one, so that what it says last is what it did last.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct State {
    ends: Instant,
    lease: Duration,
    /// The levels that are not released, the innermost last.
    levels: Vec<u16>,
    /// It was lost or released. It stays so.
    over: bool,
}

impl Hold {
    pub(crate) fn new(remote: Arc<Remote>, ask: Ask, grant: &Grant, background: Background) -> Arc<Self> {
        let state = State { ends: grant.ends, lease: ask.lease, levels: vec![ask.level], over: false };
        let hold = Arc::new(Self {
            remote,
            background,
            fence: grant.fence,
            acquired: Instant::now(),
            state: Mutex::new(state),
            changed: Notify::new(),
            lost: watch::Sender::new(false),
            turn: Arc::default(),
            ask,
        });
        tokio::spawn(hold.clone().keep());
        hold
    }

    pub(crate) async fn turn(&self) -> OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }

    pub(crate) fn lease(&self) -> Duration {
        lock(&self.state).lease
    }

    pub(crate) fn innermost(&self) -> u16 {
        lock(&self.state).levels.last().copied().unwrap_or(self.ask.level)
    }

    /// Once this is zero it stays so: the lock is lost, or was released.
    fn remaining(&self) -> Duration {
        let left = {
            let state = lock(&self.state);
            if state.over {
                return Duration::ZERO;
            }
            state.ends - Instant::now()
        };
        if left.is_zero() {
            self.lose();
        }
        left
    }

    /// An inner level was granted. False when the hold was lost meanwhile: nothing says after that that it is held.
    pub(crate) fn enter(&self, level: u16, ends: Instant, lease: Duration) -> bool {
        let held = !self.remaining().is_zero();
        if held {
            let mut state = lock(&self.state);
            state.levels.push(level);
            state.ends = state.ends.max(ends);
            state.lease = state.lease.max(lease);
        }
        self.changed.notify_one();
        held
    }

    async fn extend(&self, lease: Duration) -> Result<(), Error> {
        let _turn = self.turn().await;
        if self.remaining().is_zero() {
            return Err(Error::Lost);
        }
        let until = self.shorten(later(Instant::now(), lease));
        match self.remote.extend(&self.ask, lease, until).await {
            Ok(Some(ends)) if !self.remaining().is_zero() => {
                let mut state = lock(&self.state);
                (state.ends, state.lease) = (ends, lease);
                drop(state);
                self.changed.notify_one();
                Ok(())
            }
            Ok(_) => {
                self.lose();
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

    /// A shorter lease may begin even if its reply is lost, or nobody waits for it any more. When it ends now.
    fn shorten(&self, to: Instant) -> Instant {
        let mut state = lock(&self.state);
        if to < state.ends {
            state.ends = to;
            self.changed.notify_one();
        }
        state.ends
    }

    /// Renews the lease until it is over.
    async fn keep(self: Arc<Self>) {
        let mut hung_up = std::pin::pin!(self.remote.hung_up());
        loop {
            let (ends, lease) = {
                let state = lock(&self.state);
                if state.over {
                    return;
                }
                (state.ends, state.lease)
            };
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
                () = &mut hung_up => self.lose(),
                () = sleep_until(ends) => drop(self.remaining()),
                () = renewing => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Nothing says from now on that it is held.
    fn end(&self) {
        lock(&self.state).over = true;
        self.changed.notify_one();
    }

    pub(crate) fn lose(&self) {
        let was_held = !std::mem::replace(&mut lock(&self.state).over, true);
        if was_held {
            self.tell_lost();
        }
        self.changed.notify_one();
    }

    fn tell_lost(&self) {
        self.lost.send_replace(true);
    }

    /// The server gives back a level and what is above it, so one that is not the innermost waits for those.
    async fn leave(&self, level: u16) -> Result<bool, Error> {
        let _turn = self.turn().await;
        let outer = {
            let mut state = lock(&self.state);
            let innermost = state.levels.last() == Some(&level);
            state.levels.retain(|other| *other != level);
            if !innermost {
                return Ok(true);
            }
            state.levels.last().copied().unwrap_or_default()
        };
        let ask = Ask { level: outer + 1, ..self.ask.clone() };
        self.remote.release(&ask, None).await
    }

    async fn release(&self, at_least: Duration) -> Result<bool, Error> {
        let keep_until = later(self.acquired, at_least);
        // An extension on its way must not come after the one that keeps the lock.
        let _turn = if at_least.is_zero() { None } else { Some(self.turn().await) };
        let released = self.remote.release(&self.ask, Some(keep_until)).await;
        self.remote.end();
        released
    }
}

/// A lock that is held, or one level of it.
///
/// Dropping it releases it: in the background, since dropping cannot wait. What the runtime does not come to do then,
/// because it ends, the end of the lease does. So call [`release`](Self::release) where the program ends, or where it
/// matters whether the lock was held until now.
#[must_use = "dropping it releases the lock"]
pub struct Held {
    hold: Arc<Hold>,
    ask: Ask,
    is_inner: bool,
    released: AtomicBool,
}

impl Held {
    pub(crate) fn new(hold: Arc<Hold>, ask: Ask, is_inner: bool) -> Self {
        Self { hold, ask, is_inner, released: AtomicBool::new(false) }
    }

    /// The name of the lock.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.ask.name
    }

    /// Rises with each grant: pass it on to what you write to, so that it can refuse an older holder.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.hold.fence
    }

    /// What proves that the lock is ours. Other work that is given it and [`level`](Self::level) can ask for the next
    /// level, see [`Acquire::token`].
    #[must_use]
    pub fn token(&self) -> &str {
        &self.ask.token
    }

    /// How deep it is held: 1, or more for what [`next_level`](Self::next_level) gave.
    #[must_use]
    pub fn level(&self) -> u16 {
        self.ask.level
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
        let mut lost = self.hold.lost.subscribe();
        async move {
            if lost.wait_for(|lost| *lost).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Begins the lease anew, with this length from now on if one is given. An inner level makes it no shorter.
    ///
    /// # Errors
    /// [`Error::Lost`], or what the server or the library said last, when none could be asked before the lease was over.
    pub async fn extend(&self, lease: impl Into<Option<Duration>>) -> Result<(), Error> {
        let outer = if self.is_inner { self.hold.lease() } else { Duration::ZERO };
        let lease = lease.into().map_or_else(|| self.hold.lease(), whole_ms).max(outer);
        if lease.is_zero() {
            return Err(Error::Invalid(TOO_SHORT));
        }
        if self.released.load(Ordering::Acquire) { Err(Error::Lost) } else { self.hold.extend(lease).await }
    }

    /// For work that this work calls, and that locks by itself: the next level of the same hold. It is granted at once,
    /// and ends with the outer one.
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

    fn begin_release(&self) -> Option<JoinHandle<Result<(), Error>>> {
        let was_held = self.is_held();
        if self.released.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (hold, level, at_least) = (self.hold.clone(), self.ask.level, self.ask.at_least);
        let is_inner = self.is_inner;
        if !is_inner {
            hold.end();
        }
        let releasing = self.hold.background.spawn(async move {
            let released = match is_inner {
                true => hold.leave(level).await,
                false => hold.release(if was_held { at_least } else { Duration::ZERO }).await,
            };
            match released {
                Ok(true) => Ok(()),
                Ok(false) => {
                    hold.tell_lost();
                    Err(Error::Lost)
                }
                Err(error) => Err(error),
            }
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
