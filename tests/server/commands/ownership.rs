//! Racing clients: never more holders at once than the rule allows, and fences in the order of the grants.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use crate::support::locks::null;
use crate::support::{Client, Random, Reply, Server, cmd, ok_grant};

const CLIENTS: usize = 8;

/// Grants after which a race ends.
const ENOUGH: usize = 1500;

#[test]
fn an_exclusive_lock_never_has_two_holders() {
    let server = Server::start();
    let race = Race::default();
    race.run(&server, |client| {
        let (token, fence) = ok_grant_or_none(client.run("LOCK.ACQUIRE k PX 60000"))?;
        race.enter(1);
        race.fences.lock().unwrap().push(fence);
        race.leave();
        assert_eq!(client.call(&cmd!["LOCK.RELEASE", "k", token]), Reply::Int(1));
        Some(())
    });
    let fences = race.fences.into_inner().unwrap();
    assert!(fences.len() >= ENOUGH);
    assert!(fences.is_sorted_by(|earlier, later| earlier < later), "{fences:?}");
}

#[test]
fn a_semaphore_of_3_never_has_4_holders() {
    let server = Server::start();
    let race = Race::default();
    race.run(&server, |client| {
        let (token, fence) = ok_grant_or_none(client.run("LOCK.ACQUIRE k LIMIT 3 PX 60000"))?;
        race.enter(3);
        race.fences.lock().unwrap().push(fence);
        thread::yield_now();
        race.leave();
        assert_eq!(client.call(&cmd!["LOCK.RELEASE", "k", token]), Reply::Int(1));
        Some(())
    });
    let fences = race.fences.into_inner().unwrap();
    let distinct: HashSet<&i64> = fences.iter().collect();
    assert_eq!(distinct.len(), fences.len(), "no fence is given twice");
}

#[test]
fn a_writer_is_alone_and_readers_are_only_among_readers() {
    let server = Server::start();
    let race = Race::default();
    let writing = AtomicUsize::new(0);
    let random = Mutex::new(Random::from_environment());
    race.run(&server, |client| {
        let writer = random.lock().unwrap().below(3) == 0;
        let mode = if writer { "LIMIT 1" } else { "SHARED" };
        let reply = client.run(&format!("LOCK.ACQUIRE k {mode} PX 60000"));
        let (token, _) = ok_grant_or_none(reply)?;
        if writer {
            race.enter(1);
            writing.store(1, SeqCst);
            thread::yield_now();
            writing.store(0, SeqCst);
        } else {
            race.enter(CLIENTS);
            assert_eq!(writing.load(SeqCst), 0, "a reader beside the writer");
        }
        race.leave();
        assert_eq!(client.call(&cmd!["LOCK.RELEASE", "k", token]), Reply::Int(1));
        Some(())
    });
}

#[test]
fn all_keys_draw_from_one_sequence_of_fences() {
    let server = Server::start();
    let race = Race::default();
    let random = Mutex::new(Random::from_environment());
    race.run(&server, |client| {
        let key = format!("k{}", random.lock().unwrap().below(5));
        let before = race.fences.lock().unwrap().iter().max().copied();
        let (token, fence) = ok_grant_or_none(client.call(&cmd!["LOCK.ACQUIRE", key]))?;
        race.fences.lock().unwrap().push(fence);
        assert!(Some(fence) > before, "{fence} after {before:?}");
        assert_eq!(client.call(&cmd!["LOCK.RELEASE", key, token]), Reply::Int(1));
        Some(())
    });
    let fences = race.fences.into_inner().unwrap();
    let distinct: HashSet<&i64> = fences.iter().collect();
    assert_eq!(distinct.len(), fences.len(), "no fence is given twice");
}

#[test]
fn holders_that_forget_to_release_give_way_when_their_lease_ends() {
    let server = Server::start();
    let race = Race::default();
    let random = Mutex::new(Random::from_environment());
    race.run_until(&server, 150, |client| {
        let (token, fence) = ok_grant_or_none(client.run("LOCK.ACQUIRE k PX 4"))?;
        // The lease may end while this thread does not run, so it does not count itself as inside: fences in
        // the order of the grants are what protects here.
        let seen = client.call(&cmd!["LOCK.CHECK", "k", token]);
        if seen != null(client) {
            assert_eq!(seen.items().first(), Some(&Reply::Int(fence)));
        }
        race.fences.lock().unwrap().push(fence);
        if random.lock().unwrap().below(2) == 0 {
            client.call(&cmd!["LOCK.RELEASE", "k", token]);
        }
        Some(())
    });
    let fences = race.fences.into_inner().unwrap();
    let distinct: HashSet<&i64> = fences.iter().collect();
    assert_eq!(distinct.len(), fences.len(), "no fence is given twice");
}

/// What the racing clients share.
#[derive(Default)]
struct Race {
    inside: AtomicUsize,
    grants: AtomicUsize,
    fences: Mutex<Vec<i64>>,
}

impl Race {
    /// Lets all clients repeat `attempt` until there were enough grants; it gives `None` when it was refused.
    fn run(&self, server: &Server, attempt: impl Fn(&mut Client) -> Option<()> + Sync) {
        self.run_until(server, ENOUGH, attempt);
    }

    fn run_until(&self, server: &Server, enough: usize, attempt: impl Fn(&mut Client) -> Option<()> + Sync) {
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = server.client();
                    while self.grants.load(SeqCst) < enough {
                        if attempt(&mut client).is_some() {
                            self.grants.fetch_add(1, SeqCst);
                        }
                    }
                });
            }
        });
        assert!(self.grants.load(SeqCst) >= enough);
    }

    /// Enters what the lock guards, where no more than `most` may be.
    fn enter(&self, most: usize) {
        let others = self.inside.fetch_add(1, SeqCst);
        assert!(others < most, "{} inside, {most} allowed", others + 1);
    }

    fn leave(&self) {
        self.inside.fetch_sub(1, SeqCst);
    }
}

fn ok_grant_or_none(reply: Reply) -> Option<(Vec<u8>, i64)> {
    (!reply.is_null()).then(|| ok_grant(reply))
}
