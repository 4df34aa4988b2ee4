//! A client that does nothing but send PINGs, while others do something to the server.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::pipe::{Batch, Pipe};
use crate::support::Server;

/// How long it waits after each reply.
const PAUSE: Duration = Duration::from_millis(1);

/// What it saw.
pub(crate) struct Watched {
    /// How long PINGs took, in milliseconds, less the time in which the server or the client was ready to run and had no
    /// core to run on. One that took long stands for all that would have been sent meanwhile, one every [`PAUSE`].
    pub(crate) pings_ms: Vec<f64>,
    /// The longest by the clock, in milliseconds.
    pub(crate) longest_by_clock_ms: f64,
    /// How long it all took, in milliseconds.
    pub(crate) took_ms: f64,
}

/// Does something, and has PINGs sent meanwhile, until one that was sent after it was done is answered.
pub(crate) fn watch<R>(server: &Server, deed: impl FnOnce() -> R) -> (Watched, R) {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel();
        let pings = scope.spawn(|| ping(server, ready, &is_done));
        is_ready.recv().unwrap();
        let start = Instant::now();
        let done = Done(&is_done);
        let result = deed();
        drop(done);
        let took_ms = start.elapsed().as_secs_f64() * 1e3;
        let pings = pings.join().unwrap();
        let by_clock = pings.iter().map(|ping| ping.by_clock_ms);
        let watched = Watched {
            longest_by_clock_ms: by_clock.fold(0.0, f64::max),
            pings_ms: pings.iter().flat_map(Ping::with_those_not_sent).collect(),
            took_ms,
        };
        (watched, result)
    })
}

/// Says that it is done once it goes, also when that is because it failed.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long a PING took, in milliseconds.
struct Ping {
    by_clock_ms: f64,
    /// Of it, how long the server or this thread had no core.
    without_core_ms: f64,
}

impl Ping {
    fn own_ms(&self) -> f64 {
        (self.by_clock_ms - self.without_core_ms).max(0.0)
    }

    /// Its own time, and that of the PINGs that a client would have sent which does not wait for its replies.
    fn with_those_not_sent(&self) -> impl Iterator<Item = f64> {
        let pause_ms = PAUSE.as_secs_f64() * 1e3;
        let longest_ms = self.own_ms();
        let others = (1..).map(move |sent| longest_ms - f64::from(sent) * pause_ms);
        [longest_ms].into_iter().chain(others.take_while(|ms| *ms > 0.0))
    }
}

/// Sends PINGs one after the other. The first does not count; after it this is `ready`.
fn ping(server: &Server, ready: Sender<()>, is_done: &AtomicBool) -> Vec<Ping> {
    let (mut pipe, mut ping) = (Pipe::connect(server), Batch::default());
    ping.push(&["PING"], "+PONG\r\n");
    pipe.exchange(&ping);
    ready.send(()).unwrap();
    let server_path = format!("/proc/{}/schedstat", server.pid());
    let without_core_ms = || without_core_ms(&server_path) + without_core_ms("/proc/thread-self/schedstat");
    let mut pings = Vec::new();
    loop {
        let is_last = is_done.load(Ordering::Relaxed);
        let before_ms = without_core_ms();
        let start = Instant::now();
        pipe.exchange(&ping);
        let by_clock_ms = start.elapsed().as_secs_f64() * 1e3;
        pings.push(Ping { by_clock_ms, without_core_ms: without_core_ms() - before_ms });
        if is_last {
            return pings;
        }
        thread::sleep(PAUSE);
    }
}

/// For how many milliseconds in all a thread was ready to run and had no core to run on; none where the system does not
/// say. The second number of `schedstat`, in nanoseconds.
fn without_core_ms(path: &str) -> f64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let ns = text.split_whitespace().nth(1).and_then(|ns| ns.parse::<f64>().ok());
    ns.unwrap_or(0.0) / 1e6
}
