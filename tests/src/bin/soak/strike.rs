//! One cell, done to the service: a client of its own has work under way, and is told what was done.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use remotemedia_core::Fault as ClientFault;
use remotemedia_core::fault::DeathCause;
use remotemedia_protos::v1::DataBuffer;
use remotemedia_tests::pipeline::{chain, text};
use tokio::time::sleep;

use crate::asker::{Asker, Stream, Trouble};
use crate::book::{Answer, Book};
use crate::cell::{Cell, Fault, Phase};
use crate::log::Death;
use crate::recovery::Awaited;
use crate::service::{Service, signal};
use crate::vigil::Vigil;

/// Under way.
pub(crate) struct Strike<'a> {
    pub(crate) service: &'a Service,
    pub(crate) asker: &'a Asker,
    pub(crate) book: &'a Book,
    pub(crate) cell: Cell,
    /// Tells strikes apart, in notes and in what is sent.
    pub(crate) number: u64,
    /// For one who is paused.
    pub(crate) pause: Duration,
}

/// What a node wrote when it did it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Duration,
    pid: u32,
}

/// What came of it: what its client was told, and when.
struct Outcome {
    told: Result<(), Trouble>,
    at: Duration,
}

/// Inputs of a stream, and at which of them it comes.
const INPUTS: u64 = 6;
const AT: u64 = 3;
const INPUT_BYTES: usize = 100_000;

/// For the node to begin, or to be found.
const SOON: Duration = Duration::from_secs(15);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

// === impl Strike ===

