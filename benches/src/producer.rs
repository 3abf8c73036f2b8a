//! The measuring process of `hop`: the host of a domain in which one other process lives.

use std::env;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use remotemedia_core::data::{Audio, ChannelCount, RuntimeData, SampleFormat, SampleRate};
use remotemedia_core::frame::Metadata;
use remotemedia_core::node::Writable as _;
use remotemedia_ipc::doorbell::TICK;
use remotemedia_ipc::host::{Host, HostConfig, HostEvent, PoolBudget};
use remotemedia_ipc::memory::{Geometry, SizeClass};
use remotemedia_ipc::plane::{Content, Header};
use remotemedia_ipc::slot::Member;
use tempfile::TempDir;

use crate::error::{BenchError, while_doing};
use crate::peer::{Ask, PATIENCE};
use crate::processors::pid_of;
use crate::stamp;

/// Hands frames to the other process.
pub(crate) struct Producer {
    host: Host,
    /// Before the directory, which it uses.
    child: Owned,
    peer: Member,
    /// Bytes of the largest frame.
    largest: usize,
    sequence: u64,
    _runtime_dir: TempDir,
}

/// What comes right before a hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Before {
    /// An empty message, there and back.
    Ping,
    /// The stamping of the frame's own pages: the larger the frame, the less else is left in the caches.
    Stamps,
    /// The stamping of as many pages as the largest frame has, whatever is sent.
    EquallyManyStamps,
}

/// Killed and reaped when dropped.
struct Owned(Child);

/// Blocks of each size: few, so that all are in the caches alike, however large.
const BLOCKS: u32 = 4;

const LINK_CAPACITY: usize = 64;

// === impl Producer ===

impl Producer {
    /// Starts the other process; frames will have these sizes, in bytes.
    pub(crate) fn start(sizes: &[usize]) -> Result<Self, BenchError> {
        let runtime_dir = tempfile::Builder::new()
            .prefix("remotemedia-bench")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in("/dev/shm")
            .map_err(while_doing("make a runtime directory"))?;
        let classes = sizes.iter().map(|bytes| SizeClass { block_bytes: *bytes as u64, blocks: BLOCKS });
        let mut host = Host::start(HostConfig {
            runtime_dir: runtime_dir.path().to_owned(),
            budget: PoolBudget::UNBOUNDED,
            gateway_pool: Geometry::new(classes.collect())?,
            worker_pool: Geometry::new(vec![SizeClass { block_bytes: 4096, blocks: BLOCKS }])?,
            link_capacity: LINK_CAPACITY,
        })?;
        let largest = sizes.iter().copied().max().unwrap_or(0);
        match meet(&mut host, runtime_dir.path()) {
            Ok((child, peer)) => {
                Ok(Self { host, child, peer, largest, sequence: 0, _runtime_dir: runtime_dir })
            }
            Err(error) => {
                host.close()?;
                Err(error)
            }
        }
    }

    /// This process, which measures, and the other.
    pub(crate) fn processes(&self) -> [Pid; 2] {
        [Pid::this(), pid_of(&self.child.0)]
    }

    /// Has a new frame handed over and back, and looked at; says how long the handing over and back took.
    pub(crate) fn round(&mut self, bytes: usize, ask: Ask, before: Before) -> Result<Duration, BenchError> {
        self.sequence += 1;
        if before == Before::EquallyManyStamps && bytes < self.largest {
            drop(self.stamped(self.largest)?);
        }
        let data = self.stamped(bytes)?;
        if before == Before::Ping {
            self.exchange(Ask::Ping)?;
        }
        let begin = Instant::now();
        self.send(&data, ask)?;
        let (back, end) = self.receive()?;
        match back {
            Content::Frame(back, ..) if back.payload().as_ptr() == data.payload().as_ptr() => {}
            Content::Frame(..) => return Err(BenchError::Copied),
            Content::Mark | Content::Flush | Content::Lost => return Err(BenchError::Unexpected),
        }
        self.exchange(Ask::Verify)?;
        Ok(end - begin)
    }

    /// Ends the other process and the domain.
    pub(crate) fn stop(self) -> Result<(), BenchError> {
        let Self { host, child, peer: _, largest: _, sequence: _, _runtime_dir } = self;
        drop(child);
        Ok(host.close()?)
    }

