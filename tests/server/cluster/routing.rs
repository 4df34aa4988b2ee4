//! What a cluster is to clients of locks: every command goes where its key belongs, and there it is what it is elsewhere.

use std::collections::BTreeSet;

use crate::support::cluster::{ask, asking, key_in, moved_to, shared, slot_of};
use crate::support::locks::{acquire, fence_of, holders, null, ok_grant, refused};
use crate::support::waiter::release;
use crate::support::{Client, Reply, Waiter, cmd};

/// Every command about a key, `k`, and more than one form where options stand around.
const COMMANDS: [&str; 14] = [
    "LOCK.ACQUIRE k",
    "LOCK.ACQUIRE k PX 1000 TOKEN t SHARED BLOCK 0 OWNER o SESSION LEVEL 2",
    "LOCK.RELEASE k t",
    "LOCK.EXTEND k t",
    "LOCK.EXTEND k t EX 1",
    "LOCK.CHECK k t",
    "LOCK.MACQUIRE 1 k TOKEN t",
    "LOCK.MRELEASE 1 k t",
    "LOCK.MEXTEND 1 k t",
    "LOCK.GUARD k t PING",
    "LOCK.INFO k",
    "LOCK.BREAK k",
    "LOCK.BREAK k FENCE 1",
    "LOCK.OWNED k",
];

/// The command that is about no key: each node knows what is waited for there.
const WITHOUT_KEY: [&str; 1] = ["lock.top"];

/// Commands that are nothing for clients.
const INTERNAL: [&str; 2] = ["lock.fence", "lock.owned"];

/// The same command about another key.
fn about(command: &str, key: &str) -> String {
    command.replacen(" k", &format!(" {key}"), 1)
}

#[test]
fn the_fixture_knows_the_slots_of_keys() {
    let cluster = shared();
    let mut client = cluster.client(0);
    for key in ["k", "{k}x", "x{k}", "{}k", "a{}{b}", "{", "}{k", "123456789"] {
        assert_eq!(client.run(&format!("CLUSTER KEYSLOT {key}")).int(), i64::from(slot_of(key)), "{key}");
    }
    for slot in [0, 1, 5461, 16_383] {
        let key = key_in(slot, "name");
        assert_eq!(client.run(&format!("CLUSTER KEYSLOT {key}")).int(), i64::from(slot), "{key}");
    }
}

#[test]
fn no_command_is_left_out_here() {
    let cluster = shared();
    let list = cluster.client(0).run("COMMAND LIST FILTERBY MODULE lock");
    let all: BTreeSet<String> = list.items().iter().map(Reply::text).collect();
    let mut told: BTreeSet<String> =
        COMMANDS.iter().map(|it| it.split(' ').next().unwrap().to_lowercase()).collect();
    told.extend(WITHOUT_KEY.into_iter().chain(INTERNAL).map(str::to_owned));
    assert_eq!(all, told);
}

#[test]
fn every_command_says_which_key_it_is_about() {
    let cluster = shared();
    let mut client = cluster.client(0);
    for command in COMMANDS {
        let keys = client.run(&format!("COMMAND GETKEYS {command}"));
        assert_eq!(keys, Reply::Array(vec![Reply::Bulk(b"k".to_vec())]), "{command}");
    }
}

#[test]
fn every_command_is_sent_from_the_wrong_node_to_the_right_one() {
    let cluster = shared();
    let slot = cluster.fresh_slot(1);
    let key = key_in(slot, "k");
    for wrong in [0, 2] {
        let mut client = cluster.client(wrong);
        for command in COMMANDS {
            let reply = client.run(&about(command, &key));
            assert_eq!(reply, Reply::Error(moved_to(slot, cluster.node(1))), "{command} at node {wrong}");
        }
    }
    cluster.assert_free(1, &key);
}

