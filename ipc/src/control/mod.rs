//! The control plane: a unix socket on which typed messages, and the descriptors of shared memory, are passed.

pub mod channel;
pub mod codec;
pub mod listener;
pub mod messages;
mod rights;

pub use channel::{Channel, ChannelError, Incoming, Malformed, PeerCredentials};
pub use listener::{BindError, Listener};
