//! Fast construction of the responses that every handler makes.
//!
//! Calling a class goes through a tuple, `tp_new` and `tp_init`. The exact classes here get a `tp_vectorcall` instead,
//! which reads the arguments where they lie and makes the finished object (CPython's own `list`, `dict` and `range` do
//! the same). It is an optimisation only: whatever is out of the ordinary, and every subclass, takes the usual way.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{Borrowed, PyClass};

use super::response::{
    HtmlResponse, JsonResponse, Response, Stream, StreamingResponse, TextResponse, html_parts,
    json_parts, stream_parts, text_parts,
};

/// The arguments of a call, by parameter: the content, `status_code`, `headers` and `cookies`.
type Given<'a, 'py> = [Option<Borrowed<'a, 'py, PyAny>>; 4];

/// Sorts the arguments of a vectorcall to their parameters. `None`: the usual way has to deal with them.
///
/// # Safety
/// `args` and `names` are those of a vectorcall in progress.
unsafe fn sort<'a, 'py>(
    py: Python<'py>,
    content: &str,
    args: *const *mut ffi::PyObject,
    positional: usize,
    names: *mut ffi::PyObject,
) -> Option<Given<'a, 'py>> {
    let mut given: Given<'a, 'py> = [None; 4];
    if positional > given.len() {
        return None;
    }
    for (at, slot) in given.iter_mut().enumerate().take(positional) {
        // SAFETY: a vectorcall has `positional` arguments, all live through the call.
        *slot = Some(unsafe { Borrowed::from_ptr(py, *args.add(at)) });
    }
    if names.is_null() {
        return Some(given);
    }
    // SAFETY: the names of a vectorcall are a tuple of strings, live through the call.
    let names = unsafe { Borrowed::from_ptr(py, names) };
    let names = names.cast::<PyTuple>().ok()?;
    for (at, name) in names.iter_borrowed().enumerate() {
        let slot = match name.cast::<PyString>().ok()?.to_str().ok()? {
            name if name == content => 0,
            "status_code" => 1,
            "headers" => 2,
            "cookies" => 3,
            _ => return None,
        };
        let slot = given.get_mut(slot).filter(|slot| slot.is_none())?;
        // SAFETY: the values of the named arguments follow the positional ones, in the order of the names.
        *slot = Some(unsafe { Borrowed::from_ptr(py, *args.add(positional + at)) });
    }
    Some(given)
}

/// A class that is constructed here.
trait Constructed: PyClass {
    /// What the first parameter is called.
    const CONTENT: &'static str = "content";

    fn construct(py: Python<'_>, given: &Given<'_, '_>) -> PyResult<Option<Py<PyAny>>>;
}

fn optional<'a, 'py>(given: &'a Given<'_, 'py>, at: usize) -> Option<&'a Bound<'py, PyAny>> {
    given.get(at).and_then(Option::as_ref).map(|value| &**value)
}

impl Constructed for Response {
    fn construct(py: Python<'_>, given: &Given<'_, '_>) -> PyResult<Option<Py<PyAny>>> {
        let parts = text_parts(
            py,
            optional(given, 0),
            optional(given, 1),
            optional(given, 2),
            optional(given, 3),
        )?;
        Ok(Some(Py::new(py, Self::from_parts(parts))?.into_any()))
    }
}

impl Constructed for TextResponse {
    fn construct(py: Python<'_>, given: &Given<'_, '_>) -> PyResult<Option<Py<PyAny>>> {
        let parts = text_parts(
            py,
            optional(given, 0),
            optional(given, 1),
            optional(given, 2),
            optional(given, 3),
        )?;
        let value = PyClassInitializer::from(Response::from_parts(parts)).add_subclass(Self);
        Ok(Some(Py::new(py, value)?.into_any()))
    }
}

impl Constructed for HtmlResponse {
    fn construct(py: Python<'_>, given: &Given<'_, '_>) -> PyResult<Option<Py<PyAny>>> {
        let parts = html_parts(
            py,
            optional(given, 0),
            optional(given, 1),
            optional(given, 2),
            optional(given, 3),
        )?;
        let value = PyClassInitializer::from(Response::from_parts(parts)).add_subclass(Self);
        Ok(Some(Py::new(py, value)?.into_any()))
    }
}

impl Constructed for JsonResponse {
    fn construct(py: Python<'_>, given: &Given<'_, '_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(content) = optional(given, 0) else {
            return Ok(None);
        };
        let parts = json_parts(
            py,
            content,
            optional(given, 1),
            optional(given, 2),
            optional(given, 3),
            None,
        )?;
        let value = PyClassInitializer::from(Response::from_parts(parts)).add_subclass(Self);
        Ok(Some(Py::new(py, value)?.into_any()))
    }
}

