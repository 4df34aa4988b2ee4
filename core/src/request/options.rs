//! The options of the commands: their words, in any case, and each at most once.

use core::ffi::CStr;

use crate::refusal::Refusal;

/// The words of the options, for the parser, COMMAND DOCS and tests.
pub mod word {
    use core::ffi::CStr;

    /// A lease in milliseconds.
    pub const PX: &CStr = c"PX";
    /// A lease in seconds.
    pub const EX: &CStr = c"EX";
    /// The client's own token.
    pub const TOKEN: &CStr = c"TOKEN";
    /// Any number of holders.
    pub const SHARED: &CStr = c"SHARED";
    /// So many holders.
    pub const LIMIT: &CStr = c"LIMIT";
    /// How much the hold counts.
    pub const WEIGHT: &CStr = c"WEIGHT";
    /// Waiting, in milliseconds.
    pub const BLOCK: &CStr = c"BLOCK";
    /// A place in the queue without a connection, in milliseconds.
    pub const QUEUE: &CStr = c"QUEUE";
    /// A label.
    pub const OWNER: &CStr = c"OWNER";
    /// Tied to the connection.
    pub const SESSION: &CStr = c"SESSION";
    /// How long a session's hold stays once the connection has closed.
    pub const DELAY: &CStr = c"DELAY";
    /// How deep.
    pub const LEVEL: &CStr = c"LEVEL";
    /// Which hold.
    pub const FENCE: &CStr = c"FENCE";
    /// How many.
    pub const COUNT: &CStr = c"COUNT";
}

#[derive(Clone, Copy)]
pub(super) enum Unit {
    Milliseconds,
    Seconds,
}

#[derive(Clone, Copy)]
pub(super) enum Keyword {
    Lease(Unit),
    Token,
    Shared,
    Limit,
    Weight,
    Block,
    Queue,
    Owner,
    Session,
    Delay,
    Level,
    Fence,
    Count,
}

impl Keyword {
    /// The most common first.
    const ALL: [(&'static CStr, Self); 14] = [
        (word::PX, Self::Lease(Unit::Milliseconds)),
        (word::TOKEN, Self::Token),
        (word::BLOCK, Self::Block),
        (word::EX, Self::Lease(Unit::Seconds)),
        (word::QUEUE, Self::Queue),
        (word::OWNER, Self::Owner),
        (word::SHARED, Self::Shared),
        (word::LIMIT, Self::Limit),
        (word::WEIGHT, Self::Weight),
        (word::SESSION, Self::Session),
        (word::DELAY, Self::Delay),
        (word::LEVEL, Self::Level),
        (word::FENCE, Self::Fence),
        (word::COUNT, Self::Count),
    ];

    pub(super) fn of(text: &[u8]) -> Option<Self> {
        let named = |(word, _): &&(&CStr, Self)| is_word(word.to_bytes(), text);
        Self::ALL.iter().find(named).map(|(_, keyword)| *keyword)
    }
}

/// Whether a text is this word, which is in upper case, in any case.
fn is_word(word: &[u8], text: &[u8]) -> bool {
    word.len() == text.len() && word.iter().zip(text).all(|(upper, byte)| *upper == byte.to_ascii_uppercase())
}

pub(super) fn value<'a>(words: &mut impl Iterator<Item = &'a [u8]>) -> Result<&'a [u8], Refusal> {
    words.next().ok_or(Refusal::Syntax)
}

/// Stores the value of an option. An error if the option, or one that excludes it, has come before.
pub(super) fn once<T>(option: &mut Option<T>, value: T) -> Result<(), Refusal> {
    match option.replace(value) {
        None => Ok(()),
        Some(_) => Err(Refusal::Syntax),
    }
}
