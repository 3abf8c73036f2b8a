//! Which versions of the protocol are served, and what the service says of itself.

use remotemedia_core::Fault;
use remotemedia_core::manifest::VERSION;
use remotemedia_protos::v1::{VersionInfo, VersionResponse};

use super::Doors;
use crate::backend::Backend;

/// Takes a client that says nothing, our version, or a revision of it: `v1.2` may say more than we know, in fields
/// that we pass over, and means the same by those that we know.
///
/// # Errors
/// Another version.
pub(super) fn check(client: &str) -> Result<(), Fault> {
    let is_revision = |rest: &str| {
        rest.strip_prefix('.').is_some_and(|numbers| {
            numbers
                .split('.')
                .all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        })
    };
    match client.strip_prefix(VERSION) {
        _ if client.is_empty() => Ok(()),
        Some(rest) if rest.is_empty() || is_revision(rest) => Ok(()),
        Some(_) | None => Err(Fault::Version { client: client.to_owned(), supported: VERSION.to_owned() }),
    }
}

impl<B: Backend> Doors<B> {
    pub(super) fn version(&self, client: &str) -> VersionResponse {
        let compatibility_message = check(client).map_or_else(|fault| fault.to_string(), |()| String::new());
        VersionResponse {
            version_info: Some(VersionInfo {
                protocol_version: VERSION.to_owned(),
                runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
                supported_node_types: self.backend.node_infos().into_iter().map(|info| info.name).collect(),
                supported_protocols: vec![VERSION.to_owned()],
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
    fn our_version_and_its_revisions_are_served() {
        for client in ["", "v1", "v1.0", "v1.2.3"] {
            assert_eq!(check(client), Ok(()), "{client:?}");
        }
        for client in ["v2", "1", "v10", "v1.", "v1.x", "v1-beta", "V1"] {
            let fault = check(client).unwrap_err();
            assert_eq!(
                fault.to_string(),
                format!("client version '{client}' is not served: this service speaks v1")
            );
        }
    }
}