impl Constructed for StreamingResponse {
    const CONTENT: &'static str = "stream";

    fn construct(py: Python<'_>, given: &Given<'_, '_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(stream) = optional(given, 0) else {
            return Ok(None);
        };
        let parts = stream_parts(
            stream,
            Stream::default(),
            optional(given, 1),
            optional(given, 2),
            optional(given, 3),
        )?;
        let response = PyClassInitializer::from(Response::from_parts(parts));
        let made = Py::new(py, response.add_subclass(Self::from(stream)))?;
        Ok(Some(made.into_any()))
    }
}

/// The usual way of calling a class, for everything that is not constructed here.
///
/// # Safety
/// `args` and `names` are those of a vectorcall in progress.
unsafe fn call_class<'py>(
    class: Borrowed<'_, 'py, PyAny>,
    args: *const *mut ffi::PyObject,
    positional: usize,
    names: *mut ffi::PyObject,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    // SAFETY: a vectorcall has `positional` arguments, and then as many as there are names.
    let value = |at: usize| unsafe { Borrowed::from_ptr(py, *args.add(at)) }.to_owned();
    let tuple = PyTuple::new(py, (0..positional).map(value))?;
    let keywords = PyDict::new(py);
    if !names.is_null() {
        // SAFETY: the names of a vectorcall are a tuple, live through the call.
        let names = unsafe { Borrowed::from_ptr(py, names) };
        for (at, name) in names.cast::<PyTuple>()?.iter().enumerate() {
            keywords.set_item(name, value(positional + at))?;
        }
    }
    // SAFETY: `type.__call__` takes a class, a tuple and a dict; the result is a new reference or null with an
    // exception set.
    unsafe {
        let call = ffi::PyType_Type.tp_call;
        let call = call.ok_or_else(|| PyRuntimeError::new_err("type is not callable"))?;
        Bound::from_owned_ptr_or_err(py, call(class.as_ptr(), tuple.as_ptr(), keywords.as_ptr()))
    }
}

unsafe extern "C" fn vectorcall<T: Constructed>(
    class: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    flags: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: Python calls this, so the thread is attached.
    let py = unsafe { Python::assume_attached() };
    let result = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: these are the arguments of this vectorcall.
        let positional = unsafe { ffi::PyVectorcall_NARGS(flags) } as usize;
        // SAFETY: as above.
        if let Some(given) = unsafe { sort(py, T::CONTENT, args, positional, names) } {
            if let Some(made) = T::construct(py, &given)? {
                return Ok(made.into_bound(py));
            }
        }
        // SAFETY: as above; `class` is the class that is called.
        unsafe { call_class(Borrowed::from_ptr(py, class), args, positional, names) }
    }));
    let error = match result {
        Ok(Ok(made)) => return made.into_ptr(),
        Ok(Err(error)) => error,
        Err(_) => PyRuntimeError::new_err("panic while a response was made"),
    };
    error.restore(py);
    std::ptr::null_mut()
}

fn install<T: Constructed>(class: &Bound<'_, PyType>) {
    // SAFETY: the class is one of ours, a live heap type that no other thread sees yet. `tp_vectorcall` is consulted
    // only for calls of this exact class; subclasses do not inherit it.
    unsafe { (*class.as_type_ptr()).tp_vectorcall = Some(vectorcall::<T>) };
}

/// Gives the classes their fast construction.
pub(crate) fn install_all(py: Python<'_>) {
    install::<Response>(&py.get_type::<Response>());
    install::<TextResponse>(&py.get_type::<TextResponse>());
    install::<HtmlResponse>(&py.get_type::<HtmlResponse>());
    install::<JsonResponse>(&py.get_type::<JsonResponse>());
    install::<StreamingResponse>(&py.get_type::<StreamingResponse>());
}
