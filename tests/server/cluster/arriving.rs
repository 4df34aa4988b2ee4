//! A slot on its way to a node that does not have it yet: clients that were sent there take and hold its locks, and wait
//! for them, but who waits is handed nothing before the node has the slot.

use std::time::Duration;

use crate::support::cluster::{Cluster, Migration, asking, asking_waiter, key_in, moved_to, shared};
use crate::support::locks::{field, null, ok_grant};
use crate::support::waiter::{is_blocked, release};
use crate::support::{Client, PATIENCE, Reply, Waiter, wait_until};

/// How long nothing is seen to happen where something wrong would happen at once.
const A_WHILE: Duration = Duration::from_millis(300);

/// A slot that is arriving at node 1, in which `k` is held there by `a`, through a client of its own.
struct Arriving<'a> {
    cluster: &'a Cluster,
    migration: Migration<'a>,
    key: String,
    holder: Client,
}

impl<'a> Arriving<'a> {
    #[track_caller]
    fn held(cluster: &'a Cluster, options: &str) -> Self {
        let slot = cluster.fresh_slot(0);
        let migration = cluster.open_slot(slot, 0, 1);
        let mut holder = cluster.client(1);
        let key = key_in(slot, "k");
        ok_grant(asking(&mut holder, &format!("LOCK.ACQUIRE {key} TOKEN a {options}")));
        Self { cluster, migration, key, holder }
    }

    /// Whether anybody holds it, in the eyes of a client that was sent there.
    #[track_caller]
    fn is_held(&self) -> bool {
        let info = asking(&mut self.cluster.client(1), &format!("LOCK.INFO {}", self.key));
        !info.is_null() && field(&info, "held").int() > 0
    }

    #[track_caller]
    fn waiter(&self, options: &str) -> Waiter {
        asking_waiter(self.cluster.node(1), &format!("{} {options}", self.key))
    }

    /// Whoever waits and can wait on is served once the slot is here, and then they are done.
    #[track_caller]
    fn finish_and_serve(self, waiters: Vec<Waiter>) {
        let Self { cluster, migration, key, holder } = self;
        migration.finish();
        let mut client = cluster.client(1);
        for mut waiter in waiters {
            let reply = waiter.reply();
            let token = match &reply {
                Reply::Error(error) => {
                    assert!(is_redirection(error), "{error}");
                    continue;
                }
                _ => ok_grant(reply).0,
            };
            release(&mut client, &key, token);
        }
        drop(holder);
        wait_until("the lock is free", PATIENCE, || client.run(&format!("EXISTS {key}")) == Reply::Int(0));
        cluster.assert_free(1, &key);
    }
}

/// What may be told a client that cannot wait on where it waits.
fn is_redirection(error: &str) -> bool {
    ["MOVED ", "ASK ", "TRYAGAIN "].iter().any(|kind| error.starts_with(kind))
}

/// A waiter that is still waiting, or was sent elsewhere, but was not granted anything; the first are given back.
#[track_caller]
fn not_granted(mut waiter: Waiter) -> Option<Waiter> {
    if !waiter.client.has_something_within(A_WHILE) {
        return Some(waiter);
    }
    let error = waiter.failed();
    assert!(is_redirection(&error), "{error}");
    None
}

