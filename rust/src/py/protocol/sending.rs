//! What is sent: responses and chunks are encoded into the worker's buffer and written once per batch.

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PySlice};

use super::ingress::SEALED_AT_ONCE;
use super::{Cancelled, DEFAULT_TIMEOUT, LARGE, Protocol, State, UNSENT, WATCHED, exit_request};
use crate::http::connection::{Connection, ContentFraming, Outgoing, SendError, Sending};
use crate::http::deadlines::TimerKind;
use crate::http::fields::FieldMap;
use crate::py::content::BodyFailure;
use crate::py::exchange::Exchange;
use crate::py::request::Request;
use crate::py::response::{Fields, Kind, Response};
use crate::py::route::Route;
use crate::py::slots::awaitable_iterator;
use crate::py::socket;

/// What a stream finds on its way out.
pub(crate) struct Outlet {
    pub(crate) cancelled: bool,
    /// Bytes that have been encoded and not yet written.
    pub(crate) encoded: usize,
    /// The client has to read first.
    pub(crate) must_wait: bool,
}

impl State {
    /// Why the exchange must end, if it must.
    fn cancelled(&self) -> Option<Cancelled> {
        let asked = self.current.as_ref().and_then(|current| current.cancelled);
        asked.or((self.transport.is_none() || self.closing).then_some(Cancelled::Disconnected))
    }
}

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
        field: Option<(&str, &str)>,
    ) -> PyResult<()> {
        let server = self.server.get();
        let mut fields = FieldMap::new();
        if let Some((name, value)) = field {
            fields
                .append(name.as_bytes(), value.as_bytes())
                .map_err(|error| PyRuntimeError::new_err(format!("{name}: {error}")))?;
        }
        let date = server.date(py);
        if self.state.borrow(py).core.sending() != Sending::Head {
            return Ok(());
        }
        self.watch_head(py, status);
        let mut state = self.state.borrow(py);
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
        drop(state);
        server.count_answer(py);
        self.watch_end(py);
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
        if server.observes {
            let status = response.get().parts.borrow(py).status;
            self.watch_head(py, status);
        }
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
        server.count_answer(py);
        if let Some(content) = large {
            if let Some(content) = content {
                let content = content.bind(py);
                let length = content.as_bytes().len();
                let announced = self.with_core(py, |core, out| core.announce_content(out, length));
                announced.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
                self.go_past_the_transport(py);
                self.send_large(py, content, b"", false)?;
                self.expect_consumption(py);
            }
            let mut state = self.state.borrow(py);
            let finished = state.core.finish(&mut server.out.borrow(py), None);
            finished.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        }
        self.watch_end(py);
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
        let written = state.handed_over();
        if state.responses.covers(written) {
            return;
        }
        state.responses.push(written, deadline);
        if state.deadlines.get(TimerKind::Flush).is_none() {
            let deadline = state.responses.deadline().unwrap_or(deadline);
            state.deadlines.set(TimerKind::Flush, deadline);
        }
    }

    /// Hands bytes to the transport.
    pub(super) fn write(&self, py: Python<'_>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        {
            let mut state = self.state.borrow(py);
            if state.write.is_none() {
                return Ok(());
            }
            if let Some(ingress) = &mut state.ingress {
                ingress.defer(data.clone());
                drop(state);
                return self.send_backlog(py);
            }
        }
        self.write_buffer(py, data, data.as_bytes().len())
    }

    /// Hands an object with so many bytes to the transport.
    fn write_buffer(&self, py: Python<'_>, data: &Bound<'_, PyAny>, length: usize) -> PyResult<()> {
        let write = {
            let mut state = self.state.borrow(py);
            let Some(write) = state.write.as_ref().map(|write| write.clone_ref(py)) else {
                return Ok(());
            };
            state.written += length as u64;
            state.queued = true;
            write
        };
        write.call1(py, (data,)).map(drop)
    }

    /// From now on what can be sent at once is sent past the transport: no object is made for it, and no turn of the
    /// loop is waited for.
    fn go_past_the_transport(&self, py: Python<'_>) {
        {
            let state = self.state.borrow(py);
            if state.direct || state.ingress.is_some() {
                return;
            }
        }
        if self.descriptor(py).is_none() {
            return;
        }
        let plain = self
            .transport(py)
            .is_some_and(|transport| socket::is_plain(transport.bind(py)));
        self.state.borrow(py).direct = plain;
    }

    /// Whether this is the connection's second write: one that lives longer is worth a look at its socket.
    fn is_kept_alive(&self, py: Python<'_>) -> bool {
        let mut state = self.state.borrow(py);
        let again = state.written > 0 && !state.settled;
        state.settled |= again;
        again
    }

    /// The descriptor, if what is sent to it now keeps its place: the transport holds nothing back.
    fn direct_descriptor(&self, py: Python<'_>) -> Option<i32> {
        let transport = {
            let state = self.state.borrow(py);
            if !state.direct {
                return None;
            }
            if !state.queued {
                return state.fd;
            }
            state.transport.as_ref()?.clone_ref(py)
        };
        let held = transport
            .call_method0(py, pyo3::intern!(py, "get_write_buffer_size"))
            .and_then(|held| held.extract::<u64>(py));
        if !held.is_ok_and(|held| held == 0) {
            return None;
        }
        let mut state = self.state.borrow(py);
        state.queued = false;
        state.fd
    }

    /// Writes what has been encoded. Returns how many bytes that were.
    pub(crate) fn flush(&self, py: Python<'_>) -> PyResult<usize> {
        if self.server.get().out.borrow(py).is_empty() {
            let mut state = self.state.borrow(py);
            if std::mem::take(&mut state.held_back) {
                if let Some(fd) = state.fd {
                    socket::push(fd);
                }
            }
            return Ok(0);
        }
        if self.state.borrow(py).ingress.is_some() {
            return self.flush_sealed(py);
        }
        if self.is_kept_alive(py) {
            self.go_past_the_transport(py);
        }
        let descriptor = self.direct_descriptor(py);
        let (rest, length) = {
            let mut out = self.server.get().out.borrow(py);
            let length = out.len();
            let sent = descriptor.map_or(0, |fd| socket::send(fd, [&out], false));
            let rest = out.get(sent..).filter(|rest| !rest.is_empty());
            let rest = rest.map(|rest| PyBytes::new(py, rest));
            out.clear();
            if out.capacity() > 4 * LARGE {
                out.shrink_to(LARGE);
            }
            let mut state = self.state.borrow(py);
            state.written += sent as u64;
            // What the system kept back goes before this, and this is not kept back.
            state.held_back = false;
            drop(state);
            (rest, length)
        };
        if let Some(rest) = rest {
            self.write(py, &rest)?;
        }
        Ok(length)
    }

    /// Writes what has been encoded, then `content` and `tail`, without a copy where the socket or the transport takes
    /// it as it is. `more`: more follows, or the next flush.
    fn send_large(
        &self,
        py: Python<'_>,
        content: &Bound<'_, PyBytes>,
        tail: &'static [u8],
        more: bool,
    ) -> PyResult<()> {
        let octets = content.as_bytes();
        if octets.len() <= SEALED_AT_ONCE && self.state.borrow(py).ingress.is_some() {
            // It is copied by the encryption anyway, and this makes one record of its beginning and its end.
            {
                let mut out = self.server.get().out.borrow(py);
                out.extend_from_slice(octets);
                out.extend_from_slice(tail);
            }
            return self.flush(py).map(drop);
        }
        let descriptor = self.direct_descriptor(py);
        let (head, begun) = {
            let mut out = self.server.get().out.borrow(py);
            let pieces = [&out, octets, tail];
            let sent = descriptor.map_or(0, |fd| socket::send(fd, pieces, more));
            {
                let mut state = self.state.borrow(py);
                state.written += sent as u64;
                state.held_back = more && sent == out.len() + octets.len() + tail.len();
            }
            let head = out.get(sent..).filter(|left| !left.is_empty());
            let head = head.map(|left| PyBytes::new(py, left));
            let begun = sent.saturating_sub(out.len());
            out.clear();
            // What is left of the tail goes with what is encoded next, or when the exchange rests.
            let ended = begun.saturating_sub(octets.len());
            out.extend_from_slice(tail.get(ended..).unwrap_or_default());
            (head, begun.min(octets.len()))
        };
        if let Some(head) = head {
            self.write(py, &head)?;
        }
        match octets.len() - begun {
            0 => Ok(()),
            _ if begun == 0 => self.write(py, content),
            left => {
                let view = PyMemoryView::from(content)?;
                let begun = isize::try_from(begun).unwrap_or(isize::MAX);
                let rest = view.get_item(PySlice::new(py, begun, isize::MAX, 1))?;
                self.write_buffer(py, &rest, left)
            }
        }
    }

    /// Encodes a chunk of a stream, unless the exchange must end.
    pub(crate) fn send_chunk(&self, py: Python<'_>, octets: &[u8]) -> Result<(), SendError> {
        let mut state = self.state.borrow(py);
        if state.cancelled().is_some() {
            return Ok(());
        }
        let mut out = self.server.get().out.borrow(py);
        state.core.send_content(&mut out, octets)
    }

    /// Sends a chunk of a stream without a copy; it must be consumed within `chunk_timeout`. The inner result is the
    /// user's error.
    pub(crate) fn send_large_chunk(
        &self,
        py: Python<'_>,
        chunk: &Bound<'_, PyBytes>,
        chunk_timeout: u64,
    ) -> PyResult<Result<(), SendError>> {
        if self.cancelled(py).is_some() {
            return Ok(Ok(()));
        }
        let length = chunk.as_bytes().len();
        let tail = match self.with_core(py, |core, out| core.announce_content(out, length)) {
            Ok(Some(tail)) => tail,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        self.send_large(py, chunk, tail, true)?;
        self.expect_chunks(py, chunk_timeout);
        Ok(Ok(()))
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
        self.state.borrow(py).cancelled()
    }

    /// Whether a stream may go on, and whether it has to write or to wait first.
    pub(crate) fn outlet(&self, py: Python<'_>) -> Outlet {
        let state = self.state.borrow(py);
        Outlet {
            cancelled: state.cancelled().is_some(),
            encoded: self.server.get().out.borrow(py).len(),
            must_wait: state.writing_paused && state.transport.is_some(),
        }
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
                self.go_past_the_transport(py);
            }
        }
    }

    /// Writes the stream's chunks that have been encoded; each must be consumed within `chunk_timeout`.
    pub(crate) fn flush_chunks(&self, py: Python<'_>, chunk_timeout: u64) -> PyResult<()> {
        if self.flush(py)? > 0 {
            self.expect_chunks(py, chunk_timeout);
        }
        Ok(())
    }

    fn expect_chunks(&self, py: Python<'_>, chunk_timeout: u64) {
        if chunk_timeout == 0 {
            return;
        }
        let mut state = self.state.borrow(py);
        let written = state.handed_over();
        state
            .chunks
            .push(written, self.server.get().now() + chunk_timeout);
        if state.deadlines.get(TimerKind::Chunk).is_none() {
            if let Some(deadline) = state.chunks.deadline() {
                state.deadlines.set(TimerKind::Chunk, deadline);
            }
        }
    }
}
