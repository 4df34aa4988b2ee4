//! Clients that keep account of what they were told: which locks they hold, since when and for how long, by their own
//! clocks and by replies that they have read. Whatever then happens to the server, that account must stay true.
#![allow(dead_code)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::locks::remaining;
use crate::support::{Client, LONG_PATIENCE, Random, Reply, Server, apart_ms, wait_until};

/// Keys that all clients want.
const CONTENDED: usize = 3;

/// Leases, some of which end before the account is looked at.
const LEASES_MS: [u64; 4] = [400, 2_000, 60_000, 600_000];

/// The database that all of it is in.
const DATABASE: u16 = 7;

/// A hold that its client was told of.
#[derive(Clone, Debug)]
struct Known {
    fence: i64,
    /// When the lease was asked for: it cannot have begun earlier.
    asked: Instant,
    lease: Duration,
    /// The longest lease that was asked for; whether it was granted may not have been heard of.
    longest: Duration,
}

/// A key and a token.
type Claim = (String, String);

/// What was acknowledged.
#[derive(Default, Debug)]
pub(crate) struct Ledger {
    held: BTreeMap<Claim, Known>,
    /// Holds whose release was acknowledged. One whose release was not is in neither.
    released: Vec<Claim>,
    highest_fence: i64,
}

impl Ledger {
    /// How many holds were acknowledged, and not given back.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// The highest fence that was acknowledged.
    pub(crate) fn highest_fence(&self) -> i64 {
        self.highest_fence
    }

    fn extend(&mut self, other: Self) {
        self.held.extend(other.held);
        self.released.extend(other.released);
        self.highest_fence = self.highest_fence.max(other.highest_fence);
    }

    /// The server knows every hold that was acknowledged, for no less than what is left of its lease by its client's
    /// clock, and none whose end was; and every new fence is above all that were acknowledged.
    #[track_caller]
    pub(crate) fn assert_kept_by(&mut self, server: &Server) {
        let mut client = server.client();
        client.ok(&format!("SELECT {DATABASE}"));
        for ((key, token), known) in &self.held {
            let reply = client.run(&format!("LOCK.CHECK {key} {token}"));
            // By now at most this is left; the server was asked before.
            let passed = known.asked.elapsed();
            let left = known.lease.saturating_sub(passed);
            let apart_ms = apart_ms(i64::try_from(passed.as_millis()).unwrap());
            let left_ms = i64::try_from(left.as_millis()).unwrap();
            match reply {
                Reply::Array(parts) => {
                    assert_eq!(parts[0], Reply::Int(known.fence), "{key} {token}");
                    let remaining_ms = parts[1].int();
                    assert!(
                        remaining_ms + apart_ms >= left_ms,
                        "{key} {token}: {remaining_ms} ms, {left_ms} by its client's clock"
                    );
                    let longest_ms = i64::try_from(known.longest.as_millis()).unwrap();
                    assert!(remaining_ms <= longest_ms, "{key} {token}: {remaining_ms} ms of {known:?}");
                }
                null => {
                    assert!(
                        left_ms <= apart_ms,
                        "{key} {token} is lost, of {known:?} {left:?} are left: {null:?}"
                    )
                }
            }
        }
        for (key, token) in &self.released {
            assert_eq!(remaining(&mut client, key, token), None, "{key} {token} was released");
        }
        let (_, fence) = crate::support::ok_grant(client.run("LOCK.ACQUIRE next"));
        assert!(fence > self.highest_fence, "{fence} after {}", self.highest_fence);
        self.highest_fence = fence;
        assert_eq!(client.run("LOCK.BREAK next"), Reply::Int(1));
        self.held.retain(|_, known| known.asked.elapsed() < known.lease);
    }
}

/// Many clients at work on a server, each in a thread of its own.
pub(crate) struct Crew {
    name: String,
    address: SocketAddr,
    stop: AtomicBool,
    grants: AtomicUsize,
    waited: AtomicUsize,
}

impl Crew {
    /// Nobody works yet. The name must not have been used on this server before: locks of those who could not give them
    /// back are left.
    pub(crate) fn of(server: &Server, name: &str) -> Self {
        let (stop, grants, waited) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        Self { name: name.to_owned(), address: server.address(), stop, grants, waited }
    }

    /// Has `clients` work until the server is gone, or until `meanwhile`, which runs at the same time, is over; what they
    /// were told goes into the ledger.
    #[track_caller]
    pub(crate) fn work(
        &self,
        clients: usize,
        random: &mut Random,
        ledger: &mut Ledger,
        meanwhile: impl FnOnce(),
    ) {
        thread::scope(|scope| {
            // All are connected before anything can happen to the server.
            let mut new = |number| Worker::new(self, number, Random::from_seed(random.next()));
            let workers: Vec<_> = (0..clients).map(&mut new).collect();
            let workers: Vec<_> =
                workers.into_iter().map(|worker| scope.spawn(move || worker.work())).collect();
            let stop = Stop(&self.stop);
            meanwhile();
            drop(stop);
            for worker in workers {
                ledger.extend(worker.join().unwrap());
            }
        });
    }

