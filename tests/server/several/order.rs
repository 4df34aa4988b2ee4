//! Who comes first where requests for several locks meet: the older one, at every key, and nobody overtakes.

use std::collections::BTreeSet;

use super::{all, assert_free, holds, none, release_all, waits};
use crate::support::locks::{acquire, exists, refused};
use crate::support::waiter::{owners, release, wait_blocked};
use crate::support::{Client, Random, Reply, Server, Waiter};

/// `[k,l]` waits for k; `[l,m]` is behind it at l though l and m are free; and m waits for that one in turn.
#[test]
fn the_older_is_ahead_wherever_they_meet() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut older = waits(&server, "2 k l TOKEN older OWNER older BLOCK 0");
    let mut younger = waits(&server, "2 l m TOKEN younger OWNER younger BLOCK 0");
    let mut last = Waiter::new(&server, "m TOKEN last OWNER last BLOCK 0");
    assert_eq!(owners(&mut client, "l").1, ["older", "younger"]);
    assert_eq!(owners(&mut client, "m").1, ["younger", "last"]);
    refused(&mut client, "m TOKEN x SHARED");
    assert!(!exists(&mut client, "l") && !exists(&mut client, "m"));
    release(&mut client, "k", "a");
    older.granted();
    younger.assert_waiting(&server);
    last.assert_waiting(&server);
    release(&mut client, "k", "older");
    younger.assert_waiting(&server);
    release(&mut client, "l", "older");
    younger.granted();
    last.assert_waiting(&server);
    release(&mut client, "m", "younger");
    last.granted();
    release_all(&mut client, "1 l younger");
    release(&mut client, "m", "last");
    assert_free(&server, &["k", "l", "m"]);
}

/// Three requests around a triangle never wait for each other in a circle.
#[test]
fn a_triangle_is_served_in_the_order_of_asking() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "3 a b c TOKEN x");
    let mut first = waits(&server, "2 a b TOKEN 1 BLOCK 0");
    let mut second = waits(&server, "2 b c TOKEN 2 BLOCK 0");
    let mut third = waits(&server, "2 c a TOKEN 3 BLOCK 0");
    release_all(&mut client, "3 c b a x");
    first.granted();
    second.assert_waiting(&server);
    third.assert_waiting(&server);
    release(&mut client, "a", "1");
    third.assert_waiting(&server);
    release(&mut client, "b", "1");
    second.granted();
    third.assert_waiting(&server);
    release(&mut client, "b", "2");
    third.assert_waiting(&server);
    release(&mut client, "c", "2");
    third.granted();
    release_all(&mut client, "2 a c 3");
    assert_free(&server, &["a", "b", "c"]);
}

#[test]
fn one_release_serves_who_is_next_at_each_key() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "4 k l m n TOKEN a");
    let mut both = waits(&server, "2 k l TOKEN both BLOCK 0");
    let mut single = Waiter::new(&server, "m TOKEN single BLOCK 0");
    let mut shared = waits(&server, "2 m n TOKEN shared SHARED BLOCK 0");
    release_all(&mut client, "4 k l m n a");
    both.granted();
    single.granted();
    shared.assert_waiting(&server);
    assert!(!exists(&mut client, "n"));
    release(&mut client, "m", "single");
    shared.granted();
}

#[test]
fn readers_of_several_enter_together_and_not_before_a_writer_that_came_first() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a SHARED");
    let mut writer = waits(&server, "2 l m TOKEN writer BLOCK 0");
    none(&mut client, "2 k l SHARED");
    none(&mut client, "2 m n SHARED");
    let mut readers =
        [1, 2, 3].map(|n| waits(&server, &format!("3 k l m TOKEN r{n} OWNER r{n} SHARED BLOCK 0")));
    // At k there is room, but a reader that waits for all holds none.
    assert_eq!(owners(&mut client, "k").0, ["-"]);
    release(&mut client, "l", "a");
    writer.granted();
    readers.iter().for_each(|reader| reader.assert_waiting(&server));
    release_all(&mut client, "2 l m writer");
    readers.iter_mut().for_each(|reader| drop(reader.granted()));
    assert_eq!(owners(&mut client, "m").0, ["r1", "r2", "r3"]);
}

/// Who leaves a queue, by whatever end, lets in those it kept out, at every key.
#[test]
fn whoever_leaves_lets_in_whom_it_kept_out_at_each_key() {
    for leave in ["TIMEOUT", "ERROR", "KILL", "RELEASE", "MRELEASE", "ONE", "CLOSE", "BLOCK"] {
        let server = Server::start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a");
        let mut first = waits(&server, "4 k l m n TOKEN first BLOCK 0");
        let mut at_l = Waiter::new(&server, "l TOKEN x BLOCK 0");
        let mut at_m_and_n = waits(&server, "2 m n TOKEN y BLOCK 0");
        let mut at_k = Waiter::new(&server, "k TOKEN z BLOCK 0");
        if leave == "BLOCK" {
            // Whose time is short comes when all others wait, and takes over the place.
            first = waits(&server, "4 k l m n TOKEN first BLOCK 50");
        }
        let command = match leave {
            "TIMEOUT" | "ERROR" => format!("CLIENT UNBLOCK {} {leave}", first.id),
            "KILL" => format!("CLIENT KILL ID {}", first.id),
            "RELEASE" => "LOCK.RELEASE l first".to_owned(),
            "ONE" => "LOCK.MRELEASE 1 k first".to_owned(),
            "MRELEASE" => "LOCK.MRELEASE 4 k l m n first".to_owned(),
            _ => "PING".to_owned(),
        };
        let kept = (leave != "CLOSE").then_some(first);
        client.run(&command);
        at_l.granted();
        at_m_and_n.granted();
        at_k.assert_waiting(&server);
        release(&mut client, "k", "a");
        at_k.granted();
        drop(kept);
        assert!(holds(&mut client, &["k", "l", "m", "n"], "first").is_empty(), "{leave}");
        release(&mut client, "k", "z");
        release(&mut client, "l", "x");
        release_all(&mut client, "2 m n y");
        assert_free(&server, &["k", "l", "m", "n"]);
    }
}

