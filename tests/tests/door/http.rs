//! The admin door of a plant, asked as `curl` asks.

use remotemedia_tests::{Plant, http};

/// The status and the body of the answer to GET.
pub(crate) async fn get(plant: &Plant, path: &str) -> (u16, String) {
    http::get(plant.admin_address(), path).await
}
