//! Clients that wait for a lock, on the server's side: each gets exactly one reply, and none keeps a lock that it never
//! learned of.
//!
//! Who is granted what is decided in the core, in the turn of whatever freed the lock. The reply follows at the end of
//! the same turn of the server's loop ([`deliver`]). Until then a client that goes away has its grant undone; so has one
//! whose reply the server could not make after that.
//!
//! Handles go back to the server in one place, and there only. The server must not find one that was given back when
//! CLIENT UNBLOCK comes: Redis before 7.4 would never reply to that client.

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};

use lock_core::queue::Remedy;
use lock_core::token::LONGEST_SPELLED;
use lock_core::turn::Answer;
use lock_core::{ClientId, Fence, Joining, Place, Refusal, Token};

use crate::cluster;
use crate::expiry;
use crate::perform::{self, OpenLock};
use crate::replication;
use crate::server::clock;
use crate::server::ffi::{BlockedClient, Context, MainThread, Waiting, wake_server};
use crate::state::{CONNECTIONS, QUEUES, TIES};

/// The most marked places that are settled in one turn of the server's loop.
const PLACES_PER_TURN: usize = 1024;

/// A client that waits, or is about to be answered.
struct Blocked {
    handle: BlockedClient,
    answer: Option<Answer>,
}

/// All of them.
static BLOCKED: MainThread<BTreeMap<ClientId, Blocked>> = MainThread::new(BTreeMap::new());

/// Those to be answered at the end of this turn.
static READY: MainThread<Vec<ClientId>> = MainThread::new(Vec::new());

/// Handles of clients that were replied to otherwise or are gone, to be given back at the end of this turn.
static RETIRED: MainThread<Vec<BlockedClient>> = MainThread::new(Vec::new());

/// Whether this turn of the server's loop has ended, and the next has not begun. Redis 7.0 carries out commands in between:
/// those that stood behind a blocking one on their connection, or were held back by CLIENT PAUSE.
static TURN_IS_OVER: AtomicBool = AtomicBool::new(false);

/// Lets the client of the running command wait in the queue for a key. False, and nothing has changed, where the server
/// cannot let it wait: Valkey 8.1 and 9 do not let a connection that speaks RESP3 and has subscriptions.
pub(crate) fn wait(context: &Context, place: Place<'_>, joining: Joining) -> bool {
    let Some(handle) = BlockedClient::block::<Clients>(context) else { return false };
    BLOCKED.with(|blocked| blocked.insert(context.client(), Blocked { handle, answer: None }));
    if let Some(older) = QUEUES.with(|queues| queues.join(place, joining)) {
        answer(older.client, Answer::NotAvailable);
    }
    expiry::arm(context);
    true
}

/// Answers a client that has left its queue, at the end of this turn.
pub(crate) fn answer(client: ClientId, answer: Answer) {
    let waits = BLOCKED.with(|blocked| match blocked.get_mut(&client) {
        Some(blocked) => {
            blocked.answer = Some(answer);
            true
        }
        None => false,
    });
    if waits {
        READY.with(|ready| ready.push(client));
        keep_awake();
    }
}

/// The end of a turn of the server's loop: what happened to keys and connections is followed up, and who is to be
/// answered is.
pub(crate) fn end_turn(context: &Context) {
    QUEUES.with(|queues| queues.end_turn());
    settle_marked(context);
    deliver();
    TURN_IS_OVER.store(true, Ordering::Relaxed);
}

/// The beginning of a turn of the server's loop: what happened since the last one ended is followed up before anything that
/// clients have sent meanwhile. Nobody is answered yet: CLIENT UNBLOCK may still come in this turn.
pub(crate) fn begin_turn(context: &Context) {
    TURN_IS_OVER.store(false, Ordering::Relaxed);
    settle_marked(context);
}

/// Sees to it that what has just been left to do is done at once, though this turn of the server's loop may have ended:
/// else it would have to wait for the next event or the server's tick.
pub(crate) fn keep_awake() {
    if TURN_IS_OVER.load(Ordering::Relaxed) {
        wake_server();
    }
}

/// Serves the queues at the places that were marked.
fn settle_marked(context: &Context) {
    if QUEUES.with(|queues| queues.is_unmarked()) {
        return;
    }
    if !perform::may_decide(context) {
        expiry::arm_for_pause(context);
        return;
    }
    for _ in 0..PLACES_PER_TURN {
        let Some(place) = QUEUES.with(|queues| queues.marked()) else { return };
        let place = place.as_place();
        OpenLock::at(context, place, |open| open.turn(clock::now(), |turn| turn.settle()));
        // Where a value of another type stands nothing can be served, until it goes and the place is marked again.
        QUEUES.with(|queues| queues.take_mark(place));
        cluster::turn_away(context, place);
    }
    expiry::arm_for_pause(context);
}

