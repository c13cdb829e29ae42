//! Interior mutability for Python classes: a `RefCell` that only a thread attached to the interpreter may open.

use std::cell::{Ref, RefCell, RefMut};

use pyo3::Python;

/// State of a Python object.
///
/// Rules of use: a borrow is short, and never held across a call into Python, which may re-enter. Breaking the rule
/// panics (and so ends one exchange); it is never undefined.
#[derive(Debug, Default)]
pub(crate) struct GilCell<T>(RefCell<T>);

// SAFETY: the content is reached only through `borrow`, which demands a `Python` token: proof that this thread holds
// the interpreter's lock, and by the garbage collector, which holds it. The module refuses to load where that lock is off, so accesses never overlap in time.
unsafe impl<T: Send> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// For the garbage collector, which runs attached to the interpreter but is handed no token. `None` while the
    /// state is in use.
    pub(crate) fn for_traversal(&self) -> Option<Ref<'_, T>> {
        self.0.try_borrow().ok()
    }

    #[inline]
    pub(crate) fn borrow<'a>(&'a self, _py: Python<'a>) -> RefMut<'a, T> {
        self.0.borrow_mut()
    }
}
