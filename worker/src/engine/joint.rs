//! Where several feeds of one node meet: what came on each waits for what belongs to it.
//!
//! Feeds are joined by sequence. A feed holds one sequence at a time; a later one is not admitted before that is
//! joined, and so waits where it comes from. Of the sequence that it holds everything is admitted: were it held back,
//! one branch could fill up to where the branches part, and the other, which is waited for, get nothing any more.
//!
//! | all feeds that have not flushed hold something | then, for the lowest sequence held |
//! | --- | --- |
//! | and have ended it | what came of it is due, in rows, or a mark if nothing came |
//! | and none is left | the tails are due (what came of flushes, behind the end of its sequence), then the flush |

use std::collections::BTreeMap;

use remotemedia_core::Frame;
use remotemedia_core::joined::Joined;
use remotemedia_core::limits::LimitExceeded;

use super::stage::Item;

/// The feeds of one node.
#[derive(Debug)]
pub(super) struct Joint {
    /// Names of the ports; none for a node that has one unnamed input, on which every frame is a call of its own.
    ports: Vec<String>,
    feeds: Vec<Feed>,
    /// The last sequence that was due.
    latest: u64,
    /// Frames of one sequence on one feed.
    most_frames: usize,
    flushed: bool,
}

/// What is due at a node.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Due {
    /// A call; `last` if nothing more comes of its sequence.
    Inputs { joined: Joined, last: bool },
    /// Nothing came of a sequence.
    Mark { sequence: u64 },
    /// Nothing more comes at all.
    Flush,
}

/// What came on a feed cannot be taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum JointError {
    /// The order of frames, ends and flush is broken: a peer's fault.
    #[error("{what} came on feed {feed} after {after}")]
    Order { feed: usize, what: String, after: String },
    /// More than the node's upstream may give of one sequence.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
}

#[derive(Debug, Default)]
struct Feed {
    port: Option<usize>,
    held: Option<Held>,
    ended: Option<u64>,
    tail: Vec<Frame>,
    flushed: bool,
}

/// What came of one sequence.
#[derive(Debug)]
struct Held {
    sequence: u64,
    frames: Vec<Frame>,
    ended: bool,
}

// === impl Joint ===

impl Joint {
    /// `feeds` says the port of each, by its place in `ports`.
    pub(super) fn new(ports: Vec<String>, feeds: &[Option<u16>], most_frames: usize) -> Self {
        let feed = |port: &Option<u16>| Feed { port: port.map(usize::from), ..Feed::default() };
        Self { ports, feeds: feeds.iter().map(feed).collect(), latest: 0, most_frames, flushed: false }
    }

    /// Whether an item can be taken yet.
    pub(super) fn admits(&self, feed: usize, item: &Item) -> bool {
        let sequence = match item {
            Item::Frame { frame, .. } => frame.sequence,
            Item::Mark { sequence } => *sequence,
            Item::Flush => return true,
        };
        !self.feeds[feed].held.as_ref().is_some_and(|held| held.ended && held.sequence < sequence)
    }

    /// Takes an item that is admitted.
    pub(super) fn take(&mut self, place: usize, item: Item) -> Result<(), JointError> {
        let most_frames = self.most_frames;
        let feed = &mut self.feeds[place];
        if feed.flushed {
            let (what, after) = (describe(&item), "its flush".to_owned());
            return Err(JointError::Order { feed: place, what, after });
        }
        let (sequence, frame, last) = match item {
            Item::Frame { frame, last } => (frame.sequence, Some(frame), last),
            Item::Mark { sequence } => (sequence, None, true),
            Item::Flush => {
                feed.flush();
                return Ok(());
            }
        };
        let frames = match feed.frames_of(sequence, last) {
            Ok(frames) => frames,
            Err(after) => {
                let what = format!("sequence {sequence}");
                return Err(JointError::Order { feed: place, what, after });
            }
        };
        frames.extend(frame);
        if frames.len() > most_frames {
            return Err(too_many(frames.len(), most_frames).into());
        }
        Ok(())
    }

    /// Whether [`Self::due`] gives anything.
    pub(super) fn is_due(&self) -> bool {
        !self.flushed && self.feeds.iter().all(|feed| feed.flushed || feed.held.is_some()) && {
            let next = self.next_sequence();
            let mut held = self.feeds.iter().filter_map(|feed| feed.held.as_ref());
            held.all(|held| held.ended || Some(held.sequence) != next)
        }
    }

