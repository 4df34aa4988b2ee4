//! Takes turns at locks, and carries out their outcome. This is the one place that changes a lock in the keyspace, and it
//! leaves nothing half done: value, replication, deadline and answers go together.
//!
//! The order of a turn:
//!
//! 1. The server is asked what it may do at the key on its own account, where that matters. This comes before the key is
//!    opened: asking can have the server delete a key whose time to live is over.
//! 2. The key is opened. Lock and table are lent to the core, which settles what is marked there and then does what was
//!    asked. Whenever it comes to a client that has waited, it stops, and the server is asked for the rights of that.
//! 3. What has changed is passed on, and the key is left as the lock is: gone when nobody holds it any more.

mod several;

pub(crate) use self::several::{count_at_each, turn_at_all};

use lock_core::answer::Answer;
use lock_core::outcome::{Authority, Change, Circumstances, End};
use lock_core::{
    ClientId, DbKey, DeadlineId, Lock, Moment, Outcome, Refusal, StringHold, Ticket, Token, Turn,
};

use crate::cluster;
use crate::config;
use crate::fault;
use crate::metrics;
use crate::notifications;
use crate::replication;
use crate::room;
use crate::server::clock;
use crate::server::ffi::{Context, Key, Occupied, OwnedRedisString, RedisString};
use crate::state::TABLE;
use crate::timer;
use crate::waiting;
use crate::writes;

/// A message to so many subscribers is as much work as a step of a turn.
const RECEIVERS_IN_A_STEP: usize = 16;

/// Takes a turn at the lock under a key, or at none if there is none.
///
/// # Errors
/// [`Refusal::WrongType`] if a value of another type stands there, that counts as no lock.
pub(crate) fn turn<'c, R>(
    context: &'c Context,
    name: RedisString<'c>,
    ask: impl FnOnce(&mut Turn<'_>) -> R,
) -> Result<R, Refusal> {
    turn_for(context, name, Passing::Verbatim, ask)
}

/// The same for a command that is not passed on as it came.
///
/// # Errors
/// As for [`turn`].
pub(crate) fn turn_for<'c, R>(
    context: &'c Context,
    name: RedisString<'c>,
    passing: Passing<'c>,
    ask: impl FnOnce(&mut Turn<'_>) -> R,
) -> Result<R, Refusal> {
    let at = db_key(context, name);
    let mut circumstances = circumstances(context, name, at);
    let (key, string) = match Key::open_to_write(context, name) {
        Ok(key) => (key.ok_or(Refusal::Internal)?, None),
        Err(occupied) => adopt(occupied, at, circumstances.now)?,
    };
    Ok(OpenLock::new(key, at, string, passing).take_turn(&mut circumstances, ask))
}

/// Takes what stands under an open key for a lock, if it is a string and that is set. What another server has decided of such a
/// string is carried out whatever is set here.
///
/// # Errors
/// [`Refusal::WrongType`] otherwise. Who waits for the key is served once it is gone.
fn adopt<'c>(
    Occupied(key): Occupied<'c, Lock>,
    at: DbKey<'_>,
    now: Moment,
) -> Result<(Key<'c, Lock>, Option<StringHold>), Refusal> {
    match string_hold(&key, now) {
        Some(string) => Ok((key, Some(string))),
        None => {
            if let Some(ttl_ms) = key.ttl_ms() {
                TABLE.with(|table| table.stands_until(at, now.plus_ms(ttl_ms)));
            }
            Err(Refusal::WrongType)
        }
    }
}

/// The hold that a string under an open key counts as, if it counts as one.
pub(crate) fn string_hold(key: &Key<'_, Lock>, now: Moment) -> Option<StringHold> {
    if !config::adopts_strings() && !key.context().is_from_master() {
        return None;
    }
    let (ttl_ms, lease_ms) = (key.ttl_ms(), config::leases().default_ms);
    key.read_string(|value| StringHold::new(value, ttl_ms, lease_ms, now))
}

