//! Which versions of the protocol are served, and what the service says of itself.

use std::collections::BTreeSet;

use remotemedia_core::manifest::VERSION;
use remotemedia_core::node::NodeInfo;
use remotemedia_core::{Fault, compatibility};
use remotemedia_protos::v1::{VersionInfo, VersionResponse};

use super::Doors;
use crate::backend::Backend;

/// # Errors
/// The table of versions refuses this one.
pub(super) fn check(client: &str) -> Result<(), Fault> {
    if compatibility::is_served(client) {
        return Ok(());
    }
    Err(Fault::Version { client: shortened(client), supported: compatibility::served() })
}

/// Whatever the client said: a version is a few letters.
fn shortened(client: &str) -> String {
    const SHOWN: usize = 64;
    match client.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &client[..end]),
        None => client.to_owned(),
    }
}

impl<B: Backend> Doors<B> {
    pub(super) fn version(&self, client: &str) -> VersionResponse {
        let offered = self.backend.node_infos();
        let types: BTreeSet<&str> = offered.iter().flat_map(NodeInfo::names).collect();
        let compatibility_message = check(client).map_or_else(|fault| fault.to_string(), |()| String::new());
        VersionResponse {
            version_info: Some(VersionInfo {
                protocol_version: VERSION.to_owned(),
                runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
                supported_node_types: types.into_iter().map(str::to_owned).collect(),
                supported_protocols: compatibility::PROTOCOLS
                    .iter()
                    .map(|&version| version.to_owned())
                    .collect(),
                build_timestamp: env!("BUILD_TIMESTAMP").to_owned(),
            }),
            compatible: compatibility_message.is_empty(),
            compatibility_message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_not_served_is_named_with_those_that_are() {
        assert_eq!(check("v1.2"), Ok(()));
        assert_eq!(
            check("v2").unwrap_err().to_string(),
            "client version 'v2' is not served: this service speaks v1, v1.N, v1.N.N (docs/compatibility.md)"
        );
        assert!(check(&"v".repeat(10_000)).unwrap_err().to_string().len() < 200);
    }
}
