//! Who waits is sent where the server itself would send somebody who comes then, in the same words.

use crate::support::cluster::{Cluster, Redirection, key_in};
use crate::support::locks::acquire;
use crate::support::{PATIENCE, Waiter, wait_until};

/// What every node is set to, and the endpoint that comes of it, with `PORT` for the port that clients use.
const ENDPOINTS: [(&[&str], &str); 5] = [
    (&[], "127.0.0.1:PORT"),
    (&["cluster-announce-hostname localhost"], "127.0.0.1:PORT"),
    (&["cluster-preferred-endpoint-type hostname"], "localhost:PORT"),
    (&["cluster-preferred-endpoint-type unknown-endpoint"], "?:PORT"),
    (&["cluster-preferred-endpoint-type ip", "cluster-announce-port 4242"], "127.0.0.1:4242"),
];

#[test]
fn who_waits_is_sent_to_the_endpoint_that_the_server_gives() {
    let cluster = Cluster::start(2);
    let port = cluster.node(1).port().to_string();
    for (settings, endpoint) in ENDPOINTS {
        for setting in settings {
            (0..2).for_each(|at| cluster.client(at).ok(&format!("CONFIG SET {setting}")));
        }
        let slot = cluster.fresh_slot(0);
        let key = key_in(slot, "k");
        let mut source = cluster.client(0);
        let elsewhere = key_in(cluster.fresh_slot(1), "k");
        let expected = endpoint.replace("PORT", &port);
        wait_until(&format!("node 0 sends clients to {expected}"), PATIENCE, || {
            let error = source.run(&format!("LOCK.ACQUIRE {elsewhere}"));
            let endpoint = Redirection::parse(error.error(), "MOVED").unwrap().endpoint;
            endpoint == expected || endpoint == expected.trim_start_matches('?')
        });
        acquire(&mut source, &format!("{key} TOKEN a PX 60000"));
        let mut waiters = [(); 2].map(|()| Waiter::new(cluster.node(0), &format!("{key} BLOCK 0")));
        let leaving = cluster.open_slot(slot, 0, 1);
        leaving.move_key_and_leave(&key);
        let newcomer = source.run(&format!("LOCK.ACQUIRE {key}"));
        for waiter in &mut waiters {
            assert_eq!(waiter.failed(), newcomer.error(), "with {settings:?}");
        }
        leaving.finish();
    }
}
