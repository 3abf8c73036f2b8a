//! The launchers that are connected: whose children the workers are, and what is known of their deaths.

use std::collections::{BTreeMap, BTreeSet};

use remotemedia_core::launching::{
    LaunchOrder, LaunchRefusal, MAX_LAST_LINE, MAX_PROBLEM, Quarantine, Rollout,
};

use super::admission::NAME_BYTES;
use super::reports::Reports;
use super::{HostEvent, LauncherEvent};
use crate::control::messages::{Burial, FromLauncher, ToLauncher};
use crate::control::{Channel, ChannelError, codec};
use crate::slot::SLOTS;

/// All launchers, and the deaths that they have told of and nobody has asked about.
#[derive(Debug, Default)]
pub(super) struct Launchers {
    /// Of those whom systemd has started.
    pub(super) reports: Reports,
    connected: BTreeMap<usize, Launcher>,
    next_place: usize,
    next_request: u64,
}

#[derive(Debug)]
struct Launcher {
    channel: Channel,
    /// Its living children, and whether it has heard that they are ready.
    children: BTreeMap<i32, bool>,
    /// Its dead children.
    burials: BTreeMap<i32, Burial>,
    /// The names of workers that it does not start for a while.
    quarantined: BTreeSet<String>,
    /// The names of workers that it starts again, as it said when it came.
    awaited: BTreeSet<String>,
    /// How far it is in replacing workers, if it does.
    rollout: Option<Rollout>,
    /// Orders that it has not answered.
    orders: BTreeSet<u64>,
}

/// Why a launcher is heard no more.
#[derive(Debug, thiserror::Error)]
enum Breach {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
    #[error("it has more than {CHILDREN} children")]
    Children,
    #[error("it tells more than is allowed")]
    Unbounded,
    #[error("it answers what it was not asked")]
    Unasked,
}

/// One for the service, and some for workers that were started beside it.
const LAUNCHERS: usize = 8;

/// Children of one launcher: as many as there are slots, and as many that wait for one.
const CHILDREN: usize = SLOTS * 2;

/// Orders that a launcher may owe an answer to: it answers each at once.
const ORDERS: usize = 16;

// === impl Launchers ===

