//! What the gateway may log as a warning when something is done to a worker. Whatever else it warns of is a surprise.

/// One of its workers was killed, or ended by itself.
pub const OF_A_DEATH: &[&str] = &["worker_died"];

/// A call of a node did not come back, and its worker was killed for that, or for having mapped nothing meanwhile.
pub const OF_A_HANG: &[&str] = &["worker_stuck", "worker_silent", "worker_died"];

/// A worker that is stopped takes nothing that is sent to it: whether that was lost is asked.
pub const OF_A_PAUSE: &[&str] = &["fence"];

/// A worker died while it was told something: it hears it no more.
pub const OF_A_DEATH_ON_THE_WAY: &[&str] = &["plan_not_sent", "rewiring_not_sent", "link_step_failed"];

/// The same input was there when its worker died, as often as it may be.
pub const OF_POISON: &[&str] = &["input_is_poison"];
