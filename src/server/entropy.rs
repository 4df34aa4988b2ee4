//! Randomness for tokens.

use lock_core::Token;

/// A token that cannot be guessed: 16 bytes from a CSPRNG that the operating system seeds.
pub(crate) fn new_token() -> Token {
    Token::from_seed(rand::random())
}
