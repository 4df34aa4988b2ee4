//! A writer that leaves, and lets in all the readers that waited for it.

use std::thread;
use std::time::{Duration, Instant};

use super::{Case, LEAD, key, section};
use crate::cpu;
use crate::effort::Effort;
use crate::loads::{ONE, TOKEN_LEN, granted, token};
use crate::many::Many;
use crate::open_files::{OTHER_FILES, may_be_open};
use crate::pipe::{Batch, Pipe};
use crate::probe::{Watched, watch};
use crate::report::{Bound, Section, Target};
use crate::stats::{count, median};
use crate::support::{Client, PATIENCE, Reply, Server, wait_until};

/// Readers of one lock: behind a writer that waits itself, as many as may wait for a key by default.
pub(super) const READERS: usize = 999;

/// Locks whose readers are let in at once.
const LOCKS: usize = 9;

/// Numbers of readers between which it is seen how the time grows.
const GROWING: [usize; 2] = [5_000, 10_000];

/// What twice as many may take.
const GROWTH: f64 = 2.6;

/// A lease or a wait that does not end meanwhile, in milliseconds.
pub(super) const LONG: &str = "5000000";

/// Time enough for all to begin to wait.
const UNTIL_END: Duration = Duration::from_secs(3);

/// How the writer leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    Release,
    CloseSession,
    Delete,
}

pub(crate) fn run(effort: &Effort) -> Section {
    let mut cases = within_defaults(effort);
    let cpu_growth = growing(effort, &mut cases);
    let mut section = section(
        "PINGs while very many are let in",
        "Somebody holds a lock alone, and others wait to have it SHARED; then the first leaves, in one of the ways \
         there are; or the time is up for all of them at once. With more readers than `lock.max-waiters-per-key` allows by default, that setting is raised, and \
         there is a target only for how the server's CPU grows with their number.",
        &cases,
    );
    let [few, many] = GROWING.map(count);
    section.targets.extend(cpu_growth.map(|figure| Target {
        name: format!("server CPU to let {many} readers in, against {few}"),
        figure,
        unit: "times",
        bound: Bound::Ceiling(GROWTH),
    }));
    section
}

/// What can be done with default settings.
fn within_defaults(effort: &Effort) -> Vec<Case> {
    let server = Server::start();
    cpu::let_settle();
    let mut cases = vec![Case::idle(&server, effort)];
    let readers = count(READERS);
    let ways = [
        (1, Leave::Release, format!("a writer leaves {readers} readers: `LOCK.RELEASE`")),
        (1, Leave::CloseSession, format!("a writer leaves {readers} readers: its connection closes")),
        (LOCKS, Leave::Delete, format!("`DEL` of {LOCKS} locks with {readers} readers each, in one command")),
    ];
    for (locks, leave, what) in ways {
        cases.push(Case::observe_with(locks * READERS, &what, || {
            let mut readers = Readers::connect(&server, locks * READERS);
            Case::observe(&what, effort, || readers.let_in(locks * READERS, locks, leave).0)
        }));
    }
    let waiters = LOCKS * READERS;
    let what = format!("{} waits for {LOCKS} locks end in one instant", count(waiters));
    cases.push(Case::observe_with(waiters, &what, || {
        let mut readers = Readers::connect(&server, waiters);
        Case::observe(&what, effort, || readers.end_waits(waiters, LOCKS))
    }));
    cases
}

/// What takes other settings. Gives how much more of the server's time it takes with twice as many.
fn growing(effort: &Effort, cases: &mut Vec<Case>) -> Option<f64> {
    let [_, many] = GROWING;
    let what = |readers| format!("a writer leaves {} readers: `LOCK.RELEASE`", count(readers));
    if !may_be_open(many) {
        cases.extend(GROWING.map(|readers| Case::left_out(&what(readers))));
        return None;
    }
    let server = Server::builder()
        .config(&format!("maxclients {}", many + OTHER_FILES))
        .module_args(&format!("max-waiters {many} max-waiters-per-key {many}"))
        .start();
    cpu::let_settle();
    let mut connections = Readers::connect(&server, many);
    let [few_ms, many_ms] = GROWING.map(|readers| {
        let mut rounds_ms = Vec::new();
        let case = Case::observe(&what(readers), effort, || {
            let (watched, cpu_ms) = connections.let_in(readers, 1, Leave::Release);
            rounds_ms.push(cpu_ms);
            watched
        });
        cases.push(case.without_target());
        median(&rounds_ms)
    });
    Some(many_ms / few_ms)
}

/// Connections that wait for locks.
pub(super) struct Readers<'a> {
    server: &'a Server,
    info: Client,
    many: Many,
}

