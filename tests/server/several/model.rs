//! Requests at random, for one lock or several, with limits and weights, against a model of the rules: who holds and who
//! waits at every key is what the model says, after every step.

use std::collections::{BTreeMap, BTreeSet};

use super::{none, release_all, waits};
use crate::support::admission::{Share, any_share, fits};
use crate::support::locks::ok_grant;
use crate::support::waiter::{owners, wait_blocked};
use crate::support::{Client, Random, Reply, Server, Waiter};

const KEYS: usize = 5;

const STEPS: usize = 200;

/// Those who wait at most.
const QUEUE: usize = 9;

#[derive(Clone, Debug)]
struct Request {
    who: usize,
    keys: BTreeSet<usize>,
    share: Share,
}

/// The rules: a request is granted when nobody who came before it waits at any of its keys, and every key has room.
#[derive(Default)]
struct Model {
    held: BTreeMap<usize, Vec<(usize, Share)>>,
    /// In the order of their places.
    queue: Vec<Request>,
}

impl Model {
    /// Who is granted now, in the order in which it is.
    fn settle(&mut self) -> Vec<usize> {
        let mut granted = Vec::new();
        let mut waited_at: BTreeSet<usize> = BTreeSet::new();
        let mut left = Vec::new();
        for request in std::mem::take(&mut self.queue) {
            let has_room = |key: &usize| fits(self.held.get(key).map_or(&[][..], |it| it), request.share);
            if request.keys.is_disjoint(&waited_at) && request.keys.iter().all(has_room) {
                for key in &request.keys {
                    self.held.entry(*key).or_default().push((request.who, request.share));
                }
                granted.push(request.who);
            } else {
                waited_at.extend(request.keys.iter().copied());
                left.push(request);
            }
        }
        self.queue = left;
        granted
    }

    /// Who holds something, and where.
    fn holders(&self) -> Vec<(usize, BTreeSet<usize>)> {
        let mut all: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (key, held) in &self.held {
            for (who, _) in held {
                all.entry(*who).or_default().insert(*key);
            }
        }
        all.into_iter().collect()
    }

    fn release(&mut self, who: usize, keys: &BTreeSet<usize>) {
        for key in keys {
            self.held.get_mut(key).unwrap().retain(|(holder, _)| *holder != who);
        }
    }

    /// One that waits asks anew. What it waits for at all the keys keeps its place, and anything else gets a new one, unless it
    /// can have all of them at once: it is next at each, by the place that it has or because nobody waits, and there is room.
    fn ask_anew(&mut self, request: Request) {
        let at = self.queue.iter().position(|old| old.who == request.who).unwrap();
        let is_next = |key: &usize| {
            let first = self.queue.iter().find(|waiting| waiting.keys.contains(key));
            let has_room = fits(self.held.get(key).map_or(&[][..], |it| it), request.share);
            has_room && first.is_none_or(|first| first.who == request.who)
        };
        if request.keys.is_subset(&self.queue[at].keys) || request.keys.iter().all(is_next) {
            self.queue[at] = request;
        } else {
            self.queue.remove(at);
            self.queue.push(request);
        }
    }
}

/// The server, and what the model has of it.
struct Play {
    server: Server,
    client: Client,
    model: Model,
    waiters: BTreeMap<usize, Waiter>,
    next: usize,
}

fn words(keys: &BTreeSet<usize>) -> String {
    let names: Vec<String> = keys.iter().map(|key| format!("k{key}")).collect();
    format!("{} {}", names.len(), names.join(" "))
}

impl Play {
    fn new() -> Self {
        let server = Server::start();
        let client = server.client();
        Self { server, client, model: Model::default(), waiters: BTreeMap::new(), next: 0 }
    }

    fn keys(random: &mut Random) -> BTreeSet<usize> {
        let count = 1 + random.below(3);
        (0..count).map(|_| random.below(KEYS)).collect()
    }

    #[track_caller]
    fn ask(&mut self, random: &mut Random) {
        let (who, keys) = (self.next, Self::keys(random));
        self.next += 1;
        let (share, option) = any_share(random);
        let rest = format!("{} TOKEN t{who} OWNER t{who} PX 600000 {option}", words(&keys));
        println!("t{who} asks for {rest}");
        self.model.queue.push(Request { who, keys, share });
        if self.model.settle().contains(&who) {
            ok_grant(self.client.run(&format!("LOCK.MACQUIRE {rest} BLOCK 0")));
        } else {
            none(&mut self.client, &rest);
            self.waiters.insert(who, waits(&self.server, &format!("{rest} BLOCK 0")));
        }
    }

