//! A word between nodes about the data, in band with it.

use serde::de::IgnoredAny;

use super::DataError;
use super::json::problem_in;

/// A word between nodes about the data that goes the same way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Control {
    word: ControlWord,
    annotations: String,
    /// The segment that it is about; empty if none.
    pub segment_id: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
}

/// What is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlWord {
    /// Takes back a segment that was sent on before it was certain.
    CancelSpeculation {
        /// Its begin, in the unit of the timestamps of the data that is taken back.
        from: u64,
        /// Its end, exclusive.
        to: u64,
    },
    /// Proposes to work on several pieces at once.
    BatchHint {
        /// How many; 1 or more.
        pieces: u32,
    },
    /// Says that a result will soon be late.
    DeadlineWarning {
        /// The time left, in microseconds.
        left_us: u64,
    },
}

// === impl Control ===

impl Control {
    /// # Errors
    /// A segment that ends before it begins, or batches of nothing.
    pub const fn new(word: ControlWord) -> Result<Self, DataError> {
        match word {
            ControlWord::CancelSpeculation { from, to } if from > to => {
                Err(DataError::Speculation { from, to })
            }
            ControlWord::BatchHint { pieces: 0 } => Err(DataError::BatchSize),
            ControlWord::CancelSpeculation { .. }
            | ControlWord::BatchHint { .. }
            | ControlWord::DeadlineWarning { .. } => {
                Ok(Self { word, annotations: String::new(), segment_id: String::new(), timestamp_ms: 0 })
            }
        }
    }

    /// The same with annotations: one JSON object, or nothing.
    ///
    /// # Errors
    /// Something else: with line and column.
    pub fn annotated(self, annotations: impl Into<String>) -> Result<Self, DataError> {
        let annotations = annotations.into();
        if !annotations.is_empty() {
            serde_json::from_str::<std::collections::BTreeMap<String, IgnoredAny>>(&annotations)
                .map_err(|error| problem_in("the control message's metadata", &error))?;
        }
        Ok(Self { annotations, ..self })
    }

    /// What is said.
    #[must_use]
    pub const fn word(&self) -> ControlWord {
        self.word
    }

    /// One JSON object, or nothing.
    #[must_use]
    pub fn annotations(&self) -> &str {
        &self.annotations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_say_nothing_sensible_are_refused() {
        let check = |word, expect: &str| assert_eq!(Control::new(word).unwrap_err().to_string(), expect);
        check(
            ControlWord::CancelSpeculation { from: 5, to: 4 },
            "the speculation to cancel begins at 5 and ends at 4: it ends where it begins, or later",
        );
        check(ControlWord::BatchHint { pieces: 0 }, "the suggested batch size is 0: it is 1 or more");
    }

    #[test]
    fn annotations_are_an_object_or_nothing() {
        let control = Control::new(ControlWord::DeadlineWarning { left_us: 0 }).unwrap();
        assert_eq!(control.clone().annotated(" {\"a\": [1]}").unwrap().annotations(), " {\"a\": [1]}");
        assert_eq!(control.clone().annotated("").unwrap(), control);
        let error = control.annotated("{\n\"a\": }").unwrap_err().to_string();
        assert_eq!(
            error,
            "the control message's metadata is not valid JSON at line 2, column 6: expected value"
        );
    }
}
