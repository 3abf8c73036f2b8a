//! A JSON document, checked once and passed on as it was written.

use bytes::Bytes;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::DataError;

/// A JSON text that is known to parse, and the name of the schema that its sender says it follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Json {
    text: Bytes,
    schema: String,
}

impl Json {
    /// Checks that `text` is one JSON document. An empty `schema` means none was named.
    ///
    /// # Errors
    /// Not JSON: with line and column.
    pub fn new(text: Bytes, schema: impl Into<String>) -> Result<Self, DataError> {
        // The parser skips over strings without looking at their encoding.
        let readable = std::str::from_utf8(&text)
            .map_err(|error| DataError::Utf8 { valid_up_to: error.valid_up_to() })?;
        serde_json::from_str::<IgnoredAny>(readable).map_err(|error| problem(&error))?;
        Ok(Self { text, schema: schema.into() })
    }

    /// A document that another process of ours has checked.
    #[must_use]
    pub const fn already_checked(text: Bytes, schema: String) -> Self {
        Self { text, schema }
    }

    /// Checks what a field beside the data holds.
    ///
    /// # Errors
    /// Not JSON: with the field, line and column.
    pub fn check_annotations(field: &str, text: &str) -> Result<(), DataError> {
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| problem_in(field, &error))?;
        Ok(())
    }

    /// The document that says what `value` says.
    ///
    /// # Errors
    /// `value` has no JSON form, such as a map whose keys are not strings.
    pub fn of(value: &impl Serialize) -> Result<Self, DataError> {
        let text = serde_json::to_vec(value).map_err(|error| problem(&error))?;
        Ok(Self { text: text.into(), schema: String::new() })
    }

    /// The document's text.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.text
    }

    /// The schema's name, or nothing.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The document read as `T`.
    ///
    /// # Errors
    /// The document has another shape: with line and column.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, DataError> {
        serde_json::from_slice(&self.text).map_err(|error| problem(&error))
    }
}

/// What is wrong with a field beside the data that holds JSON.
pub(super) fn problem_in(field: &str, error: &serde_json::Error) -> DataError {
    let (line, column) = (error.line(), error.column());
    DataError::Annotations { field: field.to_owned(), line, column, problem: words(error) }
}

fn problem(error: &serde_json::Error) -> DataError {
    DataError::Json { line: error.line(), column: error.column(), problem: words(error) }
}

/// Without the place, which has fields of its own.
fn words(error: &serde_json::Error) -> String {
    error.to_string().split(" at line ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_json_is_answered_with_its_place() {
        let error = Json::new(Bytes::from_static(b"{\n  \"a\": ,\n}"), "").unwrap_err();
        assert_eq!(error.to_string(), "not valid JSON at line 2, column 8: expected value");
    }

    #[test]
    fn a_string_that_is_not_utf8_is_no_json() {
        let error = Json::new(Bytes::from_static(b"\"\xff\""), "").unwrap_err();
        assert_eq!(error, DataError::Utf8 { valid_up_to: 1 });
    }

    #[test]
    fn a_document_keeps_its_spelling() {
        let text = Bytes::from_static(b" {\"a\" : 1.50} ");
        assert_eq!(Json::new(text.clone(), "").unwrap().bytes(), &text);
    }
}