impl Launchers {
    /// Whether there is room for it.
    pub(super) fn admit(&mut self, channel: Channel) -> bool {
        if self.connected.len() >= LAUNCHERS {
            return false;
        }
        self.connected.insert(self.next_place, Launcher::new(channel));
        self.next_place += 1;
        true
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = (usize, &Channel)> {
        self.connected.iter().map(|(place, launcher)| (*place, &launcher.channel))
    }

    /// Takes in what a launcher says. One that is gone, or speaks nonsense, is forgotten: of its children is then known
    /// what the kernel tells, nobody starts those in quarantine, and nobody answers.
    pub(super) fn hear(&mut self, place: usize, take: &mut impl FnMut(HostEvent)) {
        let Some(launcher) = self.connected.get_mut(&place) else { return };
        if let Err(breach) = launcher.hear(take) {
            self.part(place, &breach, take);
        }
    }

    /// Tells the parents of those workers that are ready, once.
    pub(super) fn tell_ready(&mut self, pids: &[i32], take: &mut impl FnMut(HostEvent)) {
        let places: Vec<usize> = self.connected.keys().copied().collect();
        for place in places {
            let Some(launcher) = self.connected.get_mut(&place) else { continue };
            if let Err(breach) = launcher.tell_ready(pids) {
                self.part(place, &breach, take);
            }
        }
    }

    /// Passes an order on to whom it concerns. [`LauncherEvent::Answered`] follows with the number that is given.
    pub(super) fn order(
        &mut self,
        order: &LaunchOrder,
        take: &mut impl FnMut(HostEvent),
    ) -> Result<u64, LaunchRefusal> {
        let place = self.concerned(order)?;
        let launcher = self.connected.get_mut(&place).ok_or(LaunchRefusal::NoLauncher)?;
        if launcher.orders.len() >= ORDERS {
            return Err(LaunchRefusal::Busy { waiting: launcher.orders.len() });
        }
        let request = self.next_request;
        self.next_request += 1;
        match launcher.say(&ToLauncher::Order { request, order: order.clone() }) {
            Ok(()) => {
                launcher.orders.insert(request);
                Ok(request)
            }
            Err(breach) => {
                self.part(place, &breach, take);
                Err(LaunchRefusal::Gone)
            }
        }
    }

    fn concerned(&self, order: &LaunchOrder) -> Result<usize, LaunchRefusal> {
        match order {
            LaunchOrder::Release { worker } => {
                let found = self.connected.iter().find(|(_, one)| one.quarantined.contains(worker));
                found.map(|(place, _)| *place).ok_or_else(|| self.not_quarantined(worker))
            }
            // The service's own has connected first: others start workers beside it.
            LaunchOrder::Restart { .. } => {
                self.connected.keys().next().copied().ok_or(LaunchRefusal::NoLauncher)
            }
        }
    }

    fn not_quarantined(&self, worker: &str) -> LaunchRefusal {
        if self.connected.is_empty() {
            return LaunchRefusal::NoLauncher;
        }
        let quarantined = self.connected.values().flat_map(|one| one.quarantined.iter().cloned()).collect();
        LaunchRefusal::NotQuarantined { worker: worker.to_owned(), quarantined }
    }

    fn part(&mut self, place: usize, breach: &Breach, take: &mut impl FnMut(HostEvent)) {
        let Some(launcher) = self.connected.remove(&place) else { return };
        tracing::info!(%breach, "launcher_parted");
        if !launcher.awaited.is_empty() {
            take(HostEvent::Launcher(LauncherEvent::Parted { awaited: launcher.awaited }));
        }
        for worker in launcher.quarantined {
            take(HostEvent::Launcher(LauncherEvent::Released { worker }));
        }
        if let Some(rollout) = launcher.rollout.filter(|rollout| !rollout.is_over()) {
            let problem = LaunchRefusal::Gone.to_string();
            take(HostEvent::Launcher(LauncherEvent::Restarting(Rollout { problem, ..rollout })));
        }
        for request in launcher.orders {
            take(HostEvent::Launcher(LauncherEvent::Answered { request, answer: Err(LaunchRefusal::Gone) }));
        }
    }

    /// Whether its parent is here, and will tell or has told of its death.
    pub(super) fn know(&self, pid: i32) -> bool {
        self.connected.values().any(|one| one.children.contains_key(&pid) || one.burials.contains_key(&pid))
    }

    /// What its parent has told of its death.
    pub(super) fn take_burial(&mut self, pid: i32) -> Option<Burial> {
        self.connected.values_mut().find_map(|launcher| launcher.burials.remove(&pid))
    }

    /// What is told of its death from here on comes too late.
    pub(super) fn forget(&mut self, pid: i32) {
        for launcher in self.connected.values_mut() {
            launcher.children.remove(&pid);
            launcher.burials.remove(&pid);
        }
    }

    /// Those who died and, as `is_awaited` says of their process id, never were workers.
    pub(super) fn stillborn(&mut self, is_awaited: impl Fn(i32) -> bool) -> Vec<HostEvent> {
        let mut stillborn = Vec::new();
        for launcher in self.connected.values_mut() {
            let theirs: Vec<i32> = launcher.burials.keys().copied().filter(|pid| !is_awaited(*pid)).collect();
            let burials = theirs.into_iter().filter_map(|pid| launcher.burials.remove(&pid));
            stillborn.extend(burials.map(HostEvent::Stillborn));
        }
        stillborn
    }
}

// === impl Launcher ===

impl Launcher {
    fn new(channel: Channel) -> Self {
        let (children, burials) = (BTreeMap::new(), BTreeMap::new());
        let (quarantined, awaited, orders) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { channel, children, burials, quarantined, awaited, rollout: None, orders }
    }

    fn hear(&mut self, take: &mut impl FnMut(HostEvent)) -> Result<(), Breach> {
        while let Some(incoming) = self.channel.try_recv()? {
            match codec::decode(&incoming.bytes)? {
                FromLauncher::Started { .. } if self.children.len() >= CHILDREN => {
                    return Err(Breach::Children);
                }
                FromLauncher::Started { pid } => drop(self.children.insert(pid, false)),
                FromLauncher::Buried(burial) if !burial.is_bounded() => return Err(Breach::Unbounded),
                // Of a stranger, or of one whose death was published without it.
                FromLauncher::Buried(burial) if self.children.remove(&burial.pid).is_none() => {
                    tracing::debug!(pid = burial.pid, "burial_told_late");
                }
                FromLauncher::Buried(burial) => drop(self.burials.insert(burial.pid, burial)),
                FromLauncher::Awaited { worker } => take(self.awaited(worker)?),
                FromLauncher::Quarantined(quarantine) => take(self.quarantine(quarantine)?),
                FromLauncher::Released { worker } => {
                    if self.quarantined.remove(&worker) {
                        take(HostEvent::Launcher(LauncherEvent::Released { worker }));
                    }
                }
                FromLauncher::Restarting(rollout) => take(self.restarting(rollout)?),
                FromLauncher::Answered { request, answer } => {
                    if !self.orders.remove(&request) {
                        return Err(Breach::Unasked);
                    }
                    take(HostEvent::Launcher(LauncherEvent::Answered { request, answer }));
                }
            }
        }
        Ok(())
    }

