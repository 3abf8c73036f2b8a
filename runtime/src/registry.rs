//! The workers there are, what they offer, and how much they have to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use remotemedia_core::fault::{DeathCause, MAX_QUARANTINES};
use remotemedia_core::launching::Quarantine;
use remotemedia_core::node::NodeInfo;
use remotemedia_core::starting::LoadingWorker;
use remotemedia_ipc::control::messages::{Burial, Hello, News};
use remotemedia_ipc::slot::Member;

use crate::quarantines::Quarantines;
use crate::stragglers::Lateness;

/// All workers of a domain.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    workers: BTreeMap<Member, WorkerEntry>,
    /// By the names of workers that have died, or could not start.
    losses: BTreeMap<String, Loss>,
    /// Names of workers that a dead gateway knew, and that their launcher starts again.
    expected: BTreeMap<String, Instant>,
    /// By the names of workers that have left and are started again.
    away: BTreeMap<String, Away>,
    quarantines: Quarantines,
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
    pub(crate) standing: Standing,
    /// Of one that should have let go of a session.
    pub(crate) lateness: Option<Lateness>,
    late_since: Instant,
    joined: Instant,
    /// Of one that leaves: it has a launcher, which will start it again unless it is told otherwise.
    returns: bool,
}

/// Whether a worker is given work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// It is loading, and this is what it does.
    Loading(String),
    /// It is.
    Ready,
    /// It goes when its sessions are over.
    Leaving,
    /// It is refused, killed, or dying.
    Condemned,
}

/// Two workers that mean different things by one name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "node type '{name}' is offered by worker '{other}' with another schema: there {theirs}, here {ours}; give one of the two another name, or stop '{other}' first"
)]
pub(crate) struct Conflict {
    name: String,
    other: String,
    /// The schema that is there already, as JSON.
    theirs: String,
    /// The schema of who comes, as JSON.
    ours: String,
}

/// The latest death among the workers of one name.
#[derive(Debug)]
pub(crate) struct Loss {
    pub(crate) pid: i32,
    pub(crate) cause: DeathCause,
    pub(crate) deaths: u32,
    pub(crate) last_lines: Vec<String>,
    /// Whether it had loaded.
    pub(crate) ready: bool,
    /// What it offered, or one of its name before it, if its launcher starts it again.
    missed: Vec<NodeInfo>,
    at: Instant,
}

/// A worker that has left and is not back.
#[derive(Debug)]
struct Away {
    offered: Vec<NodeInfo>,
    since: Instant,
}

/// How long one that has left is waited for: as long as a program takes to start and to join. Its launcher knows
/// whether it starts it again, and the one that is systemd does not say.
const AWAY: Duration = Duration::from_secs(5);

/// Names remembered after their workers' deaths, each with its last lines; beyond it the first by name is forgotten.
const MOST_NAMES: usize = 128;

/// What a worker does that has died and is not there again.
const RESTARTING: &str = "starting again";

/// What a worker does, as its launcher says, that has served the gateway before.
const COMING: &str = "on its way, or starting again";

/// What a worker does that was asked to go, and is to be started again.
const LEAVING: &str = "ending its sessions, to be started again";

/// What a worker does that is stuck.
const STUCK: &str = "stuck in a call";

impl Registry {
    pub(crate) fn join(&mut self, member: Member, pid: i32, hello: Hello) {
        self.expected.remove(&hello.name);
        self.away.remove(&hello.name);
        let standing = hello.loading.clone().map_or(Standing::Ready, Standing::Loading);
        let joined = Instant::now();
        let entry = WorkerEntry {
            pid,
            hello,
            sessions: 0,
            standing,
            lateness: None,
            late_since: joined,
            joined,
            returns: false,
        };
        self.workers.insert(member, entry);
    }

    /// Takes note that a worker will come of which nothing else is known, if it has not come already. A launcher tells of
    /// as many as it may have children.
    pub(crate) fn expect(&mut self, worker: String) {
        if self.workers.values().any(|here| here.hello.name == worker) {
            return;
        }
        self.expected.entry(worker).or_insert_with(Instant::now);
    }