    /// Waits until so many grants were acknowledged, some of them after a wait.
    #[track_caller]
    pub(crate) fn wait_for_grants(&self, count: usize) {
        wait_until("the crew is granted locks", LONG_PATIENCE, || {
            self.grants.load(Ordering::SeqCst) >= count && self.waited.load(Ordering::SeqCst) > 0
        });
    }
}

/// Has everybody finish what it is at, also where a failure ends the test.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Worker<'a> {
    crew: &'a Crew,
    client: Client,
    name: String,
    random: Random,
    ledger: Ledger,
    claims: usize,
}

impl<'a> Worker<'a> {
    fn new(crew: &'a Crew, number: usize, random: Random) -> Self {
        let name = format!("{}-{number}", crew.name);
        let mut client = Client::connect(crew.address);
        client.ok(&format!("SELECT {DATABASE}"));
        Self { crew, client, name, random, ledger: Ledger::default(), claims: 0 }
    }

    fn work(mut self) -> Ledger {
        let mut server_is_there = true;
        while server_is_there && !self.crew.stop.load(Ordering::SeqCst) {
            server_is_there = self.take_and_give().is_some();
        }
        self.ledger
    }

    /// One lock that is wanted; `None` when the server has gone.
    fn take_and_give(&mut self) -> Option<()> {
        self.claims += 1;
        let token = format!("{}:{}", self.name, self.claims);
        let (key, keeps) = match self.random.below(3) {
            0 => (format!("own:{token}"), self.random.below(2) == 0),
            _ => (format!("contended:{}:{}", self.crew.name, self.random.below(CONTENDED)), false),
        };
        let lease_ms = *self.random.pick(&LEASES_MS);
        let limit = *self.random.pick(&["", "", "SHARED", "LIMIT 2"]);
        let claim = (key, token);
        let options = format!("{limit} OWNER {} BLOCK 300", self.name);
        if !self.acquire(&claim, lease_ms, &options)? {
            return Some(());
        }
        match self.random.below(6) {
            0 => drop(self.acquire(&claim, lease_ms, "LEVEL 2")?),
            1 => self.extend(&claim, lease_ms * 2)?,
            _ => {}
        }
        if !keeps {
            self.release(&claim)?;
        }
        Some(())
    }

    /// A reply; `None` when the server has gone, or is master no more.
    fn call(&mut self, command: &str) -> Option<Reply> {
        let reply = self.client.try_call(&command.split_ascii_whitespace().collect::<Vec<_>>())?;
        if let Reply::Error(text) = &reply {
            let demoted = ["READONLY ", "UNBLOCKED "].iter().any(|known| text.starts_with(known));
            assert!(demoted, "{command}: {reply:?}");
            return None;
        }
        Some(reply)
    }

    fn acquire(&mut self, claim: &Claim, lease_ms: u64, options: &str) -> Option<bool> {
        let (key, token) = claim;
        let asked = Instant::now();
        let reply = self.call(&format!("LOCK.ACQUIRE {key} TOKEN {token} PX {lease_ms} {options}"))?;
        let Reply::Array(grant) = reply else { return Some(false) };
        let fence = grant[1].int();
        let lease = Duration::from_millis(lease_ms);
        let known = Known { fence, asked, lease, longest: lease };
        self.ledger.highest_fence = self.ledger.highest_fence.max(fence);
        self.ledger.held.insert(claim.clone(), known);
        self.crew.grants.fetch_add(1, Ordering::SeqCst);
        if asked.elapsed() > Duration::from_millis(2) && key.starts_with("contended") {
            self.crew.waited.fetch_add(1, Ordering::SeqCst);
        }
        Some(true)
    }

    fn extend(&mut self, claim: &Claim, lease_ms: u64) -> Option<()> {
        let (key, token) = claim;
        let (asked, lease) = (Instant::now(), Duration::from_millis(lease_ms));
        self.ledger.held.entry(claim.clone()).and_modify(|known| known.longest = lease);
        let reply = self.call(&format!("LOCK.EXTEND {key} {token} PX {lease_ms}"))?;
        if let (Reply::Int(1), Some(known)) = (reply, self.ledger.held.get_mut(claim)) {
            (known.asked, known.lease) = (asked, lease);
        }
        Some(())
    }

    /// Until the last count is acknowledged to be given back nobody knows what became of the hold.
    fn release(&mut self, claim: &Claim) -> Option<()> {
        let (key, token) = claim;
        self.ledger.held.remove(claim);
        let release = format!("LOCK.RELEASE {key} {token}");
        while self.call(&release)? == Reply::Int(1) {}
        self.ledger.released.push(claim.clone());
        Some(())
    }
}
