//! Async generators, resumed without the awaitable that `__anext__` makes for each value (PEP 525).
//!
//! The frame of an async generator hands out two kinds of things: what it awaits, as a coroutine does, and what it
//! yields, in a wrapper that tells the one from the other. `__anext__` makes an object that resumes the frame, takes the
//! value out of the wrapper and raises it in a `StopIteration`, which whoever awaits catches: more work than making the
//! value usually is. Here the frame is resumed by the send slot of its type (PEP 492's `am_send`), which is what that
//! object does, and the value is taken from the wrapper.
//!
//! The wrapper is not part of Python's interface, so nothing is assumed about it: [`Wrapper::probe`] tries the whole way
//! once with a generator whose values are known, and if anything is not as it is described here, generators are asked
//! by `__anext__`. Its value is found as the garbage collector finds it, by `tp_traverse`, which every class that holds
//! references must have.

use std::ffi::{c_int, c_void};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// What a generator did when it was resumed.
pub(crate) enum Resumed<'py> {
    Yielded(Bound<'py, PyAny>),
    /// It waits for what is passed up to the task; its `__anext__` goes on from there.
    Suspended(Py<PyAny>),
    Exhausted,
    Raised(PyErr),
}

/// The class in which values come, and how it shows what it holds.
#[derive(Clone, Copy)]
struct Wrapper {
    class: usize,
    traverse: ffi::traverseproc,
}

/// What a traversal has found: how many references, and the last.
struct Found {
    references: usize,
    last: *mut ffi::PyObject,
}

unsafe extern "C" fn visit(object: *mut ffi::PyObject, found: *mut c_void) -> c_int {
    // SAFETY: `Wrapper::references` passes a pointer to a `Found` that it alone has.
    let found = unsafe { &mut *found.cast::<Found>() };
    found.references += 1;
    found.last = object;
    0
}

impl Wrapper {
    /// The class of the interpreter that runs; `None` if its generators do not work as described above.
    fn get(py: Python<'_>) -> Option<Self> {
        static WRAPPER: PyOnceLock<Option<Wrapper>> = PyOnceLock::new();
        *WRAPPER.get_or_init(py, || Self::probe(py).ok().flatten())
    }

    #[cold]
    fn probe(py: Python<'_>) -> PyResult<Option<Self>> {
        let marker = PyModule::import(py, "vibora._driving")?.getattr("MARKER")?;
        let generator = PyModule::import(py, "vibora._driving")?.call_method0("probe")?;
        // SAFETY: the argument is a live object.
        if unsafe { ffi::PyAsyncGen_CheckExact(generator.as_ptr()) } == 0 {
            return Ok(None);
        }
        let (ffi::PySendResult::PYGEN_NEXT, Some(value)) = send(&generator) else {
            return Ok(None);
        };
        // SAFETY: the class of a live object is a live class.
        let traverse = unsafe { (*ffi::Py_TYPE(value.as_ptr())).tp_traverse };
        let Some(traverse) = traverse else {
            return Ok(None);
        };
        let wrapper = Self {
            class: value.get_type_ptr() as usize,
            traverse,
        };
        let found = wrapper.references(&value);
        if found.references != 1 || found.last != marker.as_ptr() {
            return Ok(None);
        }
        let awaiting = send(&generator);
        let (ffi::PySendResult::PYGEN_NEXT, Some(awaited)) = awaiting else {
            return Ok(None);
        };
        let (ffi::PySendResult::PYGEN_RETURN, Some(_)) = send(&generator) else {
            return Ok(None);
        };
        Ok(awaited.is(&marker).then_some(wrapper))
    }

    fn references(self, value: &Bound<'_, PyAny>) -> Found {
        let mut found = Found {
            references: 0,
            last: std::ptr::null_mut(),
        };
        // SAFETY: the slot is that of the class of `value`, a live object; `visit` keeps nothing but the address.
        unsafe { (self.traverse)(value.as_ptr(), visit, (&raw mut found).cast()) };
        found
    }

    /// What a wrapper holds; `None` if `value` is no wrapper.
    fn open<'py>(self, value: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        if value.get_type_ptr() as usize != self.class {
            return None;
        }
        let found = self.references(value);
        // SAFETY: the wrapper lives and holds a reference to what was found, or has none, and null is checked.
        unsafe { Bound::from_borrowed_ptr_or_opt(value.py(), found.last) }
    }
}

/// Resumes a generator; the value is `None` if it has raised.
fn send<'py>(generator: &Bound<'py, PyAny>) -> (ffi::PySendResult, Option<Bound<'py, PyAny>>) {
    let mut sent = std::ptr::null_mut();
    // SAFETY: both arguments are live objects; `sent` receives a new reference unless the result is an error.
    unsafe {
        let result = ffi::PyIter_Send(generator.as_ptr(), ffi::Py_None(), &raw mut sent);
        (result, Bound::from_owned_ptr_or_opt(generator.py(), sent))
    }
}

/// Whether `iterator` may be [`resume`]d. The first `__anext__` of a generator is what tells the event loop of it, so that
/// it is closed when it is dropped: only one that never suspends can do without.
pub(crate) fn can_be_resumed(iterator: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the argument is a live object.
    let is_native = unsafe { ffi::PyAsyncGen_CheckExact(iterator.as_ptr()) } != 0;
    is_native && Wrapper::get(iterator.py()).is_some()
}

/// Resumes an async generator that stands at a `yield`, or has not begun.
pub(crate) fn resume<'py>(generator: &Bound<'py, PyAny>) -> Resumed<'py> {
    let py = generator.py();
    match send(generator) {
        (ffi::PySendResult::PYGEN_NEXT, Some(value)) => {
            match Wrapper::get(py).and_then(|wrapper| wrapper.open(&value)) {
                Some(value) => Resumed::Yielded(value),
                None => Resumed::Suspended(value.unbind()),
            }
        }
        (ffi::PySendResult::PYGEN_RETURN, Some(_)) => Resumed::Exhausted,
        (_, _) => Resumed::Raised(PyErr::fetch(py)),
    }
}