    /// What can be worked on: all of one sequence, or the end of everything.
    pub(super) fn due(&mut self) -> Vec<Due> {
        if !self.is_due() {
            return Vec::new();
        }
        let Some(sequence) = self.next_sequence() else {
            self.flushed = true;
            let tails: Vec<_> = self.feeds.iter_mut().map(|feed| std::mem::take(&mut feed.tail)).collect();
            let mut due = self.rows(self.latest, tails);
            due.push(Due::Flush);
            return due;
        };
        self.latest = sequence;
        let frames = self.feeds.iter_mut().map(|feed| {
            let held = feed.held.take_if(|held| held.sequence == sequence);
            held.map_or_else(Vec::new, |held| held.frames)
        });
        let frames: Vec<_> = frames.collect();
        let mut due = self.rows(sequence, frames);
        match due.last_mut() {
            Some(Due::Inputs { last, .. }) => *last = true,
            Some(Due::Mark { .. } | Due::Flush) | None => due.push(Due::Mark { sequence }),
        }
        due
    }

    /// The lowest that a feed holds.
    fn next_sequence(&self) -> Option<u64> {
        self.feeds.iter().filter_map(|feed| feed.held.as_ref().map(|held| held.sequence)).min()
    }

    /// Calls, of what each feed gave: with ports the first of each together, then the second; without, one after the
    /// other.
    fn rows(&self, sequence: u64, by_feed: Vec<Vec<Frame>>) -> Vec<Due> {
        let mut rows: BTreeMap<(usize, usize), Vec<(String, Frame)>> = BTreeMap::new();
        let mut by_port: BTreeMap<usize, Vec<Frame>> = BTreeMap::new();
        for (place, frames) in by_feed.into_iter().enumerate() {
            match self.feeds[place].port {
                Some(port) => by_port.entry(port).or_default().extend(frames),
                None => rows.extend(
                    frames
                        .into_iter()
                        .enumerate()
                        .map(|(n, frame)| ((place, n), vec![(String::new(), frame)])),
                ),
            }
        }
        for (port, frames) in by_port {
            for (row, frame) in frames.into_iter().enumerate() {
                rows.entry((0, row)).or_default().push((self.ports[port].clone(), frame));
            }
        }
        let call = |frames| Due::Inputs { joined: Joined::new(sequence, frames), last: false };
        rows.into_values().map(call).collect()
    }
}

// === impl Feed ===

impl Feed {
    /// Where a frame of a sequence belongs, and what ended before that should not have.
    fn frames_of(&mut self, sequence: u64, last: bool) -> Result<&mut Vec<Frame>, String> {
        if let Some(ended) = self.ended.filter(|ended| sequence <= *ended) {
            return if last { Err(format!("the end of sequence {ended}")) } else { Ok(&mut self.tail) };
        }
        if let Some(held) = self.held.as_ref().filter(|held| held.sequence != sequence) {
            return Err(format!("sequence {}, which has not ended", held.sequence));
        }
        let held = self.held.get_or_insert_with(|| Held { sequence, frames: Vec::new(), ended: false });
        if last {
            held.ended = true;
            self.ended = Some(sequence);
        }
        Ok(&mut held.frames)
    }

    /// What belongs to no sequence that has ended was given by a flush.
    fn flush(&mut self) {
        self.flushed = true;
        if let Some(held) = self.held.take_if(|held| !held.ended) {
            self.tail.extend(held.frames);
        }
    }
}

fn describe(item: &Item) -> String {
    match item {
        Item::Frame { frame, .. } => format!("a frame of sequence {}", frame.sequence),
        Item::Mark { sequence } => format!("the end of sequence {sequence}"),
        Item::Flush => "a flush".to_owned(),
    }
}

