//! The leases as their callers use them, on plain memory.

mod memory;
mod operations;
mod simulation;
