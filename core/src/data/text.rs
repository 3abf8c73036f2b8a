//! UTF-8 text.

use std::borrow::Cow;

use bytes::Bytes;

use super::DataError;

/// Text that is known to be UTF-8, and its language as far as its sender said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text {
    text: Bytes,
    language: String,
    channel: String,
    encoding: Cow<'static, str>,
}

/// How the encoding is called where nobody said otherwise.
const UTF_8: &str = "utf-8";

/// What senders call it. ASCII is UTF-8 already.
const UTF_8_NAMES: [&str; 5] = ["", UTF_8, "utf8", "ascii", "us-ascii"];

impl Text {
    /// Checks that `text` is UTF-8. An empty `language` (ISO 639-1) means none was named.
    ///
    /// # Errors
    /// Not UTF-8: with the place of the first bad byte.
    pub fn new(text: Bytes, language: impl Into<String>) -> Result<Self, DataError> {
        match std::str::from_utf8(&text) {
            Ok(_) => Ok(Self::already_checked(text, language.into())),
            Err(error) => Err(DataError::Utf8 { valid_up_to: error.valid_up_to() }),
        }
    }

    /// A text that another process of ours has checked.
    #[must_use]
    pub const fn already_checked(text: Bytes, language: String) -> Self {
        Self { text, language, channel: String::new(), encoding: Cow::Borrowed(UTF_8) }
    }

    /// The same text, said to belong to the text channel of this name (contract: TextBuffer.channel).
    #[must_use]
    pub fn on_channel(self, channel: impl Into<String>) -> Self {
        Self { channel: channel.into(), ..self }
    }

    /// The same text, whose sender calls UTF-8 so; nothing is a name too.
    ///
    /// # Errors
    /// The name of another encoding.
    pub fn in_encoding(self, name: &str) -> Result<Self, DataError> {
        if name == UTF_8 {
            return Ok(Self { encoding: Cow::Borrowed(UTF_8), ..self });
        }
        if !UTF_8_NAMES.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return Err(DataError::Encoding { encoding: name.chars().take(100).collect() });
        }
        Ok(Self { encoding: Cow::Owned(name.to_owned()), ..self })
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

    /// What the sender calls UTF-8.
    #[must_use]
    pub fn encoding(&self) -> &str {
        &self.encoding
    }

    /// Whether it is called as it is where nobody says otherwise.
    #[must_use]
    pub fn has_usual_encoding(&self) -> bool {
        self.encoding == UTF_8
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::already_checked(Bytes::copy_from_slice(text.as_bytes()), String::new())
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

    #[test]
    fn utf_8_is_called_as_its_sender_calls_it() {
        for name in ["", "utf-8", "UTF-8", "Utf8", "us-ascii"] {
            assert_eq!(Text::from("a").in_encoding(name).unwrap().encoding(), name);
        }
        assert_eq!(Text::from("a").encoding(), "utf-8");
        let error = Text::from("a").in_encoding("utf-16").unwrap_err().to_string();
        assert_eq!(error, "text encoding 'utf-16' is not supported: send utf-8");
    }
}
