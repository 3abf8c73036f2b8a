//! The launchers that are connected: whose children the workers are, and what is known of their deaths.

use std::collections::{BTreeMap, BTreeSet};

use super::HostEvent;
use crate::control::messages::{Burial, FromLauncher};
use crate::control::{Channel, ChannelError, codec};
use crate::slot::SLOTS;

/// All launchers, and the deaths that they have told of and nobody has asked about.
#[derive(Debug, Default)]
pub(super) struct Launchers {
    connected: BTreeMap<usize, Launcher>,
    next_place: usize,
}

#[derive(Debug)]
struct Launcher {
    channel: Channel,
    /// Its living children.
    children: BTreeSet<i32>,
    /// Its dead children.
    burials: BTreeMap<i32, Burial>,
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
    #[error("it tells more of a death than is allowed")]
    Unbounded,
}

/// One for the service, and some for workers that were started beside it.
const LAUNCHERS: usize = 8;

/// Children of one launcher: as many as there are slots, and as many that wait for one.
const CHILDREN: usize = SLOTS * 2;

// === impl Launchers ===

impl Launchers {
    /// Whether there is room for it.
    pub(super) fn admit(&mut self, channel: Channel) -> bool {
        if self.connected.len() >= LAUNCHERS {
            return false;
        }
        let launcher = Launcher { channel, children: BTreeSet::new(), burials: BTreeMap::new() };
        self.connected.insert(self.next_place, launcher);
        self.next_place += 1;
        true
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = (usize, &Channel)> {
        self.connected.iter().map(|(place, launcher)| (*place, &launcher.channel))
    }

    /// Takes in what a launcher says. One that is gone, or speaks nonsense, is forgotten: of its children is then known
    /// what the kernel tells.
    pub(super) fn hear(&mut self, place: usize) {
        let Some(launcher) = self.connected.get_mut(&place) else { return };
        if let Err(breach) = launcher.hear() {
            tracing::info!(%breach, "launcher_parted");
            self.connected.remove(&place);
        }
    }

    /// Whether its parent is here, and will tell or has told of its death.
    pub(super) fn know(&self, pid: i32) -> bool {
        self.connected.values().any(|one| one.children.contains(&pid) || one.burials.contains_key(&pid))
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
    fn hear(&mut self) -> Result<(), Breach> {
        while let Some(incoming) = self.channel.try_recv()? {
            match codec::decode(&incoming.bytes)? {
                FromLauncher::Started { .. } if self.children.len() >= CHILDREN => {
                    return Err(Breach::Children);
                }
                FromLauncher::Started { pid } => drop(self.children.insert(pid)),
                FromLauncher::Buried(burial) if !burial.is_bounded() => return Err(Breach::Unbounded),
                // Of a stranger, or of one whose death was published without it.
                FromLauncher::Buried(burial) if !self.children.remove(&burial.pid) => {
                    tracing::debug!(pid = burial.pid, "burial_told_late");
                }
                FromLauncher::Buried(burial) => drop(self.burials.insert(burial.pid, burial)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_core::fault::DeathCause;

    use super::*;
    use crate::control::messages::MAX_LAST_LINES;

    fn burial(pid: i32, lines: usize) -> Burial {
        let last_lines = vec!["gone".to_owned(); lines];
        Burial { pid, name: "python-1".to_owned(), cause: DeathCause::Exit(3), restarts: 0, last_lines }
    }

    fn said(messages: &[FromLauncher]) -> Launchers {
        let (mut theirs, ours) = Channel::pair().unwrap();
        let mut launchers = Launchers::default();
        assert!(launchers.admit(ours));
        for message in messages {
            theirs.send(&codec::encode(message).unwrap(), &[]).unwrap();
        }
        launchers.hear(0);
        drop(theirs);
        launchers
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
        launchers.hear(0);
        assert_eq!(launchers.channels().count(), 0);
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