impl<'a> Readers<'a> {
    pub(super) fn connect(server: &'a Server, count: usize) -> Self {
        Self { server, info: server.client(), many: Many::connect(server, count) }
    }

    /// Has so many of them wait for locks that a writer has, and the writer leave. Gives what a PING saw, and how much of
    /// the server's time it took until all were told, in milliseconds.
    fn let_in(&mut self, readers: usize, locks: usize, leave: Leave) -> (Watched, f64) {
        let mut writer = Writer::take(self.server, locks, leave);
        self.ask(readers, locks, 0);
        let before_us = cpu::used_us(&mut self.info);
        let (watched, ()) = watch(self.server, || {
            writer.leave();
            self.await_replies(readers);
        });
        let took_ms = (cpu::used_us(&mut self.info) - before_us) / 1e3;
        for number in 0..readers {
            let mut give_back = Batch::default();
            give_back.push(&["LOCK.RELEASE", &key(number % locks), &token(number)], ONE);
            self.many.send(number, &give_back);
        }
        self.await_replies(readers);
        (watched, took_ms)
    }

    /// Has so many of them wait for locks until the same moment, and in vain.
    fn end_waits(&mut self, waiters: usize, locks: usize) -> Watched {
        let writer = Writer::take(self.server, locks, Leave::CloseSession);
        let end = Instant::now() + UNTIL_END;
        for number in 0..waiters {
            let left_ms = end.saturating_duration_since(Instant::now()).as_millis();
            assert!(left_ms > 0, "this machine is too slow to let so many wait within {UNTIL_END:?}");
            let mut ask = Batch::default();
            ask.push(&["LOCK.ACQUIRE", &key(number % locks), "BLOCK", &left_ms.to_string()], "*-1\r\n");
            self.many.send(number, &ask);
        }
        until_waiting(&mut self.info, waiters);
        thread::sleep(end.saturating_duration_since(Instant::now() + LEAD));
        let (watched, ()) = watch(self.server, || self.await_replies(waiters));
        drop(writer);
        wait_until("the locks are free", PATIENCE, || self.info.run("DBSIZE") == Reply::Int(0));
        watched
    }

    /// Lets so many wait for locks, besides others that wait already.
    pub(super) fn ask(&mut self, readers: usize, locks: usize, others: usize) {
        for number in 0..readers {
            let mut ask = Batch::default();
            let (key, token) = (key(number % locks), token(number));
            ask.push(
                &["LOCK.ACQUIRE", &key, "SHARED", "PX", LONG, "TOKEN", &token, "BLOCK", LONG],
                &granted(TOKEN_LEN),
            );
            self.many.send(number, &ask);
        }
        until_waiting(&mut self.info, readers + others);
    }

    /// Waits until so many are answered, all of them as expected.
    pub(super) fn await_replies(&mut self, mut left: usize) {
        while left > 0 {
            let answered = self.many.wait(PATIENCE);
            assert!(!answered.is_empty() && answered.iter().all(|answered| answered.as_expected));
            left -= answered.len();
        }
    }
}

/// Waits until so many clients wait for something.
pub(super) fn until_waiting(client: &mut Client, clients: usize) {
    let clients = clients.to_string();
    wait_until("all of them wait", PATIENCE, || client.info("clients", "blocked_clients") == clients);
}

/// Who has the locks first.
struct Writer {
    pipe: Option<Pipe>,
    locks: usize,
    leave: Leave,
}

impl Writer {
    const TOKEN: &str = "writer";

    fn take(server: &Server, locks: usize, leave: Leave) -> Self {
        let mut pipe = Pipe::connect(server);
        let mut batch = Batch::default();
        for lock in 0..locks {
            let key = key(lock);
            let mut command = vec!["LOCK.ACQUIRE", &key, "PX", LONG, "TOKEN", Self::TOKEN];
            command.extend((leave == Leave::CloseSession).then_some("SESSION"));
            batch.push(&command, &granted(Self::TOKEN.len()));
        }
        pipe.exchange(&batch);
        Self { pipe: Some(pipe), locks, leave }
    }

    fn leave(&mut self) {
        let mut batch = Batch::default();
        match self.leave {
            Leave::Release => {
                (0..self.locks).for_each(|lock| batch.push(&["LOCK.RELEASE", &key(lock), Self::TOKEN], ONE));
            }
            Leave::CloseSession => return self.pipe = None,
            Leave::Delete => {
                let keys = (0..self.locks).map(key);
                let command: Vec<String> = ["DEL".to_owned()].into_iter().chain(keys).collect();
                batch.push(&command, &format!(":{}\r\n", self.locks));
            }
        }
        if let Some(pipe) = &mut self.pipe {
            pipe.exchange(&batch);
        }
    }
}
