//! Tokens: the bytes that prove ownership.

use alloc::boxed::Box;

/// The longest token a client may bring, in bytes.
pub const LONGEST_TOKEN: usize = 255;

/// Bytes of randomness in a token made by the server.
pub const SEED_LEN: usize = 16;

/// Length of the text of such a token: lower-case hex digits.
pub const SEED_TEXT_LEN: usize = SEED_LEN * 2;

/// A token of 1 to [`LONGEST_TOKEN`] opaque bytes.
///
/// Tokens in the form the server makes them, 32 lower-case hex digits, are kept as the 16 bytes they spell: most
/// locks in a database carry one. The form is canonical, so two tokens are equal exactly when their texts are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Token(Form);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Form {
    Seed([u8; SEED_LEN]),
    Text(Box<[u8]>),
}

impl Token {
    /// The token that the server makes of 16 random bytes.
    pub const fn from_seed(seed: [u8; SEED_LEN]) -> Self {
        Self(Form::Seed(seed))
    }

    /// The token with this text, or `None` when it is empty or too long.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > LONGEST_TOKEN {
            return None;
        }
        Some(match seed_of(text) {
            Some(seed) => Self(Form::Seed(seed)),
            None => Self(Form::Text(text.into())),
        })
    }

    /// The 16 bytes this token spells, when it has the form of a token made by the server.
    pub(crate) fn seed(&self) -> Option<&[u8; SEED_LEN]> {
        match &self.0 {
            Form::Seed(seed) => Some(seed),
            Form::Text(_) => None,
        }
    }

    /// The token as its holder knows it. `buffer` lends the space to spell it out.
    pub fn text<'a>(&'a self, buffer: &'a mut [u8; SEED_TEXT_LEN]) -> &'a [u8] {
        match &self.0 {
            Form::Seed(seed) => spell(seed, buffer),
            Form::Text(text) => text,
        }
    }

    /// Bytes allocated besides the token's own size.
    pub(crate) fn heap_size(&self) -> usize {
        match &self.0 {
            Form::Seed(_) => 0,
            Form::Text(text) => text.len(),
        }
    }
}

/// The bytes that 32 lower-case hex digits spell. Every command that names a token comes this way: it is worth a table.
fn seed_of(text: &[u8]) -> Option<[u8; SEED_LEN]> {
    let digits: &[u8; SEED_TEXT_LEN] = text.try_into().ok()?;
    let mut seed = [0; SEED_LEN];
    let mut strays = 0;
    for (byte, pair) in seed.iter_mut().zip(digits.as_chunks::<2>().0) {
        let [high, low] = pair.map(value_of);
        strays |= high | low;
        *byte = (high << 4) | (low & 0x0f);
    }
    (strays & NO_DIGIT == 0).then_some(seed)
}

/// Marks what is no digit: a bit that no digit's value has.
const NO_DIGIT: u8 = 0x80;

#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a byte is within 256"
)]
const fn value_of(digit: u8) -> u8 {
    const VALUES: [u8; 256] = {
        let mut values = [NO_DIGIT; 256];
        let mut value = 0;
        while value < 16 {
            values[b"0123456789abcdef"[value] as usize] = value as u8;
            value += 1;
        }
        values
    };
    VALUES[digit as usize]
}

/// Writes the lower-case hex digits of `seed` into `buffer`.
pub(crate) fn spell<'a>(seed: &[u8; SEED_LEN], buffer: &'a mut [u8; SEED_TEXT_LEN]) -> &'a [u8] {
    // The lengths are constants that fit each other, so this cannot fail.
    let spelled = hex::encode_to_slice(seed, buffer);
    debug_assert!(spelled.is_ok());
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(token: &Token) -> alloc::vec::Vec<u8> {
        token.text(&mut [0; SEED_TEXT_LEN]).to_vec()
    }

    #[test]
    fn every_text_comes_back_as_it_was() {
        let long = [b'x'; LONGEST_TOKEN];
        let texts: [&[u8]; 7] = [
            b"a",
            b"0123456789abcdef0123456789abcdef",
            b"0123456789ABCDEF0123456789ABCDEF",
            b"0123456789abcdef0123456789abcdeg",
            b"\0\r\n%s\xff",
            b"0123456789abcdef0123456789abcde",
            &long,
        ];
        for text in texts {
            assert_eq!(Token::from_text(text).map(|token| text_of(&token)), Some(text.to_vec()));
        }
    }

    #[test]
    fn a_made_token_and_its_text_are_the_same_token() {
        let made = Token::from_seed([0xab; SEED_LEN]);
        assert_eq!(text_of(&made), b"abababababababababababababababab");
        assert_eq!(Token::from_text(b"abababababababababababababababab"), Some(made.clone()));
        assert_ne!(Token::from_text(b"ABABABABABABABABABABABABABABABAB"), Some(made));
    }

    #[test]
    fn empty_and_overlong_texts_are_no_tokens() {
        assert_eq!(Token::from_text(b""), None);
        assert_eq!(Token::from_text(&[b'x'; LONGEST_TOKEN + 1]), None);
    }
}
