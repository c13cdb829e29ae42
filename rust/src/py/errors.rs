//! The classes of `vibora.exceptions`, raised from here.

use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;

fn module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    MODULE
        .get_or_try_init(py, || py.import("vibora.exceptions").map(Bound::unbind))
        .map(|module| module.bind(py))
}

/// `vibora.exceptions.<class>(*args)` as an error; whatever goes wrong while it is made is the error instead.
pub(crate) fn vibora_error<'py>(py: Python<'py>, class: &str, args: impl PyCallArgs<'py>) -> PyErr {
    module(py)
        .and_then(|module| module.getattr(class))
        .and_then(|class| class.call1(args))
        .map_or_else(|error| error, PyErr::from_value)
}

/// The exception object of `error`, with its traceback attached (before Python 3.12 the two are apart).
pub(crate) fn exception<'py>(py: Python<'py>, error: &PyErr) -> Bound<'py, PyAny> {
    let value = error.value(py);
    if let Some(traceback) = error.traceback(py) {
        // SAFETY: an exception and a traceback, both live. It fails only for other types, and then changes nothing.
        unsafe { pyo3::ffi::PyException_SetTraceback(value.as_ptr(), traceback.as_ptr()) };
    }
    value.clone().into_any()
}

/// What a panic said, as an exception for the log.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> PyErr {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    PyRuntimeError::new_err(format!("panic in the core: {text}"))
}

/// Whether `error` is an `asyncio.CancelledError`.
pub(crate) fn is_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CLASS
        .get_or_try_init(py, || {
            py.import("asyncio")?
                .getattr("CancelledError")
                .map(Bound::unbind)
        })
        .is_ok_and(|class| error.matches(py, class.bind(py)).unwrap_or(false))
}
