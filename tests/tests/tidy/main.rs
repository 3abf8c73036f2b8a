//! The house rules that a machine can judge, each a test with its reason.
//!
//! The files judged are those that git tracks or would track, so a rule speaks before the commit. A table here is
//! the place where a rule is loosened: as a visible diff, with a reason beside it.

mod dependencies;
mod documents;
mod sources;
mod tree;
mod words;

use std::fmt::Display;

/// Fails with everything that breaks a rule, and with why there is such a rule.
fn assert_none<T: Display>(broken: impl IntoIterator<Item = T>, reason: &str) {
    let lines: Vec<String> = broken.into_iter().map(|line| format!("  {line}")).collect();
    assert!(lines.is_empty(), "{reason}\n{}", lines.join("\n"));
}
