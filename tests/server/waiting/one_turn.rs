//! Several things within one iteration of the server's event loop, written in one piece: a waiter gets one reply, never two and
//! never none, and what it says is so.

use crate::support::locks::{Grant, acquire, exists, field, holders};
use crate::support::waiter::{assert_left_in_peace, owners, release};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, wait_until};

/// How often each is tried: what decides between two ends may be the order in which the server looks at things.
const TIMES: usize = 5;

/// A lock that `a` holds and two who wait for it.
struct Queue {
    client: Client,
    next: Waiter,
    behind: Waiter,
    server: Server,
}

impl Queue {
    #[track_caller]
    fn new(next: &str) -> Self {
        let server = Server::start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a OWNER a PX 60000");
        let next = Waiter::new(&server, &format!("k TOKEN next OWNER next {next}"));
        let behind = Waiter::new(&server, "k TOKEN behind OWNER behind BLOCK 0");
        Self { client, next, behind, server }
    }

    /// Runs commands in one write; `NEXT` and `BEHIND` stand for the ids of the two.
    #[track_caller]
    fn run_all(&mut self, commands: &[&str]) -> Vec<Reply> {
        let (next, behind) = (self.next.id.to_string(), self.behind.id.to_string());
        let commands: Vec<String> =
            commands.iter().map(|it| it.replace("NEXT", &next).replace("BEHIND", &behind)).collect();
        let replies = self.client.run_all(&commands.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(replies.iter().all(|reply| !reply.is_error()), "{replies:?}");
        replies
    }

    /// The next one was told of its grant and holds the lock, or it was not and the one behind it does.
    #[track_caller]
    fn assert_one_holds(mut self, told: Option<Grant>) {
        if let Some(grant) = told {
            self.assert_holder("next", grant.fence);
            self.behind.assert_waiting(&self.server);
            release(&mut self.client, "k", "next");
        }
        let fence = self.behind.granted().fence;
        self.assert_holder("behind", fence);
        release(&mut self.client, "k", "behind");
        assert_left_in_peace(&self.server, "k");
        self.server.assert_alive();
    }

    #[track_caller]
    fn assert_holder(&mut self, owner: &str, fence: i64) {
        assert_eq!(owners(&mut self.client, "k").0, [owner]);
        assert_eq!(field(&holders(&mut self.client, "k")[0], "fence"), Reply::Int(fence));
    }
}

/// The same commands as they are, and as a transaction.
fn plain_and_in_a_transaction<'a>(commands: &[&'a str]) -> [Vec<&'a str>; 2] {
    [commands.to_vec(), [&["MULTI"], commands, &["EXEC"]].concat()]
}

#[test]
fn a_release_and_an_unblocking_of_the_next() {
    for commands in [
        ["LOCK.RELEASE k a", "CLIENT UNBLOCK NEXT TIMEOUT"],
        ["CLIENT UNBLOCK NEXT TIMEOUT", "LOCK.RELEASE k a"],
        ["DEL k", "CLIENT UNBLOCK NEXT TIMEOUT"],
        ["LOCK.BREAK k", "CLIENT UNBLOCK NEXT"],
    ] {
        for commands in plain_and_in_a_transaction(&commands) {
            let mut queue = Queue::new("BLOCK 0");
            queue.run_all(&commands);
            let told = queue.next.granted_or_refused();
            queue.assert_one_holds(told);
        }
    }
}

#[test]
fn a_release_and_an_unblocking_of_the_next_with_an_error() {
    for commands in [
        ["LOCK.RELEASE k a", "CLIENT UNBLOCK NEXT ERROR"],
        ["CLIENT UNBLOCK NEXT ERROR", "LOCK.RELEASE k a"],
        ["DEL k", "CLIENT UNBLOCK NEXT ERROR"],
        ["FLUSHALL", "CLIENT UNBLOCK NEXT ERROR"],
    ] {
        for commands in plain_and_in_a_transaction(&commands) {
            let mut queue = Queue::new("BLOCK 0");
            queue.run_all(&commands);
            let reply = queue.next.reply();
            let told = match &reply {
                Reply::Error(text) => {
                    assert!(text.starts_with("UNBLOCKED "), "{text}");
                    None
                }
                grant => Some(crate::support::ok_grant(grant.clone())),
            };
            queue.assert_one_holds(told.map(|(token, fence)| Grant { token, fence }));
        }
    }
}

