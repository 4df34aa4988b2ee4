//! What a server tells its replicas and its append-only file, and what it replies, in words. What no two runs share has a
//! sign: see [`Wording`].
#![allow(dead_code)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

use lock_core::token::LONGEST_SPELLED;
use lock_core::{Hold, Limit, Moment, codec};

use crate::support::Reply;
use crate::support::stream::Said;

/// The longest word that is shown.
const LONG_WORD: usize = 60;

/// What signs stand for: `#1` is the first fence that came up, `*1` the first token that the server made, `$1` the first
/// payload that DUMP gave, `@1` the first time of day.
#[derive(Default)]
pub(crate) struct Wording {
    fences: Vec<i64>,
    tokens: Vec<String>,
    payloads: Vec<Vec<u8>>,
    times: Vec<i64>,
}

impl Wording {
    /// What a sign stands for; `None` if the word is none.
    pub(crate) fn real(&self, word: &str) -> Option<Vec<u8>> {
        let (sign, number) = word.split_at_checked(1)?;
        let at = number.parse::<usize>().ok()?.checked_sub(1)?;
        match sign {
            "#" => Some(self.fences[at].to_string().into_bytes()),
            "*" => Some(self.tokens[at].clone().into_bytes()),
            "$" => Some(self.payloads[at].clone()),
            _ => None,
        }
    }

    #[track_caller]
    fn fence(&mut self, fence: i64) -> String {
        let at = self.fences.iter().position(|known| *known == fence).unwrap_or_else(|| {
            assert!(self.fences.iter().all(|known| *known < fence), "{fence} after {:?}", self.fences);
            self.fences.push(fence);
            self.fences.len() - 1
        });
        format!("#{}", at + 1)
    }

    /// A word of a command or a reply, with the sign for what no two runs share.
    fn word(&mut self, word: &[u8]) -> String {
        let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if word.len() == 32 && word.iter().all(is_hex) {
            let text = String::from_utf8(word.to_vec()).unwrap();
            return format!("*{}", number(&mut self.tokens, text));
        }
        if let Some(at) = self.payloads.iter().position(|payload| payload == word) {
            return format!("${}", at + 1);
        }
        match std::str::from_utf8(word).ok().and_then(|text| text.parse().ok()) {
            Some(fence @ 1_000_000_000_000_000..) => self.fence(fence),
            Some(time @ 1_000_000_000_000..) => format!("@{}", number(&mut self.times, time)),
            _ if word.is_empty() => "\"\"".to_owned(),
            _ if word.len() > LONG_WORD => "...".to_owned(),
            _ => word.escape_ascii().to_string(),
        }
    }

    /// A reply in words.
    #[track_caller]
    pub(crate) fn replied(&mut self, reply: &Reply) -> String {
        match reply {
            Reply::Int(number) => self.word(number.to_string().as_bytes()),
            Reply::Simple(text) => text.clone(),
            Reply::Error(text) => format!("-{}", text.split(' ').next().unwrap()),
            Reply::NullArray | Reply::NullBulk => "null".to_owned(),
            Reply::Array(parts) => match &parts[..] {
                [Reply::Bulk(token), Reply::Int(fence @ 1_000_000_000_000_000..)] => {
                    format!("{} {}", self.word(token), self.fence(*fence))
                }
                parts => {
                    let words: Vec<String> = parts.iter().map(|part| self.replied(part)).collect();
                    format!("[{}]", words.join(", "))
                }
            },
            Reply::Bulk(bytes) if !bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) => {
                format!("${}", number(&mut self.payloads, bytes.clone()))
            }
            Reply::Bulk(bytes) => self.word(bytes),
            other => format!("{other:?}"),
        }
    }

    /// A command that was told in words. A hold is `[token #fence lease]`, and behind that what is not the rule: `LIMIT n`
    /// or `SHARED`, `WEIGHT n`, `LEVEL n`, `OWNER label`. Of a lease with `~` in front a part has passed.
    #[track_caller]
    pub(crate) fn told(&mut self, said: &Said) -> String {
        let command = &said.command;
        let mut words: Vec<String> = vec![command[0].escape_ascii().to_string()];
        match (&command[0][..], command.len()) {
            (b"LOCK.ACQUIRE", 3) => {
                words.push(self.word(&command[1]));
                let holds = codec::decode(&command[2], Moment::from_micros(0));
                let holds = holds.expect("holds, as the codec writes them").holds;
                words.extend(holds.iter().map(|hold| self.hold(hold)));
            }
            _ => words.extend(command[1..].iter().map(|word| self.word(word))),
        }
        if said.database != 0 && !["MULTI", "EXEC"].contains(&words[0].as_str()) {
            words.insert(0, said.database.to_string());
        }
        words.join(" ")
    }

    fn hold(&mut self, hold: &Hold) -> String {
        let token = self.word(hold.token_text(&mut [0; LONGEST_SPELLED]));
        let fence = self.fence(hold.fence().get().cast_signed());
        let start = Moment::from_micros(0);
        let is_whole = start.ms_until(hold.deadline()) == hold.lease_ms();
        let mut words = vec![token, fence, format!("{}{}", if is_whole { "" } else { "~" }, hold.lease_ms())];
        match hold.limit() {
            Limit::EXCLUSIVE => {}
            limit if limit.number() == 0 => words.push("SHARED".to_owned()),
            limit => words.push(format!("LIMIT {}", limit.number())),
        }
        if hold.share().weight != 1 {
            words.push(format!("WEIGHT {}", hold.share().weight));
        }
        if hold.level() != 1 {
            words.push(format!("LEVEL {}", hold.level()));
        }
        if let Some(owner) = hold.owner() {
            words.push(format!("OWNER {}", self.word(owner)));
        }
        format!("[{}]", words.join(" "))
    }
}

/// The number, from 1, of what is known or comes to be.
fn number<T: PartialEq>(known: &mut Vec<T>, new: T) -> usize {
    let at = known.iter().position(|old| *old == new);
    at.unwrap_or_else(|| {
        known.push(new);
        known.len() - 1
    }) + 1
}
