//! What the tests of whole processes share.

pub mod storm;
