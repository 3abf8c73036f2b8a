//! The gateway's side: the lives of a slot, and what becomes of a dead process's leases.

use std::collections::BTreeSet;

use super::cells::{BlockCells, DomainCells};
use super::rules::{Rules, Sound};
use super::state::{Phase, SlotState};
use super::sync::Ordering;
use super::word::Word;
use crate::slot::{Incarnation, Member, PoolId, Slot};

/// A slot that may be given out: nothing of any earlier life is left in it. `Vacancy => Tenancy => Remains => Vacancy`,
/// each step consuming the one before, so that no slot has two tenants and none moves in before the reap is complete.
#[derive(Debug)]
#[must_use = "a slot whose vacancy is dropped is never used again"]
pub struct Vacancy(Member);

/// A slot in which a process lives.
#[derive(Debug)]
#[must_use = "a slot whose tenancy is dropped is never reaped"]
pub struct Tenancy(Member);

/// A slot whose process is dead and whose bits are being cleared.
#[derive(Debug)]
#[must_use = "a slot whose remains are dropped is never used again"]
pub struct Remains {
    member: Member,
    unreaped: BTreeSet<PoolId>,
}

/// The slots of a new domain, in slot order, the gateway's own first. Once for each domain.
#[must_use]
pub fn vacancies() -> Vec<Vacancy> {
    Slot::all().map(|slot| Vacancy(Member { slot, incarnation: Incarnation::FIRST })).collect()
}

/// Whether nobody holds any block of a pool. It stays so if the pool's producer is dead: a free block is left by its
/// producer only (W2), which is why the blocks may be looked at one after the other.
pub fn is_idle(cells: &impl BlockCells) -> bool {
    (0..cells.blocks()).map(crate::slot::BlockIndex).all(|block| {
        let word = cells.word(block).load(Ordering::Acquire);
        Word::from_bits(word).holders().is_empty()
    })
}

/// Clears a dead process's bit on every block of a pool, and says on how many it was set. May be repeated.
///
/// Only [`Remains::reap`] calls it for a living domain: of a living process's slot it would free what is in use (A2).
pub fn clear_bits(cells: &impl BlockCells, dead: Slot) -> u32 {
    let mut cleared = 0;
    for block in (0..cells.blocks()).map(crate::slot::BlockIndex) {
        let word = cells.word(block);
        let seen = Word::from_bits(word.load(Ordering::Acquire));
        // The bit stands still between the two: its owner is dead, and nobody else sets it.
        if seen.holders().contains(dead) {
            word.fetch_and(!dead.bit(), Ordering::AcqRel);
            cleared += 1;
        }
    }
    cleared
}

// === impl Vacancy ===

impl Vacancy {
    /// The process that will live here.
    #[must_use]
    pub const fn member(&self) -> Member {
        self.0
    }

    /// `Vacancy => Tenancy`: a process is admitted.
    pub fn admit(self, domain: &impl DomainCells) -> Tenancy {
        publish(domain, self.0, Phase::Live);
        Tenancy(self.0)
    }
}

// === impl Tenancy ===

impl Tenancy {
    /// The process that lives here.
    #[must_use]
    pub const fn member(&self) -> Member {
        self.0
    }

    /// `Tenancy => Remains`: the process is certainly dead (A2). From here nobody sends to it, and who has sent lets
    /// go. `pools` are all that exist, retired ones too; it can have held nothing of a pool made later.
    pub fn bury(self, domain: &impl DomainCells, pools: impl IntoIterator<Item = PoolId>) -> Remains {
        publish(domain, self.0, Phase::Dead);
        Remains { member: self.0, unreaped: pools.into_iter().collect() }
    }
}

// === impl Remains ===

impl Remains {
    /// The process that lived here.
    #[must_use]
    pub const fn member(&self) -> Member {
        self.member
    }

    /// Pools whose blocks may still bear the dead process's bit.
    pub fn unreaped(&self) -> impl Iterator<Item = PoolId> {
        self.unreaped.iter().copied()
    }

    /// Clears the dead process's bits in one pool, and says how many blocks it held. May be repeated.
    pub fn reap(&mut self, pool: PoolId, cells: &impl BlockCells) -> u32 {
        let cleared = clear_bits(cells, self.member.slot);
        self.unreaped.remove(&pool);
        cleared
    }

    /// A pool was destroyed meanwhile, so nobody held any of it, the dead process included.
    pub fn pool_destroyed(&mut self, pool: PoolId) {
        self.unreaped.remove(&pool);
    }

    /// `Remains => Vacancy`, or none if the slot has come to the end of its incarnations and stays empty.
    ///
    /// # Errors
    /// A pool has not been reaped (W5): a successor's own bits could be taken for those of the dead.
    pub fn vacate(self, domain: &impl DomainCells) -> Result<Option<Vacancy>, Self> {
        self.vacate_under::<Sound>(domain)
    }

    /// As [`Self::vacate`], under rules other than [`Sound`].
    ///
    /// # Errors
    /// As [`Self::vacate`].
    pub fn vacate_under<R: Rules>(self, domain: &impl DomainCells) -> Result<Option<Vacancy>, Self> {
        if R::SLOT_WAITS_FOR_REAP && !self.unreaped.is_empty() {
            return Err(self);
        }
        publish(domain, self.member, Phase::Clean);
        let next = self.member.incarnation.next();
        Ok(next.map(|incarnation| Vacancy(Member { slot: self.member.slot, incarnation })))
    }
}

fn publish(domain: &impl DomainCells, member: Member, phase: Phase) {
    SlotState { incarnation: member.incarnation, phase }.publish(domain, member.slot);
}
