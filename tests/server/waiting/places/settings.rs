//! `lock.claim-lease`, wherever it is set.

use crate::support::{Client, Data, Server, field};

const NAME: &str = "lock.claim-lease";

/// A hundred years.
const LONGEST: &str = "3153600000000";

#[track_caller]
fn setting(client: &mut Client) -> String {
    field(&client.run(&format!("CONFIG GET {NAME}")), NAME).text()
}

#[test]
fn the_lease_of_a_call_is_five_seconds_by_default() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        assert_eq!(setting(&mut client), "5000");
    }
}

#[test]
fn it_lies_between_a_millisecond_and_a_hundred_years() {
    let server = Server::start();
    let mut client = server.client();
    for value in ["1", "5000", LONGEST] {
        client.ok(&format!("CONFIG SET {NAME} {value}"));
        assert_eq!(setting(&mut client), value);
    }
    for value in ["0", "-1", "abc", "1.5", "3153600000001", "9223372036854775808", "10s", ""] {
        let reply = client.call(&["CONFIG", "SET", NAME, value]);
        assert!(reply.is_error(), "{value}: {reply:?}");
        assert_eq!(setting(&mut client), LONGEST, "{value}");
    }
}

#[test]
fn it_may_stand_in_the_configuration_file_or_follow_the_modules_name() {
    for builder in [
        Server::builder().config("lock.claim-lease 700"),
        Server::builder().module_args("claim-lease 700"),
        Server::builder().module_args("lock.claim-lease 700 default-lease 5000"),
    ] {
        let mut server = builder.start();
        assert_eq!(setting(&mut server.client()), "700");
        server.client().ok("CONFIG REWRITE");
        server.restart(Data::NoSave);
        assert_eq!(setting(&mut server.client()), "700");
    }
}

#[test]
fn a_bad_one_keeps_the_server_from_starting_and_is_named_in_the_log() {
    for argument in
        ["claim-lease 0", "claim-lease -1", "claim-lease abc", "claim-lease", "claim-lease 3153600000001"]
    {
        let log = Server::builder().module_args(argument).start_fails();
        assert!(log.contains("claim-lease"), "{argument}: {log}");
        assert!(!log.contains("panicked"), "{argument}: {log}");
    }
    let log = Server::builder().config("lock.claim-lease 0").start_fails();
    assert!(log.contains("claim-lease"), "{log}");
}
