//! Running code that may panic, without going down with it.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};

use remotemedia_ipc::fork;

/// What a panic said, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Panic {
    /// The place in the source, and the message.
    pub(super) message: String,
    /// The stack at that moment, cut off at [`MAX_BACKTRACE_BYTES`].
    pub(super) backtrace: String,
}

/// A backtrace travels with an error to the client; beyond this are the frames of the worker itself.
const MAX_BACKTRACE_BYTES: usize = 16 * 1024;

thread_local! {
    static CONTAINING: Cell<bool> = const { Cell::new(false) };
    static CAUGHT: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// Makes panics within [`contained`] silent, and has them remembered with their backtraces. All others are reported
/// as before. Once a process; until then a contained panic is reported on stderr and has no backtrace.
pub(super) fn install_panic_hook() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if CONTAINING.get() {
            CAUGHT.set(Some(Panic::of(info)));
        } else {
            previous(info);
        }
    }));
}

/// Runs `work`, and turns its panic into a value. What `work` leaves half-done must not be used any more. A child that
/// `work` forked and that comes back ends here: the worker goes on in one process.
pub(super) fn contained<R>(work: impl FnOnce() -> R) -> Result<R, Panic> {
    let outer = CONTAINING.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    fork::end_if_child();
    let result = outcome.map_err(|payload| {
        let panic = CAUGHT.take().unwrap_or_else(|| Panic {
            message: format!("panicked: {}", words(payload.as_ref())),
            backtrace: String::new(),
        });
        discard(payload);
        panic
    });
    CONTAINING.set(outer);
    result
}

// === impl Panic ===

impl Panic {
    fn of(info: &PanicHookInfo<'_>) -> Self {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let mut backtrace = Backtrace::force_capture().to_string();
        backtrace.truncate(backtrace.floor_char_boundary(MAX_BACKTRACE_BYTES));
        Self { message: format!("panicked at {place}: {}", words(info.payload())), backtrace }
    }
}

fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}

/// A payload may itself panic when it is dropped, with a payload that does too.
#[expect(clippy::mem_forget, reason = "the alternative is to be unwound by a value that nobody wants")]
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(another) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics when dropped, as long as nothing panics already.
    struct Malicious;

    impl Drop for Malicious {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "dropped");
        }
    }

    #[test]
    fn a_panic_becomes_its_words_and_its_place() {
        install_panic_hook();
        let panic = contained(|| panic!("seven {}", 7)).unwrap_err();
        assert!(panic.message.starts_with("panicked at "), "{}", panic.message);
        assert!(panic.message.contains("contained.rs"), "{}", panic.message);
        assert!(panic.message.ends_with("seven 7"), "{}", panic.message);
        assert!(panic.backtrace.contains("contained::tests"), "{}", panic.backtrace);
        assert!(panic.backtrace.len() <= MAX_BACKTRACE_BYTES);
        assert_eq!(contained(|| 7), Ok(7));
    }

    #[test]
    fn a_payload_that_panics_when_dropped_is_contained_too() {
        contained(|| panic::panic_any(Malicious)).unwrap_err();
    }
}
