//! The lines that somebody said last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The last lines, bounded in number and bytes: whoever floods costs no more memory than whoever is silent. Cloning
/// gives another handle.
#[derive(Clone, Debug)]
pub(super) struct LastLines {
    kept: Arc<Mutex<Kept>>,
    most_lines: usize,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    bytes: usize,
}

/// What stands for the rest of a line that was cut.
const CUT: &str = "…";

// === impl LastLines ===

impl LastLines {
    pub(super) fn at_most(most_lines: usize, most_bytes: usize) -> Self {
        Self { kept: Arc::default(), most_lines, most_bytes }
    }

    /// Takes a line in. One that is long is cut, so that it does not drive out all others.
    pub(super) fn push(&self, line: &str) {
        let most = self.most_bytes / 4;
        let line = if line.len() > most {
            format!("{}{CUT}", &line[..line.floor_char_boundary(most.saturating_sub(CUT.len()))])
        } else {
            line.to_owned()
        };
        let mut kept = self.lock();
        kept.bytes += line.len();
        kept.lines.push_back(line);
        while kept.lines.len() > self.most_lines || kept.bytes > self.most_bytes {
            let oldest = kept.lines.pop_front().unwrap_or_default();
            kept.bytes -= oldest.len();
        }
    }

    /// The lines, oldest first.
    pub(super) fn get(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_kept_and_long_ones_are_cut() {
        let last = LastLines::at_most(3, 40);
        ["one", "two", "three", "four"].iter().for_each(|line| last.push(line));
        assert_eq!(last.get(), ["two", "three", "four"]);
        last.push(&"ü".repeat(400));
        assert_eq!(last.get()[2], "üüü…");
        (0..100).for_each(|_| last.push(&"x".repeat(10_000)));
        let bytes: usize = last.get().iter().map(String::len).sum();
        assert!(bytes <= 40, "{bytes}");
    }
}
