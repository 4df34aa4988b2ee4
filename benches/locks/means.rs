//! The ways to come by a lock that many want.

use crate::loads::{OK, ONE, TOKEN_LEN, granted};
use crate::pipe::Batch;

/// How a client comes by a lock that somebody holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    /// LOCK.ACQUIRE BLOCK and LOCK.RELEASE.
    Wait,
    /// SET NX PX, again after so many milliseconds if it was refused, and a script to unlock.
    Poll(u64),
}

impl Means {
    pub(crate) const ALL: [Self; 4] = [Self::Wait, Self::Poll(1), Self::Poll(10), Self::Poll(100)];

    pub(crate) fn name(self) -> String {
        match self {
            Self::Wait => "LOCK.ACQUIRE BLOCK".to_owned(),
            Self::Poll(ms) => format!("SET NX every {ms} ms"),
        }
    }

    /// The commands its clients send, as the server's statistics name them.
    pub(crate) fn commands(self) -> [&'static str; 2] {
        match self {
            Self::Wait => ["lock.acquire", "lock.release"],
            Self::Poll(_) => ["set", "evalsha"],
        }
    }

    pub(crate) fn ask(self, key: &str, token: &str) -> Batch {
        let mut batch = Batch::default();
        match self {
            Self::Wait => batch.push(
                &["LOCK.ACQUIRE", key, "PX", "30000", "TOKEN", token, "BLOCK", "60000"],
                &granted(TOKEN_LEN),
            ),
            Self::Poll(_) => batch.push(&["SET", key, token, "NX", "PX", "30000"], OK),
        }
        batch
    }

    pub(crate) fn give_back(self, key: &str, token: &str, script: &str) -> Batch {
        let mut batch = Batch::default();
        match self {
            Self::Wait => batch.push(&["LOCK.RELEASE", key, token], ONE),
            Self::Poll(_) => batch.push(&["EVALSHA", script, "1", key, token], ONE),
        }
        batch
    }
}
