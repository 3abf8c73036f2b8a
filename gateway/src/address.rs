//! Where the gateway listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// A place to listen at.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum Address {
    /// An IP address; port 0 picks a free one.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// What is no address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// Neither form.
    #[error(
        "'{text}' is no address: write IP:PORT, such as 127.0.0.1:50051 or [::1]:50051, or unix:PATH with a full path"
    )]
    Malformed {
        /// As given.
        text: String,
    },
}

// === impl Address ===

impl Address {
    /// Whether only processes of this machine reach it.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let malformed = || AddressError::Malformed { text: text.to_owned() };
        if let Some(path) = text.strip_prefix("unix:") {
            // gRPC writes absolute paths as unix:/path and unix:///path.
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            return if path.is_absolute() { Ok(Self::Unix(path)) } else { Err(malformed()) };
        }
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        numeric.parse().map(Self::Tcp).map_err(|_not_an_address| malformed())
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_written() {
        let check = |text: &str, expect: &str| {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), expect);
        };
        check("127.0.0.1:50051", "127.0.0.1:50051");
        check("127.9.9.9:0", "127.9.9.9:0");
        check("[::1]:50051", "[::1]:50051");
        check("localhost:7", "127.0.0.1:7");
        check("unix:/run/x.sock", "unix:/run/x.sock");
        check("unix:///run/x.sock", "unix:/run/x.sock");
    }

    #[test]
    fn an_address_that_others_reach_is_known() {
        let check = |text: &str, expect: bool| {
            assert_eq!(text.parse::<Address>().unwrap().is_local(), expect, "{text}");
        };
        for text in ["0.0.0.0:50051", "[::]:50051", "192.168.1.2:50051", "[::ffff:127.0.0.1]:1"] {
            check(text, false);
        }
        for text in ["127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/x"] {
            check(text, true);
        }
    }

    #[test]
    fn what_is_no_address_is_answered_with_the_forms_there_are() {
        for text in ["", "50051", "127.0.0.1", "example.org:50051", "unix:", "unix:here.sock"] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error, AddressError::Malformed { text: text.to_owned() });
        }
    }
}