#[test]
fn a_release_and_every_kind_of_unblocking_of_the_next() {
    for commands in [
        ["LOCK.RELEASE k a", "CLIENT UNBLOCK NEXT TIMEOUT", "CLIENT UNBLOCK NEXT ERROR"],
        ["LOCK.RELEASE k a", "CLIENT UNBLOCK NEXT ERROR", "CLIENT UNBLOCK NEXT TIMEOUT"],
        ["CLIENT UNBLOCK NEXT TIMEOUT", "LOCK.RELEASE k a", "CLIENT UNBLOCK NEXT ERROR"],
    ] {
        let mut queue = Queue::new("BLOCK 0");
        queue.run_all(&commands);
        let reply = queue.next.reply();
        let told = matches!(reply, Reply::Array(_)).then(|| crate::support::ok_grant(reply));
        queue.assert_one_holds(told.map(|(token, fence)| Grant { token, fence }));
    }
}

#[test]
fn a_release_and_a_killing_of_the_next() {
    for commands in [
        ["LOCK.RELEASE k a", "CLIENT KILL ID NEXT"],
        ["CLIENT KILL ID NEXT", "LOCK.RELEASE k a"],
        ["DEL k", "CLIENT KILL ID NEXT"],
        // Without ASYNC, Redis 8 has whoever flushes wait for it, and what is sent behind it comes a turn later.
        ["FLUSHDB ASYNC", "CLIENT KILL ID NEXT"],
    ] {
        for commands in plain_and_in_a_transaction(&commands) {
            for options in ["BLOCK 0", "BLOCK 0 SESSION", "BLOCK 0 SHARED"] {
                let mut queue = Queue::new(options);
                queue.run_all(&commands);
                queue.next.closed();
                queue.assert_one_holds(None);
            }
        }
    }
}

#[test]
fn a_release_and_a_killing_of_the_one_behind_the_next() {
    for commands in plain_and_in_a_transaction(&["LOCK.RELEASE k a", "CLIENT KILL ID BEHIND"]) {
        let mut queue = Queue::new("BLOCK 0");
        queue.run_all(&commands);
        let Queue { mut client, mut next, mut behind, mut server } = queue;
        behind.closed();
        next.granted();
        assert_eq!(owners(&mut client, "k"), (vec!["next".to_owned()], vec![]));
        release(&mut client, "k", "next");
        assert_left_in_peace(&server, "k");
        server.assert_alive();
    }
}

#[test]
fn a_deletion_and_a_newcomer() {
    for commands in
        plain_and_in_a_transaction(&["DEL k", "LOCK.ACQUIRE k TOKEN newcomer", "LOCK.CHECK k newcomer"])
    {
        let mut queue = Queue::new("BLOCK 0");
        let replies = queue.run_all(&commands);
        let results = if replies.len() == 3 { &replies } else { replies[4].items() };
        assert_eq!(results[1..], [Reply::NullArray, Reply::NullArray]);
        let told = Some(queue.next.granted());
        queue.assert_one_holds(told);
    }
}

/// The second deletion takes from the next one what it has just been given.
#[test]
fn a_release_a_deletion_and_a_release() {
    for commands in plain_and_in_a_transaction(&["LOCK.RELEASE k a", "DEL k", "LOCK.RELEASE k a"]) {
        let mut queue = Queue::new("BLOCK 0");
        queue.run_all(&commands);
        let Queue { mut client, mut next, mut behind, mut server } = queue;
        let first = next.granted();
        let second = behind.granted();
        assert!(first.fence < second.fence);
        assert_eq!(owners(&mut client, "k"), (vec!["behind".to_owned()], vec![]));
        release(&mut client, "k", "behind");
        assert_left_in_peace(&server, "k");
        server.assert_alive();
    }
}