    /// Nobody is there any more who would start them.
    pub(crate) fn expect_no_longer(&mut self, workers: &BTreeSet<String>) {
        self.expected.retain(|name, _| !workers.contains(name));
    }

    /// Takes what a worker says of itself. Whether it has a launcher is of interest when it leaves.
    pub(crate) fn note(&mut self, member: Member, news: News, has_launcher: bool) {
        let Some(worker) = self.workers.get_mut(&member) else { return };
        match (news, &worker.standing) {
            (News::Offers { nodes }, _) => worker.hello.nodes = nodes,
            (News::Loading { step }, Standing::Loading(_) | Standing::Ready) => {
                worker.standing = Standing::Loading(step);
            }
            (News::Ready, Standing::Loading(_)) => worker.standing = Standing::Ready,
            (News::Leaving, Standing::Loading(_) | Standing::Ready) => {
                worker.standing = Standing::Leaving;
                worker.returns = has_launcher;
            }
            (
                News::Loading { .. } | News::Ready | News::Leaving,
                Standing::Ready | Standing::Leaving | Standing::Condemned,
            ) => {}
        }
    }

    /// What keeps a worker from joining the others: a name by which another means something else. Those that leave are
    /// not asked, so that a new version can take the place of an old one.
    pub(crate) fn conflict(&self, member: Member) -> Option<Conflict> {
        let newcomer = self.workers.get(&member)?;
        let others = self.workers.iter().filter(|(other, worker)| {
            **other != member && matches!(worker.standing, Standing::Ready | Standing::Loading(_))
        });
        let mut pairs = others.flat_map(|(_, other)| {
            let ours = newcomer.hello.nodes.iter();
            ours.flat_map(move |ours| other.hello.nodes.iter().map(move |theirs| (other, theirs, ours)))
        });
        pairs.find_map(|(other, theirs, ours)| {
            let name = theirs.names().find(|name| ours.answers_to(name))?;
            (!is_same_schema(theirs, ours)).then(|| Conflict {
                name: name.to_owned(),
                other: other.hello.name.clone(),
                theirs: schema(theirs),
                ours: schema(ours),
            })
        })
    }

    /// No more work for one whose connection has ended, unless it was let go.
    pub(crate) fn condemn_unless_gone(&mut self, member: Member) {
        if !self.may_go(member) {
            self.condemn(member);
        }
    }

    /// No more work for it.
    pub(crate) fn condemn(&mut self, member: Member) {
        if let Some(worker) = self.workers.get_mut(&member) {
            worker.standing = Standing::Condemned;
        }
    }

    /// Takes note of how late a worker is. Whether that is news.
    pub(crate) fn judge(&mut self, member: Member, lateness: Option<Lateness>) -> bool {
        let Some(worker) = self.workers.get_mut(&member) else { return false };
        if worker.lateness.is_none() {
            worker.late_since = Instant::now();
        }
        std::mem::replace(&mut worker.lateness, lateness) != lateness
    }

    /// It is dead, and of what is not known yet: no more work for it. False if nobody has lost anything by it: it was let go.
    pub(crate) fn mourn(&mut self, member: Member) -> bool {
        let Some(worker) = self.workers.get_mut(&member).filter(|worker| !worker.has_left()) else {
            return false;
        };
        match worker.standing {
            // That it did not come so far is told when it is buried.
            Standing::Loading(_) => {}
            Standing::Ready | Standing::Leaving | Standing::Condemned => {
                worker.standing = Standing::Condemned
            }
        }
        true
    }

