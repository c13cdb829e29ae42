//! The async protocol of Python objects, by the slots of their types (PEP 492): as the interpreter itself does it, and
//! without the failed attribute look-ups that asking by name would cost.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::headers::type_name;

fn async_methods<'a>(value: &'a Bound<'_, PyAny>) -> Option<&'a ffi::PyAsyncMethods> {
    // SAFETY: the type of a live object is a live type, and its `tp_as_async` is null or points to a table that lives
    // as long as the type.
    unsafe { (*ffi::Py_TYPE(value.as_ptr())).tp_as_async.as_ref() }
}

fn call<'py>(slot: ffi::unaryfunc, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the slot is from the type of `value`; the result is a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(value.py(), slot(value.as_ptr())) }
}

/// Whether `value` is an async iterator.
pub(crate) fn is_async_iterator(value: &Bound<'_, PyAny>) -> bool {
    async_methods(value).is_some_and(|methods| methods.am_anext.is_some())
}

/// Whether `aiter(value)` would give an async iterator.
pub(crate) fn is_async_iterable(value: &Bound<'_, PyAny>) -> bool {
    async_methods(value).is_some_and(|methods| methods.am_aiter.is_some())
}

/// `aiter(value)`; `None` if it is not async iterable.
pub(crate) fn async_iterator<'py>(
    value: &Bound<'py, PyAny>,
) -> Option<PyResult<Bound<'py, PyAny>>> {
    async_methods(value)?.am_aiter.map(|slot| call(slot, value))
}

/// The awaitable of `value.__anext__()`.
pub(crate) fn next<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match async_methods(value).and_then(|methods| methods.am_anext) {
        Some(slot) => call(slot, value),
        None => Err(PyTypeError::new_err(format!(
            "{} is not an async iterator",
            type_name(value)
        ))),
    }
}

/// The iterator behind an awaitable; `None` if `value` is not awaitable.
pub(crate) fn awaitable_iterator(value: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    // SAFETY: the argument is a live object.
    if unsafe { ffi::PyCoro_CheckExact(value.as_ptr()) } != 0 {
        return Ok(Some(value.clone().unbind()));
    }
    match async_methods(value).and_then(|methods| methods.am_await) {
        Some(slot) => call(slot, value).map(|iterator| Some(iterator.unbind())),
        None => Ok(None),
    }
}

/// As [`awaitable_iterator`], with an error for what is not awaitable.
pub(crate) fn awaited(value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    awaitable_iterator(value)?
        .ok_or_else(|| PyTypeError::new_err(format!("{} is not awaitable", type_name(value))))
}
