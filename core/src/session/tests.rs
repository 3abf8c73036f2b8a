use std::collections::VecDeque;

use super::*;
use crate::fault::{NodeFault, Unavailability};
use crate::graph::Graph;
use crate::limits::Limits;
use crate::manifest::{Connection, Manifest, NodeManifest, VERSION};

const PATIENCE: Patience = Patience {
    open: Duration::from_secs(1),
    result: Duration::from_secs(5),
    longest: Duration::from_secs(30),
    idle: Duration::from_secs(60),
};

/// `in` feeds `x` and `y`: one entry, two sinks.
fn fan_out() -> Graph {
    graph(&["in", "x", "y"], &[("in", "x"), ("in", "y")])
}

fn graph(ids: &[&str], connections: &[(&str, &str)]) -> Graph {
    let node = |id: &&str| NodeManifest {
        id: (*id).to_owned(),
        node_type: "PassThrough".to_owned(),
        ..NodeManifest::default()
    };
    let edge = |(from, to): &(&str, &str)| Connection { from: (*from).to_owned(), to: (*to).to_owned() };
    let manifest = Manifest {
        version: VERSION.to_owned(),
        nodes: ids.iter().map(node).collect(),
        connections: connections.iter().map(edge).collect(),
        ..Manifest::default()
    };
    Graph::check(&manifest, &Limits::default()).unwrap()
}

fn shape(graph: &Graph) -> Shape {
    Shape::of(graph, &graph.entries().collect::<Vec<_>>())
}

fn open(stages: usize) -> (Session<&'static str>, Instant) {
    let now = Instant::now();
    let mut session = Session::new(shape(&fan_out()), stages, PATIENCE, now);
    let actions: Vec<_> = (0..stages).flat_map(|_| session.on(now, Event::StageReady)).collect();
    assert_eq!(actions, [Action::Open]);
    (session, now)
}

fn input(sequence: u64) -> Event<&'static str> {
    Event::Input { entry: 0, sequence }
}

