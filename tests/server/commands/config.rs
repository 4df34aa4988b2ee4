//! Settings: the leases, and how many may wait, wherever they are set.

use crate::support::errors::{self, fails};
use crate::support::locks::{acquire, field, holder, remaining};
use crate::support::{Client, Data, Reply, Server};

const DEFAULT_LEASE: &str = "lock.default-lease";
const MAX_LEASE: &str = "lock.max-lease";

/// How many may wait, and the defaults.
const CAPS: [(&str, &str); 2] = [("lock.max-waiters", "10000"), ("lock.max-waiters-per-key", "1000")];

/// A hundred years.
const LONGEST_MS: i64 = 3_153_600_000_000;

#[test]
fn the_defaults_are_half_a_minute_and_a_day() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        assert_settings(&mut client, 30_000, 86_400_000);
        let all = client.run("CONFIG GET lock.*");
        assert_eq!(field(&all, DEFAULT_LEASE).text(), "30000");
        assert_eq!(field(&all, MAX_LEASE).text(), "86400000");
    }
}

#[test]
fn ten_thousand_may_wait_and_a_thousand_for_one_key() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        let all = client.run("CONFIG GET lock.*");
        for (name, default) in CAPS {
            assert_eq!(field(&all, name).text(), default);
        }
    }
}

#[test]
fn a_cap_on_waiters_lies_between_0_and_a_million() {
    let server = Server::start();
    let mut client = server.client();
    for (name, default) in CAPS {
        for value in ["-1", "1000001", "abc", "1.5", "9223372036854775807", "9223372036854775808"] {
            let reply = client.call(&["CONFIG", "SET", name, value]);
            assert!(reply.is_error(), "{name} {value}: {reply:?}");
            assert_cap(&mut client, name, default);
        }
        for value in ["0", "1", "1000000"] {
            client.ok(&format!("CONFIG SET {name} {value}"));
            assert_cap(&mut client, name, value);
        }
    }
}

#[test]
fn caps_on_waiters_may_stand_in_the_configuration_file_or_follow_the_modules_name() {
    let [(all, _), (each, _)] = CAPS;
    let directives = Server::builder().config("lock.max-waiters 70").config("lock.max-waiters-per-key 7");
    let arguments = Server::builder().module_args("max-waiters-per-key 7 max-waiters 70");
    let long_arguments = Server::builder().module_args("lock.max-waiters 70 lock.max-waiters-per-key 7");
    for server in [directives, arguments, long_arguments] {
        let mut server = server.start();
        for restarted in [false, true] {
            if restarted {
                server.client().ok("CONFIG REWRITE");
                server.restart(Data::NoSave);
            }
            let mut client = server.client();
            assert_cap(&mut client, all, "70");
            assert_cap(&mut client, each, "7");
        }
    }
}

#[test]
fn config_set_takes_effect_at_once() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("CONFIG SET lock.default-lease 4000");
    assert_default_lease(&mut client, 4_000);
    client.ok("CONFIG SET lock.max-lease 5000");
    acquire(&mut client, "k PX 5000");
    let invalid = errors::invalid_expire("lock.acquire");
    fails(&mut client, "LOCK.ACQUIRE l PX 5001", &invalid);
    fails(&mut client, "LOCK.ACQUIRE l EX 6", &invalid);
    fails(&mut client, "LOCK.EXTEND k a PX 5001", &errors::invalid_expire("lock.extend"));
    client.ok("CONFIG SET lock.default-lease 7000 lock.max-lease 8000");
    assert_settings(&mut client, 7_000, 8_000);
    acquire(&mut client, "l PX 8000");
}

#[test]
fn a_default_lease_above_the_max_lease_is_the_max_lease() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("CONFIG SET lock.max-lease 2500");
    assert_settings(&mut client, 30_000, 2_500);
    assert_default_lease(&mut client, 2_500);
    client.ok("CONFIG SET lock.max-lease 50000");
    assert_default_lease(&mut client, 30_000);
}

#[test]
fn a_hold_keeps_the_lease_it_was_granted_when_the_max_lease_is_lowered() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    client.ok("CONFIG SET lock.max-lease 1000");
    assert!(remaining(&mut client, "k", "a") > Some(1_000));
}

