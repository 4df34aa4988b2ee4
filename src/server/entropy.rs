//! Randomness for tokens.

use lock_core::Token;

/// A token nobody can guess: 16 bytes from the operating system's generator by way of a CSPRNG that it seeds.
pub(crate) fn new_token() -> Token {
    Token::from_seed(rand::random())
}