#[test]
fn a_lock_is_on_its_node_what_it_is_on_a_server_alone() {
    let cluster = shared();
    let slot = cluster.fresh_slot(1);
    let key = key_in(slot, "k");
    let mut client = cluster.client(1);
    let first = fence_of(&mut client, &format!("{key} TOKEN a LIMIT 2 PX 60000 OWNER alice"));
    refused(&mut client, &format!("{key} TOKEN b"));
    let second = fence_of(&mut client, &format!("{key} TOKEN b LIMIT 2"));
    assert!(second > first);
    assert_eq!(client.run(&format!("LOCK.EXTEND {key} a PX 50000")), Reply::Int(1));
    assert_eq!(client.run(&format!("LOCK.CHECK {key} a")).items()[0], Reply::Int(first));
    assert_eq!(client.run(&format!("LOCK.BREAK {key} FENCE {second}")), Reply::Int(1));
    assert_eq!(holders(&mut client, &key).len(), 1);
    refused(&mut client, &format!("{key} TOKEN c BLOCK 20"));
    release(&mut client, &key, "a");
    cluster.assert_free(1, &key);
}

/// How `a` comes to lose the lock it holds by the connection given, whose id is given too; somebody else can help.
type End = fn(Client, i64, &mut Client, &str);

const RELEASE: End = |mut holder, _, _, key| release(&mut holder, key, "a");
const BREAK: End = |_, _, helper, key| assert_eq!(helper.run(&format!("LOCK.BREAK {key}")), Reply::Int(1));
const EXPIRY: End =
    |_, _, helper, key| assert_eq!(helper.run(&format!("LOCK.EXTEND {key} a PX 1")), Reply::Int(1));
const DISCONNECTION: End = |holder, _, _, _| drop(holder);
const KILLING: End = |_holder, id, helper, _| drop(helper.run(&format!("CLIENT KILL ID {id}")));
const DELETION: End = |_, _, helper, key| assert_eq!(helper.run(&format!("DEL {key}")), Reply::Int(1));
const OVERWRITING: End = |_, _, helper, key| {
    helper.ok(&format!("SET {key} v"));
    assert_eq!(helper.run(&format!("DEL {key}")), Reply::Int(1));
};
const SCRIPT: End = |_, _, helper, key| {
    let script = "return redis.call('LOCK.RELEASE', KEYS[1], 'a')";
    assert_eq!(helper.call(&cmd!["EVAL", script, 1, key]), Reply::Int(1));
};
const TRANSACTION: End = |_, _, helper, key| {
    let replies = helper.run_all(&["MULTI", &format!("LOCK.RELEASE {key} a"), "EXEC"]);
    assert_eq!(replies[2], Reply::Array(vec![Reply::Int(1)]));
};

/// A test for each way in which a lock ends.
macro_rules! it_is_handed_over {
    ($($name:ident: $when:expr, $options:literal, $end:expr;)+) => {$(
        #[test]
        fn $name() {
            is_handed_over($when, $options, $end);
        }
    )+};
}

