//! Guests in processes of their own, and a host that kills them: what the tests of [`remotemedia_ipc`] share.
//!
//! A [`Parcel`] carries its own [`Route`] and a checksum, so guests need no session to know what to do with it: they
//! check it, do with it what the route says, and pass it on, at last to the gateway. The guest is the binary
//! `storm-guest`; the test process is the gateway, with a [`Field`] to work in.

mod dice;
mod field;
mod footprint;
mod parcel;
mod route;

pub use dice::Dice;
pub use field::{Field, Role, exit};
pub use footprint::Footprint;
pub use parcel::{Parcel, ParcelError};
pub use route::{Act, BadRoute, Route, Stop};