    pub(crate) fn bury(
        &mut self,
        member: Member,
        cause: DeathCause,
        burial: Option<&Burial>,
    ) -> Option<WorkerEntry> {
        let worker = self.workers.remove(&member)?;
        // One that was let go did not die.
        if worker.has_left() {
            self.see_off(&worker);
            return Some(worker);
        }
        let ready = !matches!(worker.standing, Standing::Loading(_));
        let is_started_again = burial.is_some() || worker.hello.invocation.is_some();
        let missed = if is_started_again { worker.hello.nodes.clone() } else { Vec::new() };
        let last_lines = burial.map_or_else(Vec::new, |burial| burial.last_lines.clone());
        let loss = Loss { pid: worker.pid, cause, deaths: 0, last_lines, ready, missed, at: Instant::now() };
        self.lose(&worker.hello.name, loss);
        Some(worker)
    }

    fn see_off(&mut self, worker: &WorkerEntry) {
        self.give_up_late(Instant::now());
        if worker.returns && self.away.len() < MOST_NAMES {
            let away = Away { offered: worker.hello.nodes.clone(), since: Instant::now() };
            self.away.insert(worker.hello.name.clone(), away);
        }
    }

    /// Who has left and should be back is waited for no longer. Whether there was any.
    pub(crate) fn give_up_late(&mut self, now: Instant) -> bool {
        let before = self.away.len();
        self.away.retain(|_, away| now.saturating_duration_since(away.since) < AWAY);
        self.away.len() < before
    }

    /// One that died before it joined.
    pub(crate) fn bury_stillborn(&mut self, burial: Burial) {
        let Burial { pid, name, cause, last_lines, .. } = burial;
        let (ready, missed, at) = (false, Vec::new(), Instant::now());
        self.lose(&name, Loss { pid, cause, deaths: 0, last_lines, ready, missed, at });
    }

    fn lose(&mut self, name: &str, loss: Loss) {
        *self.causes.entry(loss.cause.label()).or_default() += 1;
        let early = if loss.ready { "" } else { " before it was ready" };
        self.last_death = Some(format!("'{name}', which {}{early}", loss.cause));
        if self.losses.len() >= MOST_NAMES && !self.losses.contains_key(name) {
            self.losses.pop_first();
        }
        let before = self.losses.remove(name);
        let deaths = before.as_ref().map_or(0, |loss| loss.deaths).saturating_add(1);
        // One that did not come so far as to offer anything would have offered what its predecessor did.
        let missed = if loss.missed.is_empty() {
            before.map_or_else(Vec::new, |before| before.missed)
        } else {
            loss.missed
        };
        self.losses.insert(name.to_owned(), Loss { deaths, missed, ..loss });
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
        self.iter().filter(|(_, worker)| worker.standing == Standing::Ready && !worker.is_stuck())
    }

    /// Those that may come to offer a node type: they offer it and are loading still, or do not know yet what they
    /// will offer; they are stuck and may come back; they are leaving, have left or have died, and their launcher starts
    /// them again soon; or it has told that they come, who served before this gateway began.
    pub(crate) fn loading(&self, node_type: &str) -> Vec<LoadingWorker> {
        let loading = self.workers.values().filter_map(|worker| match &worker.standing {
            Standing::Loading(step)
                if worker.hello.nodes.is_empty() || worker.offers(node_type).is_some() =>
            {
                let (name, elapsed) = (worker.hello.name.clone(), worker.joined.elapsed());
                Some(LoadingWorker { name, step: step.clone(), elapsed })
            }
            Standing::Ready if worker.is_stuck() && worker.offers(node_type).is_some() => {
                let (name, elapsed) = (worker.hello.name.clone(), worker.late_since.elapsed());
                Some(LoadingWorker { name, step: STUCK.to_owned(), elapsed })
            }
            // Its death is on the way, and with it the word whether somebody starts it again.
            Standing::Condemned if worker.offers(node_type).is_some() => {
                let (name, elapsed) = (worker.hello.name.clone(), worker.joined.elapsed());
                Some(LoadingWorker { name, step: RESTARTING.to_owned(), elapsed })
            }
            Standing::Leaving if worker.returns && worker.offers(node_type).is_some() => {
                let (name, elapsed) = (worker.hello.name.clone(), worker.joined.elapsed());
                Some(LoadingWorker { name, step: LEAVING.to_owned(), elapsed })
            }
            Standing::Loading(_) | Standing::Ready | Standing::Leaving | Standing::Condemned => None,
        });
        let missed =
            self.absent().filter(|(name, loss)| loss.misses(node_type) && !self.expected.contains_key(*name));
        let missed = missed.map(|(name, loss)| (name, loss.at, RESTARTING));
        let expected = self.expected.iter().map(|(name, since)| (name.as_str(), *since, COMING));
        let away =
            self.away.iter().filter(|(_, away)| away.offered.iter().any(|one| one.answers_to(node_type)));
        let away = away.map(|(name, away)| (name.as_str(), away.since, RESTARTING));
        let soon = missed.chain(expected).chain(away).filter(|(name, ..)| !self.quarantines.has(name));
        let absent = soon.map(|(name, since, step)| LoadingWorker {
            name: name.to_owned(),
            step: step.to_owned(),
            elapsed: since.elapsed(),
        });
        loading.chain(absent).collect()
    }

