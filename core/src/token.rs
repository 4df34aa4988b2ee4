//! Tokens: the bytes that prove ownership.

use alloc::boxed::Box;

/// The longest token a client may bring, in bytes.
pub const LONGEST_TOKEN: usize = 255;

/// Bytes of randomness in a token made by the server.
pub const SEED_LEN: usize = 16;

/// Length of the text of such a token: lower-case hex digits.
const HEX_TEXT_LEN: usize = SEED_LEN * 2;

/// Length of the text of a UUID: as many digits, and four dashes.
const UUID_TEXT_LEN: usize = HEX_TEXT_LEN + 4;

/// Length of the longest text of a token that is stored as 16 bytes.
pub const LONGEST_SPELLED: usize = UUID_TEXT_LEN;

/// A token of 1 to [`LONGEST_TOKEN`] opaque bytes.
///
/// A token in one of the two common forms is stored as the 16 bytes that it spells, see [`Packed`]. Each form is
/// canonical, and a text has one form at most. So two tokens are equal exactly if their texts are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Token(Form);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Form {
    Packed(Packed),
    Text(Box<[u8]>),
}

/// A token in one of the two common forms, as the 16 bytes that it spells.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Packed {
    /// 32 lower-case hex digits. The server makes such tokens.
    Hex(Spelled),
    /// A UUID as RFC 9562 writes it: lower-case hex digits in groups of 8, 4, 4, 4 and 12, with dashes between them.
    /// Many clients make such tokens.
    Uuid(Spelled),
}

/// The 16 bytes that a token spells. They are aligned so that a token is moved in three words, and not byte by byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
#[repr(align(8))]
pub(crate) struct Spelled(pub(crate) [u8; SEED_LEN]);

/// A borrowed token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TokenRef<'a> {
    Packed(Packed),
    /// A text that has neither of the common forms.
    Text(&'a [u8]),
}

impl Token {
    /// The token that the server makes from 16 random bytes.
    pub const fn from_seed(seed: [u8; SEED_LEN]) -> Self {
        Self(Form::Packed(Packed::Hex(Spelled(seed))))
    }

    /// The token with this text, or `None` if the text is empty or too long.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > LONGEST_TOKEN {
            return None;
        }
        Some(Self(match Packed::from_text(text) {
            Some(packed) => Form::Packed(packed),
            None => Form::Text(text.into()),
        }))
    }

    /// Borrows the token.
    pub(crate) fn lend(&self) -> TokenRef<'_> {
        match &self.0 {
            Form::Packed(packed) => TokenRef::Packed(*packed),
            Form::Text(text) => TokenRef::Text(text),
        }
    }

    /// Whether it has one of the common forms.
    pub(crate) fn is_packed(&self) -> bool {
        matches!(self.0, Form::Packed(_))
    }

    /// The text of the token. `buffer` is the space for it.
    pub fn text<'a>(&'a self, buffer: &'a mut [u8; LONGEST_SPELLED]) -> &'a [u8] {
        self.lend().text(buffer)
    }

    /// Bytes allocated besides the token's own size.
    pub(crate) fn heap_size(&self) -> usize {
        match &self.0 {
            Form::Packed(_) => 0,
            Form::Text(text) => text.len(),
        }
    }
}

impl From<Packed> for Token {
    fn from(packed: Packed) -> Self {
        Self(Form::Packed(packed))
    }
}

impl From<TokenRef<'_>> for Token {
    fn from(token: TokenRef<'_>) -> Self {
        Self(match token {
            TokenRef::Packed(packed) => Form::Packed(packed),
            TokenRef::Text(text) => Form::Text(text.into()),
        })
    }
}

impl<'a> TokenRef<'a> {
    /// As [`Token::text`].
    pub(crate) fn text(self, buffer: &'a mut [u8; LONGEST_SPELLED]) -> &'a [u8] {
        match self {
            Self::Packed(packed) => packed.text(buffer),
            Self::Text(text) => text,
        }
    }
}

impl Packed {
    /// The bytes that a text spells, if it has one of the common forms.
    fn from_text(text: &[u8]) -> Option<Self> {
        match text.len() {
            HEX_TEXT_LEN => hex_of(text).map(|bytes| Self::Hex(Spelled(bytes))),
            UUID_TEXT_LEN => uuid_of(text).map(|bytes| Self::Uuid(Spelled(bytes))),
            _ => None,
        }
    }

