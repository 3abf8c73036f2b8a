//! Bearer tokens: what a client shows, and what a service keeps of it.
//!
//! A token is 256 random bits. Nobody finds it by guessing, so its plain SHA-256 can be kept: the salt and the slow
//! hashes that passwords need would cost time in every call and win nothing.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What a client shows. Its `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// The SHA-256 of a token's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenHash([u8; 32]);

/// A line of a token file: a name for people, and the hash. `NAME HASH`, the hash as hexadecimal digits, and behind it
/// `private` where that is so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenEntry {
    /// What logs call whoever shows the token.
    pub name: TokenName,
    /// Of the token.
    pub hash: TokenHash,
    /// Whether what its owner sends is kept nowhere, also if it kills workers.
    pub private: bool,
}

/// At most 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TokenName(String);

/// The tokens that a service takes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tokens(Vec<TokenEntry>);

/// What is wrong with a token file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// Not a name and a hash.
    #[error(
        "line {line} is no token: write NAME and the 64 hexadecimal digits of a SHA-256, and 'private' behind them if nothing of its owner may be kept"
    )]
    Shape {
        /// Counted from 1.
        line: usize,
    },
    /// Not a name.
    #[error("'{name}' is no name of a token: write 1 to 64 of A-Z a-z 0-9 . _ -")]
    Name {
        /// As written.
        name: String,
    },
    /// Two tokens of one name, of which nobody could revoke one.
    #[error("line {line}: the name '{name}' is taken by a line before: choose another")]
    Repeated {
        /// Counted from 1.
        line: usize,
        /// As written.
        name: String,
    },
}

/// The longest token file: ten thousand tokens with names of middling length.
pub const MAX_TOKEN_FILE_BYTES: u64 = 1_024 * 1_024;
/// Permissions that a token file must not have: whoever writes it lets himself in, and others need not know who comes.
pub const FORBIDDEN_TOKEN_FILE_MODE: u32 = 0o027;
/// By this, people and secret scanners know a token when they see one where it should not be.
const PREFIX: &str = "rmt_";
const MAX_NAME_BYTES: usize = 64;

// === impl Token ===

impl Token {
    /// The token of these random bits.
    #[must_use]
    pub fn of_random(bits: [u8; 32]) -> Self {
        Self(format!("{PREFIX}{}", hexadecimal(&bits)))
    }

    /// A token as somebody shows it, whatever made it.
    #[must_use]
    pub fn shown(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::shown(text.trim()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

// === impl TokenHash ===

impl TokenHash {
    /// Of a token.
    #[must_use]
    pub fn of(token: &Token) -> Self {
        Self(Sha256::digest(token.secret()).into())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != hash.len() * 2 {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hexadecimal(&self.0))
    }
}

// === impl TokenEntry ===

impl fmt::Display for TokenEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.name, self.hash, if self.private { " private" } else { "" })
    }
}

// === impl TokenName ===

impl FromStr for TokenName {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.bytes().all(fits) {
            return Err(TokenError::Name { name: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Tokens ===

impl Tokens {
    /// Reads a token file: one [`TokenEntry`] a line; empty lines, and those that begin with `#`, are passed over.
    ///
    /// # Errors
    /// A line is no token, or has the name of another.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let mut tokens = Self::default();
        for (line, words) in (1..).zip(text.lines()).filter(|(_, line)| !is_comment(line)) {
            let mut words = words.split_whitespace();
            let (Some(name), Some(hash)) = (words.next(), words.next()) else {
                return Err(TokenError::Shape { line });
            };
            let private = match (words.next(), words.next()) {
                (None, None) => false,
                (Some("private"), None) => true,
                (Some(_), _) | (None, Some(_)) => return Err(TokenError::Shape { line }),
            };
            let hash = TokenHash::parse(hash).ok_or(TokenError::Shape { line })?;
            let name: TokenName = name.parse()?;
            if tokens.has(&name) {
                return Err(TokenError::Repeated { line, name: name.to_string() });
            }
            tokens.0.push(TokenEntry { name, hash, private });
        }
        Ok(tokens)
    }

    /// Who shows this token. The time that it takes does not depend on how near to a known one it is.
    #[must_use]
    pub fn owner(&self, token: &Token) -> Option<&TokenEntry> {
        let shown = TokenHash::of(token);
        let mut owner = None;
        for entry in &self.0 {
            if bool::from(entry.hash.0.ct_eq(&shown.0)) {
                owner = Some(entry);
            }
        }
        owner
    }

    /// Whether a token has this name.
    #[must_use]
    pub fn has(&self, name: &TokenName) -> bool {
        self.0.iter().any(|entry| entry.name == *name)
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody gets in.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn is_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_the_hash_that_was_kept() {
        let (mine, other) = (Token::of_random([7; 32]), Token::of_random([8; 32]));
        let entry = TokenEntry { name: "mine".parse().unwrap(), hash: TokenHash::of(&mine), private: true };
        let tokens = Tokens::parse(&format!("# who comes\n\n{entry}\n")).unwrap();
        assert_eq!(tokens.owner(&mine), Some(&entry));
        assert_eq!(tokens.owner(&other), None);
        assert_eq!(tokens.owner(&Token::shown("")), None);
        assert!(!entry.to_string().contains(mine.secret()) && !format!("{mine:?}").contains("07"));
    }

    #[test]
    fn the_hash_is_plain_sha_256() {
        let hash = TokenHash::of(&Token::shown("abc")).to_string();
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn what_is_no_token_file_is_told_with_its_line() {
        let hash = "0".repeat(64);
        let check = |text: &str, expect: TokenError| assert_eq!(Tokens::parse(text).unwrap_err(), expect);
        check("a", TokenError::Shape { line: 1 });
        check(&format!("a {hash}\nb {hash}0"), TokenError::Shape { line: 2 });
        check(&format!("a {hash} c"), TokenError::Shape { line: 1 });
        check(&format!("a {}", "g".repeat(64)), TokenError::Shape { line: 1 });
        check(&format!("a\u{e4} {hash}"), TokenError::Name { name: "a\u{e4}".to_owned() });
        check(&format!("a {hash}\n\na {hash}"), TokenError::Repeated { line: 3, name: "a".to_owned() });
    }
}
