//! The nodes of one session in this process, and how frames go through them. No I/O, no thread.
//!
//! Nodes that follow each other here are fused: a frame goes depth first through all of them before the next output
//! of the first is looked at. What is not done yet lies on a stack, one for each lane: inputs are lanes, and so are
//! joints, where what came on several feeds is due at once. A departure that cannot be sent yet holds up its lane and
//! nothing else. A lane must not wait for another's departures: where a pipeline leaves a process and comes back to
//! it, that would be waiting for oneself. At a joint it waits for what other lanes bring, which is no circle: they are
//! held up there only by what comes after it.
//!
//! | what comes | the node | what goes on, to nodes and edges behind it |
//! | --- | --- | --- |
//! | frame | called | its outputs, with the input's sequence; the input's end of sequence rides on the final one |
//! | frame that ends its sequence, no output | called | a mark |
//! | mark | not called | the mark |
//! | flush | called | its outputs, with the last sequence seen, which ended before; then the flush |

use std::collections::BTreeMap;
use std::time::Duration;

use remotemedia_core::Fault;
use remotemedia_core::Frame;
use remotemedia_core::node::{LoanError, Output};
use remotemedia_core::transport::NodeReport;

use super::joint::{Due, Joint};
use super::routes::{Doorway, Routes};
use super::station::{Lend, Station};

/// The nodes of one session in this process.
pub(super) struct Stage {
    routes: Routes,
    stations: Vec<Station>,
    /// By joint, the nodes that have one: their lanes are behind those of the inputs.
    joints: Vec<(usize, Joint)>,
    /// By lane: what is to be done, the next on top.
    work: Vec<Vec<Work>>,
    max_outputs: usize,
}

/// What comes to a node.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Item {
    /// A frame; `last` if nothing more comes of its sequence.
    Frame {
        /// The frame.
        frame: Frame,
        /// Nothing more comes of its sequence.
        last: bool,
    },
    /// Nothing (more) comes of a sequence.
    Mark {
        /// Which.
        sequence: u64,
    },
    /// Nothing more comes at all.
    Flush,
}

/// What leaves the stage, for all edges out of one node.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Departure {
    /// The node, by its place in the plan.
    pub(super) node: usize,
    /// The sequence; of a flush, the last.
    pub(super) sequence: u64,
    /// What.
    pub(super) item: Item,
}

/// How far the work on a lane came.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Advance {
    /// This leaves; then there may be more.
    Departure(Departure),
    /// Its next item is not admitted to a joint yet.
    HeldUp,
    /// All is done.
    Done,
}

enum Work {
    Enter {
        door: Doorway,
        item: Item,
    },
    Due {
        node: usize,
        due: Due,
    },
    /// A call has more outputs than it gave.
    Resume {
        node: usize,
        behind: Behind,
    },
    Depart(Departure),
}

/// What follows the outputs of a call.
#[derive(Clone, Copy)]
enum Behind {
    /// Of an input: the end of its sequence, if nothing more comes of that.
    Input { last: bool },
    /// The flush.
    Flush,
}

// === impl Stage ===

impl Stage {
    /// The stations are in the order of the plan that the routes were made from; `ports` gives the names of a node's
    /// ports.
    pub(super) fn new(
        routes: Routes,
        stations: Vec<Station>,
        max_outputs: usize,
        ports: impl Fn(usize) -> Vec<String>,
    ) -> Self {
        let joint = |node: usize| Some((node, Joint::new(ports(node), routes.joint(node)?, max_outputs)));
        let joints: Vec<_> = (0..stations.len()).filter_map(joint).collect();
        let work = (0..routes.inputs() + joints.len()).map(|_| Vec::new()).collect();
        Self { routes, stations, joints, work, max_outputs }
    }

    /// Takes what came on an input, all earlier of which has been worked off. `hop` is what its way here took.
    ///
    /// # Errors
    /// The input has been flushed.
    pub(super) fn enter(&mut self, input: usize, item: Item, hop: Option<Duration>) -> Result<(), Fault> {
        debug_assert!(self.work[input].is_empty(), "an input's items are worked off one after the other");
        let door = self.routes.entry(input);
        let station = &mut self.stations[door.node];
        if station.flushed {
            return Err(breach(format!("node '{}' got more after its flush", station.id)));
        }
        if let Some(hop) = hop {
            station.report.hops += 1;
            station.report.hop += hop;
        }
        self.work[input].push(Work::Enter { door, item });
        Ok(())
    }