    /// Those that have offered a node type and are in quarantine: those first that are tried again first.
    pub(crate) fn isolated(&self, node_type: &str) -> Vec<Quarantine> {
        let offered = |name: &str| self.losses.get(name).is_some_and(|loss| loss.misses(node_type));
        let mut isolated: Vec<Quarantine> =
            self.quarantines.iter().filter(|quarantine| offered(&quarantine.worker)).collect();
        isolated.sort_by_key(|quarantine| quarantine.left);
        isolated.truncate(MAX_QUARANTINES);
        isolated
    }

    /// Which workers do not start, and why, in words; empty if all do.
    pub(crate) fn failing(&self) -> String {
        let absent = self.absent().filter(|(name, loss)| !loss.ready && !self.quarantines.has(name));
        let failing = absent.map(|(name, loss)| {
            let last = loss.last_lines.iter().rev().find(|line| !line.is_empty());
            let said = last.map_or_else(String::new, |line| format!(", and wrote '{line}'"));
            format!("worker '{name}' does not start: it {}{said}", loss.cause)
        });
        let isolated = self.quarantines.iter().map(|quarantine| format!("worker {quarantine}"));
        failing.chain(isolated).collect::<Vec<_>>().join("; ")
    }

    pub(crate) const fn quarantines(&self) -> &Quarantines {
        &self.quarantines
    }

    pub(crate) const fn quarantines_mut(&mut self) -> &mut Quarantines {
        &mut self.quarantines
    }

    /// By name: the latest deaths.
    pub(crate) fn losses(&self) -> impl Iterator<Item = (&str, &Loss)> {
        self.losses.iter().map(|(name, loss)| (name.as_str(), loss))
    }

    /// Names of which one died, and none is here.
    fn absent(&self) -> impl Iterator<Item = (&str, &Loss)> {
        self.losses().filter(|(name, _)| !self.workers.values().any(|worker| worker.hello.name == *name))
    }

    /// Whether a worker wants to go, and can.
    pub(crate) fn may_go(&self, member: Member) -> bool {
        self.workers.get(&member).is_some_and(WorkerEntry::has_left)
    }

