//! What the proxies of one set-up do to those who talk through them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::Deserialize;

use crate::recorder::Recorder;
use crate::support::Random;

/// What becomes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fault {
    /// The connection is closed instead.
    Close,
    /// Half of it is delivered, then the connection is closed.
    Cut,
    /// It is not delivered and the connection stays open; nothing comes on it any more.
    Swallow,
    /// It comes late.
    Delay,
    /// It comes byte by byte.
    Trickle,
    /// Not of a reply: the request reaches the server late, also if its client has gone meanwhile.
    Late,
}

/// Where a command is when it is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before the server has it.
    Request,
    /// Before the client has its reply.
    Reply,
}

/// How likely each fault is.
pub(crate) type Shares = &'static [(Fault, f64)];

/// Called with each LOCK.* command, which goes on when it returns.
pub(crate) type Watch = Box<dyn FnMut(&str, Moment) + Send>;

/// The faults of one set-up, which all its proxies share.
#[derive(Default)]
pub(crate) struct Faults {
    state: Mutex<State>,
    recorder: Recorder,
}

#[derive(Default)]
struct State {
    next: Vec<(Fault, String)>,
    /// Errors, and the commands that they are said to.
    errors: Vec<(String, String)>,
    is_stalled: bool,
    random: Option<(Random, Shares)>,
    sent: BTreeMap<String, usize>,
    met: BTreeMap<Fault, usize>,
    watch: Option<Watch>,
}

impl Faults {
    /// For the next of this command.
    pub(crate) fn add(&self, fault: Fault, command: &str, times: usize) {
        self.state.lock().unwrap().next.extend((0..times).map(|_| (fault, command.to_owned())));
    }

    /// Says this error to the next of this command, which the server does not see.
    pub(crate) fn say(&self, error: &str, command: &str, times: usize) {
        let said = (0..times).map(|_| (error.to_owned(), command.to_owned()));
        self.state.lock().unwrap().errors.extend(said);
    }

    /// No reply to a LOCK.* command comes any more, though the server runs it; or again.
    pub(crate) fn stall(&self, is_stalled: bool) {
        self.state.lock().unwrap().is_stalled = is_stalled;
    }

    /// Draws faults for each LOCK.* command from now on.
    pub(crate) fn draw(&self, random: Random, shares: Shares) {
        self.state.lock().unwrap().random = Some((random, shares));
    }

    pub(crate) fn watch(&self, watch: impl FnMut(&str, Moment) + Send + 'static) {
        self.state.lock().unwrap().watch = Some(Box::new(watch));
    }

    /// As at the beginning.
    pub(crate) fn end(&self) {
        *self.state.lock().unwrap() = State::default();
    }

    /// How often this command was sent.
    pub(crate) fn sent(&self, command: &str) -> usize {
        self.state.lock().unwrap().sent.get(command).copied().unwrap_or_default()
    }

    /// How often each fault has happened.
    pub(crate) fn met(&self) -> BTreeMap<Fault, usize> {
        self.state.lock().unwrap().met.clone()
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub(crate) fn seen(&self, command: &str, moment: Moment) {
        let mut state = self.state.lock().unwrap();
        if moment == Moment::Request {
            *state.sent.entry(command.to_owned()).or_default() += 1;
        }
        if let Some(watch) = &mut state.watch {
            watch(command, moment);
        }
    }

    /// The error that is said to this request.
    pub(crate) fn error(&self, command: &str) -> Option<String> {
        let mut state = self.state.lock().unwrap();
        let due = state.errors.iter().position(|(_, to)| to == command)?;
        Some(state.errors.remove(due).0)
    }

    /// Whether this request is late.
    pub(crate) fn of_request(&self, command: &str) -> bool {
        self.state.lock().unwrap().fault(command, |fault| fault == Fault::Late).is_some()
    }

    pub(crate) fn of_reply(&self, command: &str) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        if state.is_stalled {
            Some(Fault::Swallow)
        } else {
            state.fault(command, |fault| fault != Fault::Late)
        }
    }
}

impl State {
    fn fault(&mut self, command: &str, is_such: impl Fn(Fault) -> bool) -> Option<Fault> {
        let due = self.next.iter().position(|(fault, of)| is_such(*fault) && of == command);
        let fault = due.map(|at| self.next.remove(at).0).or_else(|| {
            let (random, shares) = self.random.as_mut()?;
            let mut drawn = fraction(random);
            let such = shares.iter().filter(|(fault, _)| is_such(*fault));
            such.map(|(fault, share)| (*fault, *share)).find_map(|(fault, share)| {
                drawn -= share;
                (drawn < 0.0).then_some(fault)
            })
        })?;
        *self.met.entry(fault).or_default() += 1;
        Some(fault)
    }
}

/// From 0 to below 1.
pub(crate) fn fraction(random: &mut Random) -> f64 {
    f64::from(u32::try_from(random.next() >> 32).unwrap()) / 4_294_967_296.0
}
