//! What a child is before its program begins: a process group of its own, dead when its launcher is, and bounded in
//! memory.

#![expect(unsafe_code, reason = "a death signal can only be set by the child itself, between fork and exec")]

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid, write};

/// How the memory of a child is bounded.
#[derive(Debug)]
pub(super) enum Bound<'a> {
    /// Not at all.
    None,
    /// By a cgroup, into whose `cgroup.procs` it writes itself. What it starts is in it too.
    Cgroup(&'a File),
    /// By its own limit of writable memory that is not shared, in bytes (`RLIMIT_DATA`). What it starts has the same
    /// limit once more.
    Data(u64),
}

/// Makes the program of `command` the leader of a process group, bounds its memory, and has the kernel send it
/// `on_death` when the *thread* that starts it ends, by whatever cause.
pub(super) fn confine(command: &mut Command, on_death: Signal, bound: &Bound<'_>) -> io::Result<()> {
    let launcher = getpid();
    command.process_group(0);
    // A duplicate that lives as long as the command: the child has it until its program begins.
    let (door, data) = match bound {
        Bound::None => (None, None),
        Bound::Cgroup(door) => (Some(door.try_clone()?), None),
        Bound::Data(bytes) => (None, Some(*bytes)),
    };
    let before_exec = move || {
        prctl::set_pdeathsig(on_death)?;
        if let Some(door) = &door {
            write(door, b"0")?;
        }
        if let Some(bytes) = data {
            setrlimit(Resource::RLIMIT_DATA, bytes, bytes)?;
        }
        // A launcher that died before the line above will not be noticed by the kernel any more: end here.
        if getppid() == launcher { Ok(()) } else { Err(io::Error::from(Errno::ESRCH)) }
    };
    // SAFETY: the closure runs in the forked child, where another thread of the parent may have held any lock at
    // the fork. It takes none and allocates nothing: it is a few system calls and errors made of their numbers, on
    // values that it owns. Nothing safe sets a death signal or a limit on a child, and the child's program must not be asked
    // to: a program that hangs before it gets there would outlive its launcher.
    unsafe { command.pre_exec(before_exec) };
    Ok(())
}
