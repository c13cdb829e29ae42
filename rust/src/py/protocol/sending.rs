//! What is sent: responses and chunks are encoded into the worker's buffer and written once per batch.

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{Cancelled, DEFAULT_TIMEOUT, LARGE, Protocol, UNSENT, WATCHED, exit_request};
use crate::http::connection::{Connection, ContentFraming, Outgoing, Sending};
use crate::http::deadlines::TimerKind;
use crate::http::fields::FieldMap;
use crate::py::content::BodyFailure;
use crate::py::exchange::Exchange;
use crate::py::request::Request;
use crate::py::response::{Fields, Kind, Response};
use crate::py::route::Route;
use crate::py::slots::awaitable_iterator;
use crate::py::socket;

impl Protocol {
    /// Answers a request that has no `Request` object yet with an error.
    pub(super) fn fail(
        slf: &Bound<'_, Self>,
        error: &PyErr,
        octets: &[u8],
        route: Option<&Py<Route>>,
    ) -> PyResult<()> {
        let py = slf.py();
        if route.is_none() {
            let mut state = slf.get().state.borrow(py);
            state.route = None;
            state.response_timeout = DEFAULT_TIMEOUT;
            state.note(octets);
        }
        let request = Self::request(slf, octets, route)?;
        Self::respond_error(slf, error, Some(&request), route)
    }

    /// Asks Python what to answer to an error, and answers it: here, or in a task if the app has to wait for it.
    pub(crate) fn respond_error(
        slf: &Bound<'_, Self>,
        error: &PyErr,
        request: Option<&Py<Request>>,
        route: Option<&Py<Route>>,
    ) -> PyResult<()> {
        let py = slf.py();
        match (Self::answer(slf, error, request, route)?, request) {
            (Some(awaitable), Some(request)) => {
                request.get().fail(py, BodyFailure::Refused);
                let exchange = Exchange::pending(slf, route, request, awaitable, true);
                let server = slf.get().server.get();
                server.leave(py)?;
                let context = server.new_context(py)?;
                Self::spawn(slf, exchange, &context, route, Some(request), false)
            }
            (_, Some(request)) => {
                request.get().release(py);
                Ok(())
            }
            (_, None) => Ok(()),
        }
    }

    /// Asks Python what to answer to an error, and answers it, unless what comes back has to be awaited first.
    pub(crate) fn answer(
        slf: &Bound<'_, Self>,
        error: &PyErr,
        request: Option<&Py<Request>>,
        route: Option<&Py<Route>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        let server = this.server.get();
        let answer = server
            .error_response(py, request, error, route)
            .and_then(|value| match awaitable_iterator(&value)? {
                Some(awaitable) if request.is_some() => Ok(Some(awaitable)),
                _ => this.send_answer(py, &value).map(|()| None),
            });
        match answer {
            Ok(awaitable) => Ok(awaitable),
            Err(error) => {
                exit_request(py, &error)?;
                this.answer_failed(py, &error)?;
                Ok(None)
            }
        }
    }

    /// Sends the response to an error. Whatever goes wrong then is a plain 500.
    pub(crate) fn send_answer(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let sent = match value.cast::<Response>() {
            Ok(response) if response.get().kind(py) == Kind::Whole => self.send(py, response)?,
            _ => Err(PyTypeError::new_err(
                "an error handler must return a Response that is not a stream",
            )),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(error) => self.answer_failed(py, &error),
        }
    }

    fn answer_failed(&self, py: Python<'_>, error: &PyErr) -> PyResult<()> {
        self.server.get().log(
            py,
            "error",
            "the response to an error could not be made",
            Some(error),
        );
        self.send_empty(py, 500, None)
    }

    /// A response without content, made without Python.
    pub(crate) fn send_empty(
        &self,
        py: Python<'_>,
        status: u16,
        allow: Option<&str>,
    ) -> PyResult<()> {
        let server = self.server.get();
        let mut fields = FieldMap::new();
        if let Some(allow) = allow {
            fields
                .append(b"allow", allow.as_bytes())
                .map_err(|error| PyRuntimeError::new_err(format!("allow: {error}")))?;
        }
        let date = server.date(py);
        let mut state = self.state.borrow(py);
        if state.core.sending() != Sending::Head {
            return Ok(());
        }
        let response = Outgoing {
            status,
            fields: Some(&fields),
            content_type: None,
        };
        state
            .core
            .send_response(
                &mut server.out.borrow(py),
                &response,
                b"",
                &date,
                &server.http,
            )
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        *server.served.borrow(py) += 1;
        Ok(())
    }

