//! Turns at several keys, for a request that wants all of them or none.
//!
//! First each key is settled by a turn of its own. Then all are opened, and lent to the core one after another. What has been
//! decided is carried out key by key, before anything else can happen. The server passes it on as one transaction.
//!
//! When a turn at one key comes to a request that waits for several, the others are opened beside it.

use lock_core::outcome::{Authority, Circumstances};
use lock_core::turn::together::{self, Turns};
use lock_core::{DbKey, Lock, Moment, OwnedDbKey, Refusal, StringHold, Table, Ticket, Turn};

use super::{OpenLock, Passing, adopt, authority, circumstances_with, db_key, may_acquire, settle, turn_for};
use crate::room;
use crate::server::ffi::{Context, DistinctNames, Key, Occupied, OpenBeside, OwnedRedisString, RedisString};
use crate::state::TABLE;

/// The most times that the keys of a request are settled. Each time, requests may be served that wait for one of the keys and
/// for others of them, which are settled once more then.
const SETTLED_AT_MOST: usize = 8;

/// The keys of a request, open at the same time.
pub(crate) struct Several<'c> {
    locks: Vec<OpenLock<'c>>,
    /// What this server may do at each of them. Nothing where there is none for a key.
    authorities: Vec<Authority>,
    /// What is so for all of them.
    common: Circumstances,
}

/// Takes a turn at all these keys.
///
/// # Errors
/// [`Refusal::WrongType`] if a value of another type stands under one of them, that counts as no lock.
pub(crate) fn turn_at_all<'c, R>(
    context: &'c Context,
    names: &DistinctNames<'c>,
    ask: impl FnOnce(&mut Several<'c>) -> R,
) -> Result<R, Refusal> {
    if have_business(context, names) {
        settle_all(context, names);
    }
    // The server is asked before any key is open. Mostly there is nothing to ask.
    let authorities: Vec<Authority> = if have_business(context, names) {
        names.iter().map(|name| authority(context, *name, db_key(context, *name))).collect()
    } else {
        Vec::new()
    };
    let common = circumstances_with(Authority::NONE);
    let locks = open_all(context, names, Passing::Verbatim, common.now)?;
    let mut several = Several { locks, authorities, common };
    let result = ask(&mut several);
    several.carry_out();
    Ok(result)
}

/// Takes a turn at each of these keys, one after the other: at how many of them `ask` says yes.
///
/// # Errors
/// [`Refusal::WrongType`] if a value of another type stands under one of them, that counts as no lock. Nothing has been done
/// then.
pub(crate) fn count_at_each<'c>(
    context: &'c Context,
    names: &DistinctNames<'c>,
    passing: Passing<'c>,
    mut ask: impl FnMut(&mut Turn<'_>) -> bool,
) -> Result<usize, Refusal> {
    let have_business = have_business(context, names);
    let mut circumstances = circumstances_with(Authority::NONE);
    let mut locks = open_all(context, names, passing, circumstances.now)?;
    let mut done = 0_usize;
    if have_business {
        // To serve who waits at one of them, others of them may have to be opened.
        drop(locks);
        for name in names.iter() {
            let is_done = turn_for(context, *name, passing, &mut ask)?;
            done = done.saturating_add(is_done.into());
        }
    } else {
        // Nobody is served, so that they can stay open.
        for lock in &mut locks {
            let is_done = lock.take_turn(&mut circumstances, &mut ask);
            done = done.saturating_add(is_done.into());
        }
    }
    Ok(done)
}