/// What a queue of exclusive requests comes to: each in turn, if it is first at all its keys and all of them are free.
struct Model {
    held: Vec<(usize, BTreeSet<usize>)>,
    queue: Vec<(usize, BTreeSet<usize>)>,
}

impl Model {
    /// Who is granted now.
    fn settle(&mut self) -> Vec<usize> {
        let mut taken: BTreeSet<usize> = self.held.iter().flat_map(|(_, keys)| keys.clone()).collect();
        let (mut granted, mut left) = (Vec::new(), Vec::new());
        for (who, keys) in self.queue.drain(..) {
            let is_free = keys.is_disjoint(&taken);
            taken.extend(keys.iter().copied());
            if is_free {
                granted.push(who);
                self.held.push((who, keys));
            } else {
                left.push((who, keys));
            }
        }
        self.queue = left;
        granted
    }
}

const KEYS: usize = 6;

/// Requests for sets of keys at random: those who hold and those who wait are what the rule makes of them, all along.
#[test]
fn at_random_the_rule_alone_decides_who_holds() {
    let mut random = Random::from_environment();
    let server = Server::start();
    let mut client = server.client();
    let mut model = Model { held: Vec::new(), queue: Vec::new() };
    let mut waiters: Vec<(usize, Waiter)> = Vec::new();
    let mut next = 0;
    for _ in 0..150 {
        if model.queue.len() < 8 && random.below(5) < 3 {
            let count = 1 + random.below(3);
            let keys: BTreeSet<usize> = (0..count).map(|_| random.below(KEYS)).collect();
            model.queue.push((next, keys.clone()));
            let rest = format!("{} TOKEN t{next} OWNER t{next} PX 600000", words(&keys));
            if model.settle().contains(&next) {
                all(&mut client, &rest);
            } else {
                none(&mut client, &rest);
                waiters.push((next, waits(&server, &format!("{rest} BLOCK 0"))));
            }
            next += 1;
        } else if !model.queue.is_empty() && random.below(4) == 0 {
            let (who, keys) = model.queue.remove(random.below(model.queue.len()));
            give_up(&mut client, &mut waiters, who, &keys, random.below(2) == 0);
            served(model.settle(), &mut waiters);
        } else if !model.held.is_empty() {
            let (who, keys) = model.held.swap_remove(random.below(model.held.len()));
            release_all(&mut client, &format!("{} t{who}", words(&keys)));
            served(model.settle(), &mut waiters);
        }
        look(&mut client, &model);
    }
    wait_blocked(&server, model.queue.len());
}

fn words(keys: &BTreeSet<usize>) -> String {
    let names: Vec<String> = keys.iter().map(|key| format!("k{key}")).collect();
    format!("{} {}", names.len(), names.join(" "))
}

#[track_caller]
fn give_up(
    client: &mut Client,
    waiters: &mut Vec<(usize, Waiter)>,
    who: usize,
    keys: &BTreeSet<usize>,
    by_release: bool,
) {
    let at = waiters.iter().position(|it| it.0 == who).unwrap();
    let (_, mut waiter) = waiters.remove(at);
    if by_release {
        let key = keys.first().unwrap();
        assert_eq!(client.run(&format!("LOCK.RELEASE k{key} t{who}")), Reply::Int(0));
    } else {
        assert_eq!(client.run(&format!("CLIENT UNBLOCK {}", waiter.id)), Reply::Int(1));
    }
    waiter.refused();
}

#[track_caller]
fn served(granted: Vec<usize>, waiters: &mut Vec<(usize, Waiter)>) {
    for who in granted {
        let at = waiters.iter().position(|it| it.0 == who).unwrap();
        assert_eq!(waiters.remove(at).1.granted().token, format!("t{who}").into_bytes());
    }
}

#[track_caller]
fn look(client: &mut Client, model: &Model) {
    for key in 0..KEYS {
        let names = |list: &[(usize, BTreeSet<usize>)]| -> Vec<String> {
            list.iter().filter(|it| it.1.contains(&key)).map(|it| format!("t{}", it.0)).collect()
        };
        let due = (names(&model.held), names(&model.queue));
        assert_eq!(owners(client, &format!("k{key}")), due, "k{key}: who holds it, who waits");
    }
}