it_is_handed_over! {
    a_release_hands_over: Slot::AtHome, "PX 60000", RELEASE;
    a_break_hands_over: Slot::AtHome, "PX 60000", BREAK;
    the_end_of_a_lease_hands_over: Slot::AtHome, "PX 60000", EXPIRY;
    the_end_of_a_session_hands_over: Slot::AtHome, "SESSION", DISCONNECTION;
    the_killing_of_a_session_hands_over: Slot::AtHome, "SESSION", KILLING;
    a_deletion_hands_over: Slot::AtHome, "PX 60000", DELETION;
    an_overwriting_and_a_deletion_hand_over: Slot::AtHome, "PX 60000", OVERWRITING;
    a_release_by_a_script_hands_over: Slot::AtHome, "PX 60000", SCRIPT;
    a_release_in_a_transaction_hands_over: Slot::AtHome, "PX 60000", TRANSACTION;
    a_release_by_a_script_hands_over_while_the_slot_is_leaving_and_the_key_is_here:
        Slot::Leaving, "PX 60000", SCRIPT;
    a_release_in_a_transaction_hands_over_while_the_slot_is_leaving_and_the_key_is_here:
        Slot::Leaving, "PX 60000", TRANSACTION;
    a_release_hands_over_while_the_slot_is_leaving_and_the_key_is_here: Slot::Leaving, "PX 60000", RELEASE;
    a_break_hands_over_while_the_slot_is_leaving_and_the_key_is_here: Slot::Leaving, "PX 60000", BREAK;
    the_end_of_a_lease_hands_over_while_the_slot_is_leaving_and_the_key_is_here:
        Slot::Leaving, "PX 60000", EXPIRY;
    the_end_of_a_session_hands_over_while_the_slot_is_leaving_and_the_key_is_here:
        Slot::Leaving, "SESSION", DISCONNECTION;
    the_killing_of_a_session_hands_over_while_the_slot_is_leaving_and_the_key_is_here:
        Slot::Leaving, "SESSION", KILLING;
}

#[derive(Clone, Copy, PartialEq)]
enum Slot {
    AtHome,
    Leaving,
}

#[track_caller]
fn is_handed_over(when: Slot, options: &str, end: End) {
    let cluster = shared();
    let (slot, server) = (cluster.fresh_slot(0), cluster.node(0));
    let key = key_in(slot, "k");
    let mut holder = server.client();
    let first = acquire(&mut holder, &format!("{key} TOKEN a {options}")).fence;
    let leaving = (when == Slot::Leaving).then(|| cluster.open_slot(slot, 0, 1));
    let mut next = Waiter::new(server, &format!("{key} TOKEN b PX 60000 BLOCK 0"));
    let mut last = Waiter::new(server, &format!("{key} TOKEN c PX 60000 BLOCK 0"));
    let mut client = server.client();
    let id = holder.id();
    end(holder, id, &mut client, &key);
    let grant = next.granted();
    assert_eq!(grant.token, b"b");
    assert!(grant.fence > first);
    last.assert_waiting(server);
    release(&mut client, &key, "b");
    assert!(last.granted().fence > grant.fence);
    release(&mut client, &key, "c");
    if let Some(leaving) = leaving {
        assert_eq!(client.run(&format!("LOCK.INFO {key}")), Reply::Error(ask(slot, cluster.node(1))));
        leaving.finish();
        cluster.assert_free(1, &key);
    } else {
        cluster.assert_free(0, &key);
    }
}

#[test]
fn scripts_and_transactions_go_where_their_key_belongs() {
    let cluster = shared();
    let slot = cluster.fresh_slot(1);
    let (key, elsewhere) = (key_in(slot, "k"), key_in(cluster.fresh_slot(0), "k"));
    let moved = Reply::Error(moved_to(slot, cluster.node(1)));
    let script = "return redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', ARGV[1], 'BLOCK', '0')";
    let acquire = format!("LOCK.ACQUIRE {key} TOKEN other BLOCK 0");
    let (mut wrong, mut right) = (cluster.client(0), cluster.client(1));
    assert_eq!(wrong.call(&cmd!["EVAL", script, 1, key, "a"]), moved);
    let replies = wrong.run_all(&["MULTI", &acquire, "EXEC"]);
    assert_eq!(replies[1], moved);
    assert!(replies[2].error().starts_with("EXECABORT "), "{replies:?}");
    ok_grant(right.call(&cmd!["EVAL", script, 1, key, "a"]));
    assert!(right.call(&cmd!["EVAL", script, 1, key, "b"]).is_null(), "a script does not wait");
    let replies = right.run_all(&["MULTI", &acquire, "EXEC"]);
    assert_eq!(replies[2], Reply::Array(vec![Reply::NullArray]));
    let undeclared = "return redis.call('LOCK.ACQUIRE', ARGV[1], 'TOKEN', 'a')";
    let reply = right.call(&cmd!["EVAL", undeclared, 1, key, elsewhere]);
    assert!(reply.is_error(), "{reply:?}");
    cluster.assert_free(0, &elsewhere);
    release(&mut right, &key, "a");
    cluster.assert_free(1, &key);
}