/// Whether a turn at one of these keys has more to do than its request.
fn have_business(context: &Context, names: &[RedisString<'_>]) -> bool {
    TABLE.with(|table| table.has_business_at_any(names.iter().map(|name| db_key(context, *name))))
}

/// Settles the keys at which there is something to settle.
fn settle_all(context: &Context, names: &[RedisString<'_>]) {
    // Who waits may be served by now though nothing is marked, as when a slot has arrived.
    settle_where(context, names, |table, key| table.has_business_at(key));
    for _ in 1..SETTLED_AT_MOST {
        if !settle_where(context, names, |table, key| table.is_marked(key)) {
            break;
        }
    }
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

/// Opens all these keys.
fn open_all<'c>(
    context: &'c Context,
    names: &DistinctNames<'c>,
    passing: Passing<'c>,
    now: Moment,
) -> Result<Vec<OpenLock<'c>>, Refusal> {
    let keys = Key::open_all_to_write(context, names).ok_or(Refusal::Internal)?;
    let mut locks = Vec::with_capacity(names.len());
    for (opened, name) in keys.into_iter().zip(names.iter()) {
        let at = db_key(context, *name);
        let (key, string) = lock_or_string(opened, at, now)?;
        locks.push(OpenLock::new(key, at, string, passing));
    }
    Ok(locks)
}

fn lock_or_string<'c>(
    opened: Result<Key<'c, Lock>, Occupied<'c, Lock>>,
    at: DbKey<'_>,
    now: Moment,
) -> Result<(Key<'c, Lock>, Option<StringHold>), Refusal> {
    match opened {
        Ok(key) => Ok((key, None)),
        Err(occupied) => adopt(occupied, at, now),
    }
}

impl<'c> Several<'c> {
    fn circumstances_at(&self, place: usize) -> Circumstances {
        let authority = self.authorities.get(place).copied().unwrap_or(Authority::NONE);
        Circumstances { authority, ..self.common }
    }

    fn carry_out(mut self) {
        for place in 0..self.locks.len() {
            self.carry_out_at(place);
        }
    }

    #[expect(clippy::indexing_slicing, reason = "the callers go from 0 to the count")]
    fn carry_out_at(&mut self, place: usize) {
        let circumstances = self.circumstances_at(place);
        let lock = &mut self.locks[place];
        let end = lock.step(&circumstances, |turn| turn.end());
        lock.carry_out(end, circumstances.now);
    }
}

impl Turns for Several<'_> {
    fn count(&self) -> usize {
        self.locks.len()
    }

    #[expect(clippy::indexing_slicing, reason = "the core goes from 0 to the count")]
    fn at<R>(&mut self, place: usize, step: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        let circumstances = self.circumstances_at(place);
        self.locks[place].step(&circumstances, step)
    }
}

/// The key whose turn it is, and the others that a request waits for besides. They are opened as far as they are looked at.
struct Beside<'a, 'c, 'n, 'k> {
    own: &'a mut OpenLock<'c>,
    circumstances: Circumstances,
    /// The place of its own key among all.
    place: usize,
    names: &'n DistinctNames<'k>,
    opening: OpenBeside<'n, 'k>,
    others: Several<'k>,
}

impl<'c: 'k, 'k> Beside<'_, 'c, '_, 'k> {
    fn open_next(&mut self) -> Result<(), Refusal> {
        let context: &'k Context = self.own.key.context();
        let name = *self.names.get(self.others.count()).ok_or(Refusal::Internal)?;
        let at = db_key(context, name);
        // The server is asked before that key is open.
        let authority = authority(context, name, at);
        let opened = self.opening.open_next(context).ok_or(Refusal::Internal)?;
        let (key, string) = lock_or_string(opened, at, self.circumstances.now)?;
        self.others.locks.push(OpenLock::new(key, at, string, Passing::Verbatim));
        self.others.authorities.push(authority);
        Ok(())
    }
}

impl<'c: 'k, 'k> Turns for Beside<'_, 'c, '_, 'k> {
    fn count(&self) -> usize {
        self.names.len().saturating_add(1)
    }

    fn open(&mut self, place: usize) -> bool {
        // A value of another type is waited out.
        place == self.place || self.open_next().is_ok()
    }

    fn at<R>(&mut self, place: usize, step: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        if place == self.place {
            self.own.step(&self.circumstances, step)
        } else {
            let is_behind = place > self.place;
            self.others.at(place.saturating_sub(is_behind.into()), step)
        }
    }
}

