//! Errors on their way between the two languages.

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use remotemedia_core::node::{LoanError, NodeError};

/// What a node raised, with its traceback as Python prints it.
pub(crate) fn raised(py: Python<'_>, error: &PyErr) -> NodeError {
    let class = error.get_type(py);
    let name =
        class.fully_qualified_name().map_or_else(|_| "an exception".to_owned(), |name| name.to_string());
    let exception = name.strip_prefix("builtins.").unwrap_or(&name).to_owned();
    let message = match error.value(py).str() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => "(its message cannot be told)".to_owned(),
    };
    NodeError::Raised { exception, message, traceback: traceback(py, error).unwrap_or_default() }
}

/// With all causes and contexts.
fn traceback(py: Python<'_>, error: &PyErr) -> PyResult<String> {
    let (class, value, trace) = (error.get_type(py), error.value(py), error.traceback(py));
    let lines = py.import("traceback")?.call_method1("format_exception", (class, value, trace))?;
    Ok(lines.extract::<Vec<String>>()?.concat())
}

/// There is no memory for an output.
pub(crate) fn loan_error(_py: Python<'_>, error: &LoanError) -> PyErr {
    PyMemoryError::new_err(error.to_string())
}
