//! `grpc.reflection`: what is served, for tools that have no copy of the contract.

use remotemedia_protos::FILE_DESCRIPTOR_SET;
use tonic::service::Routes;
use tonic_reflection::server::{Builder, Error};

use super::MAX_QUESTION_BYTES;

/// In both versions: tools ask for v1 first or know only v1alpha.
pub(super) fn add_to(routes: Routes) -> Routes {
    match (contracts().build_v1(), contracts().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes
            .add_service(v1.max_decoding_message_size(MAX_QUESTION_BYTES))
            .add_service(v1alpha.max_decoding_message_size(MAX_QUESTION_BYTES)),
        (Err(error), _) | (_, Err(error)) => without(routes, &error),
    }
}

fn contracts() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// The descriptors are made by our own build, and a test reads them. Should they be broken all the same, clients that
/// have the contract are served.
fn without(routes: Routes, error: &Error) -> Routes {
    tracing::error!(%error, "no_reflection");
    routes
}