impl OpenLock<'_> {
    /// Serves a candidate that waits for other keys as well: it is granted all of them, or stays. It takes time and room of its
    /// own, which `circumstances` tell of afterwards.
    pub(super) fn serve_together(&mut self, ticket: Ticket, circumstances: &mut Circumstances) {
        *circumstances = circumstances_with(circumstances.authority);
        let is_served =
            !self.is_still_held_up(ticket, *circumstances) && self.grant_together(ticket, *circumstances);
        circumstances.at_most = room::left();
        self.step(circumstances, |turn| {
            if is_served { turn.candidate_is_served() } else { turn.pass_by_candidate() }
        });
    }

    /// Whether a request still cannot be granted the key that held it up when it was last looked at. Where one waits for many
    /// keys, a turn at each of them comes to that question, and mostly need not look at the others.
    fn is_still_held_up(&self, ticket: Ticket, own: Circumstances) -> bool {
        let context = self.key.context();
        let key = TABLE.with(|table| table.queues().held_up_at(ticket).cloned());
        let Some(key) = key.filter(|key| key.as_key() != self.at) else { return false };
        let Some(name) = OwnedRedisString::new(context, key.as_key().key) else { return false };
        let (name, at) = (name.name(), key.as_key());
        let circumstances = Circumstances { authority: authority(context, name, at), ..own };
        let Some(opened) = Key::open_to_write_beside(context, name, &self.key).transpose() else {
            return false;
        };
        // A value of another type is waited out.
        lock_or_string(opened, at, own.now).map_or(true, |(key, string)| {
            let mut lock = OpenLock::new(key, at, string, Passing::Verbatim);
            lock.step(&circumstances, |turn| !together::is_ready_at(turn, ticket))
        })
    }

    /// False if the request is not ready at all its keys. `own` are the circumstances at this one.
    fn grant_together(&mut self, ticket: Ticket, own: Circumstances) -> bool {
        let context = self.key.context();
        let keys: Vec<OwnedDbKey> = TABLE.with(|table| table.queues().keys_of(ticket).to_vec());
        let Some(place) = keys.iter().position(|key| key.as_key() == self.at) else { return false };
        let others = keys.iter().filter(|key| key.as_key() != self.at);
        let names: Option<Vec<OwnedRedisString<'_>>> =
            others.map(|key| OwnedRedisString::new(context, key.as_key().key)).collect();
        let Some(names) = names else { return false };
        let names = DistinctNames::of(names.iter().map(OwnedRedisString::name));
        let Some(opening) = OpenBeside::new(&self.key, &names) else { return false };
        let others = Several {
            locks: Vec::with_capacity(names.len()),
            authorities: Vec::with_capacity(names.len()),
            common: Circumstances { authority: Authority::NONE, ..own },
        };
        let mut all = Beside { own: self, circumstances: own, place, names: &names, opening, others };
        if let Some(held_up_at) = together::held_up_at(&mut all, ticket) {
            TABLE.with(|table| table.is_held_up(ticket, held_up_at));
            return false;
        }
        let mut wanted = names.to_vec();
        wanted.insert(place, all.own.key.name());
        let has_right = may_acquire(context, ticket, &wanted);
        // What made it ready comes before its grants, here and on replicas.
        all.own.pass_on_so_far(&all.circumstances);
        together::serve(&mut all, ticket, has_right);
        room::take(all.count());
        // And the grants come in the order of the keys.
        let Beside { own, circumstances, mut others, place, .. } = all;
        for at in 0..others.count() {
            if at == place {
                own.pass_on_so_far(&circumstances);
            }
            others.carry_out_at(at);
        }
        true
    }
}
