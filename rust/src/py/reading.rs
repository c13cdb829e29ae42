//! What of a request is awaited: its content, and whether its client is still there.

use pyo3::exceptions::{
    PyRecursionError, PyRuntimeError, PyStopAsyncIteration, PyStopIteration, PyTypeError,
    PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString};

use super::content::{BodyFailure, Progress, Want};
use super::errors::vibora_error;
use super::request::Request;
use crate::http::parameters;

/// `request.stream`: the content piece by piece, as it arrives.
#[pyclass(frozen, module = "vibora", name = "RequestStream")]
pub(crate) struct RequestStream {
    pub(super) request: Py<Request>,
}

#[pymethods]
impl RequestStream {
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(&self, py: Python<'_>) -> Reading {
        Reading {
            request: self.request.clone_ref(py),
            want: Want::Chunk,
            finish: Finish::Bytes,
        }
    }

    /// Everything that has not been read yet.
    fn read(&self, py: Python<'_>) -> Reading {
        Reading {
            request: self.request.clone_ref(py),
            want: Want::Rest,
            finish: Finish::Bytes,
        }
    }
}

/// What becomes of the octets that were read.
pub(super) enum Finish {
    Bytes,
    Text,
    Json {
        loads: Option<Py<PyAny>>,
        /// Only what says that it is JSON.
        strict: bool,
    },
}

/// The awaitable behind `request.content()` and its siblings. Completes without suspending if the content is there.
#[pyclass(frozen, module = "vibora._core")]
pub(crate) struct Reading {
    pub(super) request: Py<Request>,
    pub(super) want: Want,
    pub(super) finish: Finish,
}

impl Reading {
    fn finish(&self, py: Python<'_>, content: Py<PyBytes>) -> PyResult<Py<PyAny>> {
        match &self.finish {
            Finish::Bytes => Ok(content.into_any()),
            Finish::Text => self
                .decode(py, content.as_bytes(py))
                .map(|text| text.into_any().unbind()),
            Finish::Json { loads, .. } => {
                static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
                let loads = match loads {
                    Some(loads) => loads,
                    None => LOADS.get_or_try_init(py, || {
                        py.import("orjson")?.getattr("loads").map(Bound::unbind)
                    })?,
                };
                loads.call1(py, (content,)).map_err(|error| {
                    // What the client sent may be no JSON, or nested too deeply to be read.
                    if !error.is_instance_of::<PyValueError>(py)
                        && !error.is_instance_of::<PyRecursionError>(py)
                    {
                        return error;
                    }
                    let refused = vibora_error(
                        py,
                        "InvalidJSON",
                        (format!("invalid JSON: {}", error.value(py)),),
                    );
                    refused.set_cause(py, Some(error));
                    refused
                })
            }
        }
    }

    /// Refuses content that does not say that it is JSON, if that matters.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        if !matches!(self.finish, Finish::Json { strict: true, .. }) {
            return Ok(());
        }
        let content_type = self.request.get().field(b"content-type");
        let (media_type, _) = parameters::split(content_type.as_deref().unwrap_or_default());
        if parameters::is_json(media_type) {
            return Ok(());
        }
        let text = format!(
            "the content-type is {:?}; expected is application/json or another that ends in +json",
            String::from_utf8_lossy(media_type)
        );
        Err(vibora_error(py, "UnsupportedMediaType", (text,)))
    }

    fn decode<'py>(&self, py: Python<'py>, content: &[u8]) -> PyResult<Bound<'py, PyString>> {
        let content_type = self
            .request
            .get()
            .field(b"content-type")
            .unwrap_or_default();
        let charset = charset(&content_type);
        if charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8") {
            if let Ok(text) = std::str::from_utf8(content) {
                return Ok(PyString::new(py, text));
            }
        }
        let decoded = PyBytes::new(py, content).call_method1("decode", (charset,));
        match decoded {
            Ok(text) => Ok(text.cast_into::<PyString>()?),
            Err(error) => {
                let refused = vibora_error(
                    py,
                    "BadRequest",
                    (format!(
                        "the content is not {charset} text: {}",
                        error.value(py)
                    ),),
                );
                refused.set_cause(py, Some(error));
                Err(refused)
            }
        }
    }
}

#[pymethods]
impl Reading {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.check(py)?;
        let request = self.request.get();
        let progress = request.state.borrow(py).body.poll(py, self.want)?;
        match progress {
            Progress::Ready(content) => {
                if let Some(protocol) = request.protocol(py) {
                    protocol.get().content_was_read(py)?;
                }
                Err(PyStopIteration::new_err((self.finish(py, content)?,)))
            }
            Progress::Exhausted => Err(PyStopAsyncIteration::new_err(())),
            Progress::Pending => {
                let Some(protocol) = request.protocol(py) else {
                    return Err(BodyFailure::Disconnected.error(py));
                };
                if request.has_reader(py)? {
                    return Err(PyRuntimeError::new_err(
                        "another task is reading this request's content already",
                    ));
                }
                let future = protocol.get().server.get().new_future(py)?;
                {
                    let mut state = request.state.borrow(py);
                    state.body.waiter = Some(future.clone().unbind());
                    state.body.wants_all = self.want != Want::Chunk;
                }
                protocol.get().content_is_wanted(py)?;
                future.setattr(pyo3::intern!(py, "_asyncio_future_blocking"), true)?;
                Ok(future.unbind())
            }
        }
    }
}

/// An awaitable that has its answer already.
#[pyclass(frozen, module = "vibora._core")]
pub(crate) struct Answer {
    pub(super) value: bool,
}

#[pymethods]
impl Answer {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self) -> PyResult<Py<PyAny>> {
        Err(PyStopIteration::new_err((self.value,)))
    }

    #[allow(clippy::unused_self, reason = "a special method")]
    fn __bool__(&self) -> PyResult<bool> {
        Err(PyTypeError::new_err("is_disconnected() must be awaited"))
    }
}

/// The `charset` parameter of a content type (RFC 9110 §8.3.2); UTF-8 without one.
fn charset(content_type: &[u8]) -> &str {
    let text = std::str::from_utf8(content_type).unwrap_or_default();
    text.split(';')
        .skip(1)
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .map(|(_, value)| value.trim().trim_matches('"'))
        .filter(|value| {
            !value.is_empty()
                && value
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
        })
        .unwrap_or("utf-8")
}

#[cfg(test)]
mod tests {
    use super::charset;

    #[test]
    fn the_charset_parameter_is_found_in_any_case_and_quoted() {
        for (content_type, expected) in [
            (&b"text/plain"[..], "utf-8"),
            (b"text/plain; charset=latin-1", "latin-1"),
            (b"text/plain; a=b; CHARSET=\"UTF-16\"", "UTF-16"),
            (b"text/plain; charset=", "utf-8"),
            (b"text/plain; charset=\xff", "utf-8"),
            (b"text/plain; charset=../x", "utf-8"),
        ] {
            assert_eq!(
                charset(content_type),
                expected,
                "{}",
                content_type.escape_ascii()
            );
        }
    }
}
