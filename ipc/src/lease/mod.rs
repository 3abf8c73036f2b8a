//! Who may read a block, and when it is free.
//!
//! A frame's bytes stay where their producer wrote them; what travels is a descriptor that names the block. So somebody
//! must know when the last reader is done, although any reader may be killed between any two instructions. This module
//! is that knowledge. It does no I/O, has no clock, and sees shared memory only through two traits ([`cells`]).
//!
//! # The idea
//!
//! Every block has one [word](word::Word) of 64 bits: 24 of them say which content the block has (its generation), 40
//! say which processes need it, one bit for each slot of the domain. *Is it free? take it! is it still what I was
//! promised? hold it! let it go!* are each one atomic operation on that word, so no process ever sees half an answer.
//!
//! A bit says *that* a process needs the block, not how often. How often (handles in the application, messages under
//! way) is counted in the process's own heap ([`PoolLeases`]). A killed process takes its counts along, and one
//! operation for each block, by the [reaper](reap), removes all that it left.
//!
//! Nobody gives or takes a reference on another's behalf. A sender keeps its own bit until the receiver has set its
//! own, so at every moment of a hop somebody who is accountable holds the block. How the sender learns of it is like
//! TCP: messages of a link are numbered, and the receiver publishes the last number it has dealt with in a cell that
//! only it writes ([`Intake`]); the sender polls that cell and lets go ([`Flight`]). Neither needs an answer from a
//! process that might be dead.
//!
//! # A block's way
//!
//! ```text
//! producer   allocate     word (7, nobody) -> (8, producer); stamp = 8; write the payload
//!            send         count + 1; keep (sequence, block) in flight; push the descriptor       no shared operation
//!            release      count - 1: the message in flight still counts
//! receiver   receive      word (8, producer) -> (8, producer + receiver); stamp still 8?; then acknowledge
//! producer   reclaim      acknowledged: count - 1 = 0, word -> (8, receiver)
//! receiver   release      word -> (8, nobody): free, until the producer allocates it again
//! ```
//!
//! Sending on, fanning out and trying again are sends like the first: whoever holds a block may send it.
//!
//! # Rules that keep content whole
//!
//! With these alone no reader ever sees a block change under it, whatever the acknowledgements say.
//!
//! | rule | says | upheld in |
//! | --- | --- | --- |
//! | W1 | a process changes only its own bit, the reaper that of the dead, the producer the generation | [`pool`], [`reap`] |
//! | W2 | a block that nobody holds is free, and only its producer takes it up; a late message does not revive it | [`PoolLeases::accept`] |
//! | W3 | holding is one compare-exchange that sets the bit if the generation is right and somebody holds the block; the 64-bit stamp, read after it, tells generations apart that look alike in 24 bits | [`PoolLeases::accept`] |
//! | W4 | bit and count change under one private lock, else another thread of the process could count on a bit that is about to go | [`PoolLeases::release`] |
//! | W5 | a slot has a new tenant only after its bit is gone from every pool, else the reaper takes the successor's | [`reap::Remains::vacate`] |
//! | W6 | a payload is read between accept and release, and written between allocation and first send | the frames' own types, above this module |
//!
//! # Rules that neither lose nor leak
//!
//! With these a frame is refused only if its sender is dead, and every block comes back.
//!
//! | rule | says | upheld in |
//! | --- | --- | --- |
//! | K1 | acknowledge after accepting or refusing, and always | [`Intake::receive`] |
//! | K2 | an acknowledgement names the sender's incarnation: a successor does not mistake its predecessor's for its own | [`ack::Ack::covers`] |
//! | K3 | the cell only grows: what is left over from a dead sender does not hide what its successor sent | [`Intake::acknowledge`] |
//! | K4 | a link's sequence goes on when the receiver is replaced | [`Flight::rebind`] |
//! | K5 | a message is out of flight when acknowledged, or when that life of its receiver is over; oldest first | [`Flight::reclaim`] |
//! | K6 | the sender polls while anything is in flight | the I/O loop, above this module |
//!
//! # Deaths
//!
//! The gateway learns of a death for certain, never by a time-out, and is itself the one process that does not die
//! within a boot. It [publishes](reap::Tenancy::bury) the death, which ends everything in flight to the dead process;
//! [clears](reap::Remains::reap) its bit in every pool; and only then may the slot be [vacant](reap::Remains::vacate).
//! A pool whose producer is dead is destroyed once it is [idle](reap::is_idle), and idle it stays. Messages that the
//! dead had sent may still arrive: they are accepted while anybody holds their block, and otherwise rejected.
//!
//! # Memory order
//!
//! Every change of a word is a read-modify-write, so all clears of bits form one release sequence, and the
//! allocation that acquires it comes after every former holder's reads. An accept acquires too, for the stamp it reads
//! next must not be older than the word. Acknowledgement and slot state are stored with release and loaded with
//! acquire, so that the sender's clear follows the receiver's set. A payload's bytes become visible with the descriptor
//! that names them: the link's push releases, its pop acquires.
//!
//! Each rule and the orders of the word can be switched off ([`rules`]), and the tests show that this is noticed.

pub mod ack;
pub mod cells;
pub mod counts;
pub mod flight;
pub mod pool;
pub mod reap;
pub mod rules;
pub mod state;
pub mod sync;
pub mod word;

pub use ack::{Intake, LinkSequence};
pub use cells::{BlockCells, DomainCells};
pub use counts::{Counts, References};
pub use flight::{Flight, Refused};
pub use pool::{AcceptError, Allocated, PoolLeases, Rejected};
pub use word::HolderMask;
