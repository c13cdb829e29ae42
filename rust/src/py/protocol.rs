//! `Protocol`: one connection, as an `asyncio.Protocol` for any loop's transport.
//!
//! The loop hands it bytes; it asks [`Connection`] what they mean, routes requests, drives handlers, and writes what
//! they answer, once per batch. A handler that cannot suspend is run right here; any other gets an [`Exchange`] in a
//! task of its own, and the connection waits for it: one exchange at a time, responses in order.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::cell::GilCell;
use super::clock;
use super::errors::vibora_error;
use super::exchange::{Exchange, Outcome};
use super::request::{BodyFailure, Request};
use super::response::{Fields, Response};
use super::route::{Drive, OnDisconnect, Route};
use super::server::{CLEAN_UP, HALF_CLOSE, LINGER, Server};
use super::socket;
use super::suspension::stream_cannot_suspend;
use crate::error::ProtocolError;
use crate::http::connection::{Connection, Event, Outgoing, Receiving, Sending};
use crate::http::deadlines::{Deadlines, TimerKind, Unconsumed, UploadPace};
use crate::http::target::{self, TargetForm};
use crate::router::Lookup;

/// Content of at least this many bytes is written without being copied behind its head.
const LARGE: usize = 64 * 1024;
/// What the kernel may hold unsent of a stream.
const UNSENT: u32 = 128 * 1024;

/// Why an exchange is being cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// The client has gone.
    Disconnected,
    /// The connection was reset because a timeout of the response had passed.
    Aborted,
    /// `RouteLimits.timeout` has passed and nothing has been sent.
    TimedOut,
    /// The server stops.
    Shutdown,
}

/// The exchange that a task is working on.
struct Current {
    exchange: Py<Exchange>,
    task: Option<Py<PyAny>>,
    request: Option<Py<Request>>,
    route: Option<Py<Route>>,
    streaming: bool,
    cancelled: Option<Cancelled>,
}

struct State {
    core: Connection,
    transport: Option<Py<PyAny>>,
    write: Option<Py<PyAny>>,
    fd: Option<i32>,
    /// What has arrived and could not be parsed yet: a partial head, or pipelined requests.
    pending: Vec<u8>,
    current: Option<Current>,
    /// The request whose content is arriving, for a handler that may read it.
    reading: Option<Py<Request>>,
    /// A callback of the loop is working on this connection: it writes, and arms the timers, when it is through.
    busy: bool,
    writing_paused: bool,
    reading_paused: bool,
    /// The future on which a stream waits until the client has read.
    drain: Option<Py<PyAny>>,
    /// Bytes handed to the transport, from the connection's beginning.
    written: u64,
    chunks: Unconsumed,
    responses: Unconsumed,
    /// Everything up to here must be consumed by [`TimerKind::Complete`].
    complete_end: u64,
    deadlines: Deadlines,
    /// When the worker's timer wheel will look at this connection.
    scheduled: u64,
    pace: Option<UploadPace>,
    key: Option<u32>,
    /// The peer has sent its last byte.
    eof: bool,
    /// The transport has been told to close.
    closing: bool,
    stream_bounded: bool,
}

/// One connection.
#[pyclass(frozen, weakref, module = "vibora._core", name = "Protocol")]
pub(crate) struct Protocol {
    pub(crate) server: Py<Server>,
    state: GilCell<State>,
}

/// What a route's timeouts are called in the log.
fn timeout_name(kind: TimerKind) -> &'static str {
    match kind {
        TimerKind::Head => "head_timeout",
        TimerKind::KeepAlive => "keep_alive_timeout",
        TimerKind::Body => "body_timeout",
        TimerKind::Route | TimerKind::Flush => "timeout",
        TimerKind::Chunk => "chunk_timeout",
        TimerKind::Complete => "complete_timeout",
        TimerKind::HalfClose => "half_close",
        TimerKind::Linger => "linger",
        TimerKind::CleanUp => "clean_up",
    }
}

impl Protocol {
    pub(crate) fn new(server: Py<Server>) -> Self {
        Self {
            server,
            state: GilCell::new(State {
                core: Connection::new(),
                transport: None,
                write: None,
                fd: None,
                pending: Vec::new(),
                current: None,
                reading: None,
                busy: false,
                writing_paused: false,
                reading_paused: false,
                drain: None,
                written: 0,
                chunks: Unconsumed::default(),
                responses: Unconsumed::default(),
                complete_end: 0,
                deadlines: Deadlines::default(),
                scheduled: u64::MAX,
                pace: None,
                key: None,
                eof: false,
                closing: false,
                stream_bounded: false,
            }),
        }
    }