fn output(sink: usize, sequence: u64, frame: Option<&'static str>, last: bool) -> Event<&'static str> {
    Event::Output { sink, sequence, frame, last }
}

fn given(actions: Vec<Action<&'static str>>) -> Vec<(u64, Vec<&'static str>)> {
    actions
        .into_iter()
        .filter_map(|action| match action {
            Action::Deliver { sequence, outputs, .. } => {
                Some((sequence, outputs.into_iter().map(|(_, frame)| frame).collect()))
            }
            Action::Answered { .. } | Action::TellDropped { .. } | Action::Repeated { .. } => None,
            other @ (Action::Open | Action::Flush | Action::Resend { .. } | Action::End(_)) => {
                panic!("{other:?}")
            }
        })
        .collect()
}

#[test]
fn last_outputs_of_all_sinks_come_together_and_in_order() {
    let (mut session, now) = open(2);
    assert!(session.on(now, input(7)).is_empty());
    assert!(session.on(now, input(8)).is_empty());
    assert!(session.on(now, output(0, 7, Some("x7"), true)).is_empty());
    assert!(session.on(now, output(0, 8, Some("x8 early"), false)).is_empty());
    assert!(session.on(now, output(0, 8, None, true)).is_empty());
    assert_eq!(
        given(session.on(now, output(1, 7, Some("y7"), true))),
        [(7, vec!["x7", "y7"]), (8, vec!["x8 early"])]
    );
    assert!(given(session.on(now, output(1, 8, None, true))).is_empty());
    assert_eq!(session.pending(), 0);
}

#[test]
fn a_nodes_fault_waits_for_the_answers_to_earlier_inputs_and_no_longer_than_they_may_take() {
    let fault = |sequence| {
        let words = ["bad", "Bad", "no", ""].map(str::to_owned);
        let [node, node_type, message, backtrace] = words;
        Fault::Node(NodeFault { node, node_type, sequence, message, backtrace })
    };
    let over = |sequence| Action::End(End::Failed(fault(sequence)));
    let (mut session, now) = open(1);
    for sequence in 5..8 {
        session.on(now, input(sequence));
    }
    assert!(session.on(now, Event::Failed(fault(7))).is_empty(), "5 and 6 are on their way");
    assert!(session.on(now, Event::Failed(fault(6))).is_empty(), "another one failed before it");
    assert!(session.on(now, output(0, 5, Some("x5"), true)).is_empty());
    let mut actions = session.on(now, output(1, 5, None, true));
    assert_eq!(actions.pop(), Some(over(6)));
    assert_eq!(given(actions), [(5, vec!["x5"])]);

    let (mut session, now) = open(1);
    session.on(now, input(5));
    session.on(now, input(6));
    assert!(session.on(now, Event::Failed(fault(6))).is_empty());
    assert_eq!(session.deadline(), Some(now + SETTLING));
    assert_eq!(session.on(now + SETTLING, Event::Tick), [over(6)]);

    let (mut session, now) = open(1);
    session.on(now, input(5));
    session.on(now, input(6));
    assert!(session.on(now, Event::Failed(fault(6))).is_empty());
    let gone = Fault::Unavailable { state: Unavailability::ShuttingDown, retry_after_ms: 0 };
    assert_eq!(session.on(now, Event::Failed(gone)), [over(6)]);
}

#[test]
fn an_input_of_which_nothing_came_is_answered_empty() {
    let (mut session, now) = open(1);
    session.on(now, input(0));
    session.on(now, output(0, 0, None, true));
    assert_eq!(given(session.on(now, output(1, 0, None, true))), [(0, vec![])]);
}

#[test]
fn a_gap_or_repeat_ends_the_session() {
    for wrong in [3, 5, 0] {
        let (mut session, now) = open(1);
        session.on(now, input(3));
        let actions = session.on(now, input(wrong));
        let expected =
            StreamFault::InvalidSequence { node: "in".to_owned(), received: wrong, previous: 3, expected: 4 };
        assert_eq!(actions, [Action::End(End::Failed(expected.into()))]);
        assert!(session.on(now, input(4)).is_empty(), "nothing follows the end");
    }
}

#[test]
fn a_dropped_input_keeps_its_place_among_the_answers() {
    let (mut session, now) = open(1);
    session.on(now, input(0));
    assert!(session.on(now, Event::Dropped { entry: 0, sequence: 1 }).is_empty());
    session.on(now, input(2));
    assert_eq!(session.pending(), 2, "what was dropped is not answered");
    session.on(now, output(0, 0, Some("x0"), true));
    let actions = session.on(now, output(1, 0, None, true));
    let told = Action::TellDropped { entry: 0, sequence: 1, arrived: now };
    assert_eq!(actions.last(), Some(&told), "{actions:?}");
    assert_eq!(given(actions), [(0, vec!["x0"])]);
    session.on(now, output(0, 1, None, true));
    let answered = Action::Answered { sequence: 1, entries: vec![], missed: vec![0], arrived: now };
    assert_eq!(session.on(now, output(1, 1, None, true)), [answered], "it is told once");
    session.on(now, output(0, 2, None, true));
    assert_eq!(given(session.on(now, output(1, 2, Some("y2"), true))), [(2, vec!["y2"])]);
}

#[test]
fn a_gap_before_or_behind_a_dropped_input_ends_the_session() {
    for dropped in [4, 5] {
        let (mut session, now) = open(1);
        session.on(now, input(3));
        session.on(now, Event::Dropped { entry: 0, sequence: dropped });
        let gap = session.is_over() || {
            session.on(now, input(6));
            session.is_over()
        };
        assert!(gap, "a dropped input {dropped}");
    }
}

#[test]
fn a_close_drains_and_a_flush_carries_the_last_sequence() {
    let (mut session, now) = open(1);
    session.on(now, input(1));
    assert_eq!(session.on(now, Event::Close), [Action::Flush]);
    session.on(now, output(0, 1, Some("x"), true));
    assert_eq!(given(session.on(now, output(1, 1, Some("y"), true))), [(1, vec!["x", "y"])]);
    assert_eq!(given(session.on(now, output(0, 1, Some("tail"), false))), [(1, vec!["tail"])]);
    assert!(session.on(now, Event::SinkDrained { sink: 0 }).is_empty());
    assert!(session.on(now, Event::SinkDrained { sink: 1 }).is_empty());
    assert_eq!(session.on(now, Event::StageReported), [Action::End(End::Drained)]);
}

#[test]
fn a_worker_that_lies_ends_its_session_and_nothing_else() {
    let lies =
        [output(5, 1, None, true), output(0, 2, Some("never sent"), true), Event::SinkDrained { sink: 0 }];
    for lie in lies {
        let (mut session, now) = open(1);
        session.on(now, input(1));
        let actions = session.on(now, lie);
        assert!(matches!(&actions[..], [Action::End(End::Failed(Fault::Internal { .. }))]), "{actions:?}");
    }
}

#[test]
fn every_wait_has_a_deadline_that_says_for_what() {
    let now = Instant::now();
    let mut session: Session<()> = Session::new(shape(&fan_out()), 1, PATIENCE, now);
    assert_eq!(session.deadline(), Some(now + PATIENCE.open));
    session.on(now, Event::StageReady);
    assert_eq!(session.deadline(), Some(now + PATIENCE.idle));
    session.on(now, Event::Input { entry: 0, sequence: 0 });
    assert_eq!(session.deadline(), Some(now + PATIENCE.result));
    session.excuse(Duration::from_secs(1));
    assert!(session.on(now + PATIENCE.result, Event::Tick).is_empty(), "the client was slow, not we");
    let actions = session.on(now + PATIENCE.result + Duration::from_secs(1), Event::Tick);
    let Some(Action::End(End::Failed(fault))) = actions.first() else { panic!("{actions:?}") };
    assert!(fault.to_string().contains("the results of sequence 0 of node 'in'"), "{fault}");
}

#[test]
fn who_is_at_work_has_more_time_and_at_most_the_longest() {
    let (mut session, now) = open(1);
    let after = |seconds| now + Duration::from_secs(seconds);
    session.on(now, input(0));
    assert!(session.on(after(1), Event::Working { at: after(1) }).is_empty());
    assert_eq!(session.deadline(), Some(after(1) + PATIENCE.result));
    // What came of an input is a sign too, of that input.
    session.on(after(2), input(1));
    session.on(after(3), output(0, 0, Some("piece"), false));
    assert_eq!(session.deadline(), Some(after(3) + PATIENCE.result));
    session.on(after(29), Event::Working { at: after(29) });
    let actions = session.on(after(29), Event::Tick);
    assert!(actions.is_empty(), "{actions:?}");
    let actions = session.on(now + PATIENCE.longest, Event::Tick);
    let Some(Action::End(End::Failed(Fault::Deadline { limit_ms, .. }))) = actions.first() else {
        panic!("{actions:?}")
    };
    assert_eq!(u128::from(*limit_ms), PATIENCE.longest.as_millis());
}

/// `a` and `b` meet in `both`; `a` also feeds `own`; `c` has nothing to do with them.
fn joined() -> (Session<&'static str>, Instant) {
    let now = Instant::now();
    let graph = graph(
        &["a", "b", "c", "both", "own", "other"],
        &[("a", "both"), ("b", "both"), ("a", "own"), ("c", "other")],
    );
    let mut session = Session::new(shape(&graph), 1, PATIENCE, now);
    session.on(now, Event::StageReady);
    (session, now)
}

#[test]
fn inputs_of_one_sequence_that_meet_are_answered_together() {
    let (mut session, now) = joined();
    for entry in [0, 2, 1] {
        assert!(session.on(now, Event::Input { entry, sequence: 4 }).is_empty());
    }
    assert!(session.on(now, output(1, 4, Some("own"), true)).is_empty());
    assert_eq!(given(session.on(now, output(2, 4, Some("other"), true))), [(4, vec!["other"])]);
    let actions = session.on(now, output(0, 4, Some("both"), true));
    let answered = Action::Answered { sequence: 4, entries: vec![0, 1], missed: vec![], arrived: now };
    assert!(actions.contains(&answered), "{actions:?}");
    assert_eq!(given(actions), [(4, vec!["own", "both"])]);
    assert_eq!(session.pending(), 0);
}

#[test]
fn what_a_dropped_input_was_to_meet_is_answered_alone() {
    let (mut session, now) = joined();
    session.on(now, Event::Input { entry: 1, sequence: 4 });
    let told = session.on(now, Event::Dropped { entry: 0, sequence: 4 });
    assert_eq!(told, [Action::TellDropped { entry: 0, sequence: 4, arrived: now }]);
    session.on(now, output(1, 4, None, true));
    assert_eq!(given(session.on(now, output(0, 4, None, true))), [(4, vec![])]);
}

#[test]
fn entries_that_meet_may_begin_at_different_sequences() {
    let (mut session, now) = joined();
    session.on(now, Event::Input { entry: 0, sequence: 3 });
    session.on(now, Event::Input { entry: 1, sequence: 2 });
    session.on(now, output(1, 3, None, true));
    assert_eq!(given(session.on(now, output(0, 2, Some("b alone"), true))), [(2, vec!["b alone"])]);
    assert!(session.on(now, Event::Close).contains(&Action::Flush));
    assert_eq!(given(session.on(now, output(0, 3, Some("a alone"), true))), [(3, vec!["a alone"])]);
    assert_eq!(given(session.on(now, output(0, 3, Some("tail"), false))), [(3, vec!["tail"])]);
}

#[test]
fn an_input_that_waits_for_its_counterpart_says_so() {
    let (mut session, now) = joined();
    session.on(now, Event::Input { entry: 0, sequence: 0 });
    assert_eq!(session.deadline(), Some(now + PATIENCE.idle));
    let actions = session.on(now + PATIENCE.idle, Event::Tick);
    let Some(Action::End(End::Failed(fault))) = actions.first() else { panic!("{actions:?}") };
    assert!(
        fault.to_string().contains("sequence 0 of node 'b', which is joined with that of node 'a'"),
        "{fault}"
    );
}

#[test]
fn who_is_still_to_come_is_known_and_whoever_waits_to_be_taken_is_not_idle() {
    let (mut session, now) = joined();
    let awaited = |session: &Session<_>, sequence| session.awaited_with(0, sequence).collect::<Vec<_>>();
    assert_eq!(session.meeting(0).collect::<Vec<_>>(), [1]);
    assert_eq!(awaited(&session, 3), [1]);
    session.on(now, Event::Input { entry: 1, sequence: 3 });
    assert_eq!((awaited(&session, 3), awaited(&session, 4)), (vec![], vec![1]));

    let (mut session, now) = open(1);
    session.hears(now + Duration::from_secs(1));
    assert_eq!(session.deadline(), Some(now + Duration::from_secs(1) + PATIENCE.idle));
}

/// No stage stays.
fn resuming() -> Event<&'static str> {
    Event::Resuming { kept: BTreeSet::new(), reported: 0 }
}