    /// Works on a lane until something leaves the stage, or nothing more can be done there.
    ///
    /// # Errors
    /// A node failed or panicked: the stage must not be used any more.
    pub(super) fn advance(&mut self, lane: usize, lend: &mut Lend<'_>) -> Result<Advance, Fault> {
        loop {
            let Some(work) = self.work[lane].pop() else {
                let Some((node, joint)) = self.joint_of(lane).filter(|(_, joint)| joint.is_due()) else {
                    return Ok(Advance::Done);
                };
                let (node, due) = (*node, joint.due());
                self.work[lane].extend(due.into_iter().rev().map(|due| Work::Due { node, due }));
                continue;
            };
            match work {
                Work::Depart(departure) => return Ok(Advance::Departure(departure)),
                Work::Due { node, due } => self.work_off(lane, node, due, lend)?,
                Work::Resume { node, behind } => {
                    let outputs = self.stations[node].resume(self.max_outputs, lend)?;
                    self.hand_on(lane, node, outputs, behind);
                }
                Work::Enter { door: Doorway { node, feed }, item } => {
                    let Some(place) = self.joint_at(node) else {
                        self.call(lane, node, item, lend)?;
                        continue;
                    };
                    let joint = &mut self.joints[place].1;
                    if !joint.admits(feed, &item) {
                        self.work[lane].push(Work::Enter { door: Doorway { node, feed }, item });
                        return Ok(Advance::HeldUp);
                    }
                    joint.take(feed, item).map_err(|error| self.stations[node].not_joined(&error))?;
                }
            }
        }
    }

    /// A lane, other than those left out, on which [`Self::advance`] would do something.
    pub(super) fn next_lane(&self, is_out: impl Fn(usize) -> bool) -> Option<usize> {
        (0..self.work.len()).find(|lane| !is_out(*lane) && self.has_work(*lane))
    }