    /// Runs a callback of the loop. An error or a panic in it is ours: it is logged and ends this connection only.
    fn guarded(slf: &Bound<'_, Self>, work: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let failure = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => {
                exit_request(py, &error)?;
                error
            }
            Err(panic) => {
                let text = panic
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_else(|| "no message".to_owned());
                PyRuntimeError::new_err(format!("panic in the core: {text}"))
            }
        };
        let server = this.server.get();
        server.out.borrow(py).clear();
        this.state.borrow(py).busy = false;
        server.leave(py)?;
        server.log(py, "error", "internal error; the connection is reset", Some(&failure));
        this.abort(py);
        this.cancel(py, Cancelled::Aborted)
    }

    // ---- receiving

    /// Works through what has arrived, then writes what was answered.
    fn pump(slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let pending;
        let mut input = {
            let mut state = this.state.borrow(py);
            if state.transport.is_none() || state.closing && state.core.is_closed() {
                return Ok(());
            }
            state.busy = true;
            if state.pending.is_empty() {
                data
            } else {
                state.pending.extend_from_slice(data);
                pending = std::mem::take(&mut state.pending);
                &pending
            }
        };
        Self::work(slf, &mut input)?;
        this.server.get().leave(py)?;
        {
            let mut state = this.state.borrow(py);
            state.busy = false;
            if !input.is_empty() {
                // Handlers may have asked for content meanwhile, but only this function takes from `pending`.
                state.pending = input.to_vec();
            }
        }
        this.settle(slf)
    }

    /// The loop over events.
    fn work(slf: &Bound<'_, Self>, input: &mut &[u8]) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let server = this.server.get();
        loop {
            let start = *input;
            let event = {
                let mut state = this.state.borrow(py);
                if state.transport.is_none() {
                    *input = &[];
                    return Ok(());
                }
                // A client that does not read its responses gets no further ones made.
                if state.writing_paused && state.current.is_none() && state.core.receiving() == Receiving::Head {
                    return Ok(());
                }
                let mut head = server.head.borrow(py);
                state.core.next_event(input, &mut head, &server.http)
            };
            match event {
                Ok(Event::NeedMore) => return Ok(()),
                Ok(Event::Request) => Self::begin(slf, start, input)?,
                Ok(Event::Content(data)) => {
                    let request = this.state.borrow(py).reading.as_ref().map(|request| request.clone_ref(py));
                    if let Some(request) = request {
                        this.content_arrived(py, &request, data)?;
                    }
                }
                Ok(Event::End) => {
                    let request = {
                        let mut state = this.state.borrow(py);
                        state.pace = None;
                        state.deadlines.clear(TimerKind::Body);
                        state.reading.take()
                    };
                    if let Some(request) = request {
                        request.get().complete(py);
                        request.get().wake(py)?;
                    }
                }
                Ok(Event::Pipelined) => {
                    let state = this.state.borrow(py);
                    if state.current.is_some() || state.core.receiving() != Receiving::Head {
                        return Ok(());
                    }
                }
                Err(error) => {
                    *input = &[];
                    this.protocol_error(slf, error)?;
                    return Ok(());
                }
            }
            if server.out.borrow(py).len() >= LARGE {
                this.flush(py)?;
            }
        }
    }

    /// A request's head is complete: routes it and starts its handler.
    fn begin(slf: &Bound<'_, Self>, start: &[u8], input: &mut &[u8]) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let server = this.server.get();
        let (method, path, form, len) = {
            let head = server.head.borrow(py);
            let path = head.path.of(start);
            (
                head.method_text.of(start),
                if path.is_empty() { &b"/"[..] } else { path },
                head.form,
                head.len,
            )
        };
        {
            let mut state = this.state.borrow(py);
            state.deadlines.clear(TimerKind::Head);
            state.deadlines.clear(TimerKind::KeepAlive);
        }
        let octets = start.get(..len).unwrap_or_default();
        match form {
            TargetForm::Origin | TargetForm::Absolute => {}
            // RFC 9110 §9.3.7: OPTIONS * asks about the server as a whole. §9.3.6: an origin server makes no tunnels.
            TargetForm::Asterisk => return this.send_empty(py, 204, None),
            TargetForm::Authority => {
                let error = vibora_error(py, "HTTPError", (501, "this server makes no tunnels"));
                this.state.borrow(py).core.close_after_response();
                return this.fail(slf, &error, octets, None);
            }
        }
        let Ok(path) = target::decode_path(path) else {
            let error = vibora_error(py, "BadRequest", ("the path is not percent-encoded correctly",));
            return this.fail(slf, &error, octets, None);
        };
        let table = server.table(py);
        let (route, parameters) = match table.tree.lookup(method, &path) {
            Lookup::Found { route, parameters } => match table.routes.get(route) {
                Some(route) => (route, parameters),
                None => return Err(PyRuntimeError::new_err("the router knows a route that the table does not")),
            },
            Lookup::Options { allow } => return this.send_empty(py, 204, Some(allow)),
            Lookup::MethodNotAllowed { allow } => {
                let allowed: Vec<&str> = allow.split(", ").collect();
                let error = vibora_error(py, "MethodNotAllowed", (allowed,));
                return this.fail(slf, &error, octets, None);
            }
            Lookup::NotFound => {
                let error = vibora_error(py, "NotFound", ());
                return this.fail(slf, &error, octets, None);
            }
        };
        let plan = route.get();
        let limited = this.state.borrow(py).core.limit_content(plan.max_body_size);
        if let Err(error) = limited {
            let error = BodyFailure::Protocol(error).error(py);
            return this.fail(slf, &error, octets, Some(route));
        }
        let inline = matches!(plan.drive, Drive::Direct | Drive::Inline);
        let request = if plan.wants_request || !inline { Some(this.request(slf, octets, Some(route))?) } else { None };
        let Some(arguments) = plan.arguments(py, request.as_ref(), &parameters)? else {
            let error = vibora_error(py, "NotFound", ());
            return this.fail(slf, &error, octets, None);
        };
        if inline {
            server.enter(py);
            let context = server.new_context(py)?;
            return match Self::run_inline(py, plan, &arguments, &context) {
                Ok(value) => {
                    this.respond_inline(slf, &value, &context, octets, route, request)?;
                    Ok(())
                }
                Err(error) => {
                    exit_request(py, &error)?;
                    match request {
                        Some(request) => this.respond_error(slf, &error, Some(&request), Some(route)),
                        None => this.fail(slf, &error, octets, Some(route)),
                    }
                }
            };
        }
        let Some(request) = request else { return Err(PyRuntimeError::new_err("an exchange needs a request")) };
        if this.state.borrow(py).core.expects_content() && !this.take_content(slf, &request, plan, input)? {
            return Ok(());
        }
        server.leave(py)?;
        let context = server.new_context(py)?;
        let exchange = Exchange::start(slf, route, &request, arguments);
        this.spawn(slf, exchange, &context, Some(route), Some(&request), false)
    }

    /// Takes what has already arrived of the request's content, so that a handler finds it there. Returns false if the
    /// content was refused and the request has been answered.
    fn take_content(
        &self,
        slf: &Bound<'_, Self>,
        request: &Py<Request>,
        route: &Route,
        input: &mut &[u8],
    ) -> PyResult<bool> {
        let py = slf.py();
        let server = self.server.get();
        self.state.borrow(py).reading = Some(request.clone_ref(py));
        loop {
            let event = {
                let mut state = self.state.borrow(py);
                let mut head = server.head.borrow(py);
                state.core.next_event(input, &mut head, &server.http)
            };
            match event {
                Ok(Event::Content(data)) => {
                    if request.get().feed(py, data) > server.limits.read_buffer {
                        break;
                    }
                }
                Ok(Event::End) => {
                    self.state.borrow(py).reading = None;
                    request.get().complete(py);
                    return Ok(true);
                }
                Ok(Event::NeedMore | Event::Request | Event::Pipelined) => break,
                Err(error) => {
                    *input = &[];
                    self.state.borrow(py).reading = None;
                    let error = BodyFailure::Protocol(error).error(py);
                    self.respond_error(slf, &error, Some(request), None)?;
                    return Ok(false);
                }
            }
        }
        let now = clock::monotonic_ms();
        self.state.borrow(py).pace = Some(UploadPace::new(now, route.body_timeout, route.min_body_rate));
        Ok(true)
    }

    /// A piece of content has arrived for a request that is being handled.
    fn content_arrived(&self, py: Python<'_>, request: &Py<Request>, data: &[u8]) -> PyResult<()> {
        let waiting = request.get().feed(py, data);
        if let Some(pace) = &mut self.state.borrow(py).pace {
            pace.progress(clock::monotonic_ms());
        }
        if request.get().has_reader(py)? {
            return request.get().wake(py);
        }
        if waiting > self.server.get().limits.read_buffer {
            self.pause_reading(py)?;
        }
        Ok(())
    }

    /// A handler waits for content: the client may send it, and is read again.
    pub(crate) fn content_is_wanted(&self, py: Python<'_>) -> PyResult<()> {
        let server = self.server.get();
        let busy = {
            let mut state = self.state.borrow(py);
            state.core.send_continue(&mut server.out.borrow(py));
            state.busy
        };
        self.resume_reading(py)?;
        if !busy {
            self.flush(py)?;
            self.arm(py)?;
        }
        Ok(())
    }

    /// A handler has taken what had arrived.
    pub(crate) fn content_was_read(&self, py: Python<'_>) -> PyResult<()> {
        self.resume_reading(py)
    }

    fn pause_reading(&self, py: Python<'_>) -> PyResult<()> {
        let transport = {
            let mut state = self.state.borrow(py);
            if state.reading_paused || state.closing {
                return Ok(());
            }
            state.reading_paused = true;
            if let Some(pace) = &mut state.pace {
                pace.pause(clock::monotonic_ms());
            }
            state.transport.as_ref().map(|transport| transport.clone_ref(py))
        };
        match transport {
            Some(transport) => transport.call_method0(py, pyo3::intern!(py, "pause_reading")).map(drop),
            None => Ok(()),
        }
    }

    fn resume_reading(&self, py: Python<'_>) -> PyResult<()> {
        let transport = {
            let mut state = self.state.borrow(py);
            if !state.reading_paused || state.closing {
                return Ok(());
            }
            state.reading_paused = false;
            if let Some(pace) = &mut state.pace {
                pace.resume(clock::monotonic_ms());
            }
            state.transport.as_ref().map(|transport| transport.clone_ref(py))
        };
        match transport {
            Some(transport) => transport.call_method0(py, pyo3::intern!(py, "resume_reading")).map(drop),
            None => Ok(()),
        }
    }

    /// The peer has broken a rule of the protocol.
    fn protocol_error(&self, slf: &Bound<'_, Self>, error: ProtocolError) -> PyResult<()> {
        let py = slf.py();
        let (reading, current) = {
            let mut state = self.state.borrow(py);
            state.deadlines.clear(TimerKind::Head);
            state.deadlines.clear(TimerKind::Body);
            state.pace = None;
            (state.reading.take(), state.current.is_some())
        };
        if let Some(request) = reading {
            request.get().fail(py, BodyFailure::Protocol(error));
            request.get().wake(py)?;
        }
        if current {
            // The handler's response, or the error that its read raises, is the answer.
            return Ok(());
        }
        let text = format!("{error} ({})", error.rule());
        let failure = vibora_error(py, "HTTPError", (error.status(), text));
        self.respond_error(slf, &failure, None, None)
    }

    // ---- driving handlers

    fn request(&self, slf: &Bound<'_, Self>, octets: &[u8], route: Option<&Py<Route>>) -> PyResult<Py<Request>> {
        let py = slf.py();
        let route = route.map(|route| route.clone_ref(py));
        let request = {
            let head = self.server.get().head.borrow(py);
            let length = self.state.borrow(py).core.announced_length();
            Request::new(&head, octets, length, slf.clone().unbind(), route)
        };
        Py::new(py, request)
    }

    /// Runs a handler that cannot suspend, in its context.
    #[inline]
    fn run_inline<'py>(
        py: Python<'py>,
        route: &Route,
        arguments: &super::route::Arguments,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: `context` is a fresh context object; entering it can fail only if it is entered already.
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        let result = route.call(py, arguments).and_then(|called| {
            if route.drive == Drive::Inline {
                return Ok(called);
            }
            let mut sent = std::ptr::null_mut();
            // SAFETY: `called` is a live object; `sent` receives a new reference unless the result is an error.
            match unsafe { ffi::PyIter_Send(called.as_ptr(), py.None().as_ptr(), &raw mut sent) } {
                // SAFETY: the result says that `sent` is a new reference.
                ffi::PySendResult::PYGEN_RETURN => Ok(unsafe { Bound::from_owned_ptr(py, sent) }),
                ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
                ffi::PySendResult::PYGEN_NEXT => {
                    // SAFETY: the result says that `sent` is a new reference.
                    drop(unsafe { Bound::from_owned_ptr(py, sent) });
                    called.call_method0("close")?;
                    Err(PyRuntimeError::new_err("a handler that cannot suspend has suspended"))
                }
            }
        });
        // SAFETY: entered above, and everything that ran in between has left what it entered.
        if unsafe { ffi::PyContext_Exit(context.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        result
    }

    /// Gives an exchange its task.
    fn spawn(
        &self,
        slf: &Bound<'_, Self>,
        exchange: Exchange,
        context: &Bound<'_, PyAny>,
        route: Option<&Py<Route>>,
        request: Option<&Py<Request>>,
        streaming: bool,
    ) -> PyResult<()> {
        let py = slf.py();
        let server = self.server.get();
        let exchange = Py::new(py, exchange)?;
        {
            let mut state = self.state.borrow(py);
            if !streaming {
                if let Some(route) = route.map(Py::get).filter(|route| route.timeout > 0) {
                    state.deadlines.set(TimerKind::Route, clock::monotonic_ms() + route.timeout);
                }
            }
            state.current = Some(Current {
                exchange: exchange.clone_ref(py),
                task: None,
                request: request.map(|request| request.clone_ref(py)),
                route: route.map(|route| route.clone_ref(py)),
                streaming,
                cancelled: None,
            });
        }
        *server.running.borrow(py) += 1;
        self.create_task(slf, &exchange, context)
    }

    pub(crate) fn create_task(
        &self,
        slf: &Bound<'_, Self>,
        exchange: &Py<Exchange>,
        context: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let name = {
            let state = self.state.borrow(py);
            let route = state.current.as_ref().and_then(|current| current.route.as_ref());
            route.map_or_else(|| PyString::new(py, "vibora").unbind(), |route| route.get().name.clone_ref(py))
        };
        let task = self.server.get().create_task(py, exchange.bind(py), &name, context)?;
        let mut state = self.state.borrow(py);
        if let Some(current) = &mut state.current {
            if current.exchange.is(exchange) {
                current.task = Some(task.unbind());
            }
        }
        Ok(())
    }

    // ---- responding

    /// Answers with what a handler has returned, when it ran without a task.
    fn respond_inline(
        &self,
        slf: &Bound<'_, Self>,
        value: &Bound<'_, PyAny>,
        context: &Bound<'_, PyAny>,
        octets: &[u8],
        route: &Py<Route>,
        request: Option<Py<Request>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let Ok(response) = value.cast::<Response>() else {
            let error = not_a_response(value, route);
            return match request {
                Some(request) => self.respond_error(slf, &error, Some(&request), Some(route)),
                None => self.fail(slf, &error, octets, Some(route)),
            };
        };
        if !response.get().is_stream(py) {
            match self.send(py, response)? {
                Ok(()) => {
                    if let Some(request) = request {
                        request.get().release(py);
                    }
                    return Ok(());
                }
                Err(error) => {
                    return match request {
                        Some(request) => self.respond_error(slf, &error, Some(&request), Some(route)),
                        None => self.fail(slf, &error, octets, Some(route)),
                    };
                }
            }
        }
        let request = match request {
            Some(request) => request,
            None => self.request(slf, octets, Some(route))?,
        };
        let inline = stream_cannot_suspend(py, response)?;
        let exchange = Exchange::stream(slf, Some(route), Some(&request), response);
        if !inline {
            self.server.get().leave(py)?;
            return self.spawn(slf, exchange, context, Some(route), Some(&request), true);
        }
        self.run_stream(slf, exchange, context, Some(route), Some(&request))
    }

    /// Pulls a stream whose generator cannot suspend right here. It gets a task only if it has to wait for the client.
    fn run_stream(
        &self,
        slf: &Bound<'_, Self>,
        exchange: Exchange,
        context: &Bound<'_, PyAny>,
        route: Option<&Py<Route>>,
        request: Option<&Py<Request>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let exchange = Bound::new(py, exchange)?;
        self.state.borrow(py).current = Some(Current {
            exchange: exchange.clone().unbind(),
            task: None,
            request: request.map(|request| request.clone_ref(py)),
            route: route.map(|route| route.clone_ref(py)),
            streaming: true,
            cancelled: None,
        });
        *self.server.get().running.borrow(py) += 1;
        // SAFETY: `context` is a context object that is not entered: the handler has left it.
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        let outcome = Exchange::run_inline(&exchange);
        // SAFETY: entered above, and everything that ran in between has left what it entered.
        if unsafe { ffi::PyContext_Exit(context.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        match outcome? {
            Outcome::Done => Ok(()),
            Outcome::NeedsTask => {
                self.server.get().leave(py)?;
                self.create_task(slf, &exchange.unbind(), context)
            }
        }
    }

    /// Answers a request that has no `Request` object yet with an error.
    fn fail(&self, slf: &Bound<'_, Self>, error: &PyErr, octets: &[u8], route: Option<&Py<Route>>) -> PyResult<()> {
        let request = self.request(slf, octets, route)?;
        self.respond_error(slf, error, Some(&request), route)
    }

    /// Asks Python what to answer to an error, and answers it. Whatever goes wrong then is a plain 500.
    pub(crate) fn respond_error(
        &self,
        slf: &Bound<'_, Self>,
        error: &PyErr,
        request: Option<&Py<Request>>,
        route: Option<&Py<Route>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let server = self.server.get();
        let sent = server.error_response(py, request, error, route).and_then(|value| match value.cast::<Response>() {
            Ok(response) if !response.get().is_stream(py) => self.send(py, response)?,
            _ => Err(PyTypeError::new_err("an error handler must return a Response that is not a stream")),
        });
        if let Err(error) = sent {
            exit_request(py, &error)?;
            server.log(py, "error", "the response to an error could not be made", Some(&error));
            self.send_empty(py, 500, None)?;
        }
        if let Some(request) = request {
            request.get().release(py);
        }
        Ok(())
    }

    /// A response without content, made without Python.
    fn send_empty(&self, py: Python<'_>, status: u16, allow: Option<&str>) -> PyResult<()> {
        let server = self.server.get();
        let mut fields = crate::http::fields::FieldMap::new();
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
        let response = Outgoing { status, fields: Some(&fields), content_type: None };
        state
            .core
            .send_response(&mut server.out.borrow(py), &response, b"", &date, &server.http)
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        *server.served.borrow(py) += 1;
        Ok(())
    }

    /// Encodes a response that is not a stream. The inner result is the user's error, the outer one ours.
    pub(crate) fn send(&self, py: Python<'_>, response: &Bound<'_, Response>) -> PyResult<PyResult<()>> {
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
            let outgoing = Outgoing { status: parts.status, fields, content_type: parts.content_type };
            let content = parts.content.as_ref().map_or(&b""[..], |content| content.as_bytes(py));
            let mut state = self.state.borrow(py);
            let mut out = server.out.borrow(py);
            let sent = if content.len() < LARGE {
                state.core.send_response(&mut out, &outgoing, content, &date, &server.http).map(|()| None)
            } else {
                state.core.send_head(&mut out, &outgoing, Some(content.len() as u64), &date, &server.http).map(
                    |framing| match framing {
                        crate::http::connection::ContentFraming::Suppressed => Some(None),
                        _ => Some(parts.content.as_ref().map(|content| content.clone_ref(py))),
                    },
                )
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
    fn expect_consumption(&self, py: Python<'_>) {
        let mut state = self.state.borrow(py);
        let timeout = state
            .current
            .as_ref()
            .and_then(|current| current.route.as_ref())
            .map_or(DEFAULT_TIMEOUT, |route| route.get().timeout);
        if timeout == 0 {
            return;
        }
        let now = clock::monotonic_ms();
        // Since the head, where a deadline says when that was.
        let deadline = state.deadlines.get(TimerKind::Route).unwrap_or(now + timeout);
        let written = state.written;
        state.responses.push(written, deadline);
        if state.deadlines.get(TimerKind::Flush).is_none() {
            let deadline = state.responses.deadline().unwrap_or(deadline);
            state.deadlines.set(TimerKind::Flush, deadline);
        }
    }

    fn write(&self, py: Python<'_>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        let write = {
            let mut state = self.state.borrow(py);
            let Some(write) = state.write.as_ref().map(|write| write.clone_ref(py)) else { return Ok(()) };
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

    // ---- the exchange's side

    pub(crate) fn with_core<T>(&self, py: Python<'_>, work: impl FnOnce(&mut Connection, &mut Vec<u8>) -> T) -> T {
        let server = self.server.get();
        work(&mut self.state.borrow(py).core, &mut server.out.borrow(py))
    }

    /// Why the exchange must end, if it must.
    pub(crate) fn cancelled(&self, py: Python<'_>) -> Option<Cancelled> {
        let state = self.state.borrow(py);
        let asked = state.current.as_ref().and_then(|current| current.cancelled);
        asked.or(if state.transport.is_none() { Some(Cancelled::Disconnected) } else { None })
    }

    pub(crate) fn is_disconnected(&self, py: Python<'_>) -> bool {
        let state = self.state.borrow(py);
        state.transport.is_none() || state.closing
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
    pub(crate) fn begin_stream(&self, py: Python<'_>, complete_timeout: u64) {
        let (fd, bounded) = {
            let mut state = self.state.borrow(py);
            state.deadlines.clear(TimerKind::Route);
            if complete_timeout > 0 {
                state.deadlines.set(TimerKind::Complete, clock::monotonic_ms() + complete_timeout);
                state.complete_end = u64::MAX;
            }
            if let Some(current) = &mut state.current {
                current.streaming = true;
            }
            (self.descriptor(py, &mut state), std::mem::replace(&mut state.stream_bounded, true))
        };
        if let (Some(fd), false) = (fd, bounded) {
            socket::bound_unsent(fd, UNSENT);
        }
    }

    fn descriptor(&self, py: Python<'_>, state: &mut State) -> Option<i32> {
        if state.fd.is_none() {
            state.fd = state.transport.as_ref().and_then(|transport| socket::descriptor(transport.bind(py)));
        }
        state.fd
    }

    /// Writes the stream's chunks that have been encoded; each must be consumed within `chunk_timeout`.
    pub(crate) fn flush_chunks(&self, py: Python<'_>, chunk_timeout: u64) -> PyResult<()> {
        if self.flush(py)? == 0 || chunk_timeout == 0 {
            return Ok(());
        }
        let mut state = self.state.borrow(py);
        let written = state.written;
        state.chunks.push(written, clock::monotonic_ms() + chunk_timeout);
        if state.deadlines.get(TimerKind::Chunk).is_none() {
            if let Some(deadline) = state.chunks.deadline() {
                state.deadlines.set(TimerKind::Chunk, deadline);
            }
        }
        Ok(())
    }

    /// The exchange has suspended: the loop goes on, so what was encoded is written and the timers are armed.
    pub(crate) fn suspended(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.state.borrow(py).busy {
            return Ok(());
        }
        this.flush(py)?;
        this.arm(py)
    }

    /// The exchange has ended. The connection takes up the next, or closes.
    pub(crate) fn exchange_ended(slf: &Bound<'_, Self>, exchange: &Bound<'_, Exchange>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let server = this.server.get();
        let (current, reading, lost, busy, more) = {
            let mut state = this.state.borrow(py);
            if !state.current.as_ref().is_some_and(|current| current.exchange.is(exchange)) {
                return Ok(());
            }
            let current = state.current.take();
            state.drain = None;
            state.deadlines.clear(TimerKind::Route);
            state.deadlines.clear(TimerKind::CleanUp);
            state.deadlines.clear(TimerKind::HalfClose);
            state.deadlines.clear(TimerKind::Body);
            state.pace = None;
            if state.complete_end == u64::MAX {
                state.complete_end = state.written + server.out.borrow(py).len() as u64;
            }
            let more = !state.pending.is_empty() && !state.core.is_closed();
            (current, state.reading.take(), state.transport.is_none(), state.busy, more)
        };
        *server.running.borrow(py) -= 1;
        drop(reading);
        if let Some(request) = current.as_ref().and_then(|current| current.request.as_ref()) {
            request.get().release(py);
        }
        drop(current);
        if lost {
            return this.leave_server(py);
        }
        if busy {
            return Ok(());
        }
        if more {
            // Pipelined requests wait: in a turn of their own, outside of this exchange's task and context.
            this.flush(py)?;
            return server.call_soon(py, &slf.getattr(pyo3::intern!(py, "_proceed"))?);
        }
        this.settle(slf)
    }

    // ---- ends and timers

    /// After a callback's work: writes, closes if the last response is out, decides about reading, arms the timers.
    fn settle(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let server = self.server.get();
        let wrote = self.flush(py)?;
        if wrote > 0 && self.must_wait(py) && self.state.borrow(py).current.is_none() {
            self.expect_consumption(py);
        }
        let (over, pause, resume) = {
            let mut state = self.state.borrow(py);
            if state.transport.is_none() {
                return Ok(());
            }
            let idle = state.current.is_none();
            let over = idle && state.core.is_closed() && !state.closing;
            if idle && !state.core.is_closed() && state.core.receiving() == Receiving::Head {
                let now = clock::monotonic_ms();
                if state.pending.is_empty() {
                    state.deadlines.clear(TimerKind::Head);
                    if server.limits.keep_alive_timeout > 0 {
                        state.deadlines.set(TimerKind::KeepAlive, now + server.limits.keep_alive_timeout);
                    }
                } else if state.writing_paused {
                    // Requests wait for the client to read; that has a deadline of its own.
                    state.deadlines.clear(TimerKind::Head);
                } else if state.deadlines.get(TimerKind::Head).is_none() && server.limits.head_timeout > 0 {
                    state.deadlines.clear(TimerKind::KeepAlive);
                    state.deadlines.set(TimerKind::Head, now + server.limits.head_timeout);
                }
            }
            let received = state.core.received_length();
            let body = state.pace.as_ref().and_then(|pace| pace.deadline(received));
            match body {
                Some(deadline) => state.deadlines.set(TimerKind::Body, deadline),
                None => state.deadlines.clear(TimerKind::Body),
            }
            let behind = state.pending.len() > server.limits.read_buffer && !state.core.is_closed();
            let blocked = state.current.is_some() || state.writing_paused;
            let content = state.reading.is_some();
            (over, behind && blocked, state.reading_paused && !behind && !content)
        };
        if pause {
            self.pause_reading(py)?;
        } else if resume {
            self.resume_reading(py)?;
        }
        if over {
            self.close(py)?;
        }
        self.arm(py)
    }

    /// Tells the worker's timer wheel of a deadline that is earlier than what it knows.
    fn arm(&self, py: Python<'_>) -> PyResult<()> {
        let (key, deadline) = {
            let mut state = self.state.borrow(py);
            match (state.key, state.deadlines.next()) {
                (Some(key), Some(deadline)) if deadline < state.scheduled => {
                    state.scheduled = deadline;
                    (key, deadline)
                }
                _ => return Ok(()),
            }
        };
        Server::schedule(self.server.bind(py), key, deadline)
    }

    /// Closes after the last response: flushes, and lingers where the peer may still be sending.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let (transport, linger) = {
            let mut state = self.state.borrow(py);
            if state.closing {
                return Ok(());
            }
            state.closing = true;
            state.pending = Vec::new();
            let linger = state.core.must_linger() && !state.eof;
            state.core.close();
            state.deadlines.clear(TimerKind::Head);
            state.deadlines.clear(TimerKind::KeepAlive);
            state.deadlines.set(TimerKind::Linger, clock::monotonic_ms() + LINGER);
            if !linger && state.writing_paused {
                // The transport closes when the client has read; the response's own timeouts watch over that.
                state.deadlines.clear(TimerKind::Linger);
            }
            let Some(transport) = state.transport.as_ref().map(|transport| transport.clone_ref(py)) else {
                return Ok(());
            };
            (transport, linger)
        };
        let transport = transport.bind(py);
        if linger && transport.call_method0(pyo3::intern!(py, "can_write_eof"))?.is_truthy()? {
            let paused = std::mem::take(&mut self.state.borrow(py).reading_paused);
            if paused {
                transport.call_method0(pyo3::intern!(py, "resume_reading"))?;
            }
            transport.call_method0(pyo3::intern!(py, "write_eof"))?;
            return Ok(());
        }
        self.state.borrow(py).deadlines.clear(TimerKind::Linger);
        transport.call_method0(pyo3::intern!(py, "close")).map(drop)
    }

    /// Ends the connection at once: a reset, nothing flushed. The exchange, if one runs, has to be cancelled as well.
    pub(crate) fn abort(&self, py: Python<'_>) {
        let (transport, fd) = {
            let mut state = self.state.borrow(py);
            let Some(transport) = state.transport.as_ref().map(|transport| transport.clone_ref(py)) else { return };
            let fd = self.descriptor(py, &mut state);
            state.core.close();
            state.closing = true;
            state.pending = Vec::new();
            state.chunks.clear();
            state.responses.clear();
            let clean_up = state.deadlines.get(TimerKind::CleanUp);
            state.deadlines.clear_all();
            if let Some(deadline) = clean_up {
                state.deadlines.set(TimerKind::CleanUp, deadline);
            }
            (transport, fd)
        };
        if let Some(fd) = fd {
            socket::reset_on_close(fd);
        }
        if let Err(error) = transport.call_method0(py, pyo3::intern!(py, "abort")) {
            self.server.get().log(py, "error", "the transport could not be aborted", Some(&error));
        }
    }

    /// Cancels the running exchange.
    fn cancel(&self, py: Python<'_>, reason: Cancelled) -> PyResult<()> {
        let task = {
            let mut state = self.state.borrow(py);
            let Some(current) = &mut state.current else { return Ok(()) };
            if current.cancelled.is_some() {
                return Ok(());
            }
            current.cancelled = Some(reason);
            let task = current.task.as_ref().map(|task| task.clone_ref(py));
            state.deadlines.set(TimerKind::CleanUp, clock::monotonic_ms() + CLEAN_UP);
            task
        };
        match task {
            Some(task) => task.call_method0(py, pyo3::intern!(py, "cancel")).map(drop),
            None => Ok(()),
        }
    }

    /// The client has gone: streams and safe methods are cancelled, others finish unless their route says otherwise.
    fn disconnected(&self, py: Python<'_>) -> PyResult<()> {
        let (reading, cancel) = {
            let mut state = self.state.borrow(py);
            let reading = state.reading.take();
            let cancel = state.current.as_ref().is_some_and(|current| {
                let policy = current.route.as_ref().map_or(OnDisconnect::Auto, |route| route.get().on_disconnect);
                current.streaming
                    || match policy {
                        OnDisconnect::Cancel => true,
                        OnDisconnect::Finish => false,
                        OnDisconnect::Auto => current.request.as_ref().is_none_or(|request| request.get().is_safe()),
                    }
            });
            (reading, cancel)
        };
        if let Some(request) = reading {
            request.get().fail(py, BodyFailure::Disconnected);
            request.get().wake(py)?;
        }
        if cancel { self.cancel(py, Cancelled::Disconnected) } else { Ok(()) }
    }

    /// The server forgets the connection, once it is lost and no exchange is left.
    fn leave_server(&self, py: Python<'_>) -> PyResult<()> {
        let key = self.state.borrow(py).key.take();
        match key {
            Some(key) => self.server.get().closed(py, key),
            None => Ok(()),
        }
    }

    /// The peer's address and port.
    pub(crate) fn peer(&self, py: Python<'_>) -> PyResult<Option<(String, u16)>> {
        let transport = self.state.borrow(py).transport.as_ref().map(|transport| transport.clone_ref(py));
        let Some(transport) = transport else { return Ok(None) };
        let name = transport.bind(py).call_method1("get_extra_info", ("peername",))?;
        if name.is_instance_of::<pyo3::types::PyTuple>() && name.len()? >= 2 {
            return Ok(Some((name.get_item(0)?.extract()?, name.get_item(1)?.extract()?)));
        }
        Ok(None)
    }

    /// How many bytes the client has acknowledged, and how many of those written it has not.
    fn consumed(&self, py: Python<'_>) -> (u64, u64) {
        let (transport, fd, written) = {
            let mut state = self.state.borrow(py);
            let fd = self.descriptor(py, &mut state);
            (state.transport.as_ref().map(|transport| transport.clone_ref(py)), fd, state.written)
        };
        let buffered = transport
            .and_then(|transport| {
                transport.call_method0(py, pyo3::intern!(py, "get_write_buffer_size")).ok()?.extract::<u64>(py).ok()
            })
            .unwrap_or(0);
        let open = buffered + fd.map_or(0, socket::unacknowledged);
        (written.saturating_sub(open), open.min(written))
    }

    /// The worker's timer wheel says that a deadline may have passed.
    pub(crate) fn timer_fired(slf: &Bound<'_, Self>, now: u64) -> PyResult<()> {
        Self::guarded(slf, || {
            let py = slf.py();
            let this = slf.get();
            loop {
                let kind = {
                    let mut state = this.state.borrow(py);
                    state.scheduled = u64::MAX;
                    state.deadlines.expire(now)
                };
                match kind {
                    Some(kind) => this.expired(slf, kind, now)?,
                    None => return this.settle_timer(slf),
                }
            }
        })
    }

    fn settle_timer(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        self.flush(py)?;
        let over = {
            let state = self.state.borrow(py);
            state.current.is_none() && state.core.is_closed() && !state.closing && state.transport.is_some()
        };
        if over {
            self.close(py)?;
        }
        self.arm(py)
    }

    fn expired(&self, slf: &Bound<'_, Self>, kind: TimerKind, now: u64) -> PyResult<()> {
        let py = slf.py();
        match kind {
            TimerKind::Head => {
                let partial = !self.state.borrow(py).pending.is_empty();
                if !partial {
                    return self.end_idle(py);
                }
                {
                    let mut state = self.state.borrow(py);
                    state.pending = Vec::new();
                    state.core.refuse();
                }
                let error = vibora_error(py, "RequestTimeout", ("the request's head came too slowly",));
                self.respond_error(slf, &error, None, None)
            }
            TimerKind::KeepAlive => self.end_idle(py),
            TimerKind::Body => {
                let request = {
                    let mut state = self.state.borrow(py);
                    let received = state.core.received_length();
                    match state.pace.as_ref().and_then(|pace| pace.deadline(received)) {
                        Some(deadline) if deadline <= now => {
                            state.pace = None;
                            state.core.refuse();
                            state.reading.take()
                        }
                        Some(deadline) => {
                            state.deadlines.set(TimerKind::Body, deadline);
                            None
                        }
                        None => None,
                    }
                };
                if let Some(request) = request {
                    request.get().fail(py, BodyFailure::TooSlow);
                    request.get().wake(py)?;
                }
                Ok(())
            }
            TimerKind::Route => {
                let sent = self.state.borrow(py).core.sending() != Sending::Head;
                if sent {
                    return self.cut(py, kind, now);
                }
                let message = self.describe(py, "gave no response within its timeout; it is cancelled", kind);
                self.server.get().log(py, "warning", &message, None);
                self.cancel(py, Cancelled::TimedOut)
            }
            TimerKind::Chunk | TimerKind::Flush | TimerKind::Complete => self.check_consumption(py, kind, now),
            TimerKind::HalfClose => {
                self.disconnected(py)?;
                let finishing = self.state.borrow(py).current.as_ref().is_some_and(|current| current.cancelled.is_none());
                if !finishing {
                    self.abort(py);
                }
                Ok(())
            }
            TimerKind::Linger => {
                self.abort(py);
                Ok(())
            }
            TimerKind::CleanUp => self.abandon(py),
        }
    }

    /// An idle connection's time is up. Bytes that the peer never acknowledged are not waited for.
    fn end_idle(&self, py: Python<'_>) -> PyResult<()> {
        if self.consumed(py).1 > 0 {
            self.abort(py);
            return Ok(());
        }
        {
            let mut state = self.state.borrow(py);
            state.core.close();
            state.closing = true;
        }
        let transport = self.state.borrow(py).transport.as_ref().map(|transport| transport.clone_ref(py));
        match transport {
            Some(transport) => transport.call_method0(py, pyo3::intern!(py, "close")).map(drop),
            None => Ok(()),
        }
    }

    /// A response's deadline has come: has the client consumed what was due?
    fn check_consumption(&self, py: Python<'_>, kind: TimerKind, now: u64) -> PyResult<()> {
        let (consumed, _) = self.consumed(py);
        let late = {
            let mut state = self.state.borrow(py);
            match kind {
                TimerKind::Complete => consumed < state.complete_end,
                TimerKind::Chunk | TimerKind::Flush => {
                    let queue = if kind == TimerKind::Chunk { &mut state.chunks } else { &mut state.responses };
                    queue.consume(consumed);
                    match queue.deadline() {
                        Some(deadline) if deadline <= now => true,
                        Some(deadline) => {
                            state.deadlines.set(kind, deadline);
                            false
                        }
                        None => false,
                    }
                }
                _ => false,
            }
        };
        if late { self.cut(py, kind, now) } else { Ok(()) }
    }

    /// A client did not consume in time: resets the connection, cancels what runs, and says so once.
    fn cut(&self, py: Python<'_>, kind: TimerKind, _now: u64) -> PyResult<()> {
        let (_, open) = self.consumed(py);
        let written = self.state.borrow(py).written;
        let what = format!(
            "the client did not consume in time: {written} bytes sent, {open} of them not consumed; connection reset"
        );
        let message = self.describe(py, &what, kind);
        self.server.get().log(py, "warning", &message, None);
        self.abort(py);
        self.cancel(py, Cancelled::Aborted)
    }

    /// A log line's facts: route, request, client, timeout.
    fn describe(&self, py: Python<'_>, what: &str, kind: TimerKind) -> String {
        let (route, request, seconds) = {
            let state = self.state.borrow(py);
            let current = state.current.as_ref();
            let seconds = current.and_then(|current| current.exchange.get().seconds(py, kind));
            (
                current
                    .and_then(|current| current.route.as_ref())
                    .map_or_else(|| "-".to_owned(), |route| route.get().name.bind(py).to_string_lossy().into_owned()),
                current
                    .and_then(|current| current.request.as_ref())
                    .map_or_else(|| "-".to_owned(), |request| request.get().describe()),
                seconds.map_or_else(String::new, |seconds| format!(" ({seconds} s)")),
            )
        };
        let client = match self.peer(py) {
            Ok(Some((host, port))) => format!("{host}:{port}"),
            Ok(None) | Err(_) => "-".to_owned(),
        };
        format!("{}{seconds}: route {route:?}, {request}, client {client}: {what}", timeout_name(kind))
    }

    /// A cancelled exchange has not ended in time: the connection goes on without it.
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        let message = self.describe(py, "did not end within 5 s of being cancelled; it is abandoned", TimerKind::CleanUp);
        self.server.get().log(py, "error", &message, None);
        let (current, lost) = {
            let mut state = self.state.borrow(py);
            (state.current.take(), state.transport.is_none())
        };
        let Some(current) = current else { return Ok(()) };
        *self.server.get().running.borrow(py) -= 1;
        current.exchange.get().abandon(py);
        if let Some(request) = &current.request {
            request.get().release(py);
        }
        if let Some(task) = current.task {
            task.call_method0(py, pyo3::intern!(py, "cancel"))?;
        }
        if lost {
            return self.leave_server(py);
        }
        self.abort(py);
        Ok(())
    }

    // ---- the server's side

    pub(crate) fn begin_shutdown(&self, py: Python<'_>) -> PyResult<()> {
        let idle = {
            let mut state = self.state.borrow(py);
            state.core.close_after_response();
            state.current.is_none()
                && state.pending.is_empty()
                && state.core.receiving() == Receiving::Head
                && !state.closing
        };
        if idle { self.end_idle(py) } else { Ok(()) }
    }

    pub(crate) fn cancel_for_shutdown(&self, py: Python<'_>) -> PyResult<bool> {
        let running = {
            let mut state = self.state.borrow(py);
            state.core.close_after_response();
            state.current.is_some()
        };
        if running {
            self.cancel(py, Cancelled::Shutdown)?;
        }
        self.arm(py)?;
        Ok(running)
    }

    pub(crate) fn abort_for_shutdown(&self, py: Python<'_>) -> PyResult<bool> {
        let open = self.state.borrow(py).transport.is_some();
        self.abort(py);
        self.cancel(py, Cancelled::Shutdown)?;
        self.arm(py)?;
        Ok(open)
    }
}

/// The route's timeout where no route is known: the default of `RouteLimits.timeout`.
const DEFAULT_TIMEOUT: u64 = 30_000;

/// `KeyboardInterrupt` and `SystemExit` are not a handler's failure: they are for whoever runs the loop.
pub(crate) fn exit_request(py: Python<'_>, error: &PyErr) -> PyResult<()> {
    if error.is_instance_of::<pyo3::exceptions::PyKeyboardInterrupt>(py)
        || error.is_instance_of::<pyo3::exceptions::PySystemExit>(py)
    {
        return Err(error.clone_ref(py));
    }
    Ok(())
}

/// What is logged when a handler returns something else than a response.
pub(crate) fn not_a_response(value: &Bound<'_, PyAny>, route: &Py<Route>) -> PyErr {
    let py = value.py();
    let route = route.get();
    let hint = if value.is_none() {
        "; is a `return` missing?"
    } else if value.is_instance_of::<pyo3::types::PyDict>() || value.is_instance_of::<pyo3::types::PyList>() {
        "; JsonResponse(...) sends it as JSON"
    } else {
        ""
    };
    PyTypeError::new_err(format!(
        "handler {:?} of route {:?} must return a Response, not {}{hint}",
        route.name.bind(py).to_string_lossy(),
        route.pattern,
        super::headers::type_name(value)
    ))
}

#[pymethods]
impl Protocol {
    fn connection_made(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::guarded(slf, || {
            let py = slf.py();
            let this = slf.get();
            let server = this.server.get();
            let write = transport.getattr(pyo3::intern!(py, "write"))?.unbind();
            let high = server.limits.write_buffer;
            if high != 64 * 1024 {
                transport.call_method1(pyo3::intern!(py, "set_write_buffer_limits"), (high,))?;
            }
            let key = server.open(py, slf.clone().unbind());
            let stopping = server.is_stopping(py);
            {
                let mut state = this.state.borrow(py);
                state.transport = Some(transport.clone().unbind());
                state.write = Some(write);
                state.key = Some(key);
                if server.limits.head_timeout > 0 {
                    state.deadlines.set(TimerKind::Head, clock::monotonic_ms() + server.limits.head_timeout);
                }
            }
            if stopping {
                return this.begin_shutdown(py);
            }
            this.arm(py)
        })
    }

    fn data_received(slf: &Bound<'_, Self>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        Self::guarded(slf, || Self::pump(slf, data.as_bytes()))
    }

    /// Pipelined requests that waited for their turn.
    fn _proceed(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::guarded(slf, || Self::pump(slf, b""))
    }

    /// The peer has closed its half. A response that is complete within half a second still reaches it; then it counts
    /// as gone.
    fn eof_received(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let mut keep = false;
        Self::guarded(slf, || {
            let (result, running, reading) = {
                let mut state = this.state.borrow(py);
                state.eof = true;
                let partial = !state.pending.is_empty();
                let waiting = state.current.is_some() || state.core.sending() == Sending::Head;
                let result = if waiting && state.core.receiving() == Receiving::Done {
                    state.core.close_after_response();
                    Ok(())
                } else {
                    state.core.receive_eof(partial)
                };
                let reading = if result.is_err() { state.reading.take() } else { None };
                if state.current.is_some() {
                    state.deadlines.set(TimerKind::HalfClose, clock::monotonic_ms() + HALF_CLOSE);
                }
                (result, state.current.is_some(), reading)
            };
            if let Some(request) = reading {
                request.get().fail(py, BodyFailure::Disconnected);
                request.get().wake(py)?;
            }
            keep = running && result.is_ok();
            if running && result.is_err() {
                // A cut request: its handler learns of it, nobody waits for the answer.
                this.disconnected(py)?;
            }
            this.arm(py)
        })?;
        Ok(keep)
    }

    fn connection_lost(slf: &Bound<'_, Self>, _error: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::guarded(slf, || {
            let py = slf.py();
            let this = slf.get();
            let (transport, write, drain) = {
                let mut state = this.state.borrow(py);
                state.core.close();
                state.closing = true;
                state.fd = None;
                state.pending = Vec::new();
                state.pace = None;
                state.chunks.clear();
                state.responses.clear();
                let route = state.deadlines.get(TimerKind::Route);
                let clean_up = state.deadlines.get(TimerKind::CleanUp);
                state.deadlines.clear_all();
                for (kind, deadline) in [(TimerKind::Route, route), (TimerKind::CleanUp, clean_up)] {
                    if let Some(deadline) = deadline {
                        state.deadlines.set(kind, deadline);
                    }
                }
                (state.transport.take(), state.write.take(), state.drain.take())
            };
            drop((transport, write));
            this.disconnected(py)?;
            if let Some(drain) = drain {
                super::server::settle(drain.bind(py))?;
            }
            if this.state.borrow(py).current.is_none() {
                return this.leave_server(py);
            }
            this.arm(py)
        })
    }

    fn pause_writing(slf: &Bound<'_, Self>) {
        slf.get().state.borrow(slf.py()).writing_paused = true;
    }

    fn resume_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::guarded(slf, || {
            let py = slf.py();
            let this = slf.get();
            let (drain, proceed) = {
                let mut state = this.state.borrow(py);
                state.writing_paused = false;
                let proceed = state.current.is_none() && !state.pending.is_empty();
                (state.drain.take(), proceed)
            };
            if let Some(drain) = drain {
                super::server::settle(drain.bind(py))?;
            }
            if proceed {
                return this.server.get().call_soon(py, &slf.getattr(pyo3::intern!(py, "_proceed"))?);
            }
            Ok(())
        })
    }
}