/// Two sinks behind one entry; inputs 0 to 2 were sent. Of 0 all came, of 1 two pieces at the first sink and all at the
/// second. Then the stages were replaced.
fn resumed() -> (Session<&'static str>, Instant) {
    let (mut session, now) = open(1);
    (0..3).for_each(|sequence| drop(session.on(now, input(sequence))));
    let before = [
        output(0, 0, Some("x0"), true),
        output(1, 0, Some("y0"), true),
        output(0, 1, Some("x1a"), false),
        output(0, 1, Some("x1b"), false),
        output(1, 1, Some("y1"), true),
    ];
    let before: Vec<_> = before.into_iter().flat_map(|event| session.on(now, event)).collect();
    assert_eq!(given(before), [(0, vec!["x0", "y0"]), (1, vec!["x1a"]), (1, vec!["x1b"])]);
    assert_eq!(session.on(now, resuming()), []);
    assert_eq!(session.on(now, Event::Placed { stages: 2, awaited: 2 }), []);
    assert_eq!(session.on(now, Event::StageReady), []);
    (session, now)
}

#[test]
fn what_was_given_before_a_death_is_not_given_again() {
    let (mut session, now) = resumed();
    assert_eq!(session.on(now, Event::StageReady), [Action::Resend { flush: false }]);
    assert_eq!(session.pending(), 2);
    for (event, expected) in [
        (output(1, 1, Some("y1"), true), Action::Repeated { sink: 1, frame: "y1" }),
        (output(0, 1, Some("x1a"), false), Action::Repeated { sink: 0, frame: "x1a" }),
        (output(0, 1, Some("x1b"), false), Action::Repeated { sink: 0, frame: "x1b" }),
    ] {
        assert_eq!(session.on(now, event), [expected]);
    }
    let actions = session.on(now, output(0, 1, Some("x1c"), true));
    assert_eq!(given(actions), [(1, vec!["y1", "x1c"])]);
    session.on(now, output(1, 2, None, true));
    assert_eq!(given(session.on(now, output(0, 2, Some("x2"), true))), [(2, vec!["x2"])]);
    session.on(now, input(3));
    assert_eq!(session.pending(), 1);
}

