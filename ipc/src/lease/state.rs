//! What the gateway publishes about a slot: which life it is in, and whether that life goes on.

use super::cells::DomainCells;
use super::sync::Ordering;
use crate::slot::{Incarnation, Member, Slot};

/// A slot's life and its phase; one `u32` in shared memory, incarnation in the high half.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotState {
    /// Which life of the slot.
    pub incarnation: Incarnation,
    /// How far that life has come.
    pub phase: Phase,
}

/// How far a slot's life has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Nobody is here and nothing of anybody is left. Zeroed memory says this.
    Clean = 0,
    /// A process lives here.
    Live = 1,
    /// The process is dead and what it held is being reaped.
    Dead = 2,
}

/// A slot state that no gateway writes: the domain's memory is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("slot state {bits:#010x} names no phase: clean is 0, live is 1, dead is 2")]
pub struct NoSuchPhase {
    /// What was read.
    pub bits: u32,
}

/// Whether the gateway says that this very process lives. A damaged state says no.
pub fn is_live(domain: &impl DomainCells, member: Member) -> bool {
    let live = SlotState { incarnation: member.incarnation, phase: Phase::Live };
    domain.state(member.slot).load(Ordering::Acquire) == live.bits()
}

// === impl SlotState ===

impl SlotState {
    /// The state as it stands in shared memory.
    #[must_use]
    pub fn bits(self) -> u32 {
        u32::from(self.incarnation.number()) << 16 | self.phase as u32
    }

    /// A state as it stands in shared memory.
    ///
    /// # Errors
    /// The low half names no phase.
    pub fn from_bits(bits: u32) -> Result<Self, NoSuchPhase> {
        let [high, low] = [bits >> 16, bits & 0xffff];
        let phase = match low {
            0 => Phase::Clean,
            1 => Phase::Live,
            2 => Phase::Dead,
            _ => return Err(NoSuchPhase { bits }),
        };
        let number = u16::try_from(high).map_err(|_| NoSuchPhase { bits })?;
        Ok(Self { incarnation: Incarnation::new(number), phase })
    }

    /// What the gateway says of a slot.
    ///
    /// # Errors
    /// The domain's memory is damaged.
    pub fn load(domain: &impl DomainCells, slot: Slot) -> Result<Self, NoSuchPhase> {
        Self::from_bits(domain.state(slot).load(Ordering::Acquire))
    }

    /// Tells everybody. Gateway only.
    pub(super) fn publish(self, domain: &impl DomainCells, slot: Slot) {
        domain.state(slot).store(self.bits(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_state_is_read_as_written() {
        for number in [0, 1, 2, u16::MAX] {
            for phase in [Phase::Clean, Phase::Live, Phase::Dead] {
                let state = SlotState { incarnation: Incarnation::new(number), phase };
                assert_eq!(SlotState::from_bits(state.bits()), Ok(state));
            }
        }
        assert_eq!(SlotState::from_bits(0).map(|state| state.phase), Ok(Phase::Clean));
        assert_eq!(SlotState::from_bits(0x0001_0003), Err(NoSuchPhase { bits: 0x0001_0003 }));
    }
}