fn too_many(count: usize, limit: usize) -> LimitExceeded {
    LimitExceeded {
        what: "the number of frames of one sequence that wait for another input".to_owned(),
        value: count as u64,
        limit: limit as u64,
        unit: "frames".to_owned(),
        advice: "have the node before give fewer and larger pieces".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_core::Text;

    use super::*;

    fn frame(words: &str, sequence: u64, last: bool) -> Item {
        Item::Frame { frame: Frame::new(sequence, Text::from(words)), last }
    }

    /// What is due, as `sequence port=words …`, with `.` after what ends its sequence.
    fn due(joint: &mut Joint) -> Vec<String> {
        assert_eq!(joint.is_due(), !joint.feeds.is_empty() && joint.is_due());
        let words = |frame: Frame| String::from_utf8_lossy(frame.data.payload()).into_owned();
        let row = |joined: Joined, ports: &[String]| {
            let mut joined = joined;
            let named = ports.iter().filter_map(|port| Some(format!("{port}={}", words(joined.take(port)?))));
            let named: Vec<String> = named.collect();
            named.into_iter().chain(joined.into_frames().map(words)).collect::<Vec<_>>().join(" ")
        };
        let ports = joint.ports.clone();
        let say = |due| match due {
            Due::Inputs { joined, last } => {
                format!("{} {}{}", joined.sequence(), row(joined, &ports), if last { "." } else { "" })
            }
            Due::Mark { sequence } => format!("{sequence}."),
            Due::Flush => "flush".to_owned(),
        };
        joint.due().into_iter().map(say).collect()
    }

    fn ported() -> Joint {
        Joint::new(vec!["l".to_owned(), "r".to_owned()], &[Some(0), Some(1)], 3)
    }

    fn merging() -> Joint {
        Joint::new(Vec::new(), &[None, None], 3)
    }

    #[test]
    fn what_came_of_one_sequence_on_all_ports_is_one_call() {
        let mut joint = ported();
        joint.take(0, frame("a", 5, true)).unwrap();
        assert!(due(&mut joint).is_empty(), "the other port may still get something");
        joint.take(1, frame("b", 5, true)).unwrap();
        assert_eq!(due(&mut joint), ["5 l=a r=b."]);
        assert!(due(&mut joint).is_empty());
    }

    #[test]
    fn several_frames_of_one_sequence_are_joined_first_with_first() {
        let mut joint = ported();
        for item in [frame("a1", 0, false), frame("a2", 0, true)] {
            joint.take(0, item).unwrap();
        }
        joint.take(1, frame("b1", 0, false)).unwrap();
        joint.take(1, Item::Mark { sequence: 0 }).unwrap();
        assert_eq!(due(&mut joint), ["0 l=a1 r=b1", "0 l=a2."]);
    }

    #[test]
    fn a_node_without_ports_is_called_for_each_frame_in_the_order_of_its_feeds() {
        let mut joint = merging();
        joint.take(1, frame("b", 0, true)).unwrap();
        joint.take(0, frame("a1", 0, false)).unwrap();
        joint.take(0, frame("a2", 0, true)).unwrap();
        assert_eq!(due(&mut joint), ["0 a1", "0 a2", "0 b."]);
    }

    #[test]
    fn a_sequence_that_one_feed_never_has_is_not_waited_for() {
        let mut joint = merging();
        joint.take(0, frame("a", 3, true)).unwrap();
        joint.take(1, frame("b", 7, true)).unwrap();
        assert_eq!(due(&mut joint), ["3 a."]);
        assert!(due(&mut joint).is_empty());
        joint.take(0, Item::Flush).unwrap();
        assert_eq!(due(&mut joint), ["7 b."]);
        joint.take(1, Item::Mark { sequence: 8 }).unwrap();
        assert_eq!(due(&mut joint), ["8."]);
    }

    #[test]
    fn a_feed_is_held_back_at_its_next_sequence_and_never_within_one() {
        let mut joint = merging();
        joint.take(0, frame("a", 0, false)).unwrap();
        assert!(joint.admits(0, &frame("more", 0, true)));
        joint.take(0, frame("more", 0, true)).unwrap();
        assert!(!joint.admits(0, &frame("next", 1, true)));
        assert!(joint.admits(0, &Item::Flush));
        assert!(joint.admits(1, &frame("b", 0, true)));
        joint.take(1, Item::Mark { sequence: 0 }).unwrap();
        due(&mut joint);
        assert!(joint.admits(0, &frame("next", 1, true)));
    }

    #[test]
    fn what_flushes_gave_comes_after_all_sequences_and_before_the_flush() {
        let mut joint = ported();
        joint.take(0, frame("a", 4, true)).unwrap();
        joint.take(0, frame("rest of a", 4, false)).unwrap();
        joint.take(0, Item::Flush).unwrap();
        assert!(!joint.is_due());
        joint.take(1, frame("rest of b", 0, false)).unwrap();
        joint.take(1, Item::Flush).unwrap();
        assert_eq!(due(&mut joint), ["4 l=a."]);
        assert_eq!(due(&mut joint), ["4 l=rest of a r=rest of b", "flush"]);
        assert!(due(&mut joint).is_empty());
    }

    #[test]
    fn a_broken_order_and_too_much_are_refused_in_words() {
        let check = |items: Vec<Item>, expect: &str| {
            let mut joint = merging();
            let error = items.into_iter().find_map(|item| joint.take(0, item).err()).unwrap();
            assert!(error.to_string().contains(expect), "{error}");
        };
        check(vec![Item::Flush, frame("a", 0, true)], "a frame of sequence 0 came on feed 0 after its flush");
        check(vec![Item::Flush, Item::Flush], "a flush came on feed 0 after its flush");
        check(
            vec![frame("a", 2, true), frame("a", 2, true)],
            "sequence 2 came on feed 0 after the end of sequence 2",
        );
        check(vec![frame("a", 2, false), frame("a", 3, true)], "after sequence 2, which has not ended");
        check(vec![frame("a", 2, false); 4], "is 4 frames, over the limit of 3 frames");
    }
}