#[test]
fn a_lock_that_goes_through_many_hands() {
    let server = Server::start();
    let mut client = server.client();
    for commands in plain_and_in_a_transaction(&[]) {
        acquire(&mut client, "k TOKEN t0");
        let mut waiters: Vec<_> =
            (1..=20).map(|n| Waiter::new(&server, &format!("k TOKEN t{n} BLOCK 0"))).collect();
        let releases: Vec<String> = (0..=20).map(|n| format!("LOCK.RELEASE k t{n}")).collect();
        let mut all: Vec<&str> = releases.iter().map(String::as_str).collect();
        if let [multi, exec] = commands[..] {
            all.insert(0, multi);
            all.push(exec);
        }
        let replies = client.run_all(&all);
        let results = replies.last().unwrap();
        let results = if commands.is_empty() { &replies } else { results.items() };
        assert!(results.iter().all(|reply| *reply == Reply::Int(1)), "each was the holder: {replies:?}");
        let fences: Vec<i64> = waiters.iter_mut().map(|waiter| waiter.granted().fence).collect();
        assert!(fences.is_sorted_by(|one, next| one < next), "{fences:?}");
        assert_left_in_peace(&server, "k");
    }
}

#[test]
fn a_holder_that_releases_and_takes_and_releases_without_end_overtakes_nobody() {
    let mut queue = Queue::new("BLOCK 0");
    let replies = queue.run_all(&[
        "LOCK.RELEASE k a",
        "LOCK.ACQUIRE k TOKEN a",
        "LOCK.RELEASE k a",
        "LOCK.ACQUIRE k TOKEN a SHARED",
        "LOCK.RELEASE k next",
        "LOCK.ACQUIRE k TOKEN a",
        "LOCK.RELEASE k behind",
        "LOCK.ACQUIRE k TOKEN a",
    ]);
    let due = [Reply::Int(1), Reply::NullArray, Reply::Int(0), Reply::NullArray];
    assert_eq!(replies[..4], due);
    assert_eq!(replies[4..7], [Reply::Int(1), Reply::NullArray, Reply::Int(1)]);
    crate::support::ok_grant(replies[7].clone());
    queue.next.granted();
    queue.behind.granted();
    release(&mut queue.client, "k", "a");
    assert_left_in_peace(&queue.server, "k");
}

#[test]
fn a_wait_that_is_over_while_the_server_sleeps_and_a_release_right_behind() {
    for commands in [
        &["DEBUG SLEEP 0.4", "LOCK.RELEASE k a"][..],
        &["DEBUG SLEEP 0.4", "DEL k"],
        &["DEBUG SLEEP 0.4", "LOCK.BREAK k"],
        &["DEBUG SLEEP 0.4", "LOCK.RELEASE k a", "CLIENT UNBLOCK NEXT"],
        &["DEBUG SLEEP 0.4", "CLIENT UNBLOCK NEXT", "LOCK.RELEASE k a"],
        &["LOCK.RELEASE k a", "DEBUG SLEEP 0.4"],
    ] {
        for commands in plain_and_in_a_transaction(commands) {
            let mut queue = Queue::new("BLOCK 200");
            queue.run_all(&commands);
            let told = queue.next.granted_or_refused();
            queue.assert_one_holds(told);
        }
    }
}

#[test]
fn a_lease_and_a_wait_that_are_over_in_the_same_sleep() {
    let mut queue = Queue::new("BLOCK 200");
    queue.run_all(&["LOCK.EXTEND k a PX 150", "DEBUG SLEEP 0.5"]);
    let told = queue.next.granted_or_refused();
    queue.assert_one_holds(told);
}

