//! What is asked for, and the commands that ask for it.

use crate::Error;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, Value, cmd};
use std::process::{self, Command};
use std::sync::OnceLock;
use std::time::Duration;
use std::{fs, io};
use tokio::time::Instant;

/// How long a place is kept: longer than it takes to come back after a broken connection.
pub(crate) const QUEUE: Duration = Duration::from_secs(15);

pub(crate) const TOO_SHORT: &str = "a lease is at least a millisecond";

#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) name: Vec<u8>,
    /// Made before anything is sent, so that a request whose reply was lost can be sent again.
    pub(crate) token: String,
    pub(crate) lease: Duration,
    /// Without end if there is none.
    pub(crate) wait: Option<Duration>,
    /// 0: shared.
    pub(crate) limit: u16,
    pub(crate) owner: Option<String>,
    pub(crate) level: u16,
    pub(crate) session: bool,
    pub(crate) replicas: u32,
    pub(crate) at_least: Duration,
    pub(crate) renew: bool,
}

impl Ask {
    pub(crate) fn new(name: Vec<u8>) -> Self {
        Self {
            name,
            token: format!("{:032x}", rand::random::<u128>()),
            lease: Duration::from_secs(30),
            wait: None,
            limit: 1,
            owner: None,
            level: 1,
            session: false,
            replicas: 0,
            at_least: Duration::ZERO,
            renew: true,
        }
    }

    pub(crate) fn check(&self, several_servers: bool) -> Result<(), Error> {
        Err(Error::Invalid(if self.lease < Duration::from_millis(1) {
            TOO_SHORT
        } else if self.level == 0 {
            "the outermost level is 1"
        } else if self.session && !self.at_least.is_zero() {
            "a session ends with its connection, so it cannot have `at_least`"
        } else if several_servers && (self.session || self.replicas > 0) {
            "with several servers there are neither sessions nor replicas"
        } else {
            return Ok(());
        }))
    }

    pub(crate) fn acquire(&self, lease: Duration) -> Cmd {
        let mut command = cmd("LOCK.ACQUIRE");
        command.arg(&self.name).arg("PX").arg(ms(lease)).arg("TOKEN").arg(&self.token);
        match (self.level, self.limit) {
            (1, 0) => command.arg("SHARED"),
            (1, limit) => command.arg("LIMIT").arg(limit),
            // Limit and label stay those of the outer level.
            (level, _) => command.arg("LEVEL").arg(level),
        };
        if self.level == 1 {
            command.arg("OWNER").arg(self.owner.as_deref().unwrap_or(this_process()));
        }
        if self.session {
            command.arg("SESSION");
        }
        command
    }

    pub(crate) fn extend(&self, lease: Duration) -> Cmd {
        cmd("LOCK.EXTEND").arg(&self.name).arg(&self.token).arg("PX").arg(ms(lease)).clone()
    }

    /// What keeps the lease of this level: an inner one must not make it shorter, and LOCK.ACQUIRE with LEVEL does not.
    pub(crate) fn renew(&self, lease: Duration) -> Cmd {
        if self.level > 1 { self.acquire(lease) } else { self.extend(lease) }
    }

    /// With `keep_until` the lease ends then, and not at once.
    pub(crate) fn give_back(&self, keep_until: Option<Instant>) -> Cmd {
        let rest = keep_until.map_or(Duration::ZERO, |until| until - Instant::now());
        if !rest.is_zero() {
            return self.extend(rest);
        }
        let mut command = cmd("LOCK.RELEASE");
        command.arg(&self.name).arg(&self.token);
        if self.level > 1 {
            command.arg("LEVEL").arg(self.level);
        }
        command
    }
}

/// A reply to any of these commands.
#[derive(Clone, Copy)]
pub(crate) enum Reply {
    Granted {
        fence: u64,
    },
    /// A ticket, where a lock was asked for; else 1 for yes.
    Number(u64),
    Nil,
}

impl Reply {
    pub(crate) fn is_yes(self) -> bool {
        matches!(self, Self::Granted { .. } | Self::Number(1))
    }
}

impl TryFrom<Value> for Reply {
    type Error = RedisError;

    fn try_from(reply: Value) -> RedisResult<Self> {
        let unsigned = |number: i64| u64::try_from(number).unwrap_or_default();
        match (&reply, reply.as_sequence()) {
            (Value::Nil, _) => Ok(Self::Nil),
            (Value::Int(number), _) => Ok(Self::Number(unsigned(*number))),
            (_, Some([_, Value::Int(fence)])) => Ok(Self::Granted { fence: unsigned(*fence) }),
            _ => Err((ErrorKind::UnexpectedReturnType, "this is no reply to a command of locks").into()),
        }
    }
}

/// As the server takes it. At least 1, since `BLOCK 0` waits without end.
pub(crate) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn this_process() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let asked = |_| {
            let said = Command::new("hostname").output()?.stdout;
            Ok::<_, io::Error>(String::from_utf8_lossy(&said).into_owned())
        };
        let host = fs::read_to_string("/proc/sys/kernel/hostname").or_else(asked).unwrap_or_default();
        format!("{}:{}", host.trim(), process::id())
    })
}