#[test]
fn a_sink_whose_stage_stays_goes_on_where_it_was_and_gives_nothing_again() {
    let (mut session, now) = open(1);
    (0..2).for_each(|sequence| drop(session.on(now, input(sequence))));
    session.on(now, output(0, 0, Some("x0"), true));
    session.on(now, output(1, 0, Some("y0a"), false));
    session.on(now, Event::Close);
    session.on(now, Event::Resuming { kept: BTreeSet::from([1]), reported: 0 });
    session.on(now, Event::Placed { stages: 2, awaited: 1 });
    assert_eq!(session.on(now, Event::StageReady), [Action::Resend { flush: true }]);
    let again = Action::Repeated { sink: 0, frame: "x0" };
    assert_eq!(session.on(now, output(0, 0, Some("x0"), true)), [again]);
    assert_eq!(given(session.on(now, output(1, 0, Some("y0b"), true))), [(0, vec!["x0", "y0b"])]);
    session.on(now, output(0, 1, None, true));
    assert_eq!(given(session.on(now, output(1, 1, Some("y1"), true))), [(1, vec!["y1"])]);
    session.on(now, Event::SinkDrained { sink: 1 });
    session.on(now, Event::StageReported);
    session.on(now, Event::Resuming { kept: BTreeSet::from([1]), reported: 1 });
    session.on(now, Event::Placed { stages: 2, awaited: 1 });
    session.on(now, Event::StageReady);
    assert_eq!(session.on(now, Event::SinkDrained { sink: 0 }), []);
    assert_eq!(session.on(now, Event::StageReported), [Action::End(End::Drained)]);
}

