//! How many workers have died, and of what, as a gateway tells.

use std::collections::BTreeMap;
use std::error::Error;

use remotemedia_cli::admin::AdminDoor;
use serde::Deserialize;

/// The part of `/status` that [`remotemedia_cli`] does not show.
#[derive(Debug, Deserialize)]
struct Deaths {
    deaths: Vec<OfCause>,
}

#[derive(Debug, Deserialize)]
struct OfCause {
    cause: String,
    count: u64,
}

/// By cause, as `/status` names it: since the gateway began.
///
/// # Errors
/// The gateway does not answer.
pub async fn by_cause(door: &AdminDoor) -> Result<BTreeMap<String, u64>, impl Error + use<>> {
    let told: Result<Deaths, _> = door.get_json("/status").await;
    told.map(|told| told.deaths.into_iter().map(|of| (of.cause, of.count)).collect())
}
