//! One thing that was looked at.

use std::fmt;

use serde::Serialize;

/// What was found of one matter, what would be right, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What was looked at: the same word in every version.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What is there.
    pub found: String,
    /// What would be right; empty where it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub needed: String,
    /// What to do: a command, or a sentence where there is no one command; empty where all is right.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, with less than there could be.
    Note,
    /// A service would not start here, or does not serve.
    Problem,
}

// === impl Finding ===

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), needed: String::new(), remedy: String::new() }
    }

    pub(super) fn note(
        check: &'static str,
        found: impl Into<String>,
        needed: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { check, level: Level::Note, found: found.into(), needed: needed.into(), remedy: remedy.into() }
    }

    pub(super) fn problem(
        check: &'static str,
        found: impl Into<String>,
        needed: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Problem, ..Self::note(check, found, needed, remedy) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, level, found, needed, remedy } = self;
        write!(f, "{level:<9} {check:<14} {found}")?;
        let mut said = |word: &str, text: &str| {
            if text.is_empty() { Ok(()) } else { write!(f, "\n{:<25}{word}: {text}", "") }
        };
        said("needed", needed)?;
        said("do", remedy)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        })
    }
}

/// So many bytes, as people say it.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_is_needed_and_what_to_do_below_what_is_there() {
        assert_eq!(Finding::ok("kernel", "Linux 6.18").to_string(), "ok        kernel         Linux 6.18");
        assert_eq!(
            Finding::problem("open-files", "256", "2112", "ulimit -n 4096").to_string(),
            "problem   open-files     256\n                         needed: 2112\n                         do: ulimit -n 4096"
        );
    }
}
