//! LOCK.GUARD runs a command with the rights of who sends it: to the command, to its keys, and to its channels.

use crate::support::errors::NOT_OWNER;
use crate::support::locks::{acquire, exists};
use crate::support::{Client, Reply, Server, Version, cmd};

#[track_caller]
fn login(server: &Server, user: &str) -> Client {
    let mut client = server.client();
    client.ok(&format!("AUTH {user} any"));
    client
}

#[track_caller]
fn is_denied(client: &mut Client, command: &str) {
    let reply = client.run(command);
    assert!(reply.error().starts_with("NOPERM "), "{command}: {reply:?}");
}

#[track_caller]
fn user(server: &Server, rules: &str) -> Client {
    server.client().ok(&format!("ACL SETUSER app on nopass resetkeys resetchannels -@all {rules}"));
    login(server, "app")
}

#[test]
fn the_command_inside_has_to_be_allowed() {
    let server = Server::start();
    let mut admin = server.client();
    acquire(&mut admin, "k TOKEN a PX 60000");
    let mut app = user(&server, "~* +lock.guard +get");
    is_denied(&mut app, "LOCK.GUARD k a SET x 1");
    assert!(!exists(&mut admin, "x"));
    assert_eq!(app.run("LOCK.GUARD k a GET x"), Reply::NullBulk);
    let reply = app.run("LOCK.GUARD k b GET x");
    assert_eq!(reply, Reply::Error(NOT_OWNER.into()));
    let mut app = user(&server, "~* +set");
    is_denied(&mut app, "LOCK.GUARD k a SET x 1");
    // Subcommands have rights of their own.
    let mut app = user(&server, "~* +lock.guard +object|encoding");
    admin.ok("SET x 1");
    assert_eq!(app.run("LOCK.GUARD k a OBJECT ENCODING x").text(), "int");
    is_denied(&mut app, "LOCK.GUARD k a OBJECT FREQ x");
}

#[test]
fn what_is_denied_is_said_without_a_word_of_what_was_sent() {
    let server = Server::start();
    acquire(&mut server.client(), "k TOKEN a PX 60000");
    let mut app = user(&server, "~* +lock.guard");
    let reply = app.run("LOCK.GUARD k a SET secret secret");
    assert_eq!(
        reply.error(),
        "NOPERM this user has no permissions to run the command behind LOCK.GUARD, or to use its keys or channels: ask the \
         operator for them"
    );
}

#[test]
fn the_keys_of_both_have_to_be_allowed() {
    let server = Server::start();
    let mut admin = server.client();
    acquire(&mut admin, "lock:k TOKEN a PX 60000");
    acquire(&mut admin, "other TOKEN a PX 60000");
    let mut app = user(&server, "~lock:* ~app:* +@all");
    app.ok("LOCK.GUARD lock:k a SET app:x 1");
    is_denied(&mut app, "LOCK.GUARD lock:k a SET x 1");
    is_denied(&mut app, "LOCK.GUARD lock:k a MSET app:x 1 x 1");
    is_denied(&mut app, "LOCK.GUARD other a SET app:x 2");
    // A command that has its keys elsewhere, and one that tells how many there are.
    is_denied(&mut app, "LOCK.GUARD lock:k a ZUNIONSTORE app:y 2 app:x other");
    is_denied(&mut app, "LOCK.GUARD lock:k a EVAL return(1) 1 other");
    assert_eq!(app.run("LOCK.GUARD lock:k a EVAL return(1) 1 app:x"), Reply::Int(1));
    assert_eq!(admin.run("GET app:x").text(), "1");
    assert!(!exists(&mut admin, "x"));
}