/// How `a` comes to lose the lock.
type End = fn(&mut Arriving<'_>);

const RELEASE: End = |it| {
    let command = format!("LOCK.RELEASE {} a", it.key);
    assert_eq!(asking(&mut it.holder, &command), Reply::Int(1));
};
const BREAK: End = |it| {
    let command = format!("LOCK.BREAK {}", it.key);
    assert_eq!(asking(&mut it.cluster.client(1), &command), Reply::Int(1));
};
const DELETION: End = |it| {
    let command = format!("DEL {}", it.key);
    assert_eq!(asking(&mut it.cluster.client(1), &command), Reply::Int(1));
};
const EXPIRY: End = |it| {
    let command = format!("LOCK.EXTEND {} a PX 1", it.key);
    assert_eq!(asking(&mut it.holder, &command), Reply::Int(1));
};
const DISCONNECTION: End = |it| {
    let id = it.holder.id();
    it.holder = it.cluster.client(1);
    wait_until("the server has noticed", PATIENCE, || {
        it.holder.run(&format!("CLIENT LIST ID {id}")).text().is_empty()
    });
};

macro_rules! nobody_is_handed_what_is_freed_before_the_slot_is_here_by {
    ($($name:ident: $options:literal, $end:expr;)+) => {$(
        #[test]
        fn $name() {
            let cluster = shared();
            let mut arriving = Arriving::held(&cluster, $options);
            let waiters: Vec<Waiter> = ["b", "c"]
                .iter()
                .map(|token| arriving.waiter(&format!("TOKEN {token} PX 60000 BLOCK 0")))
                .collect();
            let end: End = $end;
            end(&mut arriving);
            let waiters = waiters.into_iter().filter_map(not_granted).collect();
            assert!(!arriving.is_held());
            arriving.finish_and_serve(waiters);
        }
    )+};
}

nobody_is_handed_what_is_freed_before_the_slot_is_here_by! {
    nobody_is_handed_what_is_released_before_the_slot_is_here: "PX 60000", RELEASE;
    nobody_is_handed_what_is_broken_before_the_slot_is_here: "PX 60000", BREAK;
    nobody_is_handed_what_is_deleted_before_the_slot_is_here: "PX 60000", DELETION;
    nobody_is_handed_what_expires_before_the_slot_is_here: "PX 60000", EXPIRY;
    nobody_is_handed_what_a_session_leaves_before_the_slot_is_here: "PX 60000 SESSION", DISCONNECTION;
}

#[test]
fn a_lease_that_ends_before_the_slot_is_here_leaves_nothing() {
    let cluster = shared();
    let arriving = Arriving::held(&cluster, "PX 50");
    let slot = arriving.migration.slot;
    wait_until("the lock is free", PATIENCE, || !arriving.is_held());
    arriving.migration.finish();
    wait_until("its key is gone", PATIENCE, || cluster.keepers(slot).is_empty());
    cluster.assert_free(1, &arriving.key);
}

/// What was freed before the slot came is handed over when it comes, and it is not a newcomer's meanwhile.
#[test]
fn nobody_overtakes_those_who_wait_for_a_slot_to_come() {
    let cluster = shared();
    let mut arriving = Arriving::held(&cluster, "PX 60000");
    let waiter = arriving.waiter("TOKEN b PX 60000 BLOCK 0");
    RELEASE(&mut arriving);
    let mut newcomer = cluster.client(1);
    let reply = asking(&mut newcomer, &format!("LOCK.ACQUIRE {} TOKEN newcomer PX 60000", arriving.key));
    // Where those who wait were sent away nobody is overtaken.
    let waiters: Vec<Waiter> = not_granted(waiter).into_iter().collect();
    if waiters.is_empty() && !reply.is_null() {
        release(&mut newcomer, &arriving.key, ok_grant(reply).0);
    } else {
        assert_eq!(reply, null(&newcomer));
    }
    arriving.finish_and_serve(waiters);
}

#[test]
fn a_wait_that_ends_in_its_time_before_the_slot_is_here_is_answered() {
    let cluster = shared();
    let arriving = Arriving::held(&cluster, "PX 60000");
    let mut waiter = arriving.waiter("TOKEN b PX 60000 BLOCK 200");
    let reply = waiter.reply();
    let is_sent_on = matches!(&reply, Reply::Error(error) if is_redirection(error));
    assert!(reply == null(&waiter.client) || is_sent_on, "{reply:?}");
    let Arriving { migration, mut holder, key, .. } = arriving;
    migration.finish();
    release(&mut holder, &key, "a");
    cluster.assert_free(1, &key);
}

#[test]
fn who_waits_where_the_slot_does_not_come_after_all_is_sent_back() {
    let cluster = shared();
    let mut arriving = Arriving::held(&cluster, "PX 60000");
    let slot = arriving.migration.slot;
    let waiter = arriving.waiter("TOKEN b PX 60000 BLOCK 0");
    let other = key_in(slot, "other");
    let second = asking_waiter_behind(&cluster, &other);
    RELEASE(&mut arriving);
    asking(&mut cluster.client(1), &format!("DEL {other}"));
    let waiters: Vec<Waiter> = [waiter, second].into_iter().filter_map(not_granted).collect();
    arriving.migration.cancel();
    for mut waiter in waiters {
        assert_eq!(waiter.failed(), moved_to(slot, cluster.node(0)));
    }
    assert_eq!(cluster.keepers(slot), [0; 0]);
    cluster.assert_free(0, &arriving.key);
}

/// One that waits at node 1 behind somebody who holds the key there.
#[track_caller]
fn asking_waiter_behind(cluster: &Cluster, key: &str) -> Waiter {
    ok_grant(asking(&mut cluster.client(1), &format!("LOCK.ACQUIRE {key} TOKEN a PX 60000")));
    asking_waiter(cluster.node(1), &format!("{key} TOKEN b PX 60000 BLOCK 0"))
}

/// Two came to wait, one at each node, before the lock itself did.
#[test]
fn a_lock_that_arrives_where_somebody_waits_for_it_stays_its_holders() {
    let cluster = shared();
    let slot = cluster.fresh_slot(0);
    let key = key_in(slot, "k");
    let mut source = cluster.client(0);
    let fence = ok_grant(source.run(&format!("LOCK.ACQUIRE {key} TOKEN a PX 60000"))).1;
    let migration = cluster.open_slot(slot, 0, 1);
    // Nobody is sent there while the key is here; but somebody may have been in the slot's last move.
    let mut early = cluster.client(1);
    ok_grant(asking(&mut early, &format!("LOCK.ACQUIRE {key} TOKEN early PX 60000")));
    let waiter = asking_waiter(cluster.node(1), &format!("{key} TOKEN b PX 60000 BLOCK 0"));
    assert_eq!(asking(&mut early, &format!("LOCK.RELEASE {key} early")), Reply::Int(1));
    let waiters: Vec<Waiter> = not_granted(waiter).into_iter().collect();
    migration.move_all_keys();
    let check = asking(&mut early, &format!("LOCK.CHECK {key} a"));
    assert_eq!(check.items()[0], Reply::Int(fence));
    migration.finish();
    for mut waiter in waiters {
        let mut observer = cluster.client(1);
        if !is_blocked(&mut observer, waiter.id) {
            let error = waiter.failed();
            assert!(is_redirection(&error), "{error}");
            continue;
        }
        assert!(!waiter.client.has_something_within(A_WHILE), "it is held by a");
        release(&mut observer, &key, "a");
        assert!(waiter.granted().fence > fence);
        release(&mut observer, &key, "b");
    }
    cluster.client(1).run(&format!("LOCK.RELEASE {key} a"));
    cluster.assert_free(1, &key);
}
