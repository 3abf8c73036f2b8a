//! UTF-8 text.

use bytes::Bytes;

use super::DataError;

/// Text that is known to be UTF-8, and its language as far as its sender said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text {
    text: Bytes,
    language: String,
    channel: String,
}

impl Text {
    /// Checks that `text` is UTF-8. An empty `language` (ISO 639-1) means none was named.
    ///
    /// # Errors
    /// Not UTF-8: with the place of the first bad byte.
    pub fn new(text: Bytes, language: impl Into<String>) -> Result<Self, DataError> {
        match std::str::from_utf8(&text) {
            Ok(_) => Ok(Self { text, language: language.into(), channel: String::new() }),
            Err(error) => Err(DataError::Utf8 { valid_up_to: error.valid_up_to() }),
        }
    }

    /// A text that another process of ours has checked.
    #[must_use]
    pub const fn already_checked(text: Bytes, language: String) -> Self {
        Self { text, language, channel: String::new() }
    }

    /// The same text, said to belong to the text channel of this name (contract: TextBuffer.channel).
    #[must_use]
    pub fn on_channel(self, channel: impl Into<String>) -> Self {
        Self { channel: channel.into(), ..self }
    }

    /// The text's bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.text
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// ISO 639-1, or nothing.
    #[must_use]
    pub fn language(&self) -> &str {
        &self.language
    }

    /// The text channel's name, or nothing.
    #[must_use]
    pub fn channel(&self) -> &str {
        &self.channel
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self {
            text: Bytes::copy_from_slice(text.as_bytes()),
            language: String::new(),
            channel: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_are_answered_with_their_place() {
        let error = Text::new(Bytes::from_static(b"ab\xff"), "").unwrap_err();
        assert_eq!(error, DataError::Utf8 { valid_up_to: 2 });
    }
}
