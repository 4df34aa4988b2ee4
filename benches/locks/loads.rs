//! The work that is compared: taking and giving back locks in the ways there are.

use crate::pipe::{Batch, Pipe};
use crate::support::{Client, Reply};

/// Pairs of acquire and release in one pass over a load.
pub(crate) const PAIRS: usize = 500;

/// What libraries unlock with: delete the key if it still holds the caller's token.
pub(crate) const UNLOCK_SCRIPT: &str =
    "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end";

/// Length of the tokens of loads, in hex digits.
pub(crate) const TOKEN_LEN: usize = 32;

pub(crate) const OK: &str = "+OK\r\n";
pub(crate) const ONE: &str = ":1\r\n";

/// How a lock is taken and given back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `SET key token NX PX ms` and a script that deletes the key if it holds the token: what libraries do.
    SetAndScript,
    /// `SET key token NX PX ms` and `DEL key`: deletes anybody's lock, and is the least it can cost without a module.
    SetAndDel,
    /// LOCK.ACQUIRE and LOCK.RELEASE.
    Lock,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::SetAndScript, Self::SetAndDel, Self::Lock];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SetAndScript => "`SET NX PX` + `EVALSHA`",
            Self::SetAndDel => "`SET NX PX` + `DEL`",
            Self::Lock => "`LOCK.ACQUIRE` + `LOCK.RELEASE`",
        }
    }
}

/// In which order the commands of the pairs go over the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// All acquires, their replies, all releases: the server makes the tokens of the locks, and the client reads them.
    TwoPhases,
    /// Every release right behind its acquire in one batch: the client brings the token.
    Interleaved,
}

impl Order {
    pub(crate) const ALL: [Self; 2] = [Self::TwoPhases, Self::Interleaved];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TwoPhases => "server's token, two phases",
            Self::Interleaved => "client's token, interleaved",
        }
    }
}

/// One pass: as a rule [`PAIRS`] pairs over as many keys, which it leaves free.
pub(crate) struct Load {
    /// How many pairs, or whatever else is counted.
    count: usize,
    first: Batch,
    second: Batch,
    /// Tokens to carry over before the second batch is sent: from where in the first's replies, to where in it.
    tokens: Vec<(usize, usize)>,
}

impl Load {
    pub(crate) fn new(client: &mut Client, way: Way, order: Order) -> Self {
        let script = client.call(&["SCRIPT", "LOAD", UNLOCK_SCRIPT]).text();
        let mut load = Self::of(Batch::default(), PAIRS);
        for number in 0..PAIRS {
            load.add_pair(way, order, &script, &format!("lock:{number:07}"), &token(number));
        }
        load
    }

    /// One PING for every pair: what it costs to read a command and to answer.
    pub(crate) fn ping() -> Self {
        let mut first = Batch::default();
        for _ in 0..PAIRS {
            first.push(&["PING"], "+PONG\r\n");
        }
        Self::of(first, PAIRS)
    }

    /// A batch that does something so many times.
    pub(crate) fn of(first: Batch, count: usize) -> Self {
        Self { count, first, second: Batch::default(), tokens: Vec::new() }
    }

    /// How many pairs it has, or whatever else is counted.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    fn add_pair(&mut self, way: Way, order: Order, script: &str, key: &str, token: &str) {
        let granted = granted(TOKEN_LEN);
        let reply_start = self.first.replies_len();
        match (way, order) {
            (Way::Lock, Order::TwoPhases) => self.first.push(&["LOCK.ACQUIRE", key, "PX", "30000"], &granted),
            (Way::Lock, Order::Interleaved) => {
                self.first.push(&["LOCK.ACQUIRE", key, "PX", "30000", "TOKEN", token], &granted);
            }
            _ => self.first.push(&["SET", key, token, "NX", "PX", "30000"], OK),
        }
        let releases = if order == Order::TwoPhases { &mut self.second } else { &mut self.first };
        match way {
            Way::SetAndScript => releases.push(&["EVALSHA", script, "1", key, token], ONE),
            Way::SetAndDel => releases.push(&["DEL", key], ONE),
            Way::Lock => releases.push(&["LOCK.RELEASE", key, token], ONE),
        }
        if way == Way::Lock && order == Order::TwoPhases {
            let from = reply_start + granted.find('?').unwrap();
            let to = releases.wire_len() - "\r\n".len() - TOKEN_LEN;
            self.tokens.push((from, to));
        }
    }

    /// Goes through the pairs once.
    pub(crate) fn run(&mut self, pipe: &mut Pipe) {
        let replies = pipe.exchange(&self.first);
        for &(from, to) in &self.tokens {
            self.second.patch(to, &replies[from..from + TOKEN_LEN]);
        }
        if self.second.wire_len() > 0 {
            pipe.exchange(&self.second);
        }
    }
}

/// What LOCK.CHECK of this token is answered with now, `?` standing for any byte: two or three numbers, depending on the
/// module's version.
pub(crate) fn checked(client: &mut Client, key: &str, token: &str) -> String {
    let parts = client.call(&["LOCK.CHECK", key, token]);
    let number = |part: &Reply| format!(":{}\r\n", "?".repeat(part.int().to_string().len()));
    let numbers: String = parts.items().iter().map(number).collect();
    format!("*{}\r\n{numbers}", parts.items().len())
}

/// What a granted LOCK.ACQUIRE is answered with: a token of this length and a fence, `?` standing for any byte.
pub(crate) fn granted(token_len: usize) -> String {
    const FENCE_DIGITS: usize = 16;
    format!("*2\r\n${token_len}\r\n{}\r\n:{}\r\n", "?".repeat(token_len), "?".repeat(FENCE_DIGITS))
}

/// A token of 32 hex digits, another one for each number.
pub(crate) fn token(number: usize) -> String {
    let number = u128::try_from(number).unwrap() + 1;
    format!("{:032x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835))
}

/// The same as the text of a UUID, 36 characters.
pub(crate) fn uuid(number: usize) -> String {
    let digits = token(number);
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}
