//! What operators are told: how much memory is taken, what an idle timeout ends, where a waiting client is found.

use crate::support::locks::{acquire, exists};
use crate::support::waiter::{is_blocked, wait_blocked};
use crate::support::{Client, PATIENCE, Server, Waiter, wait_until};

#[test]
fn a_lock_takes_about_200_bytes_a_place_330_and_a_waiter_about_35_kilobytes() {
    const LOCKS: i64 = 20_000;
    const PLACES: i64 = 10_000;
    const WAITERS: i64 = 200;
    let server = Server::builder().module_args("max-waiters 20000 max-waiters-per-key 20000").start();
    let mut client = server.client();
    let mut used = || client.info("memory", "used_memory").parse::<i64>().unwrap();
    let empty = used();
    let mut holder = server.client();
    (0..LOCKS).for_each(|n| drop(acquire(&mut holder, &format!("lock:{n:07} PX 600000"))));
    let a_lock = (used() - empty) / LOCKS;
    assert!((100..=300).contains(&a_lock), "{a_lock} bytes");

    let before = used();
    for n in 0..PLACES {
        holder.run(&format!("LOCK.ACQUIRE lock:0000000 TOKEN {n:032x} QUEUE 600000")).int();
    }
    let a_place = (used() - before) / PLACES;
    assert!((250..=400).contains(&a_place), "{a_place} bytes");

    let mut waiters: Vec<Client> = (0..WAITERS).map(|_| server.client()).collect();
    waiters.iter_mut().for_each(|waiter| drop(waiter.run("PING")));
    let before = used();
    waiters.iter_mut().for_each(|waiter| waiter.send(&["LOCK.ACQUIRE", "lock:0000000", "BLOCK", "0"]));
    wait_blocked(&server, usize::try_from(WAITERS).unwrap());
    let a_waiter = (used() - before) / WAITERS;
    assert!((20_000..=50_000).contains(&a_waiter), "{a_waiter} bytes");
}

#[test]
fn an_idle_timeout_ends_the_holds_of_a_session_that_only_holds() {
    let server = Server::builder().config("timeout 1").start();
    let mut session = server.client();
    acquire(&mut session, "k PX 600000 SESSION");
    let mut client = server.client();
    wait_until("the idle connection is closed", PATIENCE, || !exists(&mut client, "k"));
}

#[test]
fn a_waiting_client_is_found_in_the_list_of_clients() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k");
    let mut named = server.client();
    named.ok("CLIENT SETNAME host-2:977");
    let waiter = Waiter::on(&server, named, "k OWNER host-2:977 BLOCK 0");
    assert!(is_blocked(&mut client, waiter.id), "b among its flags");
    let list = client.run("CLIENT LIST").text();
    let found: Vec<&str> = list.lines().filter(|line| line.contains(" cmd=lock.acquire ")).collect();
    assert_eq!(found.len(), 1, "{list}");
    assert!(found[0].contains(" name=host-2:977 "), "{list}");
}