#[test]
fn a_release_and_the_end_of_the_next_ones_connection() {
    for _ in 0..TIMES {
        let Queue { mut client, next, mut behind, mut server } = Queue::new("BLOCK 0");
        // The end is there to be read before the release is.
        client.send(&["DEBUG", "SLEEP", "0.1"]);
        drop(next);
        client.send(&["LOCK.RELEASE", "k", "a"]);
        assert_eq!([client.read(), client.read()], [Reply::Simple("OK".into()), Reply::Int(1)]);
        // The server may read the end only after the release, and then either has told the next one, whose lease runs, or
        // undoes its grant.
        let released = client.run("LOCK.RELEASE k next");
        assert!(matches!(released, Reply::Int(0 | 1)), "{released:?}");
        behind.granted();
        release(&mut client, "k", "behind");
        assert_left_in_peace(&server, "k");
        server.assert_alive();
    }
}

#[test]
fn a_release_and_a_removal_of_all_who_wait() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiters: Vec<_> =
        (0..20).map(|n| Waiter::new(&server, &format!("k TOKEN w{n} BLOCK 0"))).collect();
    let commands = ["LOCK.RELEASE k a", "CLIENT KILL TYPE normal SKIPME yes"];
    // The connections on which the test looked on may not have ended yet, and count then.
    let killed = client.run_all(&commands)[1].int();
    assert!(killed >= 20, "{killed}");
    waiters.iter_mut().for_each(Waiter::closed);
    assert_left_in_peace(&server, "k");
}

#[test]
fn readers_let_in_together_of_whom_some_are_killed_and_some_unblocked() {
    let mut server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut readers: Vec<_> =
        (0..6).map(|n| Waiter::new(&server, &format!("k SHARED TOKEN r{n} OWNER r{n} BLOCK 0"))).collect();
    let mut writer = Waiter::new(&server, "k TOKEN w OWNER w BLOCK 0");
    let commands = [
        "LOCK.RELEASE k a".to_owned(),
        format!("CLIENT KILL ID {}", readers[1].id),
        format!("CLIENT UNBLOCK {}", readers[3].id),
        format!("CLIENT UNBLOCK {} ERROR", readers[4].id),
    ];
    let replies = client.run_all(&commands.each_ref().map(String::as_str));
    assert!(replies.iter().all(|reply| !reply.is_error()), "{replies:?}");
    readers[1].closed();
    let mut holding = vec![];
    for n in [0, 2, 3, 4, 5] {
        let reply = readers[n].reply();
        match (n, &reply) {
            (_, Reply::Array(_)) => holding.push(format!("r{n}")),
            (3, Reply::NullArray) => {}
            (4, Reply::Error(text)) if text.starts_with("UNBLOCKED ") => {}
            _ => panic!("reader {n} got {reply:?}"),
        }
    }
    assert!(["r0", "r2", "r5"].iter().all(|owner| holding.contains(&(*owner).to_owned())), "{holding:?}");
    assert_eq!(owners(&mut client, "k").0, holding, "who was told so holds the lock, and nobody else");
    for token in holding {
        release(&mut client, "k", token);
    }
    writer.granted();
    release(&mut client, "k", "w");
    assert_left_in_peace(&server, "k");
    server.assert_alive();
}

/// The end of a session finds its hold wherever it has just gone.
#[test]
fn a_lock_that_goes_elsewhere_and_the_end_of_its_session() {
    for (goes, database, key) in [
        (&["RENAME k l"][..], 0, "l"),
        (&["MOVE k 1"], 1, "k"),
        (&["SWAPDB 0 1"], 1, "k"),
        (&["RENAME k l", "MOVE l 2", "SWAPDB 2 3"], 3, "l"),
        (&["RENAME k l", "RENAME l k"], 0, "k"),
    ] {
        for commands in plain_and_in_a_transaction(&[goes, &["CLIENT KILL ID SESSION"]].concat()) {
            let server = Server::start();
            let mut session = server.client();
            let id = session.id().to_string();
            acquire(&mut session, "k TOKEN a PX 600000 SESSION");
            let mut client = server.client();
            let commands: Vec<String> = commands.iter().map(|it| it.replace("SESSION", &id)).collect();
            let replies = client.run_all(&commands.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(replies.iter().all(|reply| !reply.is_error()), "{replies:?}");
            client.ok(&format!("SELECT {database}"));
            wait_until(&format!("the hold is released after {commands:?}"), PATIENCE, || {
                !exists(&mut client, key)
            });
        }
    }
}