    fn stamped(&self, bytes: usize) -> Result<RuntimeData, BenchError> {
        let mut block = self.host.plane().loan_until(bytes, Instant::now() + PATIENCE)?;
        stamp::write(block.bytes_mut(), self.sequence);
        let rate = SampleRate::new(48_000)?;
        Ok(Audio::new(Box::new(block).freeze(), SampleFormat::F32, rate, ChannelCount::MONO)?.into())
    }

    fn send(&self, data: &RuntimeData, ask: Ask) -> Result<(), BenchError> {
        let plane = self.host.plane();
        let prepared = plane.prepare_until(data, &Metadata::new(), None, Instant::now() + PATIENCE)?;
        Ok(plane.send(self.peer, &self.header(ask), &prepared)?)
    }

    /// An empty message there and back.
    fn exchange(&mut self, ask: Ask) -> Result<(), BenchError> {
        self.host.plane().send_mark(self.peer, &self.header(ask))?;
        match self.receive()?.0 {
            Content::Mark => Ok(()),
            Content::Frame(..) | Content::Flush | Content::Lost => Err(BenchError::Unexpected),
        }
    }

    fn receive(&mut self) -> Result<(Content, Instant), BenchError> {
        until(&mut self.host, |event| match event {
            HostEvent::Arrival(arrival) => Ok(Some((arrival.content, Instant::now()))),
            other @ (HostEvent::Joined { .. }
            | HostEvent::LinkUp { .. }
            | HostEvent::News { .. }
            | HostEvent::Condemned { .. }
            | HostEvent::Dead { .. }
            | HostEvent::Died { .. }
            | HostEvent::Stillborn(_)
            | HostEvent::Launcher(_)
            | HostEvent::Reply { .. }) => unasked(other),
        })
    }

    const fn header(&self, ask: Ask) -> Header {
        Header { session: 1, edge: ask.edge(), sequence: self.sequence, last: true }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // It is dead already, or it is killed here.
        let _dead = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Starts the other process, and waits until it is connected.
fn meet(host: &mut Host, runtime_dir: &Path) -> Result<(Owned, Member), BenchError> {
    let program = env::current_exe().map_err(while_doing("find this program"))?;
    let mut command = Command::new(program);
    let child = command.arg("hop-peer").arg(runtime_dir).spawn().map(Owned);
    let child = child.map_err(while_doing("start the other process"))?;
    let peer = until(host, |event| match event {
        HostEvent::Joined { member, .. } => Ok(Some(member)),
        other @ (HostEvent::Arrival(_)
        | HostEvent::LinkUp { .. }
        | HostEvent::News { .. }
        | HostEvent::Condemned { .. }
        | HostEvent::Dead { .. }
        | HostEvent::Died { .. }
        | HostEvent::Stillborn(_)
        | HostEvent::Launcher(_)
        | HostEvent::Reply { .. }) => unasked(other),
    })?;
    Ok((child, peer))
}

/// Turns the host until `found` has found something.
fn until<T>(
    host: &mut Host,
    mut found: impl FnMut(HostEvent) -> Result<Option<T>, BenchError>,
) -> Result<T, BenchError> {
    let begin = Instant::now();
    let mut outcome = Ok(None);
    loop {
        host.turn(TICK, || false, &mut |event| {
            if let Ok(None) = outcome {
                outcome = found(event);
            }
        })?;
        match std::mem::replace(&mut outcome, Ok(None))? {
            Some(result) => return Ok(result),
            None if begin.elapsed() > PATIENCE => return Err(BenchError::Silent { waited: PATIENCE }),
            None => {}
        }
    }
}

/// What is no answer: a link that stands is none, a death is the end.
fn unasked<T>(event: HostEvent) -> Result<Option<T>, BenchError> {
    match event {
        HostEvent::LinkUp { .. } | HostEvent::Condemned { .. } | HostEvent::Dead { .. } => Ok(None),
        HostEvent::Died { cause, .. } => Err(BenchError::PeerDied { cause }),
        HostEvent::Joined { .. }
        | HostEvent::News { .. }
        | HostEvent::Stillborn(_)
        | HostEvent::Launcher(_)
        | HostEvent::Arrival(_)
        | HostEvent::Reply { .. } => Err(BenchError::Unexpected),
    }
}
