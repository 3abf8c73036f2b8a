//! Whether this process was forked from one that holds leases.
//!
//! A child has a copy of its parent's heap and so of its counts, but not the lease words: they are not inherited. What it
//! drops it must not release. Nodes fork where their libraries do, such as Python's `multiprocessing`.
#![expect(
    unsafe_code,
    reason = "nothing safe hears of a fork, or leaves a process without its exit handlers"
)]

use std::io::Write as _;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;

static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Exit code of a child that came back out of what its parent alone may go on with.
const EXIT_STRAY: i32 = 70;

/// Whether this process was forked after it had joined a domain.
#[must_use]
pub fn is_child() -> bool {
    IS_CHILD.load(Ordering::Relaxed)
}

/// Ends this process at once if it is a forked child: it has come to where it would do its parent's work a second time.
/// It says so on standard error.
pub fn end_if_child() {
    if is_child() {
        let advice =
            b"error: a forked child came back from the call of a node: end it there, with os._exit\n";
        // Nobody reads, or not any more: the exit code says it too.
        let _said = std::io::stderr().write_all(advice);
        // SAFETY: ends the process without running anything of it, which is what is wanted: exit handlers and
        // destructors here are copies of the parent's.
        unsafe { libc::_exit(EXIT_STRAY) }
    }
}

/// Has forks noticed from here on. For whoever joins a domain: it is itself nobody's child, in this sense.
pub(crate) fn notice() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler stores to an atomic, which is all that a child of a process with threads may do; it lives
        // as long as the program. Out of memory, which is the only failure, forks are not noticed: the child then
        // dies of SIGSEGV where it would release, which its parent survives.
        let _registered = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    IS_CHILD.store(false, Ordering::Relaxed);
}

extern "C" fn in_child() {
    IS_CHILD.store(true, Ordering::Relaxed);
}
