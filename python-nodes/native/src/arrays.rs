//! Numpy arrays over payloads, and payloads out of numpy arrays.

use std::sync::Arc;

use bytes::Bytes;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use remotemedia_core::node::Outputs;

use crate::block::{Block, Lent};
use crate::kept::Kept;
use crate::raised::loan_error;

/// Longer than any chain of views that a node makes on purpose.
const MAX_VIEWS: usize = 64;

/// A read-only array over a payload.
pub(crate) fn view<'py>(
    py: Python<'py>,
    kept: &Arc<Kept>,
    payload: &Bytes,
    dtype: &str,
    shape: &[u64],
    strides: Option<&[i64]>,
) -> PyResult<Bound<'py, PyAny>> {
    let block = Bound::new(py, Block::new(payload.clone(), Kept::share(kept, payload.len())))?;
    array(py, block.as_any(), dtype, shape, strides)
}

/// An array over whatever has the buffer protocol.
pub(crate) fn array<'py>(
    py: Python<'py>,
    memory: &Bound<'py, PyAny>,
    dtype: &str,
    dimensions: &[u64],
    strides: Option<&[i64]>,
) -> PyResult<Bound<'py, PyAny>> {
    let class = ndarray(py)?;
    let shape = PyTuple::new(py, dimensions)?;
    match strides {
        None => class.call1((shape, dtype, memory)),
        Some(strides) => {
            let first = first_element(dimensions, strides);
            class.call1((shape, dtype, memory, first, PyTuple::new(py, strides)?))
        }
    }
}

/// Where the first element lies in memory that begins with the lowest one. The strides have been checked: they lead
/// nowhere outside of it.
fn first_element(shape: &[u64], strides: &[i64]) -> u64 {
    if shape.contains(&0) {
        return 0;
    }
    let backwards = shape.iter().zip(strides).filter(|(_, stride)| **stride < 0);
    backwards.map(|(length, stride)| (length - 1) * stride.unsigned_abs()).sum()
}

/// The bytes of an array. One over a payload, a loan, or a slice of them along the first axis is sent as it is;
/// another is copied once, into memory lent for it.
pub(crate) fn payload(array: &Bound<'_, PyAny>, out: &mut dyn Outputs) -> PyResult<Bytes> {
    if array.getattr(intern!(array.py(), "ndim"))?.extract::<usize>()? == 0 {
        // A buffer of no dimensions has no shape to be told of.
        return payload(&array.call_method1(intern!(array.py(), "reshape"), (1,))?, out);
    }
    let buffer = PyUntypedBuffer::get(array)?;
    let (start, len) = (buffer.buf_ptr().addr(), buffer.len_bytes());
    if buffer.is_c_contiguous()
        && let Some(memory) = origin(array)?
        && let Some(offset) = start.checked_sub(memory.as_ptr().addr())
        && offset.checked_add(len).is_some_and(|end| end <= memory.len())
    {
        return Ok(memory.slice(offset..offset + len));
    }
    copied(array, len, out)
}

/// The memory of ours that an array looks into, which is not written to from here on.
fn origin(array: &Bound<'_, PyAny>) -> PyResult<Option<Bytes>> {
    let py = array.py();
    let mut at = array.clone();
    for _ in 0..MAX_VIEWS {
        if let Ok(block) = at.cast::<Block>() {
            return Ok(Some(block.get().bytes().clone()));
        }
        if let Ok(lent) = at.cast::<Lent>() {
            array.call_method1(intern!(py, "setflags"), (false,))?;
            return Ok(Some(lent.get().send()));
        }
        let next = match at.getattr_opt(intern!(py, "base"))? {
            Some(base) => Some(base),
            None => at.getattr_opt(intern!(py, "obj"))?,
        };
        match next {
            Some(next) if !next.is_none() => at = next,
            Some(_) | None => return Ok(None),
        }
    }
    Ok(None)
}

fn copied(array: &Bound<'_, PyAny>, len: usize, out: &mut dyn Outputs) -> PyResult<Bytes> {
    let py = array.py();
    let loan = out.loan(len).map_err(|error| loan_error(py, &error))?;
    out.note_copied(len);
    let lent = Bound::new(py, Lent::new(loan))?;
    let shape = array.getattr(intern!(py, "shape"))?;
    let dtype = array.getattr(intern!(py, "dtype"))?;
    let target = ndarray(py)?.call1((shape, dtype, &lent))?;
    target.set_item(py.Ellipsis(), array)?;
    Ok(lent.get().send())
}

fn ndarray<'py>(py: Python<'py>) -> PyResult<&'py Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CLASS.import(py, "numpy", "ndarray")
}

/// The dtype of an array as numpy writes it without byte order: `f4`, `i2`.
pub(crate) fn dtype(array: &Bound<'_, PyAny>) -> PyResult<String> {
    let py = array.py();
    let text: String = array.getattr(intern!(py, "dtype"))?.getattr(intern!(py, "str"))?.extract()?;
    match text.strip_prefix(['<', '|', '=']) {
        Some(name) => Ok(name.to_owned()),
        None => Err(PyTypeError::new_err(format!(
            "an array of dtype '{text}' is not little-endian: convert it, such as by astype('<{}')",
            text.trim_start_matches('>')
        ))),
    }
}

/// Its shape.
pub(crate) fn shape(array: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
    array.getattr(intern!(array.py(), "shape"))?.extract()
}
