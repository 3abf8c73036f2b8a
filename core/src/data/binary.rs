//! Bytes that nobody looks into.

use bytes::Bytes;

use super::mime::MimeType;

/// Bytes of whatever form, and what their sender says they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binary {
    bytes: Bytes,
    mime: Option<MimeType>,
}

// === impl Binary ===

impl Binary {
    /// Any bytes; without a MIME type, nobody knows what they are.
    #[must_use]
    pub const fn new(bytes: Bytes, mime: Option<MimeType>) -> Self {
        Self { bytes, mime }
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What they are, as far as their sender said.
    #[must_use]
    pub const fn mime(&self) -> Option<&MimeType> {
        self.mime.as_ref()
    }
}
