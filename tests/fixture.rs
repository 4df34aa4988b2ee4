//! The fixture itself, where tests depend on how it does.

mod support;

use std::net::TcpListener;
use std::thread;

use support::Client;

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
