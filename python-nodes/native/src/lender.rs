//! What a node may ask its worker for while it works: memory, and more time.
#![expect(
    unsafe_code,
    reason = "the worker's outputs are borrowed for one call, which Python's types cannot say"
)]

use std::marker::PhantomData;
use std::mem;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use remotemedia_core::node::{Loan, LoanError, Outputs};

/// Lends while a call is under way, to whichever thread of the interpreter asks.
#[derive(Default)]
pub(crate) struct Lender(Mutex<Option<Borrowed>>);

/// The outputs of the call that is under way.
struct Borrowed(NonNull<dyn Outputs>);

// SAFETY: it is only looked at under the lender's lock, while the thread that the outputs belong to waits in
// `Lender::during`, so one thread has them at a time.
unsafe impl Send for Borrowed {}

/// Ends the lending, however the call ends.
struct Lending<'a>(&'a Lender, PhantomData<&'a mut dyn Outputs>);

// === impl Lender ===

impl Lender {
    /// Lends from these outputs while `call` runs.
    pub(crate) fn during<T>(&self, out: &mut dyn Outputs, call: impl FnOnce() -> T) -> T {
        let out = NonNull::from(out);
        // SAFETY: only the lifetime changes. `Lending` takes the pointer back before this borrow of `out` ends, under
        // the lock under which alone it is used.
        let out: NonNull<dyn Outputs> = unsafe { mem::transmute::<NonNull<dyn Outputs + '_>, _>(out) };
        *self.lock() = Some(Borrowed(out));
        let _lending = Lending(self, PhantomData);
        call()
    }

    /// Memory for an output; none outside a call.
    pub(crate) fn loan(&self, bytes: usize) -> Option<Result<Loan, LoanError>> {
        let mut borrowed = self.lock();
        let Borrowed(out) = borrowed.as_mut()?;
        // SAFETY: it is there, so the call is under way, the outputs live, and their own thread waits in `during`
        // without touching them; the lock keeps every other thread out.
        Some(unsafe { out.as_mut() }.loan(bytes))
    }

    /// Says that the node is at work. Whether a call is under way.
    pub(crate) fn working(&self) -> bool {
        let mut borrowed = self.lock();
        let Some(Borrowed(out)) = borrowed.as_mut() else { return false };
        // SAFETY: as in `loan`.
        unsafe { out.as_mut() }.working();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Option<Borrowed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lending<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}