    #[track_caller]
    fn ask_anew(&mut self, random: &mut Random) {
        let old = random.pick(&self.model.queue).clone();
        let (who, share) = (old.who, old.share);
        let mut keys = Self::keys(random);
        // It has to meet the older request, or it would be another one of the same token.
        keys.insert(*old.keys.iter().nth(random.below(old.keys.len())).unwrap());
        let limit = match share {
            (usize::MAX, weight) => format!("SHARED WEIGHT {weight}"),
            (limit, weight) => format!("LIMIT {limit} WEIGHT {weight}"),
        };
        let rest = format!("{} TOKEN t{who} OWNER t{who} PX 600000 {limit} BLOCK 0", words(&keys));
        println!("t{who} asks anew for {rest}");
        let mut older = self.waiters.remove(&who).unwrap();
        self.model.ask_anew(Request { who, keys, share });
        let mut granted = self.model.settle();
        if granted.contains(&who) {
            granted.retain(|it| *it != who);
            ok_grant(self.client.run(&format!("LOCK.MACQUIRE {rest}")));
        } else {
            self.waiters.insert(who, waits(&self.server, &rest));
        }
        older.refused();
        self.served(granted);
    }

    #[track_caller]
    fn give_up(&mut self, random: &mut Random) {
        let at = random.below(self.model.queue.len());
        let Request { who, keys, .. } = self.model.queue.remove(at);
        println!("t{who} gives up");
        let mut waiter = self.waiters.remove(&who).unwrap();
        match random.below(3) {
            0 => drop(waiter),
            1 => {
                let key = keys.iter().nth(random.below(keys.len())).unwrap();
                assert_eq!(self.client.run(&format!("LOCK.RELEASE k{key} t{who}")), Reply::Int(0));
                waiter.refused();
            }
            _ => {
                assert_eq!(self.client.run(&format!("CLIENT UNBLOCK {}", waiter.id)), Reply::Int(1));
                waiter.refused();
            }
        }
        let granted = self.model.settle();
        self.served(granted);
        wait_blocked(&self.server, self.model.queue.len());
    }

    #[track_caller]
    fn release(&mut self, random: &mut Random) {
        let (who, mut keys) = random.pick(&self.model.holders()).clone();
        if random.below(2) == 0 && keys.len() > 1 {
            keys.pop_first();
        }
        println!("t{who} releases {keys:?}");
        release_all(&mut self.client, &format!("{} t{who}", words(&keys)));
        self.model.release(who, &keys);
        let granted = self.model.settle();
        self.served(granted);
    }

    #[track_caller]
    fn served(&mut self, granted: Vec<usize>) {
        for who in granted {
            println!("t{who} is to be served");
            let grant = self.waiters.remove(&who).unwrap().granted();
            assert_eq!(grant.token, format!("t{who}").into_bytes());
        }
    }

    #[track_caller]
    fn look(&mut self) {
        for key in 0..KEYS {
            let (mut holding, waiting) = owners(&mut self.client, &format!("k{key}"));
            let held = self.model.held.get(&key).map_or(&[][..], |it| it);
            let mut due: Vec<String> = held.iter().map(|(who, _)| format!("t{who}")).collect();
            holding.sort();
            due.sort();
            assert_eq!(holding, due, "who holds k{key}");
            let queue = self.model.queue.iter().filter(|it| it.keys.contains(&key));
            let due: Vec<String> = queue.map(|it| format!("t{}", it.who)).collect();
            assert_eq!(waiting, due, "who waits for k{key}");
        }
    }

    #[track_caller]
    fn run(mut self, random: &mut Random, asks_anew: bool) {
        for _ in 0..STEPS {
            match random.below(10) {
                0 if !self.model.queue.is_empty() => self.give_up(random),
                1 | 2 if asks_anew && !self.model.queue.is_empty() => self.ask_anew(random),
                3..=5 if !self.model.holders().is_empty() => self.release(random),
                _ if self.model.queue.len() < QUEUE => self.ask(random),
                _ => {}
            }
            self.look();
        }
        while !self.model.holders().is_empty() {
            self.release(random);
            self.look();
        }
        wait_blocked(&self.server, 0);
        assert_eq!(self.client.run("DBSIZE"), Reply::Int(0));
        self.server.assert_alive();
    }
}

#[test]
fn whoever_holds_and_waits_is_what_the_rules_say() {
    let mut random = Random::from_environment();
    for _ in 0..3 {
        Play::new().run(&mut random, false);
    }
}

/// Those who wait ask again for the same keys, for fewer, for more and for others.
#[test]
fn whoever_asks_anew_stands_where_the_rules_say() {
    let mut random = Random::from_environment();
    for _ in 0..3 {
        Play::new().run(&mut random, true);
    }
}
