//! The domain's frame pools: which there are, whose, and when one is destroyed.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::{HostError, PoolBudget};
use crate::control::messages::ToWorker;
use crate::memory::{Geometry, PoolFiles, ProducerMap, ReaderMap, SharedFileError, budget};
use crate::plane::Plane;
use crate::slot::{Member, PoolId};

/// All pools of a domain, the gateway's own included.
#[derive(Debug)]
pub(super) struct PoolBook {
    pools: BTreeMap<PoolId, Entry>,
    next: u32,
    scanned: Instant,
    budget_bytes: u64,
}

#[derive(Debug)]
struct Entry {
    owner: Member,
    geometry: Geometry,
    files: PoolFiles,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Its producer lives.
    Active,
    /// Its producer is dead; it goes when nobody holds any of it.
    Retired,
}

/// How often retired pools are looked through: their memory is only late, not lost.
const SCAN: Duration = Duration::from_millis(20);

/// A worker's pool as the gateway reads it.
pub(super) fn map(geometry: &Geometry, files: &PoolFiles) -> Result<ReaderMap, SharedFileError> {
    ReaderMap::map(geometry.clone(), &files.words, files.payload_read_only()?)
}

impl PoolBook {
    /// With the gateway's own pool.
    pub(super) fn start(plane: &Plane, geometry: &Geometry, budget: PoolBudget) -> Result<Self, HostError> {
        let id = PoolId(0);
        budget::check(budget.at_start.max(geometry.reserved_bytes()))?;
        let files = PoolFiles::create(id, geometry)?;
        plane.add_own_pool(id, ProducerMap::map(geometry.clone(), &files.words, &files.payload)?);
        files.seal_against_writers()?;
        let entry = Entry { owner: plane.me(), geometry: geometry.clone(), files, state: State::Active };
        let (pools, scanned) = (BTreeMap::from([(id, entry)]), Instant::now());
        Ok(Self { pools, next: 1, scanned, budget_bytes: budget.at_most })
    }

    /// What all pools may take together.
    pub(super) const fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    /// What they take.
    pub(super) fn reserved_bytes(&self) -> u64 {
        self.pools.values().map(|entry| entry.geometry.reserved_bytes()).sum()
    }

    /// A number that no pool had. After 2^32 of them the gateway must restart, which no uptime reaches.
    pub(super) const fn next_id(&mut self) -> PoolId {
        let id = PoolId(self.next);
        self.next = self.next.wrapping_add(1);
        id
    }

    pub(super) fn add(
        &mut self,
        plane: &Plane,
        id: PoolId,
        owner: Member,
        geometry: Geometry,
        files: PoolFiles,
        map: ReaderMap,
    ) {
        plane.add_pool(id, owner, map);
        self.pools.insert(id, Entry { owner, geometry, files, state: State::Active });
    }

    /// The producer has mapped it: from now on nobody else can write it.
    pub(super) fn seal(&self, id: PoolId) -> Result<(), SharedFileError> {
        self.pools.get(&id).map_or(Ok(()), |entry| entry.files.seal_against_writers())
    }

    pub(super) fn ids(&self) -> Vec<PoolId> {
        self.pools.keys().copied().collect()
    }

    /// What a newcomer is told: retired pools too, for their frames still pass from hand to hand.
    pub(super) fn offers(&self) -> Vec<(PoolId, ToWorker)> {
        self.pools.keys().filter_map(|id| Some((*id, self.offer(*id)?))).collect()
    }

    pub(super) fn offer(&self, id: PoolId) -> Option<ToWorker> {
        let Entry { owner, geometry, .. } = self.pools.get(&id)?;
        Some(ToWorker::PoolUp { pool: id, owner: *owner, geometry: geometry.clone() })
    }

    /// The words, and the payload read-only.
    pub(super) fn fds(&self, id: PoolId) -> Option<[OwnedFd; 2]> {
        let files = &self.pools.get(&id)?.files;
        Some([files.words.try_clone().ok()?, files.payload_read_only().ok()?])
    }

    /// Active => Retired
    pub(super) fn retire(&mut self, id: PoolId) {
        if let Some(entry) = self.pools.get_mut(&id) {
            entry.state = State::Retired;
        }
    }

    /// Takes the retired pools of which nobody holds anything out of the book. Idle they stay: their producer is dead.
    pub(super) fn take_idle(&mut self, plane: &Plane) -> Vec<PoolId> {
        if self.scanned.elapsed() < SCAN || self.pools.values().all(|entry| entry.state == State::Active) {
            return Vec::new();
        }
        self.scanned = Instant::now();
        let mapped = plane.pools();
        let idle = mapped.iter().filter(|pool| {
            let retired = self.pools.get(&pool.id()).is_some_and(|entry| entry.state == State::Retired);
            retired && pool.is_idle()
        });
        let idle: Vec<PoolId> = idle.map(|pool| pool.id()).collect();
        self.pools.retain(|id, _| !idle.contains(id));
        idle
    }
}