#[test]
fn a_session_that_was_draining_is_flushed_again_and_what_the_flush_gave_is_given_once() {
    let (mut session, now) = open(1);
    session.on(now, input(0));
    session.on(now, output(0, 0, None, true));
    session.on(now, output(1, 0, None, true));
    assert!(session.on(now, Event::Close).contains(&Action::Flush));
    assert_eq!(given(session.on(now, output(0, 0, Some("rest"), false))), [(0, vec!["rest"])]);
    session.on(now, Event::SinkDrained { sink: 0 });
    session.on(now, resuming());
    session.on(now, Event::Placed { stages: 1, awaited: 1 });
    assert_eq!(session.on(now, Event::StageReady), [Action::Resend { flush: true }]);
    assert_eq!(
        session.on(now, output(0, 0, Some("rest"), false)),
        [Action::Repeated { sink: 0, frame: "rest" }]
    );
    assert_eq!(given(session.on(now, output(1, 0, Some("more"), false))), [(0, vec!["more"])]);
    session.on(now, Event::SinkDrained { sink: 0 });
    session.on(now, Event::SinkDrained { sink: 1 });
    assert_eq!(session.on(now, Event::StageReported), [Action::End(End::Drained)]);
}

#[test]
fn an_input_that_is_given_up_is_told_in_its_place_and_the_others_go_on() {
    let (mut session, now) = resumed();
    assert_eq!(session.on(now, Event::GivenUp { entry: 0, sequence: 2 }), []);
    session.on(now, Event::StageReady);
    session.on(now, output(1, 1, Some("y1"), true));
    let actions = session.on(now, output(0, 1, Some("x1a"), true));
    let told = Action::TellDropped { entry: 0, sequence: 2, arrived: now };
    assert!(actions.contains(&told), "{actions:?}");
    session.on(now, output(0, 2, None, true));
    let answered = Action::Answered { sequence: 2, entries: vec![], missed: vec![0], arrived: now };
    assert_eq!(session.on(now, output(1, 2, None, true)), [answered], "nothing is given");
    assert_eq!(session.pending(), 0);
}

