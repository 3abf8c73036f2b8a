//! The wall around iceoryx2: it panics where it finds what it holds to be impossible.

use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::LinkError;

/// An object of iceoryx2 whose panics stop here, as [`LinkError::Panicked`].
///
/// An object that panicked once is never used again, and never dropped: dropping it would run its code with whatever
/// it found impossible, and a panic during that unwinding is an abort. Its files are reaped with this process.
pub(super) struct Walled<T> {
    /// Taken by the drop alone.
    inside: Option<T>,
    broken: AtomicBool,
}

/// Does something in iceoryx2 that may panic.
pub(crate) fn contained<R>(doing: &'static str, work: impl FnOnce() -> R) -> Result<R, LinkError> {
    // Unwind safety: what the closure was working on is not looked at again after a panic.
    catch_unwind(AssertUnwindSafe(work)).map_err(|_panic| LinkError::Panicked { doing })
}

// === impl Walled ===

impl<T> Walled<T> {
    pub(super) const fn new(inside: T) -> Self {
        Self { inside: Some(inside), broken: AtomicBool::new(false) }
    }

    /// Uses the object, unless it panicked before.
    pub(super) fn ask<R>(&self, doing: &'static str, question: impl FnOnce(&T) -> R) -> Result<R, LinkError> {
        let Some(inside) = self.inside.as_ref().filter(|_| !self.broken.load(Ordering::Relaxed)) else {
            return Err(LinkError::Broken { doing });
        };
        let answer = contained(doing, || question(inside));
        if answer.is_err() {
            self.broken.store(true, Ordering::Relaxed);
        }
        answer
    }
}

impl<T> Drop for Walled<T> {
    fn drop(&mut self) {
        let inside = self.inside.take();
        if *self.broken.get_mut() {
            let _never_dropped = ManuallyDrop::new(inside);
        } else if let Err(error) = contained("dropping", || drop(inside)) {
            tracing::warn!(%error, "link_end_not_dropped");
        }
    }
}

impl<T> fmt::Debug for Walled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walled").field("broken", &self.broken).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_behind_the_wall_is_an_error_and_the_object_is_not_used_again() {
        let walled = Walled::new(7);
        assert_eq!(walled.ask("reading", |inside| *inside).unwrap(), 7);
        let panicked = walled.ask("counting", |_| panic!("this should never happen")).unwrap_err();
        assert!(matches!(panicked, LinkError::Panicked { doing: "counting" }), "{panicked}");
        let refused = walled.ask("reading", |inside| *inside).unwrap_err();
        assert!(matches!(refused, LinkError::Broken { doing: "reading" }), "{refused}");
    }

    #[test]
    fn object_that_panicked_is_not_dropped() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        let bomb = Walled::new(Bomb);
        bomb.ask::<()>("ticking", |_| panic!("tick")).unwrap_err();
        drop(bomb);
    }

    #[test]
    fn panic_while_dropping_is_contained() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        drop(Walled::new(Bomb));
    }
}
