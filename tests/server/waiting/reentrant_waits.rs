//! A client or a token that asks again before its first request has been replied to, and a hand-over that has to be put
//! off: what was asked last is answered, and nobody is forgotten.

use crate::support::locks::{acquire, field, holders};
use crate::support::waiter::release;
use crate::support::{PATIENCE, Reply, Server, Waiter, wait_until};

#[test]
fn a_client_that_is_unblocked_and_waits_again_within_one_turn_is_answered() {
    for reason in ["TIMEOUT", "ERROR"] {
        let mut server = Server::start();
        let [mut holder, mut stall, mut unblocker, mut observer] = [(); 4].map(|()| server.client());
        acquire(&mut holder, "k TOKEN a");
        acquire(&mut observer, "k2 TOKEN b");
        let mut waiter = Waiter::new(&server, "k TOKEN w BLOCK 0");
        // While the server is busy these arrive one after the other, to be read in one iteration of its loop.
        stall.send(&["DEBUG", "SLEEP", "0.3"]);
        holder.send(&["LOCK.RELEASE", "k", "a"]);
        unblocker.send(&["CLIENT", "UNBLOCK", &waiter.id.to_string(), reason]);
        waiter.client.send(&["LOCK.ACQUIRE", "k2", "TOKEN", "w2", "BLOCK", "0"]);
        assert_eq!(holder.read(), Reply::Int(1));
        unblocker.read();
        // Its first reply is the grant, a null or UNBLOCKED, as the turn went; its second comes with the second lock.
        waiter.client.read();
        waiter = waiter.once_it_waits_again(&server, "k2");
        release(&mut observer, "k2", "b");
        assert_eq!(waiter.granted().token, b"w2");
        server.assert_alive();
    }
}

#[test]
fn a_request_that_takes_over_a_place_and_asks_for_less_is_served() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN r SHARED");
    let mut older = Waiter::new(&server, "k TOKEN t BLOCK 0");
    let mut behind = Waiter::new(&server, "k TOKEN b SHARED BLOCK 0");
    let mut newer = server.client();
    let reply = newer.run("LOCK.ACQUIRE k TOKEN t SHARED BLOCK 0");
    assert_eq!(crate::support::ok_grant(reply).0, b"t");
    older.refused();
    behind.granted();
}

#[test]
fn a_hand_over_that_a_pause_puts_off_is_not_forgotten() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a LIMIT 2 PX 60000");
    acquire(&mut client, "k TOKEN b LIMIT 2 PX 60000");
    let mut waiter = Waiter::new(&server, "k TOKEN w LIMIT 2 BLOCK 0");
    client.run_all(&["MULTI", "CLIENT PAUSE 200 WRITE", "LOCK.RELEASE k a", "EXEC"]);
    assert_eq!(waiter.granted().token, b"w");
}

#[test]
fn an_upgrade_on_an_inner_level_that_waited_is_one_level() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a SHARED");
    acquire(&mut client, "k TOKEN b SHARED");
    let mut upgrade = Waiter::new(&server, "k TOKEN a LIMIT 1 LEVEL 2 BLOCK 0");
    release(&mut client, "k", "b");
    upgrade.granted();
    assert_eq!(field(&holders(&mut client, "k")[0], "level"), Reply::Int(2));
    assert_eq!(client.run("LOCK.RELEASE k a LEVEL 2"), Reply::Int(1));
    assert_eq!(field(&holders(&mut client, "k")[0], "level"), Reply::Int(1));
}

#[test]
fn a_grant_that_nobody_learns_of_is_undone_where_its_lock_went() {
    for (goes, database, key) in [("MOVE k 1", 1, "k"), ("RENAME k l", 0, "l"), ("SWAPDB 0 1", 1, "k")] {
        let server = Server::start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a");
        let waiter = Waiter::new(&server, "k TOKEN w BLOCK 0");
        let kill = format!("CLIENT KILL ID {}", waiter.id);
        client.run_all(&["LOCK.RELEASE k a", goes, &kill]);
        let mut observer = server.client();
        observer.run(&format!("SELECT {database}"));
        wait_until(goes, PATIENCE, || observer.run(&format!("EXISTS {key}")) == Reply::Int(0));
    }
}
