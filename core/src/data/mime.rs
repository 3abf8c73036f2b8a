//! What bytes are, by their media type.

use std::fmt;

use super::DataError;

/// A media type as it was written: `type/subtype`, perhaps with parameters. Whether the bytes are that is not checked.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MimeType(String);

// === impl MimeType ===

impl MimeType {
    /// Two names of 127 bytes (RFC 6838) and parameters as long again.
    pub const MAX_BYTES: usize = 512;

    /// # Errors
    /// Not of that form, or too long.
    pub fn new(written: impl Into<String>) -> Result<Self, DataError> {
        let written = written.into();
        if written.len() <= Self::MAX_BYTES && is_media_type(&written) {
            return Ok(Self(written));
        }
        Err(DataError::Mime { mime: written.chars().take(100).collect() })
    }

    /// A media type, where nothing written means that none is known.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn known(written: impl Into<String>) -> Result<Option<Self>, DataError> {
        let written = written.into();
        if written.is_empty() { Ok(None) } else { Self::new(written).map(Some) }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MimeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The grammar of RFC 9110, section 8.3.1.
fn is_media_type(written: &str) -> bool {
    let (names, mut parameters) = written.split_at(written.find(';').unwrap_or(written.len()));
    let Some((kind, subtype)) = names.trim_end_matches(is_blank).split_once('/') else { return false };
    if !is_token(kind) || !is_token(subtype) {
        return false;
    }
    while let Some(rest) = parameters.strip_prefix(';') {
        let Some(rest) = after_parameter(rest.trim_start_matches(is_blank)) else { return false };
        parameters = rest.trim_start_matches(is_blank);
    }
    parameters.is_empty()
}

/// What follows `name=value`.
fn after_parameter(text: &str) -> Option<&str> {
    let (name, value) = text.split_once('=')?;
    if !is_token(name) {
        return None;
    }
    if let Some(quoted) = value.strip_prefix('"') {
        return after_quoted(quoted);
    }
    let end = value.find(|next: char| !is_of_token(next)).unwrap_or(value.len());
    (end > 0).then(|| &value[end..])
}

/// What follows the quote that ends a quoted value.
fn after_quoted(text: &str) -> Option<&str> {
    let mut is_escaped = false;
    for (at, next) in text.char_indices() {
        if next.is_ascii_control() && next != '\t' {
            return None;
        }
        if next == '"' && !is_escaped {
            return Some(&text[at + 1..]);
        }
        is_escaped = next == '\\' && !is_escaped;
    }
    None
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_of_token)
}

fn is_of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mime_type_is_two_names_and_perhaps_parameters() {
        for right in [
            "image/png",
            "application/vnd.api+json",
            "text/plain; charset=utf-8",
            "text/plain;charset=\"utf-8\" ; format=flowed",
            "video/mp4; codecs=\"avc1.42E01E, \\\"mp4a\\\"\"",
            "*/*",
        ] {
            assert_eq!(MimeType::new(right).unwrap().as_str(), right);
        }
        for wrong in [
            "png",
            "image/",
            "/png",
            "image/png/x",
            "image /png",
            "a/b;",
            "a/b; c",
            "a/b; c=\"d",
            "a/b; c=d e",
            "ä/b",
        ] {
            assert_eq!(MimeType::new(wrong).unwrap_err(), DataError::Mime { mime: wrong.to_owned() });
        }
        assert!(MimeType::new(format!("a/{}", "b".repeat(MimeType::MAX_BYTES))).is_err());
        assert_eq!(MimeType::known("").unwrap(), None);
    }
}
