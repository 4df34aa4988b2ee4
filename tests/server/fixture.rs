//! The fixture itself, where tests depend on how it does.

use std::net::TcpListener;
use std::thread;

use crate::support::skip::line;
use crate::support::{Client, Version};

/// How often a stranger is met; what a write meets there depends on how far its hanging up has come.
const MEETINGS: usize = 500;

/// Tests that run side by side take ports from one range and give them back at once. Who waits for a server at such a
/// port may meet somebody else, who hangs up.
#[test]
fn a_stranger_that_hangs_up_is_not_taken_for_a_server() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap();
    let hanging_up = thread::spawn(move || stranger.incoming().take(MEETINGS).for_each(drop));
    for _ in 0..MEETINGS {
        let mut client = Client::try_connect(address).unwrap();
        assert_eq!(client.try_call(&["PING"]), None);
        assert_eq!(client.try_call(&["PING"]), None);
    }
    hanging_up.join().unwrap();
}

#[test]
fn what_is_skipped_is_said_by_the_name_of_its_test() {
    let valkey = Version { redis: vec![7, 2, 4], valkey: Some(vec![8, 0, 1]) };
    let said = line(&valkey, "fixture::a_test::{{closure}}::here", "it cannot");
    assert_eq!(said, "fixture::a_test on Valkey 8.0.1: it cannot\n");
    assert!(valkey.is_valkey([8, 0]) && !valkey.is_valkey([8, 1]));

    let redis = Version { redis: vec![7, 0, 15], valkey: None };
    assert_eq!(line(&redis, "fixture::b::here", "why"), "fixture::b on Redis 7.0.15: why\n");
    assert!(!redis.is_valkey([7, 0]));
}
