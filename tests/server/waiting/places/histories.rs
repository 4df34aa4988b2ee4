//! Random histories of one lock, step by step against a model of its queue: after each step the holders, the queue, what
//! every client was told and what was called are what the contract says.

use std::collections::VecDeque;

use super::{Listener, patient, ticket, tickets};
use crate::support::admission::{Share, Sharer, fits};
use crate::support::locks::{null, ok_grant};
use crate::support::waiter::{is_blocked, owners};
use crate::support::{Client, PATIENCE, Random, Reply, Server, wait_until};

const ROUNDS: usize = 40;

const STEPS: usize = 120;

const TOKENS: usize = 7;

/// A connection that waits.
struct Blocked {
    client: Client,
    id: i64,
}

/// One in the queue.
struct Entry {
    token: usize,
    share: Share,
    blocked: Option<Blocked>,
    /// Whether it asked for a place.
    keeps: bool,
    /// Once somebody was told.
    ticket: Option<i64>,
}

/// How a request may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Not,
    Block,
    Queue,
    Both,
}

struct Model<'a> {
    server: &'a Server,
    client: Client,
    listener: Listener,
    holders: Vec<Sharer>,
    queue: VecDeque<Entry>,
    /// What was done, for a failure to show.
    history: Vec<String>,
}

fn option((limit, weight): Share) -> String {
    let words = if limit == usize::MAX { "SHARED".to_owned() } else { format!("LIMIT {limit}") };
    if weight == 1 { words } else { format!("{words} WEIGHT {weight}") }
}

impl Model<'_> {
    fn waits(&self, token: usize) -> Option<usize> {
        self.queue.iter().position(|entry| entry.token == token)
    }

    /// Whoever's turn has come is told, on its connection or by its ticket.
    #[track_caller]
    fn serve(&mut self) {
        while self.queue.front().is_some_and(|entry| fits(&self.holders, entry.share)) {
            let entry = self.queue.pop_front().unwrap();
            self.holders.push((entry.token, entry.share));
            match entry.blocked {
                Some(mut blocked) => {
                    let (token, _) = ok_grant(blocked.client.read());
                    assert_eq!(token, format!("t{}", entry.token).into_bytes(), "{:#?}", self.history);
                }
                None => {
                    let called = self.listener.ticket();
                    assert!(entry.ticket.is_none_or(|known| known == called), "{:#?}", self.history);
                }
            }
        }
    }

    #[track_caller]
    fn ask(&mut self, token: usize, share: Share, mode: Mode) {
        let mut client = if token.is_multiple_of(2) { self.server.client() } else { self.server.client3() };
        let id = client.id();
        let how = match mode {
            Mode::Not => "",
            Mode::Block => "BLOCK 0",
            Mode::Queue => "QUEUE 600000",
            Mode::Both => "BLOCK 0 QUEUE 600000",
        };
        let holds = self.holders.iter().any(|(holder, _)| *holder == token);
        let limited = if holds { String::new() } else { option(share) };
        let command = format!("LOCK.ACQUIRE k TOKEN t{token} OWNER t{token} PX 600000 {limited} {how}");
        self.history.push(command.clone());
        client.send(&command.split_ascii_whitespace().collect::<Vec<_>>());
        let waits = self.waits(token);
        let is_granted = holds || (self.queue.is_empty() && fits(&self.holders, share));
        if is_granted {
            ok_grant(client.read());
            if !holds {
                self.holders.push((token, share));
            }
            return;
        }
        if mode == Mode::Not {
            assert_eq!(client.read(), null(&client), "{:#?}", self.history);
            return;
        }
        let at = waits.unwrap_or_else(|| {
            let entry = Entry { token, share, blocked: None, keeps: true, ticket: None };
            self.queue.push_back(entry);
            self.queue.len() - 1
        });
        let entry = &mut self.queue[at];
        if let Some(mut older) = entry.blocked.take() {
            let told = older.client.read();
            if entry.keeps {
                let told = ticket(&told);
                assert_eq!(*entry.ticket.get_or_insert(told), told, "{:#?}", self.history);
            } else {
                assert_eq!(told, null(&older.client), "{:#?}", self.history);
            }
        }
        (entry.share, entry.keeps) = (share, mode != Mode::Block);
        if mode == Mode::Queue {
            let told = client.read();
            if let Reply::Int(_) = told {
                let told = ticket(&told);
                assert_eq!(*entry.ticket.get_or_insert(told), told, "{:#?}", self.history);
            } else {
                // It asks for less than before, heads the queue, and is granted the lock at once.
                assert!(at == 0 && waits.is_some(), "{:#?}", self.history);
                ok_grant(told);
                let entry = self.queue.pop_front().unwrap();
                self.holders.push((entry.token, entry.share));
            }
        } else {
            entry.blocked = Some(Blocked { client, id });
        }
        self.serve();
        if let Some(blocked) = self.waits(token).and_then(|at| self.queue[at].blocked.as_ref()) {
            wait_until(&command, PATIENCE, || is_blocked(&mut self.client, blocked.id));
        }
    }

    #[track_caller]
    fn release(&mut self, token: usize) {
        let held = self.holders.iter().position(|(holder, _)| *holder == token);
        let command = format!("LOCK.RELEASE k t{token}");
        self.history.push(command.clone());
        let reply = self.client.run(&command);
        assert_eq!(reply, Reply::Int(i64::from(held.is_some())), "{:#?}", self.history);
        if let Some(at) = held {
            self.holders.remove(at);
        }
        if let Some(at) = self.waits(token) {
            let entry = self.queue.remove(at).unwrap();
            if let Some(mut blocked) = entry.blocked {
                assert_eq!(blocked.client.read(), null(&blocked.client), "{:#?}", self.history);
            }
        }
        self.serve();
    }

    /// The connection of one that waits on it comes to an end, or its wait.
    #[track_caller]
    fn end_wait(&mut self, token: usize, how: &str) {
        let Some(at) = self.waits(token) else { return };
        let entry = &mut self.queue[at];
        let Some(mut blocked) = entry.blocked.take() else { return };
        self.history.push(format!("{how} of t{token}"));
        let mut keeps = entry.keeps;
        match how {
            "close" => drop(blocked.client),
            "CLIENT KILL ID" => {
                assert_eq!(self.client.run(&format!("{how} {}", blocked.id)), Reply::Int(1));
            }
            _ => {
                let (words, reason) = how.rsplit_once(' ').unwrap();
                assert_eq!(self.client.run(&format!("{words} {} {reason}", blocked.id)), Reply::Int(1));
                let told = blocked.client.read();
                match reason {
                    "ERROR" => {
                        assert!(told.error().starts_with("UNBLOCKED "), "{told:?}");
                        keeps = false;
                    }
                    _ if keeps => {
                        let told = ticket(&told);
                        assert_eq!(*entry.ticket.get_or_insert(told), told, "{:#?}", self.history);
                    }
                    _ => assert_eq!(told, null(&blocked.client), "{:#?}", self.history),
                }
            }
        }
        let id = blocked.id;
        wait_until("the server has noticed", PATIENCE, || !is_blocked(&mut self.client, id));
        if !keeps {
            self.queue.remove(at);
        }
        self.serve();
    }

    #[track_caller]
    fn assert_agrees(&mut self) {
        let names = |tokens: Vec<usize>| tokens.iter().map(|n| format!("t{n}")).collect::<Vec<_>>();
        let holding = names(self.holders.iter().map(|(token, _)| *token).collect());
        let waiting = names(self.queue.iter().map(|entry| entry.token).collect());
        assert_eq!(owners(&mut self.client, "k"), (holding, waiting), "{:#?}", self.history);
        for (entry, shown) in self.queue.iter_mut().zip(tickets(&mut self.client, "k")) {
            assert_eq!(entry.blocked.is_none(), shown.is_some(), "{:#?}", self.history);
            let Some(shown) = shown else { continue };
            assert_eq!(*entry.ticket.get_or_insert(shown), shown, "{:#?}", self.history);
        }
    }
}

