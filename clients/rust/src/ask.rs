//! What is asked for, and the commands that ask for it.

use crate::Error;
use crate::remote::Remote;
use redis::{Arg, Cmd, ErrorKind, RedisError, RedisResult, Value, cmd};
use std::process::{self, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, io};
use tokio::time::Instant;

/// How long a place is kept: longer than it takes to come back after a broken connection.
pub(crate) const QUEUE: Duration = Duration::from_secs(15);

/// What the server takes together.
const MOST_NAMES: usize = 256;

pub(crate) const TOO_SHORT: &str = "a lease is at least a millisecond";

#[derive(Clone)]
pub(crate) struct Ask {
    /// Without repeats. The lock is called by the first.
    pub(crate) names: Vec<Vec<u8>>,
    /// Of several locks together, by the commands for that, also if there is one name.
    pub(crate) several: bool,
    /// Made before anything is sent, so that a request whose reply was lost can be sent again.
    pub(crate) token: String,
    pub(crate) lease: Duration,
    /// Without end if there is none.
    pub(crate) wait: Option<Duration>,
    /// Shared if there is none.
    pub(crate) limit: Option<u16>,
    /// 1 if there is none.
    pub(crate) weight: Option<u16>,
    pub(crate) owner: String,
    pub(crate) level: u16,
    pub(crate) session: bool,
    pub(crate) delay: Duration,
    pub(crate) replicas: u32,
    pub(crate) at_least: Duration,
    pub(crate) renew: bool,
}

impl Ask {
    pub(crate) fn new(all: impl IntoIterator<Item = Vec<u8>>, several: bool) -> Self {
        let mut names = Vec::new();
        for name in all {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Self {
            names,
            several,
            token: format!("{:032x}", rand::random::<u128>()),
            lease: Duration::from_secs(30),
            wait: None,
            limit: Some(1),
            weight: None,
            owner: new_owner(),
            level: 1,
            session: false,
            delay: Duration::ZERO,
            replicas: 0,
            at_least: Duration::ZERO,
            renew: true,
        }
    }

    pub(crate) fn check(&self, remote: &Remote) -> Result<(), Error> {
        let most = self.limit.unwrap_or(u16::MAX);
        Err(Error::Invalid(if !(1..=MOST_NAMES).contains(&self.names.len()) {
            "one lock or more are acquired together, and at most 256"
        } else if self.lease < Duration::from_millis(1) {
            TOO_SHORT
        } else if self.level == 0 {
            "the outermost level is 1"
        } else if self.level > 1 && self.session {
            "a level that was handed on has no session: it would tie the whole hold to its own connection"
        } else if self.limit == Some(0) {
            "a limit is at least 1"
        } else if self.session && !self.at_least.is_zero() {
            "a session ends with its connection, so it cannot have `at_least`"
        } else if !self.delay.is_zero() && !self.session {
            "only a session has a delay"
        } else if self.weight.is_some_and(|weight| weight == 0 || weight > most) {
            "a weight is between 1 and the limit, or of those that share 65535"
        } else if remote.is_several() && (self.session || self.replicas > 0 || self.several) {
            "with several servers there are neither sessions nor replicas, nor several locks together"
        } else if !remote.has_in_one_slot(&self.names) {
            "the locks are in different slots of the cluster: put the same {tag} in all names"
        } else {
            return Ok(());
        }))
    }

    /// What the lock is called by.
    pub(crate) fn name(&self) -> &[u8] {
        self.names.first().map_or(&[], Vec::as_slice)
    }

    /// The same for one of the names.
    pub(crate) fn of(&self, name: &[u8]) -> Self {
        Self { names: vec![name.to_vec()], several: false, ..self.clone() }
    }

    /// The beginning of a command about the lock, or about several.
    fn command(&self, one: &str, several: &str) -> Cmd {
        if self.several {
            cmd(several).arg(self.names.len()).arg(&self.names).clone()
        } else {
            cmd(one).arg(self.name()).clone()
        }
    }

    pub(crate) fn acquire(&self, lease: Duration) -> Cmd {
        let mut command = self.command("LOCK.ACQUIRE", "LOCK.MACQUIRE");
        command.arg("PX").arg(ms(lease)).arg("TOKEN").arg(&self.token);
        match (self.level, self.limit) {
            (1, None) => command.arg("SHARED"),
            (1, Some(limit)) => command.arg("LIMIT").arg(limit),
            // Limit, weight and label stay those of the outer level.
            (level, _) => command.arg("LEVEL").arg(level),
        };
        if self.level == 1 {
            if let Some(weight) = self.weight {
                command.arg("WEIGHT").arg(weight);
            }
            command.arg("OWNER").arg(&self.owner);
        }
        if self.session {
            command.arg("SESSION");
            if !self.delay.is_zero() {
                command.arg("DELAY").arg(ms(self.delay));
            }
        }
        command
    }

    pub(crate) fn extend(&self, lease: Duration) -> Cmd {
        let mut command = self.command("LOCK.EXTEND", "LOCK.MEXTEND");
        command.arg(&self.token).arg("PX").arg(ms(lease));
        command
    }

    /// What keeps the lease of this level: an inner one must not make it shorter, and LOCK.ACQUIRE with LEVEL does not.
    pub(crate) fn renew(&self, lease: Duration) -> Cmd {
        if self.level > 1 { self.acquire(lease) } else { self.extend(lease) }
    }

    /// With `keep_until` the lease ends then, and not at once. Not for a level of several, which is given back one by one.
    pub(crate) fn give_back(&self, keep_until: Option<Instant>) -> Cmd {
        let rest = keep_until.map_or(Duration::ZERO, |until| until - Instant::now());
        if !rest.is_zero() {
            return self.extend(rest);
        }
        let mut command = self.command("LOCK.RELEASE", "LOCK.MRELEASE");
        command.arg(&self.token);
        if self.level > 1 {
            command.arg("LEVEL").arg(self.level);
        }
        command
    }

    /// This command, if the token holds the lock of this name.
    pub(crate) fn guard(&self, name: &[u8], guarded: &Cmd) -> Cmd {
        let mut command = cmd("LOCK.GUARD");
        command.arg(name).arg(&self.token);
        for word in guarded.args_iter() {
            match word {
                Arg::Simple(word) => command.arg(word),
                // A cursor, which begins at the beginning.
                _ => command.arg(0),
            };
        }
        command
    }

    /// Whether this says that the lock is held, or was, or all of several.
    pub(crate) fn is_yes(&self, reply: Reply) -> bool {
        match reply {
            Reply::Granted { .. } => true,
            Reply::Number(count) => usize::try_from(count).is_ok_and(|count| count == self.names.len()),
            Reply::Nil => false,
        }
    }
}

/// A reply to any of these commands.
#[derive(Clone, Copy)]
pub(crate) enum Reply {
    Granted {
        fence: u64,
    },
    /// A ticket, where a lock was asked for; else of how many it is true.
    Number(u64),
    Nil,
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

/// A label of its own for each acquire: the server takes who has the same label for one worker, who waits for himself where he
/// waits for what he holds. Nothing tells one task from another.
fn new_owner() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("{}:{}", this_process(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn this_process() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let asked = |_| {
            let said = Command::new("hostname").output()?.stdout;
            Ok::<_, io::Error>(String::from_utf8_lossy(&said).into_owned())
        };
        let host = fs::read_to_string("/proc/sys/kernel/hostname").or_else(asked).unwrap_or_default();
        // A label is at most 255 bytes.
        let host: String = host.trim().chars().filter(char::is_ascii).take(200).collect();
        format!("{host}:{}", process::id())
    })
}
