//! lock.save-fence: whether a snapshot, or a new append-only file, needs the module where no lock is in it.

use crate::support::locks::{acquire, fence_of};
use crate::support::waiter::release;
use crate::support::{Builder, Client, Data, Reply, Server, Version};

/// The server is started without the module on what it left: whether it starts, and has its other key.
#[track_caller]
fn loads_without_the_module(server: &mut Server) -> bool {
    server.stop(Data::NoSave);
    match server.start_without_module() {
        Ok(()) => {
            assert_eq!(server.client().run("GET other"), Reply::Bulk(b"1".to_vec()));
            true
        }
        Err(log) => {
            assert!(log.contains("lock"), "{log}");
            false
        }
    }
}

fn prepared(builder: Builder) -> Server {
    let server = builder.start();
    let mut client = server.client();
    client.ok("SET other 1");
    acquire(&mut client, "k TOKEN a");
    release(&mut client, "k", "a");
    server
}

fn set_while_it_runs(client: &mut Client, value: &str) -> Reply {
    client.run(&format!("CONFIG SET lock.save-fence {value}"))
}

#[test]
fn a_snapshot_without_a_lock_loads_without_the_module() {
    let mut server = prepared(Server::builder().config("lock.save-fence no"));
    assert_eq!(server.client().run("SAVE"), Reply::Simple("OK".into()));
    assert!(loads_without_the_module(&mut server));
}

#[test]
fn a_snapshot_with_a_lock_does_not() {
    let mut server = prepared(Server::builder().config("lock.save-fence no"));
    acquire(&mut server.client(), "k PX 600000");
    server.client().ok("SAVE");
    assert!(!loads_without_the_module(&mut server));
}

#[test]
fn a_new_append_only_file_without_a_lock_loads_without_the_module() {
    for preamble in ["yes", "no"] {
        let preamble = format!("aof-use-rdb-preamble {preamble}");
        let mut server = prepared(Server::builder().aof().config(&preamble).config("lock.save-fence no"));
        server.rewrite_aof();
        assert!(loads_without_the_module(&mut server), "{preamble}");
    }
}

#[test]
fn the_argument_of_loadmodule_says_the_same() {
    let mut server = prepared(Server::builder().module_args("save-fence no"));
    assert_eq!(server.client().run("CONFIG GET lock.save-fence").items()[1].text(), "no");
    server.client().ok("SAVE");
    assert!(loads_without_the_module(&mut server));
}

#[test]
fn by_default_the_fence_is_saved_and_what_was_saved_so_is_read_without() {
    let mut server = prepared(Server::builder());
    let mut client = server.client();
    assert_eq!(client.run("CONFIG GET lock.save-fence").items()[1].text(), "yes");
    let before = fence_of(&mut client, "k");
    client.run("LOCK.BREAK k");
    client.ok("SAVE");
    server.restart(Data::NoSave);
    assert!(fence_of(&mut server.client(), "k") > before);
    let mut reader = prepared(Server::builder().config("lock.save-fence no"));
    reader.stop(Data::NoSave);
    std::fs::copy(server.folder().join("dump.rdb"), reader.folder().join("dump.rdb")).unwrap();
    reader.start_again();
    assert!(fence_of(&mut reader.client(), "l") > before);
}

#[test]
fn it_is_changed_while_the_server_runs_where_the_server_can() {
    let mut server = prepared(Server::builder());
    let mut client = server.client();
    let reply = set_while_it_runs(&mut client, "no");
    if Version::of(&mut client).is_before([7, 2]) {
        assert!(reply.error().contains("only when it starts"), "{reply:?}");
        assert_eq!(set_while_it_runs(&mut client, "yes"), Reply::Simple("OK".into()), "what it is already");
        assert_eq!(client.run("CONFIG GET lock.save-fence").items()[1].text(), "yes");
    } else {
        assert_eq!(reply, Reply::Simple("OK".into()));
        client.ok("SAVE");
        assert!(loads_without_the_module(&mut server));
    }
}

#[test]
fn what_is_neither_yes_nor_no_is_refused() {
    let server = prepared(Server::builder());
    assert!(set_while_it_runs(&mut server.client(), "maybe").is_error());
    let log = Server::builder().module_args("save-fence maybe").start_fails();
    assert!(log.contains("lock.save-fence given to loadmodule must be yes or no"), "{log}");
}
