//! The memory that processes share: frame pools and the domain file.
//!
//! The gateway makes every file, as sealed memfds that are reserved in full before anyone uses them, so that no
//! write ever meets a full disk and no peer can pull a page from under another. Nothing here knows who holds what:
//! that is [`crate::lease`], which works on the cells that these maps lend.

pub mod budget;
mod cgroup;
pub mod domain;
pub mod geometry;
pub mod map;
mod mapping;
pub mod pool;
mod sealed;

pub use budget::BudgetError;
pub use cgroup::MemoryGroup;
pub use domain::{Domain, DomainError};
pub use geometry::{Geometry, GeometryError, SizeClass};
pub use map::{OutOfBlock, PoolInode, PoolMap, ProducerMap, ReaderMap};
pub use pool::PoolFiles;
pub use sealed::SharedFileError;