impl Strike<'_> {
    /// Does it. None if it could not begin, for want of a worker; else who has to come back, if somebody has.
    pub(crate) async fn run(&self) -> Option<Option<Awaited>> {
        let names = self.service.ready().await;
        let mark = self.service.note(&format!("mark-{}", self.number));
        let vigil = Vigil::over(names.keys().copied());
        self.book.page().asked += 1;
        let begun = Instant::now();
        let (outcome, ()) = tokio::join!(self.play(), self.continue_paused(&mark));
        let (Outcome { told, at }, deaths) = (outcome, vigil.end());
        self.book.keep("a strike's own client", begun, &told);
        // Without a mark it waited for a worker that did not come in time.
        let mark = Mark::read(&mark)?;
        self.judge(&told);
        self.book.page().struck.extend(self.cell.fault.death().map(|cause| (mark.pid, cause)));
        // How long somebody takes to start who could do it again is another matter.
        let alike = names.values().filter(|name| name.starts_with(self.cell.language.pool())).count();
        let is_repeated = self.cell.phase == Phase::Repeated && alike > 1;
        // With two others, also who must not share one with what is left has somewhere to go.
        let sudden = deaths.get(&mark.pid).filter(|_| self.cell.fault.is_sudden() && alike > 2);
        if let Some(died) = sudden {
            self.book.page().sudden.push(Death { pid: mark.pid, at: since_1970(*died) });
        }
        if self.cell.fault.is_sudden() && (told.is_err() || is_repeated) {
            let answer = Answer {
                fault: self.cell.fault.word(self.cell.language),
                is_result: told.is_ok(),
                since_mark: at.saturating_sub(mark.at),
                since_death: deaths.get(&mark.pid).map(|died| at.saturating_sub(*died)),
            };
            self.book.page().answers.push(answer);
        }
        *self.book.page().strikes.entry(self.cell).or_default() += 1;
        if self.cell.phase == Phase::Idle && self.cell.fault.death() == Some(DeathCause::Hang) {
            self.find_the_stuck(mark.pid).await;
        }
        let has_gone = self.cell.fault.death().is_some() || self.cell.phase == Phase::Draining;
        let name = names.get(&mark.pid).filter(|_| has_gone).cloned();
        Some(name.map(|name| Awaited { cell: self.cell, name, pid: mark.pid, since: mark.at }))
    }

    async fn play(&self) -> Outcome {
        let told = match self.cell.phase {
            Phase::Starting | Phase::Unary | Phase::Repeated => self.unary().await,
            Phase::Holding | Phase::Stream | Phase::Producing | Phase::Forwarding => self.stream(None).await,
            Phase::Draining => self.stream(Some(Signal::SIGTERM)).await,
            Phase::Idle => self.idle().await,
        };
        Outcome { told, at: now() }
    }

    async fn unary(&self) -> Result<(), Trouble> {
        let manifest = chain(&[&self.node(0, "")]);
        self.asker.unary(manifest, "doom", self.input(0), self.limit_ms()).await.map(drop)
    }

    /// One input after the other. Before the one at which it comes, its worker is sent a signal.
    async fn stream(&self, before: Option<Signal>) -> Result<(), Trouble> {
        let is_forwarding = self.cell.phase == Phase::Forwarding;
        let doom = self.node(AT, if is_forwarding { ", own_process: true" } else { "" });
        let [first, last] =
            ["first", "last"].map(|id| format!("{{ id: {id}, node_type: PassThrough, own_process: true }}"));
        let nodes: &[&str] = if is_forwarding { &[&first, &doom, &last] } else { &[&doom] };
        let mut stream = self.asker.stream(chain(nodes), self.limit_ms()).await?;
        for sequence in 0..INPUTS {
            if sequence == AT
                && let Some(before) = before
            {
                self.warn(&stream, before).await;
            }
            stream.send(sequence, self.input(sequence)).await;
            answers_to(&mut stream, sequence).await?;
        }
        stream.close().await
    }

    /// Sends a worker a signal, and waits until it is known to leave.
    async fn warn(&self, stream: &Stream, before: Signal) {
        let Some(status) = self.service.status().await else { return };
        let session = status.sessions.iter().find(|session| session.id == stream.session);
        let Some(name) = session.and_then(|session| session.workers.first().cloned()) else { return };
        let Some(worker) = status.workers.iter().find(|worker| worker.name == name) else { return };
        signal(worker.pid, before);
        let is_leaving = |one: &remotemedia_cli::admin::WorkerStatus| one.state == "leaving";
        self.service.until(SOON, |status| status.workers.iter().any(is_leaving)).await;
    }

    /// When the session of the node is over, a thread of it does it.
    async fn idle(&self) -> Result<(), Trouble> {
        self.asker.stream(chain(&[&self.node(0, "")]), self.limit_ms()).await?.close().await?;
        let gate = fs::write(self.service.note(&format!("gate-{}", self.number)), "");
        gate.expect("a note is written");
        let mark = self.service.note(&format!("mark-{}", self.number));
        let give_up = Instant::now() + SOON;
        while Mark::read(&mark).is_none() && Instant::now() < give_up {
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn continue_paused(&self, mark: &Path) {
        if self.cell.fault != Fault::Pause {
            return;
        }
        let give_up = Instant::now() + SOON;
        while Instant::now() < give_up {
            if let Some(mark) = Mark::read(mark) {
                sleep(self.pause).await;
                return signal(mark.pid, Signal::SIGCONT);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Its client has to be told what was done.
    fn judge(&self, told: &Result<(), Trouble>) {
        let is_right = match (self.cell.fault.death(), told) {
            (None, told) => told.is_ok(),
            (Some(_), told) if self.cell.phase == Phase::Idle => told.is_ok(),
            (Some(_), told) if self.cell.phase == Phase::Repeated => told.is_ok(),
            // Nothing had been asked of its node yet, so another worker took it, where it is not done again.
            (Some(_), Ok(())) => self.cell.phase == Phase::Starting,
            (Some(DeathCause::Hang), Err(Trouble::Fault(fault))) => {
                matches!(**fault, ClientFault::Deadline { .. })
            }
            (Some(cause), Err(Trouble::Fault(fault))) => {
                matches!(&**fault, ClientFault::Worker(lost) if lost.cause == cause && lost.node == "doom")
            }
            (Some(_), _) => false,
        };
        if !is_right {
            self.book.breach(format!("{} {}: its client was told {told:?}", self.cell, self.number));
        }
    }

    /// Nobody knows of one that hangs without a session: asks until it is found.
    async fn find_the_stuck(&self, pid: u32) {
        let give_up = Instant::now() + SOON;
        let sound = format!("{{ id: doom, node_type: {} }}", self.cell.language.node_type());
        while Instant::now() < give_up {
            let knows = |status: &remotemedia_cli::admin::Status| {
                status.workers.iter().all(|one| one.pid != pid || one.state == "stuck")
            };
            if self.service.status().await.is_some_and(|status| knows(&status)) {
                return;
            }
            self.book.page().asked += 1;
            let begun = Instant::now();
            let told =
                self.asker.unary(chain(&[&sound]), "doom", self.input(0), self.limit_ms()).await.map(drop);
            self.book.keep("one who looks for the stuck", begun, &told);
        }
    }

    fn node(&self, at: u64, more: &str) -> String {
        let Cell { fault, phase, language } = self.cell;
        let (fault, when, node_type) = (fault.word(language), phase.word(), self.cell.node_type());
        let note = |what: &str| self.service.note(&format!("{what}-{}", self.number)).display().to_string();
        let (gate, once) = (note("gate"), note("mark"));
        format!(
            "{{ id: doom, node_type: {node_type}{more}, params: {{ fault: {fault}, when: {when}, at: {at}, gate: '{gate}', once: '{once}' }} }}"
        )
    }

    /// Never the same twice: what has killed before may be refused.
    fn input(&self, sequence: u64) -> DataBuffer {
        text(format!("strike {} {sequence} {}", self.number, "x".repeat(INPUT_BYTES)))
    }

    const fn limit_ms(&self) -> u64 {
        match self.cell.fault {
            Fault::Stop | Fault::Hang => 500,
            Fault::Kill | Fault::Abort | Fault::Segv | Fault::Exit | Fault::Pause | Fault::Memory => 10_000,
        }
    }
}

// === impl Mark ===

impl Mark {
    /// None until it is written.
    fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (at, pid) = text.split_once(' ')?;
        Some(Self { at: Duration::from_nanos(at.parse().ok()?), pid: pid.parse().ok()? })
    }
}

/// Of the clock that all processes have.
pub(crate) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// What was `then` by the clock that all processes have, by the one that logs have. Asked soon after, as the one is set
/// right now and then and the other is not.
fn since_1970(then: Duration) -> Duration {
    let by_the_log = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    by_the_log.saturating_sub(now().saturating_sub(then))
}

/// Takes the answer to a sequence, or the first of several; what is left of them comes before the next one's.
async fn answers_to(stream: &mut Stream, sequence: u64) -> Result<(), Trouble> {
    loop {
        match stream.answer().await? {
            Some((answered, _)) if answered == sequence => return Ok(()),
            Some((answered, _)) if answered < sequence => {}
            other => {
                let came = other.map(|(answered, _)| answered);
                return Err(Trouble::Nonsense(format!(
                    "expected the answer to {sequence}, got that to {came:?}"
                )));
            }
        }
    }
}
