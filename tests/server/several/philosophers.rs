//! Fifty philosophers at a round table, a fork between each two, for a bounded time: all eat, and none starves.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::assert_free;
use crate::support::waiter::wait_blocked;
use crate::support::{Client, PATIENCE, Reply, Server, ok_grant, wait_until};

const SEATS: usize = 50;

/// How long they dine.
const DINNER: Duration = Duration::from_secs(4);

struct Table {
    forks: Vec<AtomicBool>,
    meals: Vec<AtomicUsize>,
    is_over: AtomicBool,
}

impl Table {
    fn new() -> Self {
        Self {
            forks: (0..SEATS).map(|_| AtomicBool::new(false)).collect(),
            meals: (0..SEATS).map(|_| AtomicUsize::new(0)).collect(),
            is_over: AtomicBool::new(false),
        }
    }

    /// Takes both forks, which nobody else may have, and puts them back.
    fn eat(&self, seat: usize) {
        let forks = [&self.forks[seat], &self.forks[(seat + 1) % SEATS]];
        for fork in forks {
            assert!(!fork.swap(true, Ordering::SeqCst), "two philosophers have one fork, beside seat {seat}");
        }
        self.meals[seat].fetch_add(1, Ordering::SeqCst);
        for fork in forks {
            fork.store(false, Ordering::SeqCst);
        }
    }

    fn meals(&self) -> Vec<usize> {
        self.meals.iter().map(|meals| meals.load(Ordering::SeqCst)).collect()
    }
}

/// One philosopher. Every second one asks for its forks in the other order, which must make no difference.
fn dine(table: &Table, mut client: Client, seat: usize) {
    let (left, right) = (format!("fork{seat}"), format!("fork{}", (seat + 1) % SEATS));
    let forks = if seat.is_multiple_of(2) { format!("{left} {right}") } else { format!("{right} {left}") };
    let mut meal = 0;
    while !table.is_over.load(Ordering::SeqCst) {
        meal += 1;
        let token = format!("p{seat}:{meal}");
        let reply =
            client.run(&format!("LOCK.MACQUIRE 2 {forks} TOKEN {token} PX 60000 BLOCK 0 OWNER p{seat}"));
        ok_grant(reply);
        table.eat(seat);
        assert_eq!(client.run(&format!("LOCK.MRELEASE 2 {forks} {token}")), Reply::Int(2));
    }
}

#[test]
fn all_eat_and_none_starves() {
    let mut server = Server::start();
    let table = Table::new();
    thread::scope(|scope| {
        let diners: Vec<_> = (0..SEATS)
            .map(|seat| {
                let (table, client) = (&table, server.client());
                scope.spawn(move || dine(table, client, seat))
            })
            .collect();
        let start = Instant::now();
        let mut least = vec![0; SEATS];
        wait_until("dinner is over", DINNER + PATIENCE, || {
            thread::sleep(Duration::from_millis(500));
            if start.elapsed() < DINNER {
                return false;
            }
            // Whoever is slow, everybody eats now and then.
            let now = table.meals();
            let has_eaten = now.iter().zip(&least).all(|(now, before)| now > before);
            least = now;
            has_eaten
        });
        table.is_over.store(true, Ordering::SeqCst);
        for diner in diners {
            diner.join().unwrap();
        }
    });
    let meals = table.meals();
    let (least, most) = (*meals.iter().min().unwrap(), *meals.iter().max().unwrap());
    println!("{} meals, {least} to {most} each", meals.iter().sum::<usize>());
    assert!(least > 0, "somebody starved: {meals:?}");
    assert!(most <= least * 4 + 20, "somebody ate much less than others: {meals:?}");
    wait_blocked(&server, 0);
    let keys: Vec<String> = (0..SEATS).map(|seat| format!("fork{seat}")).collect();
    assert_free(&server, &keys.iter().map(String::as_str).collect::<Vec<_>>());
    server.assert_alive();
}

/// A guest who wants every fork of the table gets them, though all others go on eating: it cannot be starved.
#[test]
fn who_wants_all_forks_gets_them_while_the_others_eat() {
    const TIMES: usize = 10;
    let server = Server::start();
    let table = Table::new();
    let keys: Vec<String> = (0..SEATS).map(|seat| format!("fork{seat}")).collect();
    let all_forks = format!("{SEATS} {}", keys.join(" "));
    thread::scope(|scope| {
        let diners: Vec<_> = (0..SEATS)
            .map(|seat| {
                let (table, client) = (&table, server.client());
                scope.spawn(move || dine(table, client, seat))
            })
            .collect();
        let mut guest = server.client();
        for n in 0..TIMES {
            let before: usize = table.meals().iter().sum();
            wait_until("they eat", PATIENCE, || table.meals().iter().sum::<usize>() > before + SEATS);
            ok_grant(guest.run(&format!("LOCK.MACQUIRE {all_forks} TOKEN g{n} PX 60000 BLOCK 0")));
            let eaten = table.meals();
            for fork in &table.forks {
                assert!(!fork.load(Ordering::SeqCst), "somebody eats without forks");
            }
            assert_eq!(table.meals(), eaten);
            assert_eq!(
                guest.run(&format!("LOCK.MRELEASE {all_forks} g{n}")),
                Reply::Int(i64::try_from(SEATS).unwrap())
            );
        }
        table.is_over.store(true, Ordering::SeqCst);
        for diner in diners {
            diner.join().unwrap();
        }
    });
}
