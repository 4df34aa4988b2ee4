//! Keyspace notifications: who listens sees what happens to locks, each event once and in order.

use crate::support::listener::Listener;
use crate::support::locks::acquire;
use crate::support::waiter::release;
use crate::support::{Pair, Reply, Server, Waiter, caught_up};

#[test]
fn of_a_string_that_counts_as_a_lock_all_is_an_event_but_what_set_does() {
    let server = Server::builder().config("lock.adopt-strings yes").start();
    let mut client = server.client();
    let mut listener = Listener::new(&server);
    client.ok("SET s a PX 60000");
    client.run("LOCK.EXTEND s a");
    acquire(&mut client, "s TOKEN a");
    listener.hears(&["s lock.extended", "s lock.extended"]);
    let mut waiter = Waiter::new(&server, "s TOKEN b BLOCK 0");
    listener.hears(&["s lock.waiting"]);
    client.run("LOCK.RELEASE s a");
    listener.hears(&["s lock.released", "s lock.acquired"]);
    waiter.granted();
    client.run("LOCK.RELEASE s b");
    listener.hears(&["s lock.released"]);
    client.ok("SET s a PX 60000");
    client.run("LOCK.RELEASE s a LEVEL 2");
    client.run("LOCK.RELEASE s b");
    client.run("LOCK.BREAK s");
    listener.hears(&["s lock.broken"]);
    listener.hears_no_more(&mut client);
}

#[test]
fn what_commands_do_is_an_event_each() {
    let server = Server::start();
    let mut client = server.client();
    let mut listener = Listener::new(&server);
    acquire(&mut client, "k TOKEN a");
    listener.hears(&["k lock.acquired"]);
    acquire(&mut client, "k TOKEN a");
    client.run("LOCK.EXTEND k a");
    listener.hears(&["k lock.extended", "k lock.extended"]);
    // What comes to nothing, or changes nothing that others see.
    for command in [
        "LOCK.ACQUIRE k TOKEN b",
        "LOCK.EXTEND k b",
        "LOCK.RELEASE k b",
        "LOCK.CHECK k a",
        "LOCK.INFO k",
        "LOCK.BREAK k FENCE 1",
    ] {
        client.run(command);
    }
    listener.hears_no_more(&mut client);
    acquire(&mut client, "k TOKEN a LEVEL 2");
    client.run("LOCK.RELEASE k a LEVEL 2");
    listener.hears(&["k lock.extended"]);
    client.run("LOCK.RELEASE k a");
    listener.hears(&["k lock.released"]);
    for token in ["a", "b"] {
        acquire(&mut client, &format!("s TOKEN {token} SHARED"));
    }
    client.run("LOCK.BREAK s");
    listener.hears(&["s lock.acquired", "s lock.acquired", "s lock.broken", "s lock.broken"]);
    client.ok("SELECT 3");
    acquire(&mut client, "k TOKEN a");
    listener.hears(&["k lock.acquired"]);
    listener.hears_no_more(&mut client);
}

#[test]
fn a_holder_hears_that_somebody_waits_and_a_hand_over_is_two_events() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let mut listener = Listener::new(&server);
    let mut waiter = Waiter::new(&server, "k TOKEN b PX 600000 BLOCK 0");
    listener.hears(&["k lock.waiting"]);
    client.run("LOCK.ACQUIRE k TOKEN c QUEUE 600000");
    listener.hears(&["k lock.waiting"]);
    // It has waited before.
    client.run("LOCK.ACQUIRE k TOKEN c QUEUE 600000");
    listener.hears_no_more(&mut client);
    release(&mut client, "k", "a");
    waiter.granted();
    listener.hears(&["k lock.released", "k lock.acquired"]);
    release(&mut client, "k", "b");
    listener.hears(&["k lock.released", "k lock.acquired"]);
    acquire(&mut client, "k TOKEN c");
    listener.hears(&["k lock.extended"]);
    listener.hears_no_more(&mut client);
}