/// Refuses everybody who waits for a key.
pub(crate) fn refuse_all(place: Place<'_>, refusal: &Refusal) {
    for client in QUEUES.with(|queues| queues.dismiss(place)) {
        answer(client, Answer::Refused(refusal.clone()));
    }
}

fn deliver() {
    for client in READY.with(mem::take) {
        // Who was replied to otherwise may wait again by now, and has no answer yet.
        let answered = BLOCKED.with(|blocked| {
            let answer = blocked.get_mut(&client)?.answer.take()?;
            Some((blocked.remove(&client)?.handle, answer))
        });
        if let Some((handle, answer)) = answered {
            handle.answer::<Clients>(answer);
        }
    }
    for handle in RETIRED.with(mem::take) {
        handle.give_back();
    }
}

/// Stops the waiting of clients whose time is up, up to `at_most` of them; returns how many.
pub(crate) fn time_out(at_most: usize) -> usize {
    let now = clock::now();
    let late = (0..at_most).map_while(|_| QUEUES.with(|queues| queues.time_out(now)));
    late.map(|client| answer(client, Answer::NotAvailable)).count()
}

/// The server is a replica now: nobody can be granted anything any more.
pub(crate) fn demoted() {
    for client in QUEUES.with(|queues| queues.dissolve()) {
        answer(client, Answer::Refused(Refusal::Demoted));
    }
}

/// A connection has been opened.
pub(crate) fn opened(client: ClientId) {
    CONNECTIONS.with(|connections| connections.insert(client));
}

/// Whether a client is a connection that is open, and was not open before the module was loaded.
pub(crate) fn is_open(client: ClientId) -> bool {
    CONNECTIONS.with(|connections| connections.contains(&client))
}

/// A connection is being closed. It waits no longer, and what it kept alive ends.
pub(crate) fn closed(client: ClientId) {
    CONNECTIONS.with(|connections| connections.remove(&client));
    abandon(client);
    for place in TIES.with(|ties| ties.cut(client)) {
        QUEUES.with(|queues| queues.remedy(place.as_place(), Remedy::EndSession(client)));
    }
    see_to_marks();
}

/// Sees to it that marks are settled: the server also closes connections just before it sleeps.
fn see_to_marks() {
    if !QUEUES.with(|queues| queues.is_unmarked()) {
        keep_awake();
    }
}

/// A client is not there to be answered any more: it leaves its queue, and what it was granted is undone.
fn abandon(client: ClientId) {
    QUEUES.with(|queues| {
        queues.leave(client);
        queues.lost(client);
    });
    BLOCKED.with(|blocked| blocked.get_mut(&client).and_then(|blocked| blocked.answer.take()));
}

fn retire(client: ClientId) -> Option<Answer> {
    let blocked = BLOCKED.with(|blocked| blocked.remove(&client))?;
    RETIRED.with(|retired| retired.push(blocked.handle));
    blocked.answer
}

struct Clients;

impl Waiting for Clients {
    type Answer = Answer;

    fn reply(context: &Context, answer: Answer) {
        match answer {
            Answer::Granted(grant) => {
                QUEUES.with(|queues| queues.delivered(grant.client));
                reply_grant(context, &grant.token, grant.fence);
            }
            Answer::NotAvailable => context.reply_null_array(),
            Answer::Refused(refusal) => context.reply_error(&refusal),
        }
    }

    fn undelivered(answer: Answer) {
        if let Answer::Granted(grant) = answer {
            QUEUES.with(|queues| queues.lost(grant.client));
        }
    }

    fn timed_out(context: &Context, client: ClientId) {
        QUEUES.with(|queues| queues.leave(client));
        // A grant that was on its way came before the unblocking, and is what the client gets.
        Self::reply(context, retire(client).unwrap_or(Answer::NotAvailable));
    }

    fn disconnected(client: ClientId) {
        abandon(client);
        retire(client);
        see_to_marks();
    }
}

/// Replies what LOCK.ACQUIRE replies when it is granted.
pub(crate) fn reply_grant(context: &Context, token: &Token, fence: Fence) {
    context.reply_array(2);
    context.reply_bytes(token.text(&mut [0; LONGEST_SPELLED]));
    context.reply_integer(replication::signed(fence));
}