    fn awaited(&mut self, worker: String) -> Result<HostEvent, Breach> {
        if worker.len() > NAME_BYTES || self.awaited.len() >= CHILDREN {
            return Err(Breach::Unbounded);
        }
        self.awaited.insert(worker.clone());
        Ok(HostEvent::Launcher(LauncherEvent::Awaited { worker }))
    }

    fn quarantine(&mut self, quarantine: Quarantine) -> Result<HostEvent, Breach> {
        let is_bounded = quarantine.worker.len() <= NAME_BYTES
            && quarantine.last_line.len() <= MAX_LAST_LINE
            && self.quarantined.len() < CHILDREN;
        if !is_bounded {
            return Err(Breach::Unbounded);
        }
        self.quarantined.insert(quarantine.worker.clone());
        Ok(HostEvent::Launcher(LauncherEvent::Quarantined(quarantine)))
    }

    fn restarting(&mut self, rollout: Rollout) -> Result<HostEvent, Breach> {
        let Rollout { done, left, problem } = &rollout;
        let mut names = done.iter().chain(left);
        let is_bounded = done.len() + left.len() <= CHILDREN && names.all(|name| name.len() <= NAME_BYTES);
        if !is_bounded || problem.len() > MAX_PROBLEM {
            return Err(Breach::Unbounded);
        }
        self.rollout = Some(rollout.clone());
        Ok(HostEvent::Launcher(LauncherEvent::Restarting(rollout)))
    }

    fn tell_ready(&mut self, pids: &[i32]) -> Result<(), Breach> {
        for pid in pids {
            if self.children.get(pid) == Some(&false) {
                self.say(&ToLauncher::Ready { pid: *pid })?;
                self.children.insert(*pid, true);
            }
        }
        Ok(())
    }

