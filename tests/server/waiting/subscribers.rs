//! Connections with subscriptions. In RESP2 they may send nothing else; in RESP3 they may, and Valkey from 8.1 on lets none
//! of them wait: BLOCK is as if not given there.

use crate::support::locks::{acquire, null};
use crate::support::waiter::{release, waiting};
use crate::support::{Client, Server, Version, Waiter};

const SUBSCRIPTIONS: [[&str; 2]; 3] = [
    ["SUBSCRIBE c", "UNSUBSCRIBE c"],
    ["PSUBSCRIBE c*", "PUNSUBSCRIBE c*"],
    ["SSUBSCRIBE c", "SUNSUBSCRIBE c"],
];

fn subscribed(server: &Server, subscription: &str) -> Client {
    let mut client = server.client3();
    client.run(subscription);
    client
}

#[test]
fn a_connection_with_subscriptions_waits_where_the_server_lets_it_and_else_is_told_at_once() {
    let server = Server::start();
    let mut client = server.client();
    let refuses = Version::of(&mut client).is_valkey_from([8, 1]);
    for [subscribe, unsubscribe] in SUBSCRIPTIONS {
        acquire(&mut client, "k TOKEN a");
        let mut subscriber = subscribed(&server, subscribe);
        if refuses {
            let mut older = Waiter::new(&server, "k TOKEN b BLOCK 0");
            let reply = subscriber.run("LOCK.ACQUIRE k TOKEN b BLOCK 400");
            assert_eq!(reply, null(&subscriber), "{subscribe}");
            assert_eq!(waiting(&mut client, "k"), 1, "the older request keeps its place");
            release(&mut client, "k", "a");
            older.granted();
            release(&mut client, "k", "b");
            acquire(&mut client, "k TOKEN a");
        } else {
            let mut waiter = Waiter::on(&server, subscriber, "k TOKEN b BLOCK 0");
            release(&mut client, "k", "a");
            waiter.granted();
            release(&mut client, "k", "b");
            acquire(&mut client, "k TOKEN a");
            subscriber = waiter.client;
        }
        subscriber.run(unsubscribe);
        let mut waiter = Waiter::on(&server, subscriber, "k TOKEN c BLOCK 0");
        release(&mut client, "k", "a");
        waiter.granted();
        release(&mut client, "k", "c");
    }
}

#[test]
fn what_is_refused_to_wait_is_granted_at_once_where_it_can_be() {
    let server = Server::start();
    let mut subscriber = subscribed(&server, "SUBSCRIBE c");
    acquire(&mut subscriber, "k TOKEN a BLOCK 400");
    acquire(&mut subscriber, "k TOKEN a BLOCK 400");
}
