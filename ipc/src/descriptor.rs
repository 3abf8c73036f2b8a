//! What travels over a link: 256 bytes that say where a frame's payload and metadata lie.

use iceoryx2::prelude::ZeroCopySend;

use crate::slot::{BlockIndex, Generation, Incarnation, Member, PoolId, Slot};

/// The version of [`Descriptor`]'s layout; part of its type name, so that two layouts never share a link.
pub const LAYOUT: u32 = 1;

/// A piece of a pool's block: the frame pool, which content of which block, and where in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ZeroCopySend)]
#[repr(C)]
pub struct BlockRef {
    /// The block's content that is meant (all 64 bits).
    pub generation: u64,
    /// Offset in the block, in bytes.
    pub offset: u64,
    /// Length in bytes. 0 means that there is no reference: nothing is leased, nothing is acknowledged.
    pub len: u64,
    /// The frame pool.
    pub pool: u32,
    /// The block.
    pub block: u32,
}

/// One message of a link. Plain old data of one size; every field is checked by its reader before use, because the
/// peer that wrote it may be wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ZeroCopySend)]
#[repr(C)]
#[type_name("remotemedia.descriptor.1")]
pub struct Descriptor {
    /// Position in the link's order, counted by the sender for as long as it lives; what is acknowledged.
    pub link_sequence: u64,
    /// The session that the frame belongs to.
    pub session: u64,
    /// The session's sequence number of the input from which the frame came.
    pub sequence: u64,
    /// Presentation time of the frame's begin, in microseconds; `u64::MAX` means none was given.
    pub timestamp_us: u64,
    /// When the descriptor was pushed, in nanoseconds of the monotonic clock: one hop's latency.
    pub pushed_ns: u64,
    /// The payload.
    pub payload: BlockRef,
    /// Variable metadata, encoded by [`crate::control`]'s codec.
    pub metadata: BlockRef,
    /// The fixed metadata of the kind: rate, channels, format, or whatever the kind defines.
    pub fixed: [u64; 16],
    /// The edge of the session's graph on which the frame travels: who gets it, and whose credit it used.
    pub edge: u32,
    /// What kind of message this is: [`crate::plane`] gives the numbers their meaning.
    pub kind: u16,
    /// Set of [`flag`]s.
    pub flags: u16,
    /// The sender's incarnation.
    pub sender_incarnation: u16,
    /// The sender's slot.
    pub sender_slot: u8,
    /// Zero.
    pub reserved: [u8; 13],
}

/// Bits of [`Descriptor::flags`].
pub mod flag {
    /// Nothing more will come of this input sequence on this edge.
    pub const LAST: u16 = 1;
}

const _: () = assert!(size_of::<Descriptor>() == 256, "a link's message is 256 bytes");
const _: () = assert!(align_of::<Descriptor>() == 8);
const _: () = assert!(size_of::<BlockRef>() == 32);

// === impl BlockRef ===

impl BlockRef {
    /// No reference.
    pub const NONE: Self = Self { generation: 0, offset: 0, len: 0, pool: 0, block: 0 };

    /// Whether a block is meant at all.
    #[must_use]
    pub const fn is_some(&self) -> bool {
        self.len != 0
    }

    /// The frame pool.
    #[must_use]
    pub const fn pool(&self) -> PoolId {
        PoolId(self.pool)
    }

    /// The block.
    #[must_use]
    pub const fn block(&self) -> BlockIndex {
        BlockIndex(self.block)
    }

    /// The block's content that is meant.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        Generation(self.generation)
    }
}

// === impl Descriptor ===

impl Descriptor {
    /// The sender as it names itself; none if the slot does not exist.
    #[must_use]
    pub fn sender(&self) -> Option<Member> {
        let slot = Slot::new(self.sender_slot).ok()?;
        Some(Member { slot, incarnation: Incarnation::new(self.sender_incarnation) })
    }

    /// A descriptor that says nothing: the fields that matter are then set by name.
    #[must_use]
    pub const fn blank() -> Self {
        Self {
            link_sequence: 0,
            session: 0,
            sequence: 0,
            timestamp_us: u64::MAX,
            pushed_ns: 0,
            payload: BlockRef::NONE,
            metadata: BlockRef::NONE,
            fixed: [0; 16],
            edge: 0,
            kind: 0,
            flags: 0,
            sender_incarnation: 0,
            sender_slot: 0,
            reserved: [0; 13],
        }
    }
}