#[test]
fn a_key_of_a_leaving_slot_is_served_where_it_is() {
    let cluster = shared();
    let slot = cluster.fresh_slot(0);
    let (here, gone) = (key_in(slot, "here"), key_in(slot, "gone"));
    let mut source = cluster.client(0);
    let mut target = cluster.client(1);
    acquire(&mut source, &format!("{here} TOKEN t PX 60000"));
    let leaving = cluster.open_slot(slot, 0, 1);
    for command in COMMANDS {
        let reply = source.run(&about(command, &gone));
        assert_eq!(reply, Reply::Error(ask(slot, cluster.node(1))), "{command}");
        for key in [&here, &gone] {
            let reply = target.run(&about(command, key));
            assert_eq!(reply, Reply::Error(moved_to(slot, cluster.node(0))), "{command}");
        }
    }
    assert_eq!(source.run(&format!("LOCK.EXTEND {here} t PX 60000")), Reply::Int(1));
    refused(&mut source, &here);
    assert_eq!(holders(&mut source, &here).len(), 1);
    release(&mut source, &here, "t");
    leaving.finish();
}

#[test]
fn a_key_of_an_arriving_slot_is_served_to_those_who_were_sent() {
    let cluster = shared();
    let slot = cluster.fresh_slot(0);
    let key = key_in(slot, "k");
    let mut target = cluster.client(1);
    let arriving = cluster.open_slot(slot, 0, 1);
    let asked = |client: &mut Client, command: &str| asking(client, &about(command, &key));
    assert_eq!(asked(&mut target, "LOCK.INFO k"), null(&target));
    let grant = asked(&mut target, "LOCK.ACQUIRE k TOKEN t PX 60000");
    let fence = grant.items()[1].int();
    assert_eq!(asked(&mut target, "LOCK.ACQUIRE k TOKEN other"), null(&target));
    assert_eq!(asked(&mut target, "LOCK.CHECK k t").items()[0], Reply::Int(fence));
    assert_eq!(asked(&mut target, "LOCK.EXTEND k t PX 50000"), Reply::Int(1));
    assert_eq!(
        target.run(&format!("LOCK.CHECK {key} t")),
        Reply::Error(moved_to(slot, cluster.node(0))),
        "ASKING is for one command"
    );
    assert_eq!(asked(&mut target, "LOCK.RELEASE k t"), Reply::Int(1));
    asked(&mut target, "LOCK.ACQUIRE k TOKEN t PX 60000");
    assert_eq!(asked(&mut target, "LOCK.BREAK k"), Reply::Int(1));
    arriving.finish();
    cluster.assert_free(1, &key);
}

/// Whether or not anybody waits for it there.
#[test]
fn a_client_that_goes_where_it_is_sent_finds_its_lock() {
    let cluster = shared();
    let slot = cluster.fresh_slot(0);
    let key = key_in(slot, "k");
    let mut client = cluster.routed();
    client.run(&format!("LOCK.ACQUIRE {key} TOKEN t PX 60000"));
    for (target, asks) in [(1, 1), (2, 2)] {
        let leaving = cluster.open_slot(slot, target - 1, target);
        leaving.move_all_keys();
        let extended = client.run(&format!("LOCK.EXTEND {key} t PX 60000"));
        assert_eq!((extended, client.told.ask), (Reply::Int(1), asks));
        leaving.finish();
    }
    assert_eq!(client.run(&format!("LOCK.RELEASE {key} t")), Reply::Int(1));
    assert!(client.told.moved >= 2, "{:?}", client.told);
    cluster.assert_free(2, &key);
}
