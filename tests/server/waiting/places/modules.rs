//! Places that another module asks for on its own account. There is no user then, and Redis 7.0 and Valkey 8.0 crash if they
//! are asked for one.

use std::path::Path;

use super::{claim, is_called, ticket};
use crate::support::locks::acquire;
use crate::support::waiter::release;
use crate::support::{Server, compile};

#[test]
fn a_place_that_a_module_asks_for_is_as_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("caller.so");
    compile(Path::new("tests/support/caller.c"), &library);
    let builder = Server::builder().config("lock.claim-lease 600000");
    let mut server = builder.config(&format!("loadmodule {}", library.display())).start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let asked = client.run("MODULECALL LOCK.ACQUIRE k TOKEN b QUEUE 600000");
    let of_a_script = client.call(&[
        b"MODULECALL".as_slice(),
        b"EVAL",
        b"return redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', 'c', 'QUEUE', 600000)",
        b"1",
        b"k",
    ]);
    assert!(ticket(&asked) < ticket(&of_a_script));
    for (from, to) in [("a", "b"), ("b", "c")] {
        release(&mut client, "k", from);
        assert!(is_called(&mut client, "k", to), "{to}");
        claim(&mut client, &format!("k TOKEN {to} PX 600000"));
    }
    server.assert_alive();
}