#[test]
fn config_set_refuses_what_is_out_of_range_and_keeps_the_old_value() {
    let server = Server::start();
    let mut client = server.client();
    for name in [DEFAULT_LEASE, MAX_LEASE] {
        for value in
            ["0", "-1", "abc", "1.5", "3153600000001", "9223372036854775807", "9223372036854775808", "10s"]
        {
            let reply = client.call(&["CONFIG", "SET", name, value]);
            assert!(reply.is_error(), "{name} {value}: {reply:?}");
        }
        let reply = client.call(&["CONFIG", "SET", name, ""]);
        assert!(reply.is_error(), "{name} without a value: {reply:?}");
    }
    assert_settings(&mut client, 30_000, 86_400_000);
    for (name, other) in [(DEFAULT_LEASE, MAX_LEASE), (MAX_LEASE, DEFAULT_LEASE)] {
        let reply = client.call(&["CONFIG", "SET", name, "5000", other, "0"]);
        assert!(reply.is_error(), "all or nothing: {reply:?}");
    }
    assert_settings(&mut client, 30_000, 86_400_000);
}

#[test]
fn the_range_is_one_millisecond_to_a_hundred_years() {
    let server = Server::start();
    let mut client = server.client();
    for name in [DEFAULT_LEASE, MAX_LEASE] {
        client.ok(&format!("CONFIG SET {name} 1"));
        client.ok(&format!("CONFIG SET {name} {LONGEST_MS}"));
    }
    acquire(&mut client, &format!("k TOKEN a PX {LONGEST_MS}"));
    acquire(&mut client, "l TOKEN a");
    for key in ["k", "l"] {
        let left = remaining(&mut client, key, "a").unwrap_or_default();
        assert!(left > LONGEST_MS - 60_000 && left <= LONGEST_MS, "{key}: {left}");
    }
    acquire(&mut client, "m TOKEN a EX 3153600000");
    let too_long = format!("LOCK.ACQUIRE n PX {}", LONGEST_MS + 1);
    fails(&mut client, &too_long, &errors::invalid_expire("lock.acquire"));
}

#[test]
fn config_rewrite_keeps_the_settings_over_a_restart() {
    let mut server = Server::start();
    let mut client = server.client();
    client.ok("CONFIG SET lock.default-lease 11000 lock.max-lease 66000");
    client.ok("CONFIG REWRITE");
    server.restart(Data::NoSave);
    assert_settings(&mut server.client(), 11_000, 66_000);
}

#[test]
fn settings_may_stand_in_the_configuration_file() {
    let server = Server::builder().config("lock.default-lease 12000").config("lock.max-lease 67000").start();
    let mut client = server.client();
    assert_settings(&mut client, 12_000, 67_000);
    assert_default_lease(&mut client, 12_000);
}

#[test]
fn settings_may_follow_the_modules_name() {
    for arguments in [
        "default-lease 10000 max-lease 60000",
        "max-lease 60000 default-lease 10000",
        "lock.default-lease 10000 lock.max-lease 60000",
        "lock.max-lease 60000 default-lease 10000",
    ] {
        let server = Server::builder().module_args(arguments).start();
        let mut client = server.client();
        assert_settings(&mut client, 10_000, 60_000);
        assert_default_lease(&mut client, 10_000);
    }
    let server = Server::builder().module_args("max-lease 60000").start();
    assert_settings(&mut server.client(), 30_000, 60_000);
}

#[test]
fn a_directive_wins_over_an_argument() {
    let server = Server::builder()
        .module_args("default-lease 10000 max-lease 60000")
        .config("lock.default-lease 20000")
        .start();
    assert_settings(&mut server.client(), 20_000, 60_000);
}

#[test]
fn an_argument_set_anew_and_rewritten_has_the_new_value() {
    let mut server = Server::builder().module_args("default-lease 10000 max-lease 60000").start();
    let mut client = server.client();
    client.ok("CONFIG SET lock.default-lease 9000");
    client.ok("CONFIG REWRITE");
    server.restart(Data::NoSave);
    assert_settings(&mut server.client(), 9_000, 60_000);
}

