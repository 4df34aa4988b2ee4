//! Turns at several keys, for a request that wants all of them or none.
//!
//! First each key is settled by a turn of its own. Then all are opened, and lent to the core one after another. What has been
//! decided is carried out key by key, before anything else can happen. The server passes it on as one transaction.
//!
//! When a turn at one key comes to a request that waits for several, the others are opened beside it.

use lock_core::outcome::Circumstances;
use lock_core::turn::together::{self, Turns};
use lock_core::{DbKey, OwnedDbKey, Refusal, Table, Ticket, Turn};

use super::{OpenLock, Passing, adopt, circumstances, db_key, may_acquire, settle};
use crate::server::ffi::{Context, Key, OwnedRedisString, RedisString};
use crate::state::TABLE;

/// The most times that the keys of a request are settled. Each time, requests may be served that wait for one of the keys and
/// for others of them, which are settled once more then.
const SETTLED_AT_MOST: usize = 8;

/// The keys of a request, open at the same time.
pub(crate) struct Several<'c> {
    locks: Vec<(OpenLock<'c>, Circumstances)>,
}

/// Takes a turn at all these keys, no two of which are alike.
///
/// # Errors
/// [`Refusal::WrongType`] if a value of another type stands under one of them, that counts as no lock.
pub(crate) fn turn_at_all<'c, R>(
    context: &'c Context,
    names: &[RedisString<'c>],
    ask: impl FnOnce(&mut Several<'c>) -> R,
) -> Result<R, Refusal> {
    // Who waits may be served by now though nothing is marked, as when a slot has arrived.
    settle_where(context, names, |table, key| table.has_business_at(key));
    for _ in 1..SETTLED_AT_MOST {
        if !settle_where(context, names, |table, key| table.is_marked(key)) {
            break;
        }
    }
    // The server is asked before any key is open.
    let all: Vec<Circumstances> =
        names.iter().map(|name| circumstances(context, *name, db_key(context, *name))).collect();
    let mut several = Several { locks: Vec::with_capacity(names.len()) };
    for (name, circumstances) in names.iter().zip(all) {
        let lock = open_beside(context, *name, circumstances, several.names())?;
        several.locks.push((lock, circumstances));
    }
    let result = ask(&mut several);
    several.carry_out();
    Ok(result)
}

/// Settles those of the keys for which this is true. False if there is none.
fn settle_where(
    context: &Context,
    names: &[RedisString<'_>],
    is_to_be_settled: impl Fn(&Table, DbKey<'_>) -> bool,
) -> bool {
    let is_one = |name: &RedisString<'_>| TABLE.with(|table| is_to_be_settled(table, db_key(context, *name)));
    let those: Vec<RedisString<'_>> = names.iter().copied().filter(is_one).collect();
    for name in &those {
        settle(context, *name);
    }
    !those.is_empty()
}

/// Opens a key beside others.
fn open_beside<'c, 'k>(
    context: &'c Context,
    name: RedisString<'c>,
    circumstances: Circumstances,
    open: impl Iterator<Item = RedisString<'k>>,
) -> Result<OpenLock<'c>, Refusal> {
    let at = db_key(context, name);
    let (key, string) = match Key::open_to_write_beside(context, name, open) {
        Ok(key) => (key.ok_or(Refusal::Internal)?, None),
        Err(occupied) => adopt(occupied, at, circumstances.now)?,
    };
    Ok(OpenLock::new(key, at, string, Passing::Verbatim))
}

impl<'c> Several<'c> {
    fn names(&self) -> impl Iterator<Item = RedisString<'c>> {
        self.locks.iter().map(|(lock, _)| lock.key.name())
    }

    fn carry_out(mut self) {
        for (lock, circumstances) in &mut self.locks {
            let end = lock.step(circumstances, |turn| turn.end());
            lock.carry_out(end, circumstances.now);
        }
    }
}

impl Turns for Several<'_> {
    fn count(&self) -> usize {
        self.locks.len()
    }

    #[expect(clippy::indexing_slicing, reason = "the core goes from 0 to the count")]
    fn at<R>(&mut self, place: usize, step: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        let (lock, circumstances) = &mut self.locks[place];
        lock.step(circumstances, step)
    }
}

/// The key whose turn it is, and the others that a request waits for besides.
struct Beside<'a, 'c, 'k> {
    own: &'a mut OpenLock<'c>,
    circumstances: &'a Circumstances,
    others: Several<'k>,
    /// The place of its own key among all.
    place: usize,
}

impl Turns for Beside<'_, '_, '_> {
    fn count(&self) -> usize {
        self.others.count().saturating_add(1)
    }

    fn at<R>(&mut self, place: usize, step: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        if place == self.place {
            self.own.step(self.circumstances, step)
        } else {
            let is_behind = place > self.place;
            self.others.at(place.saturating_sub(is_behind.into()), step)
        }
    }
}

impl OpenLock<'_> {
    /// Serves a candidate that waits for other keys as well: it is granted all of them, or stays.
    pub(super) fn serve_together(&mut self, ticket: Ticket, circumstances: &Circumstances) {
        let context = self.key.context();
        let keys: Vec<OwnedDbKey> = TABLE.with(|table| table.queues().keys_of(ticket).to_vec());
        let place = keys.iter().position(|key| key.as_key() == self.at);
        let others = keys.iter().filter(|key| key.as_key() != self.at);
        let names: Option<Vec<OwnedRedisString<'_>>> =
            others.map(|key| OwnedRedisString::new(context, key.as_key().key)).collect();
        let (Some(place), Some(names)) = (place, names) else {
            return self.step(circumstances, |turn| turn.pass_by_candidate());
        };
        let names: Vec<RedisString<'_>> = names.iter().map(OwnedRedisString::name).collect();
        let is_served = self.grant_together(ticket, circumstances, place, &names);
        self.step(circumstances, |turn| {
            if is_served { turn.candidate_is_served() } else { turn.pass_by_candidate() }
        });
    }

    /// False if the request is not ready at all its keys. `own` are the circumstances at this one.
    fn grant_together(
        &mut self,
        ticket: Ticket,
        own: &Circumstances,
        place: usize,
        names: &[RedisString<'_>],
    ) -> bool {
        let context = self.key.context();
        let mut others = Several { locks: Vec::with_capacity(names.len()) };
        for name in names {
            let circumstances = circumstances(context, *name, db_key(context, *name));
            let open = others.names().chain([self.key.name()]);
            // A value of another type is waited out.
            let Ok(lock) = open_beside(context, *name, circumstances, open) else { return false };
            others.locks.push((lock, circumstances));
        }
        let mut all = Beside { own: self, circumstances: own, others, place };
        if !together::is_ready(&mut all, ticket) {
            return false;
        }
        let has_right = |name: RedisString<'_>| may_acquire(context, ticket, name);
        let has_rights = has_right(all.own.key.name()) && names.iter().all(|name| has_right(*name));
        // What made it ready comes before its grants, here and on replicas.
        all.own.pass_on_so_far(all.circumstances);
        together::serve(&mut all, ticket, has_rights);
        // And the grants come in the order of the keys.
        let Beside { own, circumstances, mut others, place } = all;
        for (at, (lock, its)) in others.locks.iter_mut().enumerate() {
            if at == place {
                own.pass_on_so_far(circumstances);
            }
            let end = lock.step(its, |turn| turn.end());
            lock.carry_out(end, its.now);
        }
        true
    }
}