/// Takes a turn for what another server has decided: a value of another type counts as none, and goes when there is a lock
/// to be put in its place.
///
/// # Errors
/// [`Refusal::Internal`] if the server opens no key.
pub(crate) fn turn_over_anything<'c, R>(
    context: &'c Context,
    name: RedisString<'c>,
    ask: impl FnOnce(&mut Turn<'_>) -> R,
) -> Result<R, Refusal> {
    let at = db_key(context, name);
    let mut circumstances = circumstances(context, name, at);
    let key = Key::open_to_replace(context, name).ok_or(Refusal::Internal)?;
    Ok(OpenLock::new(key, at, None, Passing::Verbatim).take_turn(&mut circumstances, ask))
}

/// Opens a key, whatever stands under it: the server deletes a key then whose time to live is over.
pub(crate) fn open(context: &Context, name: RedisString<'_>) {
    drop(Key::<Lock>::open_to_write(context, name));
}

/// Settles what is marked at a key. True if there was no room for all of it, and the key is still marked.
pub(crate) fn settle(context: &Context, name: RedisString<'_>) -> bool {
    let at = db_key(context, name);
    let is_settled = turn(context, name, |_| ()).is_ok();
    is_settled && room::left() == 0 && TABLE.with(|table| table.is_marked(at))
}

/// Takes the turn of a lock at which something is due, if it still stands under that key. At most `at_most` holds are seen
/// to; returns how many, or `None` where it stands there no longer.
pub(crate) fn expire(
    context: &Context,
    name: RedisString<'_>,
    id: DeadlineId,
    at_most: usize,
) -> Option<usize> {
    let at = db_key(context, name);
    let mut circumstances = circumstances(context, name, at);
    let key = Key::<Lock>::open_to_write(context, name).ok().flatten()?;
    let is_noted_here = key.value().is_some_and(|lock| lock.deadline_id == Some(id));
    is_noted_here.then(|| {
        OpenLock::new(key, at, None, Passing::Verbatim)
            .take_turn(&mut circumstances, |turn| turn.expire(at_most))
    })
}

/// Calls `body` with the name of a key, in its database; `None` if there is no such database.
pub(crate) fn at<R>(context: &Context, key: DbKey<'_>, body: impl FnOnce(RedisString<'_>) -> R) -> Option<R> {
    if !context.select_database(key.database) {
        return None;
    }
    let name = OwnedRedisString::new(context, key.key)?;
    Some(body(name.name()))
}

/// Whether this server may decide on its own account, and pass on what it decided. Where it refuses writes to its clients,
/// since too few replicas keep up or its disk fails, it grants them nothing either; what a command decides was let pass
/// already.
pub(crate) fn may_decide(context: &Context) -> bool {
    context.is_master()
        && !context.must_not_write()
        && (context.is_of_command() || writes::are_accepted(context))
}

/// The key of a running command, or of what goes on without one.
pub(crate) fn db_key<'c>(context: &Context, name: RedisString<'c>) -> DbKey<'c> {
    DbKey { database: context.database(), key: name.bytes() }
}

fn circumstances(context: &Context, name: RedisString<'_>, at: DbKey<'_>) -> Circumstances {
    circumstances_with(authority(context, name, at))
}

fn authority(context: &Context, name: RedisString<'_>, at: DbKey<'_>) -> Authority {
    if TABLE.with(|table| table.has_business_at(at)) {
        let may_grant = may_decide(context);
        Authority { may_grant, serves_key: may_grant && cluster::serves(name) }
    } else {
        Authority::NONE
    }
}

fn circumstances_with(authority: Authority) -> Circumstances {
    let now = clock::now();
    let (grace_ms, claim_ms) = (config::restart_grace_ms(), config::claim_lease_ms());
    let wall_micros = clock::wall_micros(now);
    Circumstances { now, wall_micros, grace_ms, claim_ms, authority, at_most: room::left() }
}

/// How a change is passed on that names its token or fence itself.
#[derive(Clone, Copy)]
pub(crate) enum Passing<'c> {
    /// As the command came.
    Verbatim,
    /// As a release of this key. The command is about several.
    Release(&'c Token),
    /// As an extension of this key, by so many milliseconds if it says so. The command is about several.
    Extend(&'c Token, Option<u64>),
}

/// The key of a lock, opened to change it.
struct OpenLock<'c> {
    key: Key<'c, Lock>,
    at: DbKey<'c>,
    /// The lock that comes to be, if there was none under the key.
    made: Option<Lock>,
    /// The hold that a string under the key counts as, until it ends.
    string: Option<StringHold>,
    /// Whether there was one.
    is_at_string: bool,
    passing: Passing<'c>,
    outcome: Outcome,
}