#[test]
fn a_bad_argument_keeps_the_server_from_starting_and_is_named_in_the_log() {
    for (arguments, named) in [
        ("default-lease 0", "default-lease"),
        ("default-lease -1", "default-lease"),
        ("default-lease abc", "default-lease"),
        ("default-lease 1.5", "default-lease"),
        ("default-lease +5", "default-lease"),
        ("default-lease 3153600000001", "default-lease"),
        ("default-lease 9223372036854775808", "default-lease"),
        ("max-lease 0", "max-lease"),
        ("max-lease -5", "max-lease"),
        ("max-lease abc", "max-lease"),
        ("max-lease 3153600000001", "max-lease"),
        ("lock.max-lease 0", "max-lease"),
        ("max-waiters -1", "max-waiters"),
        ("max-waiters 1000001", "max-waiters"),
        ("max-waiters abc", "max-waiters"),
        ("max-waiters-per-key -1", "max-waiters-per-key"),
        ("max-waiters-per-key 1000001", "max-waiters-per-key"),
        ("default-lease", "default-lease"),
        ("default-lease 1000 max-lease", "max-lease"),
    ] {
        let log = Server::builder().module_args(arguments).start_fails();
        assert_refused_start(&log, arguments, named);
    }
}

/// MODULE LOAD is a client's command, so the arguments may be a client's bytes, and those stay out of the log.
#[test]
fn an_unknown_argument_keeps_the_server_from_starting_and_is_named_in_the_log_by_its_place() {
    for (arguments, place) in [
        ("colour 5", 1),
        ("max-waits 5", 1),
        ("default-leases 5000", 1),
        ("DEFAULT-LEASE-MS 5000", 1),
        ("default-lease 1000 colour 5", 2),
        ("default-lease 1000 max-lease 2000 colour 5", 3),
    ] {
        let log = Server::builder().module_args(arguments).start_fails();
        assert_refused_start(&log, arguments, &format!("setting {place} "));
        let ours: Vec<&str> = log.lines().filter(|line| line.contains("<lock>")).collect();
        assert!(!ours.is_empty(), "{log}");
        for unknown in ["colour", "max-waits", "default-leases", "DEFAULT-LEASE-MS", "5000"] {
            assert!(!ours.iter().any(|line| line.contains(unknown)), "{unknown} in {ours:?}");
        }
    }
}

#[test]
fn a_bad_directive_keeps_the_server_from_starting_and_is_named_in_the_log() {
    for (directive, named) in [
        ("lock.default-lease 0", DEFAULT_LEASE),
        ("lock.default-lease -1", DEFAULT_LEASE),
        ("lock.default-lease abc", DEFAULT_LEASE),
        ("lock.default-lease 3153600000001", DEFAULT_LEASE),
        ("lock.max-lease 0", MAX_LEASE),
        ("lock.max-lease abc", MAX_LEASE),
        ("lock.max-lease 9223372036854775808", MAX_LEASE),
    ] {
        let log = Server::builder().config(directive).start_fails();
        assert_refused_start(&log, directive, named);
    }
}

/// A server given this setting has said why it did not start.
#[track_caller]
fn assert_refused_start(log: &str, setting: &str, named: &str) {
    assert!(log.contains(named), "{setting}: {named} is not named in\n{log}");
    assert!(!log.contains("panicked"), "{setting}: {log}");
    assert!(!log.contains("Ready to accept"), "{setting}: {log}");
}

/// Both settings as CONFIG GET shows them.
#[track_caller]
fn assert_settings(client: &mut Client, default_lease_ms: i64, max_lease_ms: i64) {
    for (name, value) in [(DEFAULT_LEASE, default_lease_ms), (MAX_LEASE, max_lease_ms)] {
        let shown = client.call(&["CONFIG", "GET", name]);
        assert_eq!(field(&shown, name), Reply::Bulk(value.to_string().into_bytes()), "{name}");
    }
}

/// A cap on waiters as CONFIG GET shows it.
#[track_caller]
fn assert_cap(client: &mut Client, name: &str, value: &str) {
    let shown = client.call(&["CONFIG", "GET", name]);
    assert_eq!(field(&shown, name).text(), value, "{name}");
}

/// The lease of a lock that names none.
#[track_caller]
fn assert_default_lease(client: &mut Client, lease_ms: i64) {
    acquire(client, "defaulted TOKEN a");
    assert_eq!(field(&holder(client, "defaulted"), "lease"), Reply::Int(lease_ms));
    client.run("LOCK.RELEASE defaulted a");
}
