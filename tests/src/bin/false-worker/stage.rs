//! A session's only node here: forwards, and lies once.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use remotemedia_core::data::{RuntimeData, Text};
use remotemedia_core::frame::{Metadata, StageId};
use remotemedia_ipc::control::messages::{StageInput, StageOutput, StagePlan, StageReply, ToGateway};
use remotemedia_ipc::descriptor::{BlockRef, Descriptor, flag};
use remotemedia_ipc::plane::{Arrival, Content, EdgeIn, EdgeOut, Header, Prepared};
use remotemedia_ipc::slot::{Member as Id, Slot};
use serde::Deserialize;

use crate::member::{Gone, Member};

/// The state of it.
#[derive(Debug)]
pub(crate) struct Stage {
    id: StageId,
    /// What descriptors are addressed to.
    receiver: StageId,
    settings: Settings,
    input: EdgeIn,
    output: EdgeOut,
    inputs: u64,
    /// It has said enough to be killed for.
    is_over: bool,
    /// Whatever was sent or is held, to the end.
    kept: Vec<Prepared>,
}

/// A lie that is told when its session is over and a gate is open.
#[derive(Debug)]
pub(crate) struct Grudge {
    stage: Stage,
    told: Option<Instant>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    fault: Lie,
    #[serde(default)]
    when: When,
    #[serde(default)]
    at: u64,
    gate: Option<PathBuf>,
    once: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Lie {
    #[default]
    None,
    /// A payload that is longer than any block.
    CorruptDescriptor,
    /// What is another session's, whichever was there before.
    ForeignSession,
    /// What its block held before.
    StaleGeneration,
    /// The same message, with the same numbers.
    ReplayedSequence,
    /// Clears the gateway's bit on the block of a frame that came from there.
    WrongRelease,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum When {
    /// Before it says that it stands.
    Made,
    #[default]
    Input,
    /// The same, with all inputs so far held.
    Holding,
    /// When its first input has given `at` outputs.
    Output,
    LeftBehind,
}

/// The words for [`Lie`], in its order.
pub(crate) const LIES: &[&str] = &[
    "none",
    "corrupt_descriptor",
    "foreign_session",
    "stale_generation",
    "replayed_sequence",
    "wrong_release",
];

/// The words for [`When`], in its order.
pub(crate) const MOMENTS: &[&str] = &["made", "input", "holding", "output", "left_behind"];

/// What descriptors call text, a message without data for a sequence, and the end of an edge.
mod kind {
    pub(super) const TEXT: u16 = 5;
    pub(super) const MARK: u16 = 256;
    pub(super) const FLUSH: u16 = 257;
}

/// As many edges as sessions of one test have.
const EDGES: u32 = 24;
/// More stages than are made for one test behind those of a session that has nothing to do with it.
const STAGES: u64 = 8;
/// For what was told to be looked at.
const AFTERWARDS: Duration = Duration::from_millis(50);
/// For a credit, of which a session that is over gives none.
const CREDIT: Duration = Duration::from_millis(100);
/// For blocks.
const PATIENCE: Duration = Duration::from_secs(5);

// === impl Stage ===

impl Stage {
    pub(crate) fn of(plan: StagePlan) -> Result<Self, Gone> {
        let expected = |what| Gone::Expected { what };
        let [node] = plan.nodes.as_slice() else { return Err(expected("a stage of one node")) };
        let [StageInput { edge, from, .. }] = *plan.inputs.as_slice() else {
            return Err(expected("one edge into the stage"));
        };
        let input = EdgeIn::new(edge, from, plan.window);
        let [StageOutput { edge, to, stage: receiver, .. }] = *plan.outputs.as_slice() else {
            return Err(expected("one edge out of the stage"));
        };
        let output = EdgeOut::new(edge, to, plan.window);
        let settings = serde_json::from_str(&node.params);
        let settings = settings.map_err(|_| expected("parameters that were checked"))?;
        Ok(Self {
            id: plan.stage,
            receiver,
            settings,
            input,
            output,
            inputs: 0,
            is_over: false,
            kept: Vec::new(),
        })
    }

    pub(crate) fn begin(&mut self, member: &mut Member) -> Result<(), Gone> {
        if self.settings.when == When::Made { self.lie_of_itself(member) } else { Ok(()) }
    }

    /// What comes is passed on, but for the lie.
    pub(crate) fn take(&mut self, member: &mut Member, arrival: Arrival) -> Result<(), Gone> {
        let Arrival { header, content, .. } = arrival;
        if self.is_over {
            return Ok(());
        }
        match content {
            Content::Frame(data, metadata, _) => {
                self.input.give_back(&member.plane);
                self.take_frame(member, &header, &data, &metadata)
            }
            Content::Mark => {
                self.input.give_back(&member.plane);
                let mark = Descriptor {
                    kind: kind::MARK,
                    flags: flag::LAST,
                    ..self.addressed(member, header.sequence)
                };
                self.send(member, mark)
            }
            Content::Flush => {
                let flush = Descriptor { kind: kind::FLUSH, ..self.addressed(member, 0) };
                member.push(self.output.to(), flush)?;
                let (stage, nodes) = (self.id, Default::default());
                member.say(&ToGateway::Stage(StageReply::Reported { stage, nodes }))
            }
            Content::Lost => Ok(()),
        }
    }

    pub(crate) fn into_grudge(self) -> Option<Grudge> {
        (self.settings.when == When::LeftBehind).then_some(Grudge { stage: self, told: None })
    }

    fn take_frame(
        &mut self,
        member: &mut Member,
        header: &Header,
        data: &RuntimeData,
        metadata: &Metadata,
    ) -> Result<(), Gone> {
        let is_it = self.inputs == self.settings.at;
        self.inputs += 1;
        let prepared = member.plane.prepare_until(data, metadata, None, Instant::now() + PATIENCE)?;
        let block = prepared.payload();
        // Held by it until the session is over, which is longer than the receiver needs.
        self.kept.push(prepared);
        let lies = match self.settings.when {
            When::Input | When::Holding => is_it,
            When::Output if self.inputs == 1 => {
                for _ in 0..self.settings.at {
                    let made = self.made(member, header.sequence)?;
                    self.send(member, Descriptor { flags: 0, ..made })?;
                }
                true
            }
            When::Made | When::Output | When::LeftBehind => false,
        };
        let honest = self.text(member, header.sequence, block);
        if lies { self.lie(member, honest) } else { self.send(member, honest) }
    }

    /// A lie about something that no input was.
    fn lie_of_itself(&mut self, member: &mut Member) -> Result<(), Gone> {
        let made = self.made(member, 0)?;
        self.lie(member, made)
    }

    fn lie(&mut self, member: &mut Member, honest: Descriptor) -> Result<(), Gone> {
        let to = self.output.to();
        match self.settings.fault {
            Lie::None => self.send(member, honest),
            Lie::CorruptDescriptor => {
                let payload = BlockRef { len: 1 << 40, ..honest.payload };
                self.send(member, Descriptor { payload, ..honest })
            }
            Lie::StaleGeneration => {
                let payload = BlockRef { generation: honest.payload.generation - 1, ..honest.payload };
                self.send(member, Descriptor { payload, ..honest })
            }
            Lie::ReplayedSequence => {
                self.send(member, honest)?;
                member.push_again(to, honest)
            }
            Lie::ForeignSession => {
                // Those that were there before, on whatever edge they have: stages are numbered as they are made, and
                // some of the last may be of this session.
                for session in honest.session.saturating_sub(STAGES)..honest.session {
                    for edge in (0..EDGES).filter(|edge| *edge != honest.edge) {
                        member.push(to, Descriptor { session, edge, ..honest })?;
                    }
                }
                // The gateway has heard enough by then. A peer waits for what is due.
                self.is_over = to.slot == Slot::GATEWAY;
                if self.is_over { Ok(()) } else { self.send(member, honest) }
            }
            Lie::WrongRelease => {
                let pools = member.plane.pools();
                let pool = pools.iter().find(|pool| pool.id() == honest.payload.pool());
                let word = pool.map(|pool| pool.map().word(honest.payload.block()));
                let word = word.ok_or(Gone::Expected { what: "a pool that was announced" })?;
                word.fetch_and(!Slot::GATEWAY.bit(), Ordering::AcqRel);
                self.send(member, honest)
            }
        }
    }

    /// A text of its own.
    fn made(&mut self, member: &Member, sequence: u64) -> Result<Descriptor, Gone> {
        let text = RuntimeData::from(Text::from("made up"));
        let deadline = Instant::now() + PATIENCE;
        let prepared = member.plane.prepare_until(&text, &Metadata::new(), None, deadline)?;
        let block = prepared.payload();
        self.kept.push(prepared);
        Ok(self.text(member, sequence, block))
    }

    fn text(&self, member: &Member, sequence: u64, payload: BlockRef) -> Descriptor {
        let mut fixed = [0; 16];
        // In the usual encoding.
        fixed[0] = 1;
        let addressed = self.addressed(member, sequence);
        Descriptor { kind: kind::TEXT, flags: flag::LAST, payload, fixed, ..addressed }
    }

    fn addressed(&self, member: &Member, sequence: u64) -> Descriptor {
        let Id { slot, incarnation } = member.plane.me();
        Descriptor {
            session: self.receiver.0,
            edge: self.output.edge().index,
            sequence,
            sender_slot: slot.number(),
            sender_incarnation: incarnation.number(),
            ..Descriptor::blank()
        }
    }

    /// With a credit of its edge. Without one its session is over.
    #[expect(clippy::disallowed_methods, reason = "who has no other thread looks again")]
    fn send(&self, member: &mut Member, descriptor: Descriptor) -> Result<(), Gone> {
        let until = Instant::now() + CREDIT;
        while !self.output.has_credit(&member.plane) {
            if Instant::now() > until {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.output.spend();
        member.push(self.output.to(), descriptor)
    }
}

// === impl Grudge ===

impl Grudge {
    /// Tells it when the gate is open. True when it is over, and what it holds need be held no more.
    pub(crate) fn is_over(&mut self, member: &mut Member) -> bool {
        let Self { stage, told } = self;
        let is_open = stage.settings.gate.as_ref().is_none_or(|gate| gate.exists());
        if told.is_none() && is_open {
            // Before it may be killed for it.
            drop(stage.settings.once.as_ref().map(File::create));
            // A lie that cannot be told is none.
            let _told = stage.lie_of_itself(member);
            *told = Some(Instant::now());
        }
        told.is_some_and(|at| at.elapsed() > AFTERWARDS)
    }
}
