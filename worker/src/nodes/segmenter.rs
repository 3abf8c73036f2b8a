//! Speech segments from the scores of frames: hysteresis, without audio.

use std::ops::Range;

/// Samples since the stream's begin.
pub(super) type Position = u64;

/// Joins scored frames into segments.
pub(super) struct Segmenter {
    rules: Rules,
    state: State,
    /// End of the last segment: the next cannot begin before it.
    floor: Position,
}

/// When speech begins and ends. Durations are in samples.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// Score from which a frame begins speech.
    pub(super) begin: f32,
    /// Score from which a frame continues speech.
    pub(super) hold: f32,
    /// What is shorter is no speech.
    pub(super) min_speech: u64,
    /// What is shorter does not end speech.
    pub(super) min_silence: u64,
    /// How long scores stay high after speech has ended.
    pub(super) lag: u64,
    /// What a segment gets on either side; at most `min_silence`.
    pub(super) pad: u64,
}

#[derive(Clone, Copy)]
enum State {
    /// No speech.
    Silent,
    /// Speech since `start`, still too short to be called so.
    Rising { start: Position },
    /// Speech since `start`, last heard until `heard`.
    Speaking { start: Position, heard: Position },
}

// === impl Segmenter ===

impl Segmenter {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, state: State::Silent, floor: 0 }
    }

    /// Takes the score of the next frame, and gives the segment that ended with it.
    pub(super) fn frame(&mut self, frame: Range<Position>, score: f32) -> Option<Range<Position>> {
        let begins = score >= self.rules.begin;
        let holds = score >= self.rules.hold;
        match self.state {
            // Silent => (Silent | Rising | Speaking)
            State::Silent if begins => self.state = self.risen(frame.start, frame.end),
            State::Silent => {}
            // Rising => (Rising | Speaking)
            State::Rising { start } if holds => self.state = self.risen(start, frame.end),
            // Rising => Silent
            State::Rising { .. } => self.state = State::Silent,
            // Speaking => Speaking
            State::Speaking { start, .. } if holds => {
                self.state = State::Speaking { start, heard: frame.end };
            }
            // Speaking => (Speaking | Silent)
            State::Speaking { start, heard } if frame.end - heard >= self.rules.min_silence => {
                return Some(self.close(start, self.padded_end(start, heard)));
            }
            State::Speaking { .. } => {}
        }
        None
    }

    /// The segment that goes on, as far as it was heard.
    pub(super) fn open(&self) -> Option<Range<Position>> {
        match self.state {
            State::Silent | State::Rising { .. } => None,
            State::Speaking { start, heard } => Some(self.padded_start(start)..heard),
        }
    }

    /// The stream ends at `position`: gives the segment that went on.
    pub(super) fn finish(&mut self, position: Position) -> Option<Range<Position>> {
        match self.state {
            State::Silent | State::Rising { .. } => None,
            State::Speaking { start, heard } => {
                Some(self.close(start, self.padded_end(start, heard).min(position)))
            }
        }
    }

    fn risen(&self, start: Position, end: Position) -> State {
        if end - start >= self.rules.min_speech {
            State::Speaking { start, heard: end }
        } else {
            State::Rising { start }
        }
    }

    fn close(&mut self, start: Position, end: Position) -> Range<Position> {
        let segment = self.padded_start(start)..end;
        self.floor = end;
        self.state = State::Silent;
        segment
    }

    fn padded_end(&self, start: Position, heard: Position) -> Position {
        heard.saturating_sub(self.rules.lag).max(start) + self.rules.pad
    }

    fn padded_start(&self, start: Position) -> Position {
        start.saturating_sub(self.rules.pad).max(self.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of 10 samples, one letter each: `#` speech, `+` enough to hold it, `.` silence.
    fn check(scores: &str, expect: &[(Position, Position)]) {
        let rules = Rules { begin: 0.5, hold: 0.3, min_speech: 20, min_silence: 30, lag: 0, pad: 5 };
        let mut segmenter = Segmenter::new(rules);
        let mut segments = Vec::new();
        let mut position = 0;
        for letter in scores.chars() {
            let score = match letter {
                '#' => 0.9,
                '+' => 0.4,
                _ => 0.1,
            };
            segments.extend(segmenter.frame(position..position + 10, score));
            position += 10;
        }
        segments.extend(segmenter.finish(position));
        let segments = segments.iter().map(|segment| (segment.start, segment.end)).collect::<Vec<_>>();
        assert_eq!(segments, expect, "{scores}");
    }

    #[test]
    fn silence_has_no_segments() {
        check("", &[]);
        check("........", &[]);
    }

    #[test]
    fn speech_is_padded_on_both_sides_within_the_stream() {
        check("..###.....", &[(15, 55)]);
        check("###.....", &[(0, 35)]);
        check("..###", &[(15, 50)]);
    }

    #[test]
    fn a_click_is_no_speech() {
        check("..#.....", &[]);
    }

    #[test]
    fn an_end_is_moved_back_by_what_scores_lag_behind() {
        let rules = Rules { begin: 0.5, hold: 0.3, min_speech: 0, min_silence: 20, lag: 15, pad: 5 };
        let mut segmenter = Segmenter::new(rules);
        let scores = [0.1, 0.9, 0.9, 0.1, 0.1, 0.9, 0.1];
        let frames =
            (0..).step_by(10).zip(scores).filter_map(|(at, score)| segmenter.frame(at..at + 10, score));
        let mut segments = frames.collect::<Vec<_>>();
        segments.extend(segmenter.finish(70));
        assert_eq!(segments, [5..20, 45..55]);
    }

    #[test]
    fn a_pause_for_breath_does_not_end_speech() {
        check("..##..##....", &[(15, 85)]);
    }

    #[test]
    fn a_longer_pause_ends_it() {
        check("..##...##....", &[(15, 45), (65, 95)]);
    }

    #[test]
    fn a_weak_frame_holds_speech_but_does_not_begin_it() {
        check("..++....", &[]);
        check("..##++++....", &[(15, 85)]);
    }
}