impl<'c> OpenLock<'c> {
    fn new(key: Key<'c, Lock>, at: DbKey<'c>, string: Option<StringHold>, passing: Passing<'c>) -> Self {
        let is_at_string = string.is_some();
        Self { key, at, made: None, is_at_string, string, passing, outcome: Outcome::default() }
    }

    fn take_turn<R>(&mut self, circumstances: &mut Circumstances, ask: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        fault::point(self.at.key, "opened");
        if circumstances.authority.may_grant {
            self.step(circumstances, |turn| turn.settle());
            self.judge_candidates(circumstances);
        }
        // Mostly there is no candidate, and lock and table are lent once.
        let (result, end) = self.step(circumstances, |turn| {
            let result = ask(turn);
            fault::point(self.at.key, "asked");
            let is_over = turn.candidate().is_none();
            (result, if is_over { Some(turn.end()) } else { None })
        });
        let end = end.unwrap_or_else(|| {
            self.judge_candidates(circumstances);
            self.step(circumstances, |turn| turn.end())
        });
        self.carry_out(end, circumstances.now);
        result
    }

    /// Has the turn go on for as long as it comes to clients that have waited.
    fn judge_candidates(&mut self, circumstances: &mut Circumstances) {
        while let Some(ticket) = self.outcome.candidate {
            if TABLE.with(|table| table.queues().keys_of(ticket).len()) > 1 {
                self.serve_together(ticket, circumstances);
                continue;
            }
            let has_right = may_acquire(self.key.context(), ticket, &[self.key.name()]);
            self.step(circumstances, |turn| turn.judge_candidate(has_right));
        }
    }

    fn step<R>(&mut self, circumstances: &Circumstances, body: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        let lock = match self.key.value_mut() {
            Some(lock) => lock,
            None => self.made.get_or_insert_default(),
        };
        let (string, outcome) = (&mut self.string, &mut self.outcome);
        TABLE.with(|table| body(&mut Turn::resume(lock, string, table, self.at, circumstances, outcome)))
    }

    /// Carries out what the turn came to.
    fn carry_out(&mut self, end: End, now: Moment) {
        room::take(self.outcome.work());
        fault::point(self.at.key, "ended");
        for change in &self.outcome.changes {
            pass_on(&mut self.key, change, self.passing, now);
            if end.is_decided_here {
                change.ended().iter().for_each(|ended| metrics::record_end(*ended, now));
            }
        }
        fault::point(self.at.key, "passed-on");
        if self.outcome.has_changed() {
            self.leave_key(self.outcome.has_promised, end.due);
            if end.is_decided_here {
                self.tell_of(&self.outcome, now);
            }
        }
        // Whoever hears of it here finds the hold.
        let (context, name) = (self.key.context(), self.key.name());
        for ticket in &self.outcome.calls {
            let receivers = context.publish_to_shard(name, ticket.number());
            room::take(receivers / RECEIVERS_IN_A_STEP);
        }
        if !end.is_quiet {
            timer::arm(context);
        }
        if end.is_marked {
            waiting::keep_awake();
        }
    }

    /// Records who has waited for what this server has decided, and tells who listens.
    #[inline]
    fn tell_of(&self, outcome: &Outcome, now: Moment) {
        outcome.waited_since.iter().for_each(|since| metrics::record_wait(*since, now));
        if notifications::are_sent() {
            notifications::send(self.key.context(), self.key.name(), outcome);
        }
    }

    /// Passes on what has come of the turn so far, before what follows from it at other keys.
    fn pass_on_so_far(&mut self, circumstances: &Circumstances) {
        let so_far = self.step(circumstances, |turn| turn.take_so_far());
        room::take(so_far.work());
        for change in &so_far.changes {
            pass_on(&mut self.key, change, self.passing, circumstances.now);
            change.ended().iter().for_each(|ended| metrics::record_end(*ended, circumstances.now));
        }
        self.tell_of(&so_far, circumstances.now);
    }

