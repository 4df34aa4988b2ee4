//! `lock-wait` in the server's latency monitor.

use std::thread;
use std::time::Duration;

use crate::support::locks::acquire;
use crate::support::waiter::release;
use crate::support::{Client, Reply, Server, Waiter};

fn samples(client: &mut Client) -> Vec<i64> {
    let history = client.run("LATENCY HISTORY lock-wait");
    history.items().iter().map(|sample| sample.items()[1].int()).collect()
}

/// A request waits so long, and is granted.
fn wait(server: &Server, client: &mut Client, span_ms: u64) {
    acquire(client, "k TOKEN a PX 600000");
    let mut waiter = Waiter::new(server, "k TOKEN b PX 600000 BLOCK 0");
    thread::sleep(Duration::from_millis(span_ms));
    release(client, "k", "a");
    waiter.granted();
    release(client, "k", "b");
}

#[test]
fn waits_above_the_threshold_are_in_it_and_others_are_not() {
    let server = Server::start();
    let mut client = server.client();
    wait(&server, &mut client, 20);
    assert!(samples(&mut client).is_empty(), "the monitor is off");
    client.ok("CONFIG SET latency-monitor-threshold 600000");
    wait(&server, &mut client, 20);
    assert!(samples(&mut client).is_empty());
    client.ok("CONFIG SET latency-monitor-threshold 20");
    wait(&server, &mut client, 20);
    let found = samples(&mut client);
    assert!(found.len() == 1 && found[0] >= 20, "{found:?}");
    // Who gave up waited in vain, which is another figure.
    acquire(&mut client, "k TOKEN a PX 600000");
    Waiter::new(&server, "k BLOCK 30").refused();
    assert_eq!(samples(&mut client).len(), 1);
    client.ok("CONFIG SET latency-monitor-threshold 0");
    assert_eq!(client.run("LATENCY RESET lock-wait"), Reply::Int(1));
}

#[test]
fn the_threshold_of_the_configuration_file_counts() {
    let server = Server::builder().config("latency-monitor-threshold 10").start();
    let mut client = server.client();
    wait(&server, &mut client, 20);
    assert_eq!(samples(&mut client).len(), 1);
}
