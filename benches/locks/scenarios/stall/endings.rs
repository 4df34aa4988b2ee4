//! Very many holds that end, or have to be looked after, at the same time.

use std::thread;
use std::time::{Duration, Instant};

use super::{Case, FEW, LEAD, section, until_connected};
use crate::cpu;
use crate::effort::Effort;
use crate::fill::{LONG_LEASE_MS, TO_BUILD, fill, fill_on, hold_by_many, hold_shared};
use crate::loads::{TOKEN_LEN, granted};
use crate::pipe::Pipe;
use crate::probe::{Watched, watch};
use crate::report::Section;
use crate::stats::count;
use crate::support::{Client, PATIENCE, Reply, Server, wait_until};

/// The lock that many hold.
const KEY: &str = "k";

/// Time enough to take many locks, or to copy one with many holds.
const UNTIL_END: Duration = Duration::from_secs(2);

/// Connections that close while another keeps its locks.
const STRANGERS: usize = 100;

/// How long the server is watched while a connection keeps its locks.
const KEPT: Duration = Duration::from_secs(2);

pub(crate) fn run(effort: &Effort) -> Section {
    let server = Server::start();
    cpu::let_settle();
    let locks = count(effort.mass);
    let mut cases = vec![Case::idle(&server, effort)];
    let what = format!("{locks} leases of as many locks end in one instant");
    cases.push(Case::observe(&what, effort, || locks_end(&server, effort.mass)));
    let mut lock = EndingLock::new(&server, effort.holds);
    let what = format!("{} leases of one lock end in one instant", count(lock.holds));
    cases.push(Case::observe(&what, effort, || lock.end(&server)));
    let what = format!("a connection keeps {locks} locks by SESSION, PX 1000, for {} s", KEPT.as_secs());
    cases.push(Case::observe(&what, effort, || {
        let pipe = keep(&server, effort.mass, "1000");
        let watched = watch(&server, || thread::sleep(KEPT)).0;
        drop(pipe);
        until_gone(&mut server.client());
        watched
    }));
    let what =
        format!("{STRANGERS} connections close that keep nothing, while one keeps {locks} locks by SESSION");
    cases.push(Case::observe(&what, effort, || strangers_close(&server, effort.mass)));
    let what = format!("a connection closes that keeps {locks} locks by SESSION");
    cases.push(Case::observe(&what, effort, || {
        let pipe = keep(&server, effort.mass, &LONG_LEASE_MS.to_string());
        close(&server, pipe)
    }));
    let mut kept = 0;
    let closing = Case::observe("", effort, || {
        let mut pipe = Pipe::connect(&server);
        let until = Instant::now() + TO_BUILD / 2;
        let options = || format!("PX {LONG_LEASE_MS} SESSION");
        kept = hold_shared(&mut pipe, KEY, effort.holds, until, options).len();
        close(&server, pipe)
    });
    let what = format!("a connection closes that keeps {} SHARED holds of one lock by SESSION", count(kept));
    cases.push(Case { what, ..closing });
    section(
        "PINGs while very many holds end",
        "Leases end together, or a connection that keeps very many holds closes. PINGs count from just before, until \
         all is gone. Of the holds on one lock there are as many as the \
         server gives in good time.",
        &cases,
    )
}

/// Has so many leases of as many locks end together.
fn locks_end(server: &Server, locks: usize) -> Watched {
    let end = Instant::now() + UNTIL_END;
    fill(server, locks, &granted(TOKEN_LEN), |number| {
        let left_ms = ms_until(end).to_string();
        ["LOCK.ACQUIRE".to_owned(), format!("ending:{number:07}"), "PX".to_owned(), left_ms].to_vec()
    });
    let mut client = server.client();
    sleep_until(end - LEAD);
    watch(server, || until_gone(&mut client)).0
}

/// A lock whose many leases end together, again and again.
struct EndingLock {
    holds: usize,
    payload: Vec<u8>,
    /// How long they last from when it is restored.
    lease: Duration,
}

impl EndingLock {
    fn new(server: &Server, holds: usize) -> Self {
        let mut client = server.client();
        let start = Instant::now();
        hold_by_many(server, KEY, holds / 10);
        // Where a hold costs the more the more there are, all of them take a hundred times as long as a tenth.
        let to_build = (start.elapsed() * 150).clamp(UNTIL_END, TO_BUILD);
        client.ok("FLUSHALL");
        let until = Instant::now() + to_build;
        let end = until + UNTIL_END;
        let options = || format!("PX {}", ms_until(end));
        let holds = hold_shared(&mut Pipe::connect(server), KEY, holds, until, options).len();
        sleep_until(end - UNTIL_END / 2);
        let payload = client.call(&["DUMP", KEY]).bytes();
        assert_eq!(client.call(&["UNLINK", KEY]), Reply::Int(1), "this machine is too slow to copy the lock");
        Self { holds, payload, lease: UNTIL_END / 2 }
    }

    fn end(&mut self, server: &Server) -> Watched {
        let mut client = server.client();
        client.ok("FLUSHALL");
        let restored = client.call(&[b"RESTORE".as_slice(), KEY.as_bytes(), b"0", &self.payload]);
        assert_eq!(restored, Reply::Simple("OK".into()));
        thread::sleep(self.lease.saturating_sub(LEAD));
        watch(server, || until_gone(&mut client)).0
    }
}

/// Takes so many locks that a connection keeps.
fn keep(server: &Server, locks: usize, lease_ms: &str) -> Pipe {
    let mut pipe = Pipe::connect(server);
    fill_on(&mut pipe, locks, &granted(TOKEN_LEN), |number| {
        ["LOCK.ACQUIRE", &format!("kept:{number:07}"), "PX", lease_ms, "SESSION"].map(str::to_owned).to_vec()
    });
    pipe
}

/// Closes connections that have nothing to do with the locks which a later one keeps.
fn strangers_close(server: &Server, locks: usize) -> Watched {
    let strangers: Vec<Client> = (0..STRANGERS).map(|_| server.client()).collect();
    let pipe = keep(server, locks, &LONG_LEASE_MS.to_string());
    let mut client = server.client();
    let closing = || {
        drop(strangers);
        until_connected(&mut client, FEW);
    };
    let (watched, ()) = watch(server, closing);
    drop(pipe);
    until_gone(&mut client);
    watched
}

/// Closes a connection, and waits until nothing is held any more.
fn close(server: &Server, pipe: Pipe) -> Watched {
    let mut client = server.client();
    let closing = || {
        drop(pipe);
        until_gone(&mut client);
    };
    watch(server, closing).0
}

fn until_gone(client: &mut Client) {
    wait_until("all locks are gone", PATIENCE, || client.run("DBSIZE") == Reply::Int(0));
}

fn ms_until(end: Instant) -> u64 {
    let left = end.saturating_duration_since(Instant::now()).as_millis();
    assert!(left > 0, "this machine is too slow to take so many locks in time");
    u64::try_from(left).unwrap()
}

fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}