    fn say(&mut self, message: &ToLauncher) -> Result<(), Breach> {
        Ok(self.channel.send(&codec::encode(message)?, &[])?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use remotemedia_core::fault::DeathCause;

    use super::*;
    use crate::control::messages::MAX_LAST_LINES;

    fn burial(pid: i32, lines: usize) -> Burial {
        let last_lines = vec!["gone".to_owned(); lines];
        Burial { pid, name: "python-1".to_owned(), cause: DeathCause::Exit(3), restarts: Some(0), last_lines }
    }

    fn said(messages: &[FromLauncher]) -> Launchers {
        let (mut theirs, ours) = Channel::pair().unwrap();
        let mut launchers = Launchers::default();
        assert!(launchers.admit(ours));
        for message in messages {
            theirs.send(&codec::encode(message).unwrap(), &[]).unwrap();
        }
        hear(&mut launchers);
        drop(theirs);
        launchers
    }

    /// What came of what the first launcher has said.
    fn hear(launchers: &mut Launchers) -> Vec<HostEvent> {
        let mut events = Vec::new();
        launchers.hear(0, &mut |event| events.push(event));
        events
    }

    fn quarantine(worker: &str) -> FromLauncher {
        FromLauncher::Quarantined(Quarantine {
            worker: worker.to_owned(),
            deaths: 5,
            cause: DeathCause::Exit(3),
            last_line: String::new(),
            since: Duration::ZERO,
            left: Duration::from_secs(60),
        })
    }

    #[test]
    fn a_parents_word_of_a_death_is_kept_until_it_is_asked_for_or_too_late() {
        let started = |pid| FromLauncher::Started { pid };
        let mut launchers = said(&[started(7), started(8), FromLauncher::Buried(burial(7, 1))]);
        assert!(launchers.know(7) && launchers.know(8) && !launchers.know(9));
        assert!(launchers.stillborn(|pid| pid == 7).is_empty());
        assert_eq!(launchers.take_burial(7), Some(burial(7, 1)));
        assert_eq!(launchers.take_burial(7), None);
        launchers.forget(8);
        assert!(!launchers.know(8));
        // The connection has ended.
        assert!(hear(&mut launchers).is_empty());
        assert_eq!(launchers.channels().count(), 0);
    }

    #[test]
    fn an_order_goes_to_whose_worker_it_is_and_is_answered_also_if_that_goes_away() {
        let release = |worker: &str| LaunchOrder::Release { worker: worker.to_owned() };
        let (mut theirs, ours) = Channel::pair().unwrap();
        let mut launchers = Launchers::default();
        assert_eq!(launchers.order(&release("a"), &mut drop), Err(LaunchRefusal::NoLauncher));
        assert!(launchers.admit(ours));
        theirs.send(&codec::encode(&quarantine("a")).unwrap(), &[]).unwrap();
        assert!(
            matches!(hear(&mut launchers).as_slice(), [HostEvent::Launcher(LauncherEvent::Quarantined(one))] if one.worker == "a")
        );
        let refusal = launchers.order(&release("b"), &mut drop).unwrap_err();
        assert_eq!(refusal.to_string(), "worker 'b' is not in quarantine: there are a");

        let request = launchers.order(&release("a"), &mut drop).unwrap();
        let heard: ToLauncher = codec::decode(&theirs.try_recv().unwrap().unwrap().bytes).unwrap();
        assert_eq!(heard, ToLauncher::Order { request, order: release("a") });
        let answer = FromLauncher::Answered { request, answer: Ok(()) };
        theirs.send(&codec::encode(&answer).unwrap(), &[]).unwrap();
        assert!(matches!(
            hear(&mut launchers).as_slice(),
            [HostEvent::Launcher(LauncherEvent::Answered { answer: Ok(()), .. })]
        ));

        let _never_answered = launchers.order(&release("a"), &mut drop).unwrap();
        drop(theirs);
        let events = hear(&mut launchers);
        assert!(
            matches!(events.as_slice(), [
                HostEvent::Launcher(LauncherEvent::Released { worker }),
                HostEvent::Launcher(LauncherEvent::Answered { answer: Err(LaunchRefusal::Gone), .. }),
            ] if worker == "a"),
            "{events:?}"
        );
    }

    #[test]
    fn whom_a_launcher_starts_again_is_awaited_until_it_goes_away() {
        let (mut theirs, ours) = Channel::pair().unwrap();
        let mut launchers = Launchers::default();
        assert!(launchers.admit(ours));
        let awaited =
            |worker: &str| codec::encode(&FromLauncher::Awaited { worker: worker.to_owned() }).unwrap();
        theirs.send(&awaited("a"), &[]).unwrap();
        assert!(
            matches!(hear(&mut launchers).as_slice(), [HostEvent::Launcher(LauncherEvent::Awaited { worker })] if worker == "a")
        );
        theirs.send(&awaited(&"a".repeat(NAME_BYTES + 1)), &[]).unwrap();
        let events = hear(&mut launchers);
        assert!(
            matches!(events.as_slice(), [HostEvent::Launcher(LauncherEvent::Parted { awaited })] if awaited.len() == 1),
            "{events:?}"
        );
    }

    #[test]
    fn a_parent_hears_once_that_its_child_is_ready() {
        let (mut theirs, ours) = Channel::pair().unwrap();
        let mut launchers = Launchers::default();
        assert!(launchers.admit(ours));
        launchers.tell_ready(&[7], &mut drop);
        theirs.send(&codec::encode(&FromLauncher::Started { pid: 7 }).unwrap(), &[]).unwrap();
        assert!(hear(&mut launchers).is_empty());
        launchers.tell_ready(&[7, 8], &mut drop);
        launchers.tell_ready(&[7, 8], &mut drop);
        let heard: ToLauncher = codec::decode(&theirs.try_recv().unwrap().unwrap().bytes).unwrap();
        assert_eq!(heard, ToLauncher::Ready { pid: 7 });
        assert!(theirs.try_recv().unwrap().is_none());
    }

    #[test]
    fn one_that_died_before_it_was_a_worker_is_told_apart() {
        let mut launchers = said(&[FromLauncher::Started { pid: 7 }, FromLauncher::Buried(burial(7, 0))]);
        let stillborn = launchers.stillborn(|_pid| false);
        assert!(matches!(stillborn.as_slice(), [HostEvent::Stillborn(one)] if one.pid == 7), "{stillborn:?}");
    }

    #[test]
    fn a_launcher_that_tells_of_strangers_or_without_bounds_is_not_believed() {
        assert!(!said(&[FromLauncher::Buried(burial(7, 1))]).know(7));
        let launchers =
            said(&[FromLauncher::Started { pid: 7 }, FromLauncher::Buried(burial(7, MAX_LAST_LINES + 1))]);
        assert_eq!(launchers.channels().count(), 0);
    }
}
