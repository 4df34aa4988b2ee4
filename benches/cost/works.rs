//! The work that is counted.

use crate::loads::{OK, ONE, PAIRS, TOKEN_LEN, UNLOCK_SCRIPT, granted, token, uuid};
use crate::pipe::{Batch, Pipe};
use crate::support::Server;

/// Something that a server does over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Pings,
    SetAndDel,
    SetAndScript,
    Lock,
    LockByUuid,
    HandOver,
    Extend,
    Check,
    Retry,
}

/// A lease that outlasts the run, however slow the machine is.
const HELD_MS: &str = "3600000";

impl Work {
    pub(crate) const ALL: [Self; 9] = [
        Self::Pings,
        Self::SetAndDel,
        Self::SetAndScript,
        Self::Lock,
        Self::LockByUuid,
        Self::HandOver,
        Self::Extend,
        Self::Check,
        Self::Retry,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pings => "`PING`, twice",
            Self::SetAndDel => "`SET NX PX` + `DEL` (would delete anybody's lock)",
            Self::SetAndScript => "`SET NX PX` + `EVALSHA` of compare and delete",
            Self::Lock => "`LOCK.ACQUIRE PX TOKEN` + `LOCK.RELEASE`, tokens of 32 hex digits",
            Self::LockByUuid => "the same with UUIDs, 36 characters",
            Self::HandOver => "`LOCK.ACQUIRE BLOCK` that waits + `LOCK.RELEASE` that hands over",
            Self::Extend => "`LOCK.EXTEND`",
            Self::Check => "`LOCK.CHECK`",
            Self::Retry => "`LOCK.ACQUIRE` once more by its holder",
        }
    }

    /// Whether it is counted with an append-only file too.
    pub(crate) fn is_for_aof(self) -> bool {
        matches!(self, Self::SetAndDel | Self::SetAndScript | Self::Lock | Self::LockByUuid)
    }

    /// Has the server do it that many times.
    pub(crate) fn run(self, server: &Server, times: usize) {
        if self == Self::HandOver {
            return hand_over(server, times);
        }
        let mut pipe = Pipe::connect(server);
        if matches!(self, Self::Extend | Self::Check | Self::Retry) {
            pipe.exchange(&batch(|batch, key, number| acquire(batch, key, &token(number), &[])));
        }
        let script = server.client().call(&["SCRIPT", "LOAD", UNLOCK_SCRIPT]).text();
        let batch = batch(|batch, key, number| self.add(batch, &script, key, number));
        for _ in 0..times / PAIRS {
            pipe.exchange(&batch);
        }
    }

    fn add(self, batch: &mut Batch, script: &str, key: &str, number: usize) {
        let token = if self == Self::LockByUuid { uuid(number) } else { token(number) };
        let token = token.as_str();
        match self {
            Self::Pings => {
                batch.push(&["PING"], "+PONG\r\n");
                batch.push(&["PING"], "+PONG\r\n");
            }
            Self::SetAndDel => {
                batch.push(&["SET", key, token, "NX", "PX", "30000"], OK);
                batch.push(&["DEL", key], ONE);
            }
            Self::SetAndScript => {
                batch.push(&["SET", key, token, "NX", "PX", "30000"], OK);
                batch.push(&["EVALSHA", script, "1", key, token], ONE);
            }
            Self::Lock | Self::LockByUuid => {
                batch.push(&["LOCK.ACQUIRE", key, "PX", "30000", "TOKEN", token], &granted(token.len()));
                batch.push(&["LOCK.RELEASE", key, token], ONE);
            }
            Self::Extend => batch.push(&["LOCK.EXTEND", key, token, "PX", HELD_MS], ONE),
            // Fence, milliseconds left, nobody waiting.
            Self::Check => {
                batch.push(&["LOCK.CHECK", key, token], "*3\r\n:????????????????\r\n:???????\r\n:0\r\n");
            }
            Self::Retry => acquire(batch, key, token, &[]),
            Self::HandOver => {}
        }
    }
}

/// Two clients hand a lock to and fro. Who gets it gives it back in the next batch and at once waits for it again, so that
/// the other never comes too early, and the server always does the same in the same order.
fn hand_over(server: &Server, times: usize) {
    const KEY: &str = "lock:handed";
    let mut sides = [0, 1].map(|number| (Pipe::connect(server), token(number)));
    let [first, second] = &mut sides;
    let took = |token: &str, block: &[&str]| {
        let mut batch = Batch::default();
        acquire(&mut batch, KEY, token, block);
        batch
    };
    first.0.exchange(&took(&first.1, &[]));
    second.0.send(&took(&second.1, &BLOCK));
    // Read after what came before it.
    server.client().run("PING");
    for _ in 0..times / 2 {
        for holder in 0..2 {
            let [first, second] = &mut sides;
            let (from, to) = if holder == 0 { (first, second) } else { (second, first) };
            let mut batch = Batch::default();
            batch.push(&["LOCK.RELEASE", KEY, &from.1], ONE);
            let released = batch.clone();
            acquire(&mut batch, KEY, &from.1, &BLOCK);
            from.0.send(&batch);
            from.0.receive(&released);
            to.0.receive(&took(&to.1, &BLOCK));
        }
    }
}

/// Waits for as long as it takes.
const BLOCK: [&str; 2] = ["BLOCK", "0"];

fn acquire(batch: &mut Batch, key: &str, token: &str, also: &[&str]) {
    let mut words = vec!["LOCK.ACQUIRE", key, "PX", HELD_MS, "TOKEN", token];
    words.extend(also);
    batch.push(&words, &granted(TOKEN_LEN));
}

/// [`PAIRS`] times the same, each on a key of its own.
fn batch(mut add: impl FnMut(&mut Batch, &str, usize)) -> Batch {
    let mut batch = Batch::default();
    for number in 0..PAIRS {
        add(&mut batch, &format!("lock:{number:07}"), number);
    }
    batch
}