#[test]
fn the_right_to_read_the_lock_is_enough_for_the_lock() {
    let server = Server::start();
    let mut admin = server.client();
    acquire(&mut admin, "lock:k TOKEN a PX 60000");
    let mut app = user(&server, "%R~lock:* %W~out:* %R~in:* +@all");
    app.ok("LOCK.GUARD lock:k a SET out:x 1");
    assert_eq!(app.run("LOCK.GUARD lock:k a GET in:x"), Reply::NullBulk);
    is_denied(&mut app, "LOCK.GUARD lock:k a GET out:x");
    is_denied(&mut app, "LOCK.GUARD lock:k a SET in:x 1");
    is_denied(&mut app, "LOCK.GUARD lock:k a LOCK.RELEASE lock:k a");
    is_denied(&mut app, "LOCK.GUARD lock:k a DEL lock:k");
    assert_eq!(app.run("LOCK.GUARD lock:k a LOCK.CHECK lock:k a").items().len(), 3);
    let mut app = user(&server, "%W~lock:* ~app:* +@all");
    is_denied(&mut app, "LOCK.GUARD lock:k a SET app:x 1");
}

#[test]
fn channels_have_to_be_allowed() {
    let server = Server::start();
    acquire(&mut server.client(), "k TOKEN a PX 60000");
    let mut app = user(&server, "~* &news +@all");
    assert_eq!(app.run("LOCK.GUARD k a PUBLISH news x"), Reply::Int(0));
    is_denied(&mut app, "LOCK.GUARD k a PUBLISH other x");
}

#[test]
fn a_script_inside_has_the_rights_of_who_sends_it() {
    let server = Server::start();
    let mut admin = server.client();
    acquire(&mut admin, "k TOKEN a PX 60000");
    let mut app = user(&server, "~k ~app:* +lock.guard +eval +set");
    for (key, call, due) in [
        ("app:x", "'SET', KEYS[1], 1", true),
        ("app:x", "'GET', KEYS[1]", false),
        ("app:x", "'SET', 'other', 1", false),
    ] {
        let script = format!("return redis.call({call})");
        let reply = app.call(&cmd!["LOCK.GUARD", "k", "a", "EVAL", script, 1, key]);
        assert_eq!(!reply.is_error(), due, "{call}: {reply:?}");
    }
    assert!(!exists(&mut admin, "other"));
}

#[test]
fn in_a_script_and_a_transaction_the_rights_are_those_of_the_caller() {
    let server = Server::start();
    let mut admin = server.client();
    acquire(&mut admin, "k TOKEN a PX 60000");
    let mut app = user(&server, "~* +lock.guard +eval +multi +exec +get");
    let script = "return redis.pcall('LOCK.GUARD', KEYS[1], 'a', 'SET', 'x', 1).err";
    let said = app.call(&cmd!["EVAL", script, 1, "k"]);
    assert!(said.text().contains("no permissions"), "{said:?}");
    let replies = app.run_all(&["MULTI", "LOCK.GUARD k a SET x 1", "LOCK.GUARD k a GET x", "EXEC"]);
    assert!(replies[3].items()[0].error().starts_with("NOPERM "), "{replies:?}");
    assert_eq!(replies[3].items()[1], Reply::NullBulk);
    assert!(!exists(&mut admin, "x"));
}

#[test]
fn the_log_of_the_server_says_who_was_denied() {
    let server = Server::start();
    let mut admin = server.client();
    acquire(&mut admin, "k TOKEN a PX 60000");
    let mut app = user(&server, "~* +lock.guard");
    is_denied(&mut app, "LOCK.GUARD k a SET x 1");
    let log = admin.run("ACL LOG");
    let [entry] = log.items() else { panic!("one entry was due: {log:?}") };
    assert_eq!(crate::support::field(entry, "username").text(), "app");
    assert_eq!(crate::support::field(entry, "object").text(), "set");
}

/// `ACL DRYRUN` knows no inner rights: it looks at the command and its keys.
#[test]
fn the_server_can_be_asked_about_the_keys() {
    let server = Server::start();
    let mut admin = server.client();
    user(&server, "%R~lock:* ~app:* +@all");
    let version = Version::of(&mut admin);
    assert_eq!(admin.run("ACL DRYRUN app LOCK.GUARD lock:k a SET app:x 1").text(), "OK", "{version}");
    assert_ne!(admin.run("ACL DRYRUN app LOCK.GUARD lock:k a SET x 1").text(), "OK", "{version}");
}
