//! Whether a stream can suspend: only one that cannot may be pulled without a task around it.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyFunction, PyList, PyTuple};

use super::cell::GilCell;
use super::response::{Response, StreamingResponse};

/// Code objects that have been judged. They are kept alive, so that an address stays theirs; a program has a fixed
/// number of them, and one that makes new ones is not followed without end.
static JUDGED: GilCell<Option<Verdicts>> = GilCell::new(None);
static JUDGE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
type Verdicts = HashMap<usize, (Py<PyAny>, bool)>;
const MOST_JUDGED: usize = 4096;

/// Says whether the stream of `response` can be pulled without ever suspending: a list or tuple of chunks, or an
/// async-generator function whose code has no `await` in it.
pub(crate) fn stream_cannot_suspend(
    py: Python<'_>,
    response: &Bound<'_, Response>,
) -> PyResult<bool> {
    let Some(source) = StreamingResponse::source_of(response) else {
        return Ok(true);
    };
    let source = source.bind(py);
    if source.is_exact_instance_of::<PyList>() || source.is_exact_instance_of::<PyTuple>() {
        return Ok(true);
    }
    if !source.is_exact_instance_of::<PyFunction>() {
        return Ok(false);
    }
    let code = source.getattr(pyo3::intern!(py, "__code__"))?;
    let address = code.as_ptr() as usize;
    if let Some((_, verdict)) = JUDGED
        .borrow(py)
        .as_ref()
        .and_then(|judged| judged.get(&address))
    {
        return Ok(*verdict);
    }
    let judge = JUDGE.get_or_try_init(py, || {
        py.import("vibora._driving")?
            .getattr("is_unsuspending_generator")
            .map(Bound::unbind)
    })?;
    let verdict = judge.bind(py).call1((&code,))?.is_truthy()?;
    let forgotten = {
        let mut judged = JUDGED.borrow(py);
        let judged = judged.get_or_insert_with(Verdicts::new);
        let forgotten = if judged.len() >= MOST_JUDGED {
            std::mem::take(judged)
        } else {
            Verdicts::new()
        };
        judged.insert(address, (code.unbind(), verdict));
        forgotten
    };
    drop(forgotten);
    Ok(verdict)
}