#[test]
fn what_ends_by_itself_is_an_event_as_well() {
    let server = Server::builder().config("lock.claim-lease 30").start();
    let mut client = server.client();
    let mut listener = Listener::new(&server);
    acquire(&mut client, "k PX 20");
    listener.hears(&["k lock.acquired", "k lock.expired"]);
    let mut session = server.client();
    acquire(&mut session, "k SESSION");
    drop(session);
    listener.hears(&["k lock.acquired", "k lock.released"]);
    acquire(&mut client, "k TOKEN a PX 600000");
    client.run("LOCK.ACQUIRE k TOKEN b QUEUE 600000");
    client.run("LOCK.BREAK k");
    listener.hears(&[
        "k lock.acquired",
        "k lock.waiting",
        "k lock.broken",
        "k lock.acquired",
        "k lock.expired",
    ]);
    // What DEL frees, it hands over; of DEL itself the server tells.
    acquire(&mut client, "k TOKEN a PX 600000");
    let mut waiter = Waiter::new(&server, "k TOKEN b PX 600000 BLOCK 0");
    client.run("DEL k");
    waiter.granted();
    listener.hears(&["k lock.acquired", "k lock.waiting", "k lock.acquired"]);
    // A grant that could not be told.
    let waiter = Waiter::new(&server, "k TOKEN c PX 600000 BLOCK 0");
    let kill = format!("CLIENT KILL ID {}", waiter.id);
    client.run_all(&["LOCK.RELEASE k b", &kill]);
    listener.hears(&["k lock.waiting", "k lock.released", "k lock.acquired", "k lock.released"]);
    listener.hears_no_more(&mut client);
}

#[test]
fn an_upgrade_that_has_waited_is_an_event() {
    let server = Server::start();
    let mut client = server.client();
    for token in ["a", "b"] {
        acquire(&mut client, &format!("k TOKEN {token} SHARED PX 600000"));
    }
    let mut listener = Listener::new(&server);
    let mut writer = Waiter::new(&server, "k TOKEN a LIMIT 1 PX 600000 BLOCK 0");
    release(&mut client, "k", "b");
    writer.granted();
    listener.hears(&["k lock.waiting", "k lock.released", "k lock.extended"]);
    listener.hears_no_more(&mut client);
}

#[test]
fn events_follow_the_order_of_a_transaction_and_are_also_named_by_event() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("CONFIG SET notify-keyspace-events Ed");
    let mut listener = server.client();
    listener.run("PSUBSCRIBE __keyevent@*__:lock.*");
    client.run_all(&[
        "MULTI",
        "LOCK.ACQUIRE k TOKEN a",
        "LOCK.RELEASE k a",
        "LOCK.ACQUIRE l TOKEN a",
        "EXEC",
    ]);
    for (event, key) in [("lock.acquired", "k"), ("lock.released", "k"), ("lock.acquired", "l")] {
        let message = listener.read();
        assert_eq!(message.items()[2].text(), format!("__keyevent@0__:{event}"));
        assert_eq!(message.items()[3].text(), key);
    }
}

#[test]
fn nothing_is_sent_unless_the_server_is_set_to() {
    let server = Server::start();
    let mut client = server.client();
    let mut listener = Listener::new(&server);
    for classes in ["", "KEA", "Kg", "E$"] {
        // A stands for many classes: for those of modules as well.
        client.call(&["CONFIG", "SET", "notify-keyspace-events", classes]);
        acquire(&mut client, "k TOKEN a");
        release(&mut client, "k", "a");
        if classes == "KEA" {
            listener.hears(&["k lock.acquired", "k lock.released"]);
        }
    }
    listener.hears_no_more(&mut client);
    let server = Server::builder().config("notify-keyspace-events Kd").start();
    let mut client = server.client();
    let mut from_the_start = server.client();
    from_the_start.run("SUBSCRIBE __keyspace@0__:k");
    acquire(&mut client, "k TOKEN a");
    assert_eq!(from_the_start.read().items()[2], Reply::Bulk(b"lock.acquired".to_vec()));
}

#[test]
fn a_replica_sends_none_until_it_is_promoted() {
    let Pair { mut master, replica } = Pair::start();
    let mut listener = Listener::new(&replica);
    let mut client = master.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    client.run("LOCK.EXTEND k a");
    release(&mut client, "k", "a");
    acquire(&mut client, "k TOKEN a PX 600000");
    caught_up(&master, &replica);
    let mut other = replica.client();
    master.kill9();
    other.ok("REPLICAOF NO ONE");
    release(&mut other, "k", "a");
    listener.hears(&["k lock.released"]);
    listener.hears_no_more(&mut other);
}
