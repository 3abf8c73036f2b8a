//! Shared memory as Python sees it: a received payload, read-only, and a loan, writable until it is sent.
#![expect(unsafe_code, reason = "the buffer protocol hands out addresses")]

use std::ffi::c_int;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use remotemedia_core::node::Loan;

use crate::kept::Share;

/// A payload, or a part of one. It holds its lease: as long as an array looks into it, the memory stays what it is.
#[pyclass(frozen, module = "remotemedia._native")]
pub(crate) struct Block {
    bytes: Bytes,
    _share: Share,
}

/// Memory for one output. Sent, it is as read-only as any payload.
#[pyclass(frozen, module = "remotemedia._native")]
pub(crate) struct Lent(Mutex<State>);

enum State {
    /// The node writes.
    Open(Loan),
    /// It was sent, maybe several times: arrays over it may live on, and keep it.
    Sent(Bytes),
}

// === impl Block ===

impl Block {
    pub(crate) const fn new(bytes: Bytes, share: Share) -> Self {
        Self { bytes, _share: share }
    }

    pub(crate) const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

#[pymethods]
impl Block {
    fn __len__(&self) -> usize {
        self.bytes.len()
    }

    /// # Safety
    /// Called by the interpreter, with a view to be filled in.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = &slf.get().bytes;
        let (start, len) = (bytes.as_ptr().cast_mut(), bytes.len());
        // SAFETY: the view is the interpreter's. The memory is that of `Bytes` in a frozen object, which the view
        // keeps alive; it is never written through this pointer, since the view is read-only.
        unsafe { fill(view, slf.as_any(), start, len, true, flags) }
    }
}

// === impl Lent ===

impl Lent {
    pub(crate) const fn new(loan: Loan) -> Self {
        Self(Mutex::new(State::Open(loan)))
    }

    /// Ends writing, the first time, and gives the memory.
    pub(crate) fn send(&self) -> Bytes {
        let mut state = self.lock();
        let bytes = match std::mem::replace(&mut *state, State::Sent(Bytes::new())) {
            State::Open(loan) => loan.freeze(),
            State::Sent(bytes) => bytes,
        };
        *state = State::Sent(bytes.clone());
        bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Lent {
    fn __len__(&self) -> usize {
        match &mut *self.lock() {
            State::Open(loan) => loan.bytes_mut().len(),
            State::Sent(bytes) => bytes.len(),
        }
    }

    /// # Safety
    /// Called by the interpreter, with a view to be filled in.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let (start, len, is_sent) = match &mut *slf.get().lock() {
            State::Open(loan) => {
                let bytes = loan.bytes_mut();
                (bytes.as_mut_ptr(), bytes.len(), false)
            }
            State::Sent(bytes) => (bytes.as_ptr().cast_mut(), bytes.len(), true),
        };
        // SAFETY: the view is the interpreter's. Freezing a loan does not move it, and this object, which the view
        // keeps alive, keeps the memory afterwards: the address stays good as long as the view. No Rust reference to
        // the memory lives across calls, so Python is the only writer before it is sent; an array that was made
        // before and is written to afterwards is this process's own mistake, seen by readers as torn content, and by
        // nobody as a fault.
        unsafe { fill(view, slf.as_any(), start, len, is_sent, flags) }
    }
}

/// # Safety
/// `view` is to be filled in; `start` is good for `len` bytes as long as `owner` lives, and for writing unless
/// `is_readonly`.
unsafe fn fill(
    view: *mut ffi::Py_buffer,
    owner: &Bound<'_, PyAny>,
    start: *mut u8,
    len: usize,
    is_readonly: bool,
    flags: c_int,
) -> PyResult<()> {
    if view.is_null() {
        return Err(PyBufferError::new_err("the view is null"));
    }
    let len = isize::try_from(len).map_err(|error| PyValueError::new_err(error.to_string()))?;
    // SAFETY: as this function demands. The interpreter refuses a writable view of what is read-only, and takes the
    // reference that keeps the owner alive.
    let filled = unsafe {
        ffi::PyBuffer_FillInfo(view, owner.as_ptr(), start.cast(), len, c_int::from(is_readonly), flags)
    };
    if filled == 0 { Ok(()) } else { Err(PyErr::fetch(owner.py())) }
}