    /// A lock that nobody holds goes, and so does a string; a lock that was made comes; who watches the key is told.
    fn leave_key(&mut self, has_promised: bool, due: Option<Moment>) {
        if let Some(made) = self.made.take_if(|made| !made.is_empty()) {
            self.key.set(made);
        } else if self.key.value().is_some_and(Lock::is_empty) || self.is_at_string && self.string.is_none() {
            self.key.delete();
        } else if has_promised {
            self.key.take_off_ttl();
        }
        if let Some(due) = due {
            timer::arm_for(self.key.context(), due);
        }
        self.key.signal_modified();
    }
}

/// Passes on a change to replicas and the append-only file.
fn pass_on(key: &mut Key<'_, Lock>, change: &Change, passing: Passing<'_>, now: Moment) {
    let (context, name) = (key.context(), key.name());
    match change {
        Change::First(hold, _) => replication::hold_is(context, name, hold, true, now),
        Change::Whole(holds, _) => replication::holds_are(context, name, holds, now),
        Change::Set(hold, _) => replication::hold_is(context, name, hold, false, now),
        Change::Ended(fence, _) => replication::hold_ended(context, name, *fence),
        Change::Lease(token, lease_ms, _) => {
            replication::string_lasts(context, name, token, *lease_ms);
            key.set_ttl(*lease_ms);
        }
        Change::AsAsked(..) | Change::StringEnded(_) => match passing {
            Passing::Verbatim => context.replicate_verbatim(),
            Passing::Release(token) => replication::was_released(context, name, token),
            Passing::Extend(token, lease_ms) => replication::was_extended(context, name, token, lease_ms),
        },
    }
}

/// Whether the user of a waiter may take the locks under these keys now, which are all that it waits for: the user of its
/// connection, or without one, that which asked last.
fn may_acquire(context: &Context, ticket: Ticket, keys: &[RedisString<'_>]) -> bool {
    let who = TABLE.with(|table| {
        let waiter = table.queues().waiter(ticket)?;
        let user = waiter.keep.as_ref().and_then(|keep| keep.user.clone());
        Some((waiter.client, user, waiter.is_for_several))
    });
    let Some((client, user, is_for_several)) = who else { return true };
    let number;
    let command: &[&[u8]] = if is_for_several {
        number = keys.len().to_string();
        &[b"LOCK.MACQUIRE", number.as_bytes()]
    } else {
        &[replication::ACQUIRE.to_bytes()]
    };
    match (client, user) {
        (Some(client), _) => context.may_run(client, command, keys),
        (None, Some(user)) => context.user_may_run(&user, command, keys),
        // The server itself or a module has asked, and no user whose rights would count.
        (None, None) => true,
    }
}

impl Drop for OpenLock<'_> {
    /// The last of a turn, also of one that a fault of ours has cut short: who was taken out of a queue is answered, and no
    /// lock is left that nobody holds, for a snapshot with one would not load.
    fn drop(&mut self) {
        // A fault came before the new lock was stored: nobody is told that it is granted.
        let is_lost = self.made.as_ref().is_some_and(|made| !made.is_empty());
        if self.key.value().is_some_and(Lock::is_empty) {
            self.key.delete();
        }
        if !self.outcome.answers.is_empty() {
            answer(std::mem::take(&mut self.outcome.answers), is_lost);
        }
    }
}

/// Answers those who have waited. What was granted is refused if it `is_lost`.
fn answer(answers: Vec<(ClientId, Answer)>, is_lost: bool) {
    for (client, answer) in answers {
        let is_untrue = is_lost && matches!(answer, Answer::Granted(_));
        waiting::answer(client, if is_untrue { Answer::Refused(Refusal::Internal) } else { answer });
    }
}

/// The server is a replica now: its connections keep nothing alive any more, and nobody is granted anything.
pub(crate) fn demoted(context: &Context) {
    let demotion = TABLE.with(|table| table.demoted());
    for client in demotion.dismissed {
        waiting::answer(client, Answer::Refused(Refusal::Demoted));
    }
    for place in demotion.disowned {
        at(context, place.as_key(), |name| {
            let Ok(Some(mut key)) = Key::<Lock>::open_to_write(context, name) else { return };
            if let Some(lock) = key.value_mut() {
                TABLE.with(|table| table.disown(place.as_key(), lock));
            }
        });
    }
}