    /// Whether every node has flushed and nothing is left to be sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.work.iter().all(Vec::is_empty) && self.stations.iter().all(|station| station.flushed)
    }

    /// The edges out of a node, as places in the plan's outputs.
    pub(super) fn edges_from(&self, node: usize) -> &[usize] {
        &self.routes.onward(node).outer
    }

    /// Counts bytes of a node's output that were not in pool memory.
    pub(super) fn count_copied(&mut self, node: usize, bytes: usize) {
        self.stations[node].report.copied_bytes += bytes as u64;
    }

    /// A node's output could not be given to others.
    pub(super) fn output_fault(&self, node: usize, sequence: u64, error: &LoanError) -> Fault {
        self.stations[node].not_lent(sequence, error)
    }

    /// What was measured, by node id.
    pub(super) fn reports(&self) -> BTreeMap<String, NodeReport> {
        self.stations.iter().map(|station| (station.id.clone(), station.reported())).collect()
    }

    fn has_work(&self, lane: usize) -> bool {
        match self.work[lane].last() {
            Some(Work::Depart(_) | Work::Due { .. } | Work::Resume { .. }) => true,
            Some(Work::Enter { door, item }) => {
                let joint = self.joint_at(door.node).map(|place| &self.joints[place].1);
                joint.is_none_or(|joint| joint.admits(door.feed, item))
            }
            None => {
                let joint = lane.checked_sub(self.routes.inputs()).map(|place| &self.joints[place].1);
                joint.is_some_and(Joint::is_due)
            }
        }
    }

    fn joint_of(&mut self, lane: usize) -> Option<&mut (usize, Joint)> {
        self.joints.get_mut(lane.checked_sub(self.routes.inputs())?)
    }

    fn joint_at(&self, node: usize) -> Option<usize> {
        self.joints.iter().position(|(other, _)| *other == node)
    }

    /// Works on an item of a node's only feed.
    fn call(&mut self, lane: usize, node: usize, item: Item, lend: &mut Lend<'_>) -> Result<(), Fault> {
        match item {
            Item::Frame { frame, last } => {
                let outputs = self.stations[node].process(frame, self.max_outputs, lend)?;
                self.hand_on(lane, node, outputs, Behind::Input { last });
            }
            Item::Mark { sequence } => self.mark(lane, node, sequence),
            Item::Flush => self.flush(lane, node, lend)?,
        }
        Ok(())
    }

    /// Works on what is due at a joint.
    fn work_off(&mut self, lane: usize, node: usize, due: Due, lend: &mut Lend<'_>) -> Result<(), Fault> {
        match due {
            Due::Inputs { joined, last } => {
                let outputs = self.stations[node].process_joined(joined, self.max_outputs, lend)?;
                self.hand_on(lane, node, outputs, Behind::Input { last });
            }
            Due::Mark { sequence } => self.mark(lane, node, sequence),
            Due::Flush => self.flush(lane, node, lend)?,
        }
        Ok(())
    }

    fn flush(&mut self, lane: usize, node: usize, lend: &mut Lend<'_>) -> Result<(), Fault> {
        let outputs = self.stations[node].flush(self.max_outputs, lend)?;
        self.hand_on(lane, node, outputs, Behind::Flush);
        Ok(())
    }

    /// Passes on what a call gave, and what comes behind it. If the call has more, that is asked for when this has gone on.
    fn hand_on(&mut self, lane: usize, node: usize, outputs: Vec<Output>, behind: Behind) {
        if self.stations[node].has_more {
            self.work[lane].push(Work::Resume { node, behind });
            return self.pass_on(lane, node, outputs, false);
        }
        match behind {
            Behind::Input { last } => self.pass_on(lane, node, outputs, last),
            Behind::Flush => {
                self.push(lane, node, Item::Flush);
                self.pass_on(lane, node, outputs, false);
            }
        }
    }

    fn mark(&mut self, lane: usize, node: usize, sequence: u64) {
        self.stations[node].latest.sequence = sequence;
        self.push(lane, node, Item::Mark { sequence });
    }

    fn pass_on(&mut self, lane: usize, node: usize, outputs: Vec<Output>, last: bool) {
        let latest = self.stations[node].latest;
        if outputs.is_empty() && last {
            return self.mark(lane, node, latest.sequence);
        }
        let final_one = outputs.len().checked_sub(1);
        for (place, output) in outputs.into_iter().enumerate().rev() {
            let frame = latest.frame(output);
            self.push(lane, node, Item::Frame { frame, last: last && Some(place) == final_one });
        }
    }

    /// Puts an item on top: first it leaves on the edges, so that others can begin, then it goes to the nodes here.
    fn push(&mut self, lane: usize, node: usize, item: Item) {
        let onward = self.routes.onward(node);
        let work = &mut self.work[lane];
        let enter = |door: &Doorway| Work::Enter { door: *door, item: item.clone() };
        work.extend(onward.inner.iter().rev().map(enter));
        if !onward.outer.is_empty() {
            let sequence = self.stations[node].latest.sequence;
            work.push(Work::Depart(Departure { node, sequence, item }));
        }
    }
}

