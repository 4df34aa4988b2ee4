//! A client of locks, as the testee has made it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::testee::{Sent, Testee};

/// How long what should come at once may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Client<'a> {
    testee: &'a Testee,
    name: String,
}

/// What came of an acquire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Held {
        fence: u64,
        token: String,
    },
    NotAvailable,
    Cancelled,
    /// Its kind, and in words.
    Error(String, String),
}

/// What the client knows of a held lock.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct State {
    pub(crate) held: bool,
    /// Milliseconds.
    pub(crate) remaining: f64,
    /// How often the signal has fired.
    pub(crate) lost: u32,
}

impl<'a> Client<'a> {
    /// Connects to the servers that `address` has, with other settings, if there are any.
    #[track_caller]
    pub(crate) fn connect(testee: &'a Testee, name: &str, mut address: Value, settings: Value) -> Self {
        let more = settings.as_object().unwrap().clone();
        address.as_object_mut().unwrap().extend(more);
        address["client"] = json!(name);
        let reply = testee.call("connect", address);
        assert!(reply["error"].is_null(), "connecting: {reply}");
        Self { testee, name: name.to_owned() }
    }

    #[track_caller]
    pub(crate) fn of(testee: &'a Testee, bed: &Bed, protocol: u8) -> Self {
        Self::connect(testee, "main", bed.address(), json!({"protocol": protocol}))
    }

    /// Begins to acquire a lock; what is held will be called `hold`.
    pub(crate) fn acquire(&self, by: &str, hold: &str, lock: &str, options: Value) -> Sent {
        self.begin(by, hold, json!({"name": lock}), options)
    }

    /// The same for several locks together.
    pub(crate) fn acquire_all(&self, by: &str, hold: &str, locks: &[String], options: Value) -> Sent {
        self.begin(by, hold, json!({"names": locks}), options)
    }

    fn begin(&self, by: &str, hold: &str, mut request: Value, mut options: Value) -> Sent {
        if options.get("wait").is_none() {
            options["wait"] = json!(0);
        }
        let more = json!({"client": self.name, "by": by, "as": hold, "options": options});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.testee.send("acquire", request)
    }

    #[track_caller]
    pub(crate) fn finish(&self, sent: &Sent, within: Duration) -> Outcome {
        outcome(&self.testee.wait(sent, within))
    }

    /// Acquires a lock that must be held then, and gives its fence.
    #[track_caller]
    pub(crate) fn hold(&self, by: &str, hold: &str, lock: &str, options: Value) -> u64 {
        match self.finish(&self.acquire(by, hold, lock, options), PATIENCE) {
            Outcome::Held { fence, .. } => fence,
            other => panic!("{lock} is to be held, and it is {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn cancel(&self, sent: &Sent) {
        self.testee.call("cancel", json!({"of": sent.id}));
    }

    /// Whether it was held.
    #[track_caller]
    pub(crate) fn extend(&self, by: &str, hold: &str, options: Value) -> Value {
        self.testee.call("extend", json!({"by": by, "hold": hold, "options": options}))
    }

    /// The reply of the command, or the error that came of it. Of several locks, `name` chooses one.
    #[track_caller]
    pub(crate) fn guard(&self, by: &str, hold: &str, name: Option<&str>, command: Value) -> Value {
        let mut request = json!({"by": by, "hold": hold, "command": command});
        if let Some(name) = name {
            request["name"] = json!(name);
        }
        let reply = self.testee.call("guard", request);
        if reply["outcome"] == json!("error") {
            return json!({"error": reply["error"], "message": reply["message"]});
        }
        assert!(reply.get("reply").is_some(), "a reply was due: {reply}");
        reply["reply"].clone()
    }

    #[track_caller]
    pub(crate) fn release(&self, by: &str, hold: &str) -> Value {
        self.testee.call("release", json!({"by": by, "hold": hold}))
    }

    #[track_caller]
    pub(crate) fn assert_released(&self, by: &str, hold: &str) {
        let reply = self.release(by, hold);
        assert_eq!(reply["is"], json!(true), "release of {hold}: {reply}");
    }

    #[track_caller]
    pub(crate) fn state(&self, hold: &str) -> State {
        let reply = self.testee.call("state", json!({"hold": hold}));
        serde_json::from_value(reply.clone()).unwrap_or_else(|error| panic!("{error}: {reply}"))
    }

    /// The signal has fired once this time is over. Nobody asks before that: who is asked may notice by that alone.
    #[track_caller]
    pub(crate) fn wait_lost(&self, hold: &str, within: Duration) {
        std::thread::sleep(within);
        let state = self.state(hold);
        assert_eq!((state.held, state.lost), (false, 1), "{state:?}");
    }

    #[track_caller]
    pub(crate) fn close(self) {
        self.testee.call("close", json!({"client": self.name}));
    }
}

#[track_caller]
fn outcome(reply: &Value) -> Outcome {
    let text = |name: &str| reply[name].as_str().unwrap_or_default().to_owned();
    match reply["outcome"].as_str() {
        Some("held") => {
            Outcome::Held { fence: reply["fence"].as_u64().unwrap_or_default(), token: text("token") }
        }
        Some("none") => Outcome::NotAvailable,
        Some("cancelled") => Outcome::Cancelled,
        Some("error") => Outcome::Error(text("error"), text("message")),
        _ => panic!("an outcome was due: {reply}"),
    }
}
