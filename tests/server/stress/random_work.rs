//! Clients that wait, hold, and leave, while the keys under them are renamed, moved, swapped, overwritten, flushed and
//! restored, many at a time: each request is answered once, nobody is forgotten, and no lock outlives its holders.

use crate::support::load::{DATABASES, KEYS, Load};
use crate::support::waiter::{blocked_clients, wait_blocked};
use crate::support::{PATIENCE, Random, Reply, Server, wait_until};

/// Steps of random work.
const STEPS: usize = 2_000;

/// All leases are over soon after it.
const LEASES_MS: [usize; 5] = [1, 4, 15, 30, 60];

#[test]
fn random_work_leaves_nothing_behind() {
    let mut server = Server::start();
    let mut random = Random::from_environment();
    let mut load = Load::new(&server, &mut random, &LEASES_MS);
    load.run(STEPS);
    let mut client = server.client();
    client.ok("FLUSHALL");
    load.until_everybody_is_answered();
    wait_blocked(&server, 0);
    assert_eq!(blocked_clients(&mut client), 0);
    for database in 0..DATABASES {
        client.ok(&format!("SELECT {database}"));
        wait_until("every lease and session has ended", PATIENCE, || client.run("DBSIZE") == Reply::Int(0));
        for key in KEYS {
            crate::support::ok_grant(client.run(&format!("LOCK.ACQUIRE {key} TOKEN anybody")));
            assert_eq!(crate::support::waiter::waiting(&mut client, key), 0);
            assert_eq!(client.run(&format!("LOCK.RELEASE {key} anybody")), Reply::Int(1));
        }
    }
    server.assert_alive();
}
