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

/// The bytes that 32 lower-case hex digits spell. Every command that names a token comes this way, so eight digits are
/// read at once.
fn seed_of(text: &[u8]) -> Option<[u8; SEED_LEN]> {
    let digits: &[u8; SEED_TEXT_LEN] = text.try_into().ok()?;
    let mut seed = [0; SEED_LEN];
    for (bytes, digits) in seed.as_chunks_mut::<4>().0.iter_mut().zip(digits.as_chunks::<8>().0) {
        *bytes = four_bytes_of(u64::from_be_bytes(*digits))?.to_be_bytes();
    }
    Some(seed)
}

/// The four bytes that eight lower-case hex digits spell, if they are that. Each byte of a number here is one digit, and
/// nothing is carried from one to the next.
fn four_bytes_of(digits: u64) -> Option<u32> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const GAP: u64 = (b'a' - b'9' - 1) as u64;
    // The low half of a letter begins with 1 where its value begins with 10; bit 6 tells letters.
    let values = (digits & (ONES * 0x0f)).wrapping_add(((digits >> 6) & ONES).wrapping_mul(9));
    // What is no digit has too high a value, or comes out as another one when it is written again.
    let letters = (values.wrapping_add(ONES * 6) >> 4) & ONES;
    let again = values.wrapping_add(ONES.wrapping_mul(b'0' as u64)).wrapping_add(letters.wrapping_mul(GAP));
    if again != digits || values & (ONES * 0xf0) != 0 {
        return None;
    }
    let pairs = (values | (values >> 4)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | (pairs >> 8)) & 0x0000_ffff_0000_ffff;
    u32::try_from((fours | (fours >> 16)) & 0xffff_ffff).ok()
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
    fn only_lower_case_hex_digits_are_read_as_such() {
        for byte in 0..=u8::MAX {
            for place in [0, 7, 8, 31] {
                let mut text = *b"0123456789abcdef0123456789abcdef";
                text[place] = byte;
                let mut seed = [0; SEED_LEN];
                let is_hex = hex::decode_to_slice(text, &mut seed).is_ok() && !byte.is_ascii_uppercase();
                assert_eq!(seed_of(&text), is_hex.then_some(seed), "{byte} at {place}");
            }
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