#[test]
fn what_a_death_interrupts_is_still_due_when_it_was() {
    let (mut session, now) = resumed();
    assert_eq!(session.deadline(), Some(now + PATIENCE.result));
    let actions = session.on(now + PATIENCE.result, Event::Tick);
    assert!(matches!(&actions[..], [Action::End(End::Failed(Fault::Deadline { .. }))]), "{actions:?}");
}

#[test]
fn whenever_stages_die_each_piece_is_given_once_and_in_order() {
    for seed in 0..2_000_u64 {
        let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut roll = |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % sides
        };
        let (mut session, now) = open(1);
        let mut got: Vec<(u64, &str)> = Vec::new();
        let pieces = |sequence: u64| -> Vec<&'static str> {
            ["a", "b", "c"][..(sequence % 4).min(3) as usize].to_vec()
        };
        let (mut sent, mut answered, mut deaths) = (0_u64, 0_u64, 0);
        // What the stages are still to give, by sink.
        let mut under_way: [VecDeque<(u64, Option<&'static str>, bool)>; 2] = Default::default();
        let work = |under_way: &mut [VecDeque<_>; 2], sequence| {
            let all = pieces(sequence);
            for piece in &all {
                under_way[0].push_back((sequence, Some(*piece), false));
            }
            under_way[0].push_back((sequence, None, true));
            under_way[1].push_back((sequence, None, true));
        };
        while answered < 12 {
            let actions = match roll(10) {
                0 if deaths < 5 => {
                    deaths += 1;
                    under_way.iter_mut().for_each(VecDeque::clear);
                    session.on(now, resuming());
                    session.on(now, Event::Placed { stages: 1, awaited: 1 });
                    let actions = session.on(now, Event::StageReady);
                    (answered..sent).for_each(|sequence| work(&mut under_way, sequence));
                    actions
                }
                1..3 if sent < 12 => {
                    work(&mut under_way, sent);
                    sent += 1;
                    session.on(now, input(sent - 1))
                }
                _ => {
                    let sink = usize::try_from(roll(2)).unwrap();
                    match under_way[sink].pop_front() {
                        Some((sequence, frame, last)) => session.on(now, output(sink, sequence, frame, last)),
                        None => Vec::new(),
                    }
                }
            };
            for action in actions {
                match action {
                    Action::Deliver { sequence, outputs, .. } => {
                        got.extend(outputs.into_iter().map(|(_, piece)| (sequence, piece)));
                    }
                    Action::Answered { sequence, .. } => {
                        assert_eq!(sequence, answered, "seed {seed}");
                        answered += 1;
                    }
                    Action::Repeated { .. } | Action::Resend { .. } => {}
                    other @ (Action::Open | Action::Flush | Action::TellDropped { .. } | Action::End(_)) => {
                        panic!("seed {seed}: {other:?}")
                    }
                }
            }
        }
        let expected: Vec<(u64, &str)> = (0..12)
            .flat_map(|sequence| pieces(sequence).into_iter().map(move |piece| (sequence, piece)))
            .collect();
        assert_eq!(got, expected, "seed {seed}");
    }
}
