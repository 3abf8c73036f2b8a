//! The name that was probably meant by one that does not exist.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The end of a message about a wrong name: `; did you mean 'vad'?`, or nothing where no name is near.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Meant(Option<String>);

/// The known name that is nearest to the one asked for: by letters left out, put in, changed or swapped, at most a third
/// of them, or because one name is a part of the other. Capitals count little.
///
/// ```
/// use remotemedia_core::nearest::nearest;
/// assert_eq!(nearest("AudioResmaple", ["AudioResample", "VAD"]), Some("AudioResample"));
/// assert_eq!(nearest("Reverb", ["AudioResample", "VAD"]), None);
/// ```
#[must_use]
pub fn nearest<'a>(asked: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = asked.to_lowercase();
    if lower.len() > LONGEST {
        return None;
    }
    let ranked = known.into_iter().filter(|name| name.len() <= LONGEST).filter_map(|name| {
        let other = name.to_lowercase();
        let letters = lower.chars().count().max(other.chars().count());
        let distance = strsim::damerau_levenshtein(&lower, &other);
        // Of names that differ in capitals alone, the one that differs less.
        let capitals = asked.chars().zip(name.chars()).filter(|(one, two)| one != two).count();
        let near = distance * 3 <= letters || is_part(&lower, &other) || is_part(&other, &lower);
        near.then_some((distance, capitals, name))
    });
    ranked.min_by_key(|(distance, capitals, _)| (*distance, *capitals)).map(|(.., name)| name)
}

/// In bytes: the cost is the product of both lengths, and one of the names comes from outside.
const LONGEST: usize = 128;
/// Bytes of a part that says anything of the whole.
const SHORTEST_PART: usize = 3;

fn is_part(part: &str, whole: &str) -> bool {
    part.len() >= SHORTEST_PART && whole.contains(part)
}

// === impl Meant ===

impl Meant {
    /// Looks among the names there are.
    #[must_use]
    pub fn of<'a>(asked: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        Self(nearest(asked, known).map(str::to_owned))
    }

    /// Looks among names as messages list them: `a, b, c`.
    #[must_use]
    pub fn among(asked: &str, list: &str) -> Self {
        Self::of(asked, list.split(", "))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Display for Meant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "; did you mean '{name}'?"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_and_a_far_one_is_not() {
        let known = ["AudioResample", "Calculator", "PassThrough", "VAD", "target_sample_rate"];
        let check = |asked: &str, expect: Option<&str>| assert_eq!(nearest(asked, known), expect, "{asked}");
        check("AudioResmaple", Some("AudioResample"));
        check("audioresample", Some("AudioResample"));
        check("Passthrough", Some("PassThrough"));
        check("vda", Some("VAD"));
        check("target_samplerate", Some("target_sample_rate"));
        check("sample_rate", Some("target_sample_rate"));
        check("CalculatorNode", Some("Calculator"));
        check("Reverb", None);
        check("", None);
        check(&"x".repeat(1_000_000), None);
    }

    #[test]
    fn of_names_that_differ_in_capitals_the_closer_is_offered() {
        assert_eq!(nearest("Vad", ["VAD", "vad"]), Some("vad"));
    }

    #[test]
    fn the_end_of_a_message_is_empty_where_nothing_is_near() {
        assert_eq!(Meant::among("vda", "resample, vad").to_string(), "; did you mean 'vad'?");
        assert_eq!(Meant::among("echo", "resample, vad").to_string(), "");
        assert_eq!(Meant::among("vda", "resample, vad").name(), Some("vad"));
    }
}
