//! Where the gateway may listen: loopback addresses and unix sockets, nothing that the network reaches.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// A place that only processes of this machine reach.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum LocalAddress {
    /// A loopback address; port 0 picks a free one.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// Why there will be no listening at an address.
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
    /// Others than this machine would reach it.
    #[error(
        "{address} is refused: it is open to other machines, and the gateway cannot tell yet who its clients are (no authentication); bind 127.0.0.1, ::1 or unix:PATH"
    )]
    NotLoopback {
        /// As given.
        address: SocketAddr,
    },
}

// === impl LocalAddress ===

impl FromStr for LocalAddress {
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
        let address: SocketAddr = numeric.parse().map_err(|_not_an_address| malformed())?;
        if !address.ip().is_loopback() {
            return Err(AddressError::NotLoopback { address });
        }
        Ok(Self::Tcp(address))
    }
}

impl TryFrom<String> for LocalAddress {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl fmt::Display for LocalAddress {
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
    fn loopback_and_unix_addresses_are_taken_as_written() {
        let check = |text: &str, expect: &str| {
            assert_eq!(text.parse::<LocalAddress>().unwrap().to_string(), expect);
        };
        check("127.0.0.1:50051", "127.0.0.1:50051");
        check("127.9.9.9:0", "127.9.9.9:0");
        check("[::1]:50051", "[::1]:50051");
        check("localhost:7", "127.0.0.1:7");
        check("unix:/run/x.sock", "unix:/run/x.sock");
        check("unix:///run/x.sock", "unix:/run/x.sock");
    }

    #[test]
    fn an_address_that_others_reach_is_refused_with_the_reason() {
        for text in ["0.0.0.0:50051", "[::]:50051", "192.168.1.2:50051", "[::ffff:127.0.0.1]:1"] {
            let error = text.parse::<LocalAddress>().unwrap_err();
            assert_eq!(error, AddressError::NotLoopback { address: text.parse().unwrap() });
            assert!(error.to_string().contains("no authentication"), "{error}");
        }
    }

    #[test]
    fn what_is_no_address_is_answered_with_the_forms_there_are() {
        for text in ["", "50051", "127.0.0.1", "example.org:50051", "unix:", "unix:here.sock"] {
            let error = text.parse::<LocalAddress>().unwrap_err();
            assert_eq!(error, AddressError::Malformed { text: text.to_owned() });
        }
    }
}
