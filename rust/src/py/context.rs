//! Contexts (PEP 567) that are entered and, whatever happens, left.

use pyo3::ffi;
use pyo3::prelude::*;

/// A context that is entered as long as this value lives.
pub(crate) struct Entered<'a, 'py> {
    context: &'a Bound<'py, PyAny>,
}

/// Enters `context`, a context object.
///
/// # Errors
/// If it is entered already.
pub(crate) fn enter<'a, 'py>(context: &'a Bound<'py, PyAny>) -> PyResult<Entered<'a, 'py>> {
    // SAFETY: the argument is a live object; entering fails, with an exception set, if it is no context or is entered.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
        return Err(PyErr::fetch(context.py()));
    }
    Ok(Entered { context })
}

impl Drop for Entered<'_, '_> {
    fn drop(&mut self) {
        let py = self.context.py();
        // A panic may be passing by with its exception set: leaving must not disturb it.
        let pending = if PyErr::occurred(py) {
            PyErr::take(py)
        } else {
            None
        };
        // SAFETY: entered by `enter`, and everything that ran in between has left what it entered.
        if unsafe { ffi::PyContext_Exit(self.context.as_ptr()) } != 0 {
            PyErr::fetch(py).write_unraisable(py, Some(self.context));
        }
        if let Some(pending) = pending {
            pending.restore(py);
        }
    }
}