#[test]
fn every_step_of_a_random_history_does_what_the_contract_says() {
    let mut random = Random::from_environment();
    let server = patient();
    for _ in 0..ROUNDS {
        let (client, listener) = (server.client(), Listener::of(&server, "k"));
        let (holders, queue, history) = (Vec::new(), VecDeque::new(), Vec::new());
        let mut model = Model { server: &server, client, listener, holders, queue, history };
        for _ in 0..STEPS {
            let token = random.below(TOKENS);
            match random.below(10) {
                0..=4 => {
                    const ANY: usize = usize::MAX;
                    let share =
                        *random.pick(&[(1, 1), (1, 1), (2, 1), (3, 1), (3, 2), (4, 3), (ANY, 1), (ANY, 2)]);
                    let mode = *random.pick(&[Mode::Not, Mode::Block, Mode::Queue, Mode::Queue, Mode::Both]);
                    model.ask(token, share, mode);
                }
                5 | 6 => {
                    let holders = model.holders.iter().map(|(token, _)| *token).collect::<Vec<_>>();
                    let token = if holders.is_empty() { token } else { *random.pick(&holders) };
                    model.release(token);
                }
                7 => model.release(token),
                8 => {
                    let ends = ["close", "CLIENT KILL ID", "CLIENT UNBLOCK TIMEOUT", "CLIENT UNBLOCK ERROR"];
                    let end = *random.pick(&ends);
                    model.end_wait(token, end);
                }
                _ => {
                    let ends = ["DEL k", "LOCK.BREAK k", "FLUSHALL", "EXPIREAT k 1", "UNLINK k"];
                    let end = *random.pick(&ends);
                    model.history.push(end.to_owned());
                    assert!(!model.client.run(end).is_error(), "{end}");
                    model.holders.clear();
                    model.serve();
                }
            }
            model.assert_agrees();
        }
        (0..TOKENS).for_each(|token| model.release(token));
        while let Some((token, _)) = model.holders.first().copied() {
            model.release(token);
        }
        model.assert_agrees();
        model.listener.heard_nothing();
    }
}