    /// The text, written into `buffer`.
    pub(crate) fn text(self, buffer: &mut [u8; LONGEST_SPELLED]) -> &[u8] {
        match self {
            Self::Hex(Spelled(bytes)) => {
                let (text, _) = buffer.split_at_mut(HEX_TEXT_LEN);
                text.copy_from_slice(&digits_of(bytes));
                text
            }
            Self::Uuid(Spelled(bytes)) => {
                let digits = digits_of(bytes);
                let mut digits = digits.as_slice();
                let mut place = buffer.as_mut_slice();
                for (group, len) in UUID_GROUPS.into_iter().enumerate() {
                    if group > 0
                        && let Some(dash) = place.split_off_first_mut()
                    {
                        *dash = b'-';
                    }
                    if let (Some(to), Some(from)) = (place.split_off_mut(..len), digits.split_off(..len)) {
                        to.copy_from_slice(from);
                    }
                }
                buffer
            }
        }
    }
}

/// The number of digits between the dashes of a UUID.
const UUID_GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

/// The bytes that 32 lower-case hex digits spell.
fn hex_of(text: &[u8]) -> Option<[u8; SEED_LEN]> {
    bytes_of(text.try_into().ok()?)
}

/// The bytes that a UUID spells: its digits without the dashes.
fn uuid_of(mut text: &[u8]) -> Option<[u8; SEED_LEN]> {
    let mut digits = [0; HEX_TEXT_LEN];
    let mut place = digits.as_mut_slice();
    for (group, len) in UUID_GROUPS.into_iter().enumerate() {
        if group > 0 {
            text = text.strip_prefix(b"-")?;
        }
        place.split_off_mut(..len)?.copy_from_slice(text.split_off(..len)?);
    }
    bytes_of(&digits)
}

// Every command with a token and every grant calls the two functions below. They have no branches and no lookups, so
// the compiler makes them work on sixteen digits at once.

/// The bytes that 32 lower-case hex digits spell.
fn bytes_of(digits: &[u8; HEX_TEXT_LEN]) -> Option<[u8; SEED_LEN]> {
    // Bit 6 is set in letters only. The low half of a letter is 9 less than its value as a digit.
    let values = digits.map(|digit| (digit & 0x0f).wrapping_add((digit >> 6 & 1).wrapping_mul(9)));
    // A byte that is no digit has too high a value, or becomes another byte when it is written again.
    let highest = values.iter().fold(0, |highest, value| highest | value);
    if highest > 0x0f || values.map(digit_of) != *digits {
        return None;
    }
    let (pairs, _) = values.as_chunks();
    let mut bytes = [0; SEED_LEN];
    bytes.iter_mut().zip(pairs).for_each(|(byte, [high, low])| *byte = high << 4 | low);
    Some(bytes)
}

/// The 32 lower-case hex digits that spell bytes.
fn digits_of(bytes: [u8; SEED_LEN]) -> [u8; HEX_TEXT_LEN] {
    let mut digits = [0; HEX_TEXT_LEN];
    let (pairs, _) = digits.as_chunks_mut();
    pairs.iter_mut().zip(bytes).for_each(|(pair, byte)| *pair = [digit_of(byte >> 4), digit_of(byte & 0x0f)]);
    digits
}

/// The digit with this value, 0 to 15.
fn digit_of(value: u8) -> u8 {
    const GAP: u8 = b'a' - b'9' - 1;
    let is_letter = u8::from(value > 9);
    value.wrapping_add(b'0').wrapping_add(is_letter.wrapping_mul(GAP))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &[u8; UUID_TEXT_LEN] = b"01234567-89ab-cdef-0123-456789abcdef";

    fn text_of(token: &Token) -> alloc::vec::Vec<u8> {
        token.text(&mut [0; LONGEST_SPELLED]).to_vec()
    }

    fn is_packed(text: &[u8]) -> bool {
        Token::from_text(text).is_some_and(|token| token.heap_size() == 0)
    }

    #[test]
    fn every_text_comes_back_as_it_was() {
        let long = [b'x'; LONGEST_TOKEN];
        let texts: [&[u8]; 12] = [
            b"a",
            b"0123456789abcdef0123456789abcdef",
            b"0123456789ABCDEF0123456789ABCDEF",
            b"0123456789abcdef0123456789abcdeg",
            b"\0\r\n%s\xff",
            b"0123456789abcdef0123456789abcde",
            UUID,
            b"01234567-89AB-CDEF-0123-456789ABCDEF",
            b"0123456789ab-cdef-0123-4567-89abcdef",
            b"0123456789abcdef0123456789abcdef0123",
            b"01234567-89ab-cdef-0123-456789abcde-",
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
                let mut bytes = [0; SEED_LEN];
                let is_hex = hex::decode_to_slice(text, &mut bytes).is_ok() && !byte.is_ascii_uppercase();
                assert_eq!(hex_of(&text), is_hex.then_some(bytes), "{byte} at {place}");
            }
        }
    }

    #[test]
    fn only_lower_case_uuids_with_dashes_in_their_places_are_read_as_such() {
        assert_eq!(uuid_of(UUID), hex_of(b"0123456789abcdef0123456789abcdef"));
        for byte in 0..=u8::MAX {
            for place in 0..UUID_TEXT_LEN {
                let mut text = *UUID;
                text[place] = byte;
                let is_digit = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                let is_uuid = if UUID[place] == b'-' { byte == b'-' } else { is_digit };
                assert_eq!(uuid_of(&text).is_some(), is_uuid, "{byte} at {place}");
                assert_eq!(is_packed(&text), is_uuid, "{byte} at {place}");
                assert_eq!(Token::from_text(&text).map(|token| text_of(&token)), Some(text.to_vec()));
            }
        }
        assert!(!is_packed(&UUID[..35]));
        assert!(!is_packed(b"01234567-89ab-cdef-0123-456789abcdef0"));
    }

    #[test]
    fn the_same_bytes_in_two_forms_are_two_tokens() {
        let (hex, uuid) =
            (Token::from_seed([7; SEED_LEN]), Token::from(Packed::Uuid(Spelled([7; SEED_LEN]))));
        assert_ne!(hex, uuid);
        assert_eq!(text_of(&uuid), b"07070707-0707-0707-0707-070707070707");
        assert_eq!(Token::from_text(&text_of(&uuid)), Some(uuid));
        assert_eq!(Token::from_text(&text_of(&hex)), Some(hex));
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
