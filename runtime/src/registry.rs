//! The workers there are, what they offer, and how much they have to do.

use std::collections::BTreeMap;

use remotemedia_core::fault::DeathCause;
use remotemedia_core::node::NodeInfo;
use remotemedia_ipc::control::messages::Hello;
use remotemedia_ipc::slot::Member;

/// All workers of a domain.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    workers: BTreeMap<Member, WorkerEntry>,
    /// By name: how often a worker of that name has died.
    deaths: BTreeMap<String, u32>,
    /// By [`DeathCause::label`].
    causes: BTreeMap<&'static str, u64>,
    /// In words: who, and of what.
    last_death: Option<String>,
}

/// One worker.
#[derive(Debug)]
pub(crate) struct WorkerEntry {
    pub(crate) pid: i32,
    pub(crate) hello: Hello,
    /// Sessions of which it runs nodes.
    pub(crate) sessions: usize,
    pub(crate) condemned: bool,
}

/// Names remembered after their workers' deaths; beyond it the count of the first by name starts anew.
const MOST_NAMES: usize = 1024;

impl Registry {
    pub(crate) fn join(&mut self, member: Member, pid: i32, hello: Hello) {
        self.workers.insert(member, WorkerEntry { pid, hello, sessions: 0, condemned: false });
    }

    /// No more work for it.
    pub(crate) fn condemn(&mut self, member: Member) {
        if let Some(worker) = self.workers.get_mut(&member) {
            worker.condemned = true;
        }
    }

    pub(crate) fn bury(&mut self, member: Member, cause: DeathCause) -> Option<WorkerEntry> {
        let worker = self.workers.remove(&member)?;
        *self.causes.entry(cause.label()).or_default() += 1;
        self.last_death = Some(format!("'{}', which {cause}", worker.hello.name));
        if self.deaths.len() >= MOST_NAMES && !self.deaths.contains_key(&worker.hello.name) {
            self.deaths.pop_first();
        }
        *self.deaths.entry(worker.hello.name.clone()).or_default() += 1;
        Some(worker)
    }

    pub(crate) fn get(&self, member: Member) -> Option<&WorkerEntry> {
        self.workers.get(&member)
    }

    pub(crate) fn name(&self, member: Member) -> Option<&str> {
        Some(&self.workers.get(&member)?.hello.name)
    }

    /// All of them, the condemned included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Member, &WorkerEntry)> {
        self.workers.iter().map(|(member, worker)| (*member, worker))
    }

    /// Those that may be given work.
    pub(crate) fn ready(&self) -> impl Iterator<Item = (Member, &WorkerEntry)> {
        self.iter().filter(|(_, worker)| !worker.condemned)
    }

    pub(crate) fn deaths(&self, name: &str) -> u32 {
        self.deaths.get(name).copied().unwrap_or_default()
    }

    /// By cause: how many have died.
    pub(crate) fn causes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.causes.iter().map(|(cause, count)| (*cause, *count))
    }

    pub(crate) fn last_death(&self) -> Option<&str> {
        self.last_death.as_deref()
    }

    pub(crate) fn session_opened(&mut self, member: Member) {
        if let Some(worker) = self.workers.get_mut(&member) {
            worker.sessions += 1;
        }
    }

    pub(crate) fn session_closed(&mut self, member: Member) {
        if let Some(worker) = self.workers.get_mut(&member) {
            worker.sessions = worker.sessions.saturating_sub(1);
        }
    }

    /// The node types on offer, by name.
    pub(crate) fn node_types(&self) -> BTreeMap<&str, &NodeInfo> {
        let infos = self.ready().flat_map(|(_, worker)| &worker.hello.nodes);
        infos.map(|info| (info.name.as_str(), info)).collect()
    }
}

impl WorkerEntry {
    /// What it says of a node type, which may be called by an alias; none if it does not offer it.
    pub(crate) fn offers(&self, node_type: &str) -> Option<&NodeInfo> {
        self.hello.nodes.iter().find(|info| info.answers_to(node_type))
    }
}
