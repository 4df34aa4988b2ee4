//! Text that is safe to write to the server's log.

use std::fmt::Write as _;

/// The most bytes of a name that are shown.
const LONGEST_SHOWN: usize = 64;

/// A name that an operator gave, such as the name of a user, made safe for a log line: characters that are not
/// printable ASCII are escaped, and a long name is cut.
pub(crate) fn printable(name: &[u8]) -> String {
    let mut text = String::new();
    for byte in name.iter().take(LONGEST_SHOWN) {
        match byte {
            b'!'..=b'~' if *byte != b'\\' => text.push(char::from(*byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    if name.len() > LONGEST_SHOWN {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_breaks_a_line() {
        assert_eq!(printable(b"default"), "default");
        assert_eq!(printable(b"a b\r\n%s\\\0\xff"), "a\\x20b\\x0d\\x0a%s\\x5c\\x00\\xff");
        assert_eq!(printable(&[b'x'; 65]), format!("{}...", "x".repeat(64)));
    }
}
