//! What a child is before its program begins: a process group of its own, and dead when its launcher is.

#![expect(unsafe_code, reason = "a death signal can only be set by the child itself, between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid};

/// Makes the program of `command` the leader of a process group, and has the kernel send it `on_death` when the
/// *thread* that starts it ends, by whatever cause.
pub(super) fn confine(command: &mut Command, on_death: Signal) {
    let launcher = getpid();
    command.process_group(0);
    let before_exec = move || {
        prctl::set_pdeathsig(on_death)?;
        // A launcher that died before the line above will not be noticed by the kernel any more: end here.
        if getppid() == launcher { Ok(()) } else { Err(io::Error::from(Errno::ESRCH)) }
    };
    // SAFETY: the closure runs in the forked child, where another thread of the parent may have held any lock at
    // the fork. It takes none and allocates nothing: it is two system calls and errors made of their numbers, on
    // values that it owns. Nothing safe sets a death signal on a child, and the child's program must not be asked
    // to: a program that hangs before it gets there would outlive its launcher.
    unsafe { command.pre_exec(before_exec) };
}
