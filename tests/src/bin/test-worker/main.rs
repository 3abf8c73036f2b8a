//! A worker with nodes of its own beside the stock ones: nodes that go wrong on command, for tests of what the rest of
//! the system makes of it.

#![forbid(unsafe_code)]

mod burn;
mod copying;
mod diary;
mod doom;
mod fault;
mod join;
mod liar;
mod mortal;
mod multi;
mod silent;
mod slow;
mod tell;

use std::process::ExitCode;

use remotemedia_worker::Registry;
use remotemedia_worker::nodes::stock;
use remotemedia_worker::registry::DuplicateType;

fn main() -> ExitCode {
    let registry = registered().expect("the node types have different names");
    remotemedia_worker::run(registry)
}

fn registered() -> Result<Registry, DuplicateType> {
    stock()
        .register::<burn::Burn>()?
        .register::<copying::CopyingPassThrough>()?
        .register::<diary::Diary>()?
        .register::<doom::Doom<false>>()?
        .register::<doom::Doom<true>>()?
        .register::<fault::Fault>()?
        .register::<join::Join>()?
        .register::<liar::Liar>()?
        .register::<mortal::CountingMortal>()?
        .register::<mortal::Mortal>()?
        .register::<mortal::OnceMortal>()?
        .register::<multi::Multi>()?
        .register::<silent::Silent>()?
        .register::<slow::Slow>()?
        .register::<tell::Tell>()
}
