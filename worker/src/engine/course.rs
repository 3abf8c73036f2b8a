//! What has come on an input, so that what comes once more is known.
//!
//! On an edge sequences come in ascending order: the frames of one, its end, the next; then what a flush gave, and the
//! flush. When who feeds an input has died, another begins anew with what was not answered, and gives the same again: as
//! much of it as had come is passed over.

use super::stage::Item;

/// How far an input has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Course {
    had: Reach,
    /// How far the latest feeder has come, if it is not the first.
    again: Option<Reach>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Reach {
    /// The last sequence that has ended.
    ended: Option<u64>,
    /// The one that has not, and how many frames of it came.
    open: Option<(u64, u64)>,
    /// Frames of the flush.
    tail: u64,
    flushed: bool,
}

// === impl Course ===

impl Course {
    /// Another feeder begins.
    pub(super) fn begin_again(&mut self) {
        self.again = Some(Reach::default());
    }

    /// What is new in an item, if anything is.
    pub(super) fn pass(&mut self, item: Item) -> Option<Item> {
        let new = match &mut self.again {
            None => item,
            Some(again) => {
                let came = *again;
                again.note(&item);
                self.had.new_in(item, &came)?
            }
        };
        self.had.note(&new);
        Some(new)
    }
}

// === impl Reach ===

impl Reach {
    fn note(&mut self, item: &Item) {
        match item {
            Item::Frame { frame, .. } if self.has_ended(frame.sequence) => self.tail += 1,
            Item::Frame { frame, last } => {
                self.open = Some((frame.sequence, self.frames_of(frame.sequence) + 1));
                if *last {
                    self.end(frame.sequence);
                }
            }
            Item::Mark { sequence } => self.end(*sequence),
            Item::Flush => self.flushed = true,
        }
    }

    fn end(&mut self, sequence: u64) {
        (self.ended, self.open) = (Some(sequence), None);
    }

    /// What is new in an item of a feeder that came so far before it.
    fn new_in(&self, item: Item, came: &Self) -> Option<Item> {
        match item {
            Item::Frame { frame, last } => {
                let sequence = frame.sequence;
                if came.has_ended(sequence) {
                    (came.tail >= self.tail).then_some(Item::Frame { frame, last })
                } else if self.has_ended(sequence) {
                    None
                } else if came.frames_of(sequence) >= self.frames_of(sequence) {
                    Some(Item::Frame { frame, last })
                } else {
                    last.then_some(Item::Mark { sequence })
                }
            }
            Item::Mark { sequence } => (!self.has_ended(sequence)).then_some(item),
            Item::Flush => (!self.flushed).then_some(item),
        }
    }

    fn has_ended(&self, sequence: u64) -> bool {
        self.ended.is_some_and(|ended| sequence <= ended)
    }

    /// Of a sequence that has not ended.
    fn frames_of(&self, sequence: u64) -> u64 {
        self.open.filter(|(open, _)| *open == sequence).map_or(0, |(_, frames)| frames)
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_core::{Frame, Text};

    use super::*;

    /// An item for each word: `3` a frame, `3.` one that ends its sequence, `3-` a mark, `f` the flush.
    fn items(words: &str) -> impl Iterator<Item = Item> {
        let item = |word: &str| {
            let sequence = || word.trim_end_matches(['.', '-']).parse().expect("a number");
            if word == "f" {
                Item::Flush
            } else if word.ends_with('-') {
                Item::Mark { sequence: sequence() }
            } else {
                Item::Frame { frame: Frame::new(sequence(), Text::from(word)), last: word.ends_with('.') }
            }
        };
        words.split_whitespace().map(item).collect::<Vec<_>>().into_iter()
    }

    fn words(items: impl Iterator<Item = Item>) -> String {
        let word = |item| match item {
            Item::Frame { frame, last } => format!("{}{}", frame.sequence, if last { "." } else { "" }),
            Item::Mark { sequence } => format!("{sequence}-"),
            Item::Flush => "f".to_owned(),
        };
        items.map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn everything_of_the_first_feeder_passes() {
        let (mut course, all) = (Course::default(), "0 0. 1- 2. 5 5- 5 5 f");
        assert_eq!(words(items(all).filter_map(|item| course.pass(item))), all);
    }

    #[test]
    fn of_what_the_next_feeders_give_only_that_passes_which_had_not_come() {
        for (feeders, expected) in [
            (["0. 1.", "1. 2. 3."].as_slice(), ["0. 1.", "2. 3."].as_slice()),
            (&["0. 1 1", "1 1 1 1. 2."], &["0. 1 1", "1 1. 2."]),
            (&["1 1", "1 1."], &["1 1", "1-"]),
            (&["1 1", "1-"], &["1 1", "1-"]),
            (&["1 1 1", "1", "1 1 1 1 1. 2."], &["1 1 1", "", "1 1. 2."]),
            (&["0. 0", "0. 0 0 f"], &["0. 0", "0 f"]),
            (&["0. 0 f", "0. 0 f"], &["0. 0 f", ""]),
            (&["0. f", "f"], &["0. f", ""]),
            (&["", "0. 1."], &["", "0. 1."]),
        ] {
            let mut course = Course::default();
            for (turn, (feeder, expected)) in feeders.iter().zip(expected).enumerate() {
                if turn > 0 {
                    course.begin_again();
                }
                let passed = words(items(feeder).filter_map(|item| course.pass(item)));
                assert_eq!(&passed, expected, "{feeders:?}");
            }
        }
    }

    #[test]
    fn wherever_a_feeder_ends_the_whole_passes_once() {
        let all: Vec<Item> = items("0 0 0. 1- 2 2- 4. 5 5. 5 5 f").collect();
        for first in 0..=all.len() {
            for second in 0..=all.len() {
                let mut course = Course::default();
                let mut passed: Vec<Item> = Vec::new();
                for (turn, end) in [first, second, all.len()].into_iter().enumerate() {
                    if turn > 0 {
                        course.begin_again();
                    }
                    passed.extend(all[..end].iter().cloned().filter_map(|item| course.pass(item)));
                }
                assert_eq!(passed, all, "cut at {first} and {second}");
            }
        }
    }
}