    pub(crate) fn deaths(&self, name: &str) -> u32 {
        self.losses.get(name).map_or(0, |loss| loss.deaths)
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

    /// What it does while it is loading.
    pub(crate) fn step(&self) -> Option<&str> {
        match &self.standing {
            Standing::Loading(step) => Some(step),
            Standing::Ready | Standing::Leaving | Standing::Condemned => None,
        }
    }

    /// A call of one of its nodes is past what the service allows.
    pub(crate) fn is_stuck(&self) -> bool {
        self.lateness.is_some_and(|lateness| lateness >= Lateness::Stuck)
    }

    /// It leaves, and has nothing to do any more.
    pub(crate) fn has_left(&self) -> bool {
        self.standing == Standing::Leaving && self.sessions == 0
    }
}

impl Loss {
    fn misses(&self, node_type: &str) -> bool {
        self.missed.iter().any(|info| info.answers_to(node_type))
    }
}

/// Whether one may stand for the other. Their summaries are for people.
fn is_same_schema(one: &NodeInfo, other: &NodeInfo) -> bool {
    let without_summary = |info: &NodeInfo| NodeInfo { summary: String::new(), ..info.clone() };
    without_summary(one) == without_summary(other)
}

/// As JSON, which is how `remotemedia nodes --json` shows it.
fn schema(info: &NodeInfo) -> String {
    serde_json::to_string(info).unwrap_or_else(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use remotemedia_ipc::control::messages::PROTOCOL;
    use remotemedia_ipc::slot::{Incarnation, Slot};

    use super::*;

    #[test]
    fn a_worker_that_starts_again_is_waited_for_until_it_is_here_or_nobody_starts_it() {
        let member = Member { slot: Slot::new(1).unwrap(), incarnation: Incarnation::FIRST };
        let awaited = |registry: &Registry| registry.loading("Any").len();
        let mut registry = Registry::default();
        registry.expect("w1".to_owned());
        registry.expect("w2".to_owned());
        assert_eq!(awaited(&registry), 2);
        registry.join(member, 7, hello(&[]));
        assert_eq!(awaited(&registry), 1);
        registry.expect_no_longer(&BTreeSet::from(["w2".to_owned()]));
        assert_eq!(awaited(&registry), 0);
        registry.expect("w1".to_owned());
        assert_eq!(awaited(&registry), 0, "it was here before its launcher spoke");
    }

    #[test]
    fn a_worker_that_is_being_killed_is_waited_for_as_one_that_is_dead() {
        let member = Member { slot: Slot::new(1).unwrap(), incarnation: Incarnation::FIRST };
        let nodes = vec![NodeInfo { name: "Only".to_owned(), ..NodeInfo::default() }];
        let mut registry = Registry::default();
        registry.join(member, 7, hello(&nodes));
        assert_eq!(registry.loading("Only").len(), 0);
        registry.condemn(member);
        assert_eq!(registry.ready().count(), 0);
        let awaited: Vec<String> = registry.loading("Only").into_iter().map(|worker| worker.name).collect();
        assert_eq!(awaited, ["w1"]);
    }

    #[test]
    fn a_worker_that_leaves_is_waited_for_where_somebody_starts_it_again_and_only_as_long_as_a_start_takes() {
        let member = Member { slot: Slot::new(1).unwrap(), incarnation: Incarnation::FIRST };
        let nodes = vec![NodeInfo { name: "Only".to_owned(), ..NodeInfo::default() }];
        for (has_launcher, expected) in [(true, 1), (false, 0)] {
            let awaited = |registry: &Registry| registry.loading("Only").len();
            let mut registry = Registry::default();
            registry.join(member, 7, hello(&nodes));
            registry.note(member, News::Leaving, has_launcher);
            assert_eq!((registry.ready().count(), awaited(&registry)), (0, expected), "it has a session");
            assert!(registry.bury(member, DeathCause::Exit(0), None).unwrap().has_left());
            assert_eq!((awaited(&registry), registry.losses().count()), (expected, 0), "it has left");
            assert_eq!(registry.loading("Other").len(), 0);
            assert_eq!(registry.give_up_late(Instant::now() + AWAY), has_launcher);
            assert_eq!(awaited(&registry), 0, "it does not come");
            registry.join(member, 8, hello(&nodes));
            registry.note(member, News::Leaving, has_launcher);
            registry.bury(member, DeathCause::Exit(0), None);
            assert!(!registry.give_up_late(Instant::now()));
            registry.join(member, 9, hello(&[]));
            assert_eq!(awaited(&registry), 0, "it is here, and offers something else");
        }
    }

    fn hello(nodes: &[NodeInfo]) -> Hello {
        let (name, kind) = ("w1".to_owned(), "rust".to_owned());
        Hello { protocol: PROTOCOL, name, kind, nodes: nodes.to_vec(), loading: None, invocation: None }
    }
}