/// A peer sent what no order of frames allows.
pub(super) fn breach(problem: String) -> Fault {
    Fault::Internal { place: "the frames of a peer".to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use remotemedia_core::Text;
    use remotemedia_core::data::Kind;
    use remotemedia_core::node::{Loan, Node, NodeError, Outputs};

    use super::*;
    use crate::engine::contained::install_panic_hook;
    use crate::engine::sketch::Sketch;

    /// Does what its id says.
    struct Actor(char);

    impl Node for Actor {
        fn process(&mut self, input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
            match self.0 {
                'd' => {
                    let mut loan = out.loan(8)?;
                    loan.bytes_mut().fill(b'd');
                    out.emit(Text::from(format!("{}1", words(&input)).as_str()).into())?;
                    out.emit(Text::from(format!("{}2", words(&input)).as_str()).into())?;
                }
                'm' => (0..9).try_for_each(|_| out.emit(input.data.clone().into()))?,
                'p' => panic!("at {}", words(&input)),
                'r' => return Err(NodeError::WrongKind { expected: Kind::Audio, received: Kind::Text }),
                's' => {}
                _ => out.emit(Text::from(format!("{}{}", words(&input), self.0).as_str()).into())?,
            }
            Ok(())
        }

        fn flush(&mut self, out: &mut dyn Outputs) -> Result<(), NodeError> {
            Ok(out.emit(Text::from(format!("rest of {}", self.0).as_str()).into())?)
        }
    }

    impl Drop for Actor {
        fn drop(&mut self) {
            assert!(self.0 != 'p', "dropped");
        }
    }

    fn words(frame: &Frame) -> String {
        String::from_utf8_lossy(frame.data.payload()).into_owned()
    }

    fn stage(sketch: Sketch) -> Stage {
        install_panic_hook();
        let plan = sketch.plan();
        let station = |id: &str| {
            let letter = id.chars().next().unwrap();
            Station::set_up(id, id, NodeReport::default(), || Ok(Box::new(Actor(letter)))).unwrap()
        };
        let stations = plan.nodes.iter().map(|node| station(&node.id)).collect();
        Stage::new(Routes::of(&plan).unwrap(), stations, 4, |node| plan.nodes[node].ports.clone())
    }

    fn frame(sequence: u64, last: bool) -> Item {
        let mut frame = Frame::new(sequence, Text::from("x"));
        frame.timestamp_us = Some(sequence * 10);
        Item::Frame { frame, last }
    }

    /// What leaves, as `node place: sequence what`, with `.` after what ends its sequence.
    fn run(stage: &mut Stage, item: Item) -> Result<Vec<String>, Fault> {
        run_on(stage, 0, item)
    }

    fn run_on(stage: &mut Stage, input: usize, item: Item) -> Result<Vec<String>, Fault> {
        stage.enter(input, item, Some(Duration::from_micros(3)))?;
        let mut left = Vec::new();
        let mut lend = |bytes| Err(LoanError::TooLarge { bytes, largest: 0 });
        let mut next = Some(input);
        while let Some(lane) = next {
            let Advance::Departure(Departure { node, sequence, item }) = stage.advance(lane, &mut lend)?
            else {
                next = stage.next_lane(|_| false);
                continue;
            };
            let what = match item {
                Item::Frame { frame, last } => {
                    assert_eq!(frame.sequence, sequence);
                    assert!(frame.timestamp_us.is_none_or(|time| time == sequence * 10));
                    format!("{}{}", words(&frame), if last { "." } else { "" })
                }
                Item::Mark { sequence: marked } => {
                    assert_eq!(marked, sequence);
                    "mark".to_owned()
                }
                Item::Flush => "flush".to_owned(),
            };
            left.push(format!("{node}: {sequence} {what}"));
        }
        Ok(left)
    }

    fn check(sketch: Sketch, item: Item, expected: &[&str]) {
        assert_eq!(run(&mut stage(sketch), item).unwrap(), expected);
    }

    #[test]
    fn the_end_of_a_sequence_rides_on_its_final_output() {
        let chain = || Sketch::of("ab").input("a").inner("a", "b").output("b");
        check(chain(), frame(3, true), &["1: 3 xab."]);
        check(chain(), frame(3, false), &["1: 3 xab"]);
    }

    #[test]
    fn an_end_that_no_output_carries_goes_as_a_mark_through_all_nodes_behind() {
        let chain = || Sketch::of("sab").input("s").inner("s", "a").inner("a", "b").output("s").output("b");
        check(chain(), frame(3, true), &["0: 3 mark", "2: 3 mark"]);
        check(chain(), frame(3, false), &[]);
        check(chain(), Item::Mark { sequence: 4 }, &["0: 4 mark", "2: 4 mark"]);
    }

    #[test]
    fn a_mark_is_not_shown_to_nodes() {
        let mut stage = stage(Sketch::of("a").input("a").output("a"));
        assert_eq!(run(&mut stage, Item::Mark { sequence: 4 }).unwrap(), ["0: 4 mark"]);
        assert_eq!(stage.reports()["a"].calls, 0);
    }

    #[test]
    fn fan_out_gives_every_branch_the_same_frame_once() {
        let tree = Sketch::of("abc").input("a").inner("a", "b").inner("a", "c").output("b").output("c");
        check(tree, frame(0, true), &["1: 0 xab.", "2: 0 xac."]);
    }

    #[test]
    fn one_departure_serves_all_edges_of_a_node() {
        let mut stage = stage(Sketch::of("a").input("a").output("a").output("a"));
        assert_eq!(run(&mut stage, frame(0, true)).unwrap(), ["0: 0 xa."]);
        assert_eq!(stage.edges_from(0), [0, 1]);
    }

    #[test]
    fn outputs_are_passed_on_in_order_and_the_second_waits_for_all_that_comes_of_the_first() {
        let lent = |_| Ok(Loan::new(Heap(vec![0; 8])));
        let mut stage =
            stage(Sketch::of("dab").input("d").inner("d", "a").inner("a", "b").output("a").output("b"));
        stage.enter(0, frame(0, true), None).unwrap();
        let mut left = Vec::new();
        while let Advance::Departure(departure) = stage.advance(0, &mut { lent }).unwrap() {
            let Item::Frame { frame, last } = departure.item else { panic!("{departure:?}") };
            left.push((words(&frame), last, stage.reports()["b"].calls));
        }
        let expected = [("x1a", false, 0), ("x1ab", false, 1), ("x2a", true, 1), ("x2ab", true, 2)];
        assert_eq!(left, expected.map(|(words, last, calls)| (words.to_owned(), last, calls)));
        let report = &stage.reports()["d"];
        assert_eq!((report.calls, report.items, report.outputs, report.lent_bytes), (1, 1, 2, 8));
    }

    #[test]
    fn a_flush_empties_each_node_before_the_next() {
        let mut stage = stage(Sketch::of("ab").input("a").inner("a", "b").output("a").output("b"));
        run(&mut stage, frame(6, true)).unwrap();
        let left = run(&mut stage, Item::Flush).unwrap();
        assert_eq!(left, ["0: 6 rest of a", "1: 6 rest of ab", "0: 6 flush", "1: 6 rest of b", "1: 6 flush"]);
        assert!(stage.is_flushed());
    }

    #[test]
    fn a_stage_has_flushed_when_all_its_inputs_have() {
        let mut stage = stage(Sketch::of("ab").input("a").input("b").output("a").output("b"));
        let mut lend = |bytes| Err(LoanError::TooLarge { bytes, largest: 0 });
        for input in [0, 1] {
            assert!(!stage.is_flushed());
            stage.enter(input, Item::Flush, None).unwrap();
            while stage.advance(input, &mut lend).unwrap() != Advance::Done {
                assert!(!stage.is_flushed() || input == 1);
            }
        }
        assert!(stage.is_flushed());
    }

    #[test]
    fn one_input_does_not_wait_for_the_departures_of_another() {
        let mut stage = stage(Sketch::of("ab").input("a").input("b").output("a").output("b"));
        let mut lend = |bytes| Err(LoanError::TooLarge { bytes, largest: 0 });
        stage.enter(0, frame(1, true), None).unwrap();
        let held_up = stage.advance(0, &mut lend).unwrap();
        assert!(matches!(held_up, Advance::Departure(_)), "and not sent");
        stage.enter(1, frame(0, true), None).unwrap();
        let departure = stage.advance(1, &mut lend).unwrap();
        assert!(matches!(departure, Advance::Departure(Departure { node: 1, sequence: 0, .. })));
    }

    #[test]
    fn a_diamond_joins_what_came_of_one_input_and_flushes_once() {
        let sketch = Sketch::of("xabz").input("x").inner("x", "a").inner("x", "b");
        let mut stage = stage(sketch.inner("a", "z").inner("b", "z").output("z"));
        assert_eq!(run(&mut stage, frame(0, true)).unwrap(), ["3: 0 xxaz", "3: 0 xxbz."]);
        let left = run(&mut stage, Item::Flush).unwrap();
        let tails = ["3: 0 rest of xaz", "3: 0 rest of az", "3: 0 rest of xbz", "3: 0 rest of bz"];
        assert_eq!(left[..4], tails);
        assert_eq!(left[4..], ["3: 0 rest of z", "3: 0 flush"]);
        assert!(stage.is_flushed());
    }

    #[test]
    fn a_lane_is_held_up_at_a_joint_until_the_other_has_come() {
        let mut stage = stage(Sketch::of("ab").input("a").input("b").inner("a", "b").output("b"));
        assert_eq!(run_on(&mut stage, 0, frame(0, true)).unwrap(), Vec::<String>::new());
        assert_eq!(run_on(&mut stage, 0, frame(1, true)).unwrap(), Vec::<String>::new());
        assert_eq!(stage.reports()["a"].calls, 2, "only the joint waits");
        assert_eq!(run_on(&mut stage, 1, frame(0, true)).unwrap(), ["1: 0 xb", "1: 0 xab."]);
        assert_eq!(run_on(&mut stage, 1, frame(1, true)).unwrap(), ["1: 1 xb", "1: 1 xab."]);
    }

    #[test]
    fn ports_are_joined_into_one_call() {
        let sketch = Sketch::of("ab").ports("b", &["left", "right"]).input("a").inner("a", "b.left");
        let mut stage = stage(sketch.input("b.right").output("b"));
        run_on(&mut stage, 1, frame(4, true)).unwrap();
        assert_eq!(run_on(&mut stage, 0, frame(4, true)).unwrap(), ["1: 4 xab", "1: 4 xb."]);
        assert_eq!(stage.reports()["b"].calls, 1);
    }

    #[test]
    fn what_comes_after_the_flush_is_a_lie() {
        let mut stage = stage(Sketch::of("a").input("a").output("a"));
        run(&mut stage, Item::Flush).unwrap();
        for item in [frame(1, true), Item::Flush] {
            let fault = run(&mut stage, item).unwrap_err();
            assert!(fault.to_string().contains("node 'a' got more after its flush"), "{fault}");
        }
    }

    #[test]
    fn a_panic_is_the_nodes_own_fault_with_its_sequence_and_stack() {
        let mut stage = stage(Sketch::of("ap").input("a").inner("a", "p").output("p"));
        let Fault::Node(fault) = run(&mut stage, frame(9, true)).unwrap_err() else {
            panic!("another fault")
        };
        assert_eq!((fault.node.as_str(), fault.node_type.as_str(), fault.sequence), ("p", "p", 9));
        assert!(fault.message.ends_with("at xa"), "{}", fault.message);
        assert!(fault.backtrace.contains("stage::tests"), "{}", fault.backtrace);
        // Its drop panics too.
        drop(stage);
    }

    #[test]
    fn a_panic_in_the_making_of_a_node_is_its_fault_too() {
        install_panic_hook();
        let made = Station::set_up("a", "A", NodeReport::default(), || panic!("no model"));
        let Err(Fault::Node(fault)) = made.map(|_| ()) else { panic!("another outcome") };
        assert!(fault.message.ends_with("no model"), "{}", fault.message);
    }

    /// Gives two outputs of each call one by one, and tells how many it has made.
    struct Slowly {
        left: usize,
        made: Arc<AtomicUsize>,
    }

    impl Node for Slowly {
        fn process(&mut self, _input: Frame, out: &mut dyn Outputs) -> Result<(), NodeError> {
            self.left = 2;
            self.resume(out)
        }

        fn has_more(&self) -> bool {
            self.left > 0
        }

        fn resume(&mut self, out: &mut dyn Outputs) -> Result<(), NodeError> {
            self.left -= 1;
            let made = self.made.fetch_add(1, Ordering::Relaxed) + 1;
            Ok(out.emit(Text::from(made.to_string().as_str()).into())?)
        }

        fn flush(&mut self, out: &mut dyn Outputs) -> Result<(), NodeError> {
            self.left = 2;
            self.resume(out)
        }
    }

    #[test]
    fn outputs_of_a_long_call_leave_as_they_are_made() {
        let made = Arc::new(AtomicUsize::new(0));
        let mut stage = stage(Sketch::of("ab").input("a").inner("a", "b").output("b"));
        let slowly = Slowly { left: 0, made: Arc::clone(&made) };
        stage.stations[0] =
            Station::set_up("a", "a", NodeReport::default(), || Ok(Box::new(slowly))).unwrap();
        stage.enter(0, frame(3, true), None).unwrap();
        let mut lend = |bytes| Err(LoanError::TooLarge { bytes, largest: 0 });
        let Advance::Departure(first) = stage.advance(0, &mut lend).unwrap() else { panic!("nothing left") };
        let Item::Frame { frame, last } = first.item else { panic!("no frame") };
        assert_eq!((words(&frame).as_str(), last), ("1b", false));
        assert_eq!(made.load(Ordering::Relaxed), 1, "the second is made when the first has left");
        let Advance::Departure(second) = stage.advance(0, &mut lend).unwrap() else { panic!("nothing left") };
        let Item::Frame { frame, last } = second.item else { panic!("no frame") };
        assert_eq!((words(&frame).as_str(), last), ("2b", true));
        assert_eq!(stage.advance(0, &mut lend).unwrap(), Advance::Done);
        let left = run(&mut stage, Item::Flush).unwrap();
        assert_eq!(left, ["1: 3 3b", "1: 3 4b", "1: 3 rest of b", "1: 3 flush"]);
    }

    #[test]
    fn what_a_node_says_no_to_is_typed() {
        let mut wrong_kind = stage(Sketch::of("r").input("r").output("r"));
        let fault = run(&mut wrong_kind, frame(2, true)).unwrap_err();
        assert_eq!(fault.to_string(), "node 'r' expects audio, got text");
        let mut too_many = stage(Sketch::of("m").input("m").output("m"));
        let fault = run(&mut too_many, frame(2, true)).unwrap_err();
        assert!(
            fault.to_string().starts_with("node 'm' failed at sequence 2: the number of outputs"),
            "{fault}"
        );
        let mut no_memory = stage(Sketch::of("d").input("d").output("d"));
        let fault = run(&mut no_memory, frame(2, true)).unwrap_err();
        assert!(fault.to_string().contains("8 bytes do not fit"), "{fault}");
    }

    #[test]
    fn an_output_of_a_kind_that_the_type_does_not_declare_is_the_nodes_fault() {
        let mut stage = stage(Sketch::of("a").input("a").output("a"));
        stage.stations[0].declared.produces = vec![Kind::Audio, Kind::Json];
        let fault = run(&mut stage, frame(2, true)).unwrap_err();
        let said = "node 'a' failed at sequence 2: gave text, but its type declares to produce audio or json";
        assert_eq!(fault.to_string(), said);
    }

    #[test]
    fn an_input_of_a_kind_that_the_type_does_not_declare_does_not_reach_the_node() {
        let mut stage = stage(Sketch::of("a").input("a").output("a"));
        stage.stations[0].declared.accepts = vec![Kind::Audio, Kind::Json];
        let fault = run(&mut stage, frame(2, true)).unwrap_err();
        assert_eq!(fault.to_string(), "node 'a' expects audio or json, got text");
        assert_eq!(stage.reports()["a"].calls, 0);
    }

    #[test]
    fn what_came_from_other_processes_is_measured_at_the_first_node() {
        let mut stage = stage(Sketch::of("ab").input("a").inner("a", "b").output("b"));
        run(&mut stage, frame(0, true)).unwrap();
        run(&mut stage, frame(1, true)).unwrap();
        let reports = stage.reports();
        assert_eq!((reports["a"].hops, reports["a"].hop), (2, Duration::from_micros(6)));
        assert_eq!((reports["b"].hops, reports["b"].calls), (0, 2));
    }

    struct Heap(Vec<u8>);

    impl remotemedia_core::node::Writable for Heap {
        fn bytes_mut(&mut self) -> &mut [u8] {
            &mut self.0
        }

        fn freeze(self: Box<Self>) -> bytes::Bytes {
            self.0.into()
        }
    }
}
