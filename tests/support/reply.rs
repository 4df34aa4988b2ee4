//! What a server answered, with every difference the wire makes: the two nulls of RESP2, the order of a map.

use std::fmt;

/// One reply, of RESP2 or RESP3.
#[derive(Clone, PartialEq)]
pub(crate) enum Reply {
    /// `+OK`
    Simple(String),
    /// `-ERR ...`, without the dash; bytes that are no UTF-8 are replaced.
    Error(String),
    /// `:1`
    Int(i64),
    /// `$3`
    Bulk(Vec<u8>),
    /// `$-1`, RESP2
    NullBulk,
    /// `*-1`, RESP2
    NullArray,
    /// `_`, RESP3
    Null,
    /// `*2`
    Array(Vec<Reply>),
    /// `%2`, RESP3, in the order it came
    Map(Vec<(Reply, Reply)>),
    /// `~2`, RESP3
    Set(Vec<Reply>),
    /// `>2`, RESP3
    Push(Vec<Reply>),
    /// `#t`, RESP3
    Bool(bool),
    /// `,1.5`, RESP3
    Double(f64),
    /// `(123`, RESP3
    BigNumber(String),
    /// `=8` with its three-letter format, RESP3
    Verbatim(String, Vec<u8>),
}

impl Reply {
    /// Whether it is any of the nulls.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::NullBulk | Self::NullArray | Self::Null)
    }

    /// Whether it is an error.
    pub(crate) fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// The integer it must be.
    #[track_caller]
    pub(crate) fn int(&self) -> i64 {
        match self {
            Self::Int(value) => *value,
            other => panic!("an integer was due, got {other:?}"),
        }
    }

    /// The bytes of the string it must be.
    #[track_caller]
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bulk(bytes) | Self::Verbatim(_, bytes) => bytes.clone(),
            Self::Simple(text) => text.clone().into_bytes(),
            other => panic!("a string was due, got {other:?}"),
        }
    }

    /// The text of the string it must be.
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// The text of the error it must be.
    #[track_caller]
    pub(crate) fn error(&self) -> &str {
        match self {
            Self::Error(text) => text,
            other => panic!("an error was due, got {other:?}"),
        }
    }

    /// The elements of the array (or set, or push) it must be.
    #[track_caller]
    pub(crate) fn items(&self) -> &[Reply] {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => items,
            other => panic!("an array was due, got {other:?}"),
        }
    }

    /// The pairs of the map it must be; RESP2 sends a map as a flat array.
    #[track_caller]
    pub(crate) fn pairs(&self) -> Vec<(Reply, Reply)> {
        match self {
            Self::Map(pairs) => pairs.clone(),
            Self::Array(items) if items.len() % 2 == 0 => {
                items.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
            }
            other => panic!("a map was due, got {other:?}"),
        }
    }

    /// Reads the first reply of `wire` and says how many bytes it took; `None` while it is incomplete.
    pub(crate) fn from_wire(wire: &[u8]) -> Option<(Self, usize)> {
        let mut cursor = Cursor { rest: wire };
        let reply = cursor.reply()?;
        Some((reply, wire.len() - cursor.rest.len()))
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(text) => write!(out, "+{text:?}"),
            Self::Error(text) => write!(out, "-{text:?}"),
            Self::Int(value) => write!(out, "{value}"),
            Self::Bulk(bytes) => write!(out, "\"{}\"", bytes.escape_ascii()),
            Self::NullBulk => out.write_str("NullBulk"),
            Self::NullArray => out.write_str("NullArray"),
            Self::Null => out.write_str("Null"),
            Self::Array(items) => out.debug_list().entries(items).finish(),
            Self::Map(pairs) => {
                out.debug_map().entries(pairs.iter().map(|(key, value)| (key, value))).finish()
            }
            Self::Set(items) => out.debug_set().entries(items).finish(),
            Self::Push(items) => out.debug_tuple("Push").field(items).finish(),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Double(value) => write!(out, "{value}"),
            Self::BigNumber(digits) => write!(out, "({digits}"),
            Self::Verbatim(format, bytes) => write!(out, "{format}:\"{}\"", bytes.escape_ascii()),
        }
    }
}

/// Reads replies; `None` where the bytes end too early.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn reply(&mut self) -> Option<Reply> {
        let line = self.line()?;
        let (kind, line) = (line.chars().next()?, line.get(1..)?.to_owned());
        Some(match kind {
            '+' => Reply::Simple(line),
            '-' => Reply::Error(line),
            ':' => Reply::Int(line.parse().unwrap()),
            '$' if line == "-1" => Reply::NullBulk,
            '*' if line == "-1" => Reply::NullArray,
            '_' => Reply::Null,
            '$' => Reply::Bulk(self.blob(&line)?.to_vec()),
            '!' => Reply::Error(String::from_utf8_lossy(self.blob(&line)?).into_owned()),
            '=' => {
                let (format, text) = self.blob(&line)?.split_at(4);
                let format = String::from_utf8_lossy(&format[..3]).into_owned();
                Reply::Verbatim(format, text.to_vec())
            }
            '*' => Reply::Array(self.replies(&line)?),
            '~' => Reply::Set(self.replies(&line)?),
            '>' => Reply::Push(self.replies(&line)?),
            '%' => Reply::Map(self.pairs(&line)?),
            '#' => Reply::Bool(line == "t"),
            ',' => Reply::Double(line.parse().unwrap()),
            '(' => Reply::BigNumber(line),
            other => panic!("no reply starts with {other:?}"),
        })
    }

    fn replies(&mut self, count: &str) -> Option<Vec<Reply>> {
        let count: usize = count.parse().unwrap();
        (0..count).map(|_| self.reply()).collect()
    }

    fn pairs(&mut self, count: &str) -> Option<Vec<(Reply, Reply)>> {
        let count: usize = count.parse().unwrap();
        (0..count).map(|_| Some((self.reply()?, self.reply()?))).collect()
    }

    /// As many bytes as `length` says; the line end behind them is taken with them.
    fn blob(&mut self, length: &str) -> Option<&'a [u8]> {
        let blob = self.take(length.parse().unwrap())?;
        assert_eq!(self.take(2)?, b"\r\n", "a blob ends with its line");
        Some(blob)
    }

    fn line(&mut self) -> Option<String> {
        let end = self.rest.windows(2).position(|pair| pair == b"\r\n")?;
        let line = self.take(end)?;
        self.take(2)?;
        Some(String::from_utf8_lossy(line).into_owned())
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }
}