    /// Encodes a response that is not a stream. The inner result is the user's error, the outer one ours.
    pub(crate) fn send(
        &self,
        py: Python<'_>,
        response: &Bound<'_, Response>,
    ) -> PyResult<PyResult<()>> {
        let server = self.server.get();
        if let Err(error) = response.get().settle_cookies(py) {
            return Ok(Err(error));
        }
        let date = server.date(py);
        let large = {
            let parts = response.get().parts.borrow(py);
            let shared;
            let fields = match &parts.fields {
                Fields::None => None,
                Fields::Owned(fields) => Some(&**fields),
                Fields::Shared(headers) => {
                    shared = headers.get().fields.borrow(py);
                    Some(&*shared)
                }
            };
            let outgoing = Outgoing {
                status: parts.status,
                fields,
                content_type: parts.content_type,
            };
            let content = parts
                .content
                .as_ref()
                .map_or(&b""[..], |content| content.as_bytes(py));
            let mut state = self.state.borrow(py);
            state.large = content.len() >= WATCHED;
            let mut out = server.out.borrow(py);
            let sent = if content.len() < LARGE {
                state
                    .core
                    .send_response(&mut out, &outgoing, content, &date, &server.http)
                    .map(|()| None)
            } else {
                state
                    .core
                    .send_head(
                        &mut out,
                        &outgoing,
                        Some(content.len() as u64),
                        &date,
                        &server.http,
                    )
                    .map(|framing| match framing {
                        ContentFraming::Suppressed => Some(None),
                        _ => Some(parts.content.as_ref().map(|content| content.clone_ref(py))),
                    })
            };
            match sent {
                Ok(large) => large,
                Err(error) => return Ok(Err(PyRuntimeError::new_err(error.to_string()))),
            }
        };
        *server.served.borrow(py) += 1;
        if let Some(content) = large {
            if let Some(content) = content {
                self.flush(py)?;
                let content = content.bind(py);
                let length = content.as_bytes().len() as u64;
                self.write(py, content)?;
                self.expect_consumption(py);
                let sent = self.state.borrow(py).core.content_sent(length);
                sent.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
            }
            let mut state = self.state.borrow(py);
            let finished = state.core.finish(&mut server.out.borrow(py), None);
            finished.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        }
        Ok(Ok(()))
    }

    /// What has been written must be consumed within the route's timeout.
    pub(super) fn expect_consumption(&self, py: Python<'_>) {
        let mut state = self.state.borrow(py);
        let timeout = state.response_timeout;
        if timeout == 0 {
            return;
        }
        let now = self.server.get().now();
        // Since the head, where a deadline says when that was.
        let deadline = state
            .deadlines
            .get(TimerKind::Route)
            .unwrap_or(now + timeout);
        let written = state.written;
        if state.responses.covers(written) {
            return;
        }
        state.responses.push(written, deadline);
        if state.deadlines.get(TimerKind::Flush).is_none() {
            let deadline = state.responses.deadline().unwrap_or(deadline);
            state.deadlines.set(TimerKind::Flush, deadline);
        }
    }

    pub(super) fn write(&self, py: Python<'_>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        let write = {
            let mut state = self.state.borrow(py);
            let Some(write) = state.write.as_ref().map(|write| write.clone_ref(py)) else {
                return Ok(());
            };
            state.written += data.as_bytes().len() as u64;
            write
        };
        write.call1(py, (data,)).map(drop)
    }

    /// Writes what has been encoded. Returns how many bytes that were.
    pub(crate) fn flush(&self, py: Python<'_>) -> PyResult<usize> {
        let data = {
            let mut out = self.server.get().out.borrow(py);
            if out.is_empty() {
                return Ok(0);
            }
            let data = PyBytes::new(py, &out);
            out.clear();
            if out.capacity() > 4 * LARGE {
                out.shrink_to(LARGE);
            }
            data
        };
        self.write(py, &data)?;
        Ok(data.as_bytes().len())
    }

    pub(crate) fn with_core<T>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Connection, &mut Vec<u8>) -> T,
    ) -> T {
        let server = self.server.get();
        work(&mut self.state.borrow(py).core, &mut server.out.borrow(py))
    }

    /// Why the exchange must end, if it must.
    pub(crate) fn cancelled(&self, py: Python<'_>) -> Option<Cancelled> {
        let state = self.state.borrow(py);
        let asked = state.current.as_ref().and_then(|current| current.cancelled);
        asked.or((state.transport.is_none() || state.closing).then_some(Cancelled::Disconnected))
    }

    pub(crate) fn is_disconnected(&self, py: Python<'_>) -> bool {
        let state = self.state.borrow(py);
        state.transport.is_none() || state.closing || state.gone
    }

    pub(crate) fn must_wait(&self, py: Python<'_>) -> bool {
        let state = self.state.borrow(py);
        state.writing_paused && state.transport.is_some()
    }

    /// A future that is done when the client has read.
    pub(crate) fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.server.get().new_future(py)?;
        self.state.borrow(py).drain = Some(future.clone().unbind());
        Ok(future)
    }

    /// The handler has returned a stream: its own timeouts take the place of the route's.
    pub(crate) fn begin_stream(&self, py: Python<'_>, chunk_timeout: u64, complete_timeout: u64) {
        let bounded = {
            let mut state = self.state.borrow(py);
            state.deadlines.clear(TimerKind::Route);
            state.response_timeout = 0;
            state.stream_timeouts = (chunk_timeout, complete_timeout);
            state.large = true;
            if complete_timeout > 0 {
                let deadline = self.server.get().now() + complete_timeout;
                state.deadlines.set(TimerKind::Complete, deadline);
                state.complete_end = u64::MAX;
            }
            if let Some(current) = &mut state.current {
                current.streaming = true;
            }
            std::mem::replace(&mut state.stream_bounded, true)
        };
        if !bounded {
            if let Some(fd) = self.descriptor(py) {
                socket::bound_unsent(fd, UNSENT);
            }
        }
    }

    /// Writes the stream's chunks that have been encoded; each must be consumed within `chunk_timeout`.
    pub(crate) fn flush_chunks(&self, py: Python<'_>, chunk_timeout: u64) -> PyResult<()> {
        if self.flush(py)? == 0 || chunk_timeout == 0 {
            return Ok(());
        }
        let mut state = self.state.borrow(py);
        let written = state.written;
        state
            .chunks
            .push(written, self.server.get().now() + chunk_timeout);
        if state.deadlines.get(TimerKind::Chunk).is_none() {
            if let Some(deadline) = state.chunks.deadline() {
                state.deadlines.set(TimerKind::Chunk, deadline);
            }
        }
        Ok(())
    }
}
