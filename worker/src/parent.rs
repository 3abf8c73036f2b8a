//! Not to outlive who has started this process.

use std::io;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// Has the kernel send SIGTERM to this process when `parent`, which has started it, is gone. The kernel goes by the thread
/// that has started it: that is to live as long as its process.
///
/// # Errors
/// The parent is gone already, or the system refuses.
pub fn end_with(parent: i32) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    // It may have ended before that.
    if getppid().as_raw() == parent {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("process {parent}, which was to own this one, is gone"),
        ))
    }
}
