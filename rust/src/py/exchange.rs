//! `Exchange`: one request's handler and its response, as a coroutine that a task drives.
//!
//! The task belongs to the exchange alone: the handler, then the stream it returned, then the stream's clean-up, all run
//! in it, in one context. What they await is passed up to the task untouched, so that timeouts, task groups and
//! cancellation work as they do in any coroutine.
//!
//! ```text
//! Start ──▶ Handler ──▶ (response sent) ──▶ Done
//!                 └───▶ Pull ⇄ Chunk          the generator is asked for, and makes, a chunk
//!                        │ ▲
//!                        ▼ │
//!                       Drain                 the client has to read first
//!   any stage of a stream ──▶ Close ──▶ Done  the generator is closed on every path
//! ```

use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyStopIteration, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use super::cell::GilCell;
use super::errors::{exception, is_cancelled, vibora_error};
use super::headers::type_name;
use super::protocol::{Cancelled, Protocol, exit_request, not_a_response};
use super::request::Request;
use super::response::{Fields, Response};
use super::route::{Arguments, Drive, Route};
use crate::http::connection::Outgoing;
use crate::http::deadlines::TimerKind;

/// A stream's chunks are written when they add up to this much, even if its generator goes on without suspending.
const FLUSH_AT: usize = 64 * 1024;
/// A generator that never suspends lets the loop go on after this many bytes.
const FAIR_SHARE: usize = 512 * 1024;

/// How a step of the task begins.
enum Resume {
    Send,
    Throw(PyErr),
}

/// What an awaitable did with a step.
enum Polled {
    Yielded(Py<PyAny>),
    Returned(Py<PyAny>),
    Raised(PyErr),
}

/// How pulling a stream without a task has ended.
pub(crate) enum Outcome {
    Done,
    /// It has to wait, and needs a task for that.
    NeedsTask,
}

/// Where chunks come from.
enum Source {
    /// An async iterator; `close` is its `aclose`, if it has one.
    Async { iterator: Py<PyAny>, close: Option<Py<PyAny>> },
    /// A list's or tuple's iterator: never blocks.
    Inline(Py<PyAny>),
    /// A `vibora._driving.ThreadedIterator`.
    Threaded(Py<PyAny>),
}

enum Stage {
    Start(Arguments),
    Handler(Py<PyAny>),
    /// Ready to ask for the next chunk.
    Pull,
    /// The generator is making a chunk.
    Chunk(Py<PyAny>),
    Drain(Option<Py<PyAny>>),
    Close(Py<PyAny>),
    /// Taken out while a step runs.
    Running,
    Done,
}

/// How a stream must end once its generator is closed.
enum Ending {
    /// The generator is exhausted: the terminator may be sent.
    Finish,
    /// Something went wrong, or the client is gone: no clean end may be seen.
    Abort,
}

struct Streaming {
    response: Py<Response>,
    source: Option<Source>,
    head_sent: bool,
    chunk_timeout: u64,
    complete_timeout: u64,
    /// Bytes encoded since the loop last had its turn.
    share: usize,
}

struct Inner {
    stage: Stage,
    streaming: Option<Streaming>,
    abandoned: bool,
}

/// An exchange; see the module's description.
#[pyclass(frozen, weakref, module = "vibora._core", name = "Exchange")]
pub(crate) struct Exchange {
    protocol: Py<Protocol>,
    route: Option<Py<Route>>,
    request: Option<Py<Request>>,
    inner: GilCell<Inner>,
}

fn poll(py: Python<'_>, awaitable: &Py<PyAny>, resume: Resume) -> Polled {
    match resume {
        Resume::Send => {
            let mut sent = std::ptr::null_mut();
            // SAFETY: both arguments are live objects; `sent` receives a new reference unless the result is an error.
            match unsafe { ffi::PyIter_Send(awaitable.as_ptr(), ffi::Py_None(), &raw mut sent) } {
                // SAFETY: the result says that `sent` is a new reference.
                ffi::PySendResult::PYGEN_RETURN => Polled::Returned(unsafe { Bound::from_owned_ptr(py, sent) }.unbind()),
                // SAFETY: as above.
                ffi::PySendResult::PYGEN_NEXT => Polled::Yielded(unsafe { Bound::from_owned_ptr(py, sent) }.unbind()),
                ffi::PySendResult::PYGEN_ERROR => Polled::Raised(PyErr::fetch(py)),
            }
        }
        Resume::Throw(error) => {
            let awaitable = awaitable.bind(py);
            match awaitable.getattr_opt(pyo3::intern!(py, "throw")) {
                Ok(Some(throw)) => match throw.call1((exception(py, &error),)) {
                    Ok(yielded) => Polled::Yielded(yielded.unbind()),
                    Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                        match error.value(py).getattr(pyo3::intern!(py, "value")) {
                            Ok(value) => Polled::Returned(value.unbind()),
                            Err(error) => Polled::Raised(error),
                        }
                    }
                    Err(error) => Polled::Raised(error),
                },
                Ok(None) => Polled::Raised(error),
                Err(error) => Polled::Raised(error),
            }
        }
    }
}

/// The iterator behind an awaitable; `None` if it is not awaitable.
fn awaitable_iterator(value: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    // SAFETY: the argument is a live object.
    if unsafe { ffi::PyCoro_CheckExact(value.as_ptr()) } != 0 {
        return Ok(Some(value.clone().unbind()));
    }
    match value.getattr_opt(pyo3::intern!(value.py(), "__await__"))? {
        Some(method) => method.call0().map(|iterator| Some(iterator.unbind())),
        None => Ok(None),
    }
}

impl Exchange {
    /// An exchange whose handler has yet to be called.
    pub(crate) fn start(
        protocol: &Bound<'_, Protocol>,
        route: &Py<Route>,
        request: &Py<Request>,
        arguments: Arguments,
    ) -> Self {
        let py = protocol.py();
        Self {
            protocol: protocol.clone().unbind(),
            route: Some(route.clone_ref(py)),
            request: Some(request.clone_ref(py)),
            inner: GilCell::new(Inner { stage: Stage::Start(arguments), streaming: None, abandoned: false }),
        }
    }

    /// An exchange whose handler has returned a stream.
    pub(crate) fn stream(
        protocol: &Bound<'_, Protocol>,
        route: Option<&Py<Route>>,
        request: Option<&Py<Request>>,
        response: &Bound<'_, Response>,
    ) -> Self {
        let py = protocol.py();
        Self {
            protocol: protocol.clone().unbind(),
            route: route.map(|route| route.clone_ref(py)),
            request: request.map(|request| request.clone_ref(py)),
            inner: GilCell::new(Inner {
                stage: Stage::Pull,
                streaming: Some(Streaming::new(response)),
                abandoned: false,
            }),
        }
    }

    /// Pulls a stream that cannot suspend, without a task.
    pub(crate) fn run_inline(slf: &Bound<'_, Self>) -> PyResult<Outcome> {
        match Self::advance(slf, Resume::Send, true)? {
            Some(_) => Ok(Outcome::NeedsTask),
            None => Ok(Outcome::Done),
        }
    }

    /// The connection has given up on this exchange: whatever it still does has no effect.
    pub(crate) fn abandon(&self, py: Python<'_>) {
        self.inner.borrow(py).abandoned = true;
    }

    /// The seconds of a timeout of this exchange, for the log.
    pub(crate) fn seconds(&self, py: Python<'_>, kind: TimerKind) -> Option<f64> {
        let inner = self.inner.borrow(py);
        let milliseconds = match kind {
            TimerKind::Chunk => inner.streaming.as_ref()?.chunk_timeout,
            TimerKind::Complete => inner.streaming.as_ref()?.complete_timeout,
            TimerKind::Route | TimerKind::Flush => self.route.as_ref()?.get().timeout,
            TimerKind::Body => self.route.as_ref()?.get().body_timeout,
            _ => return None,
        };
        Some(milliseconds as f64 / 1000.0)
    }

    fn take_stage(&self, py: Python<'_>) -> Stage {
        std::mem::replace(&mut self.inner.borrow(py).stage, Stage::Running)
    }

    fn put_stage(&self, py: Python<'_>, stage: Stage) {
        self.inner.borrow(py).stage = stage;
    }

    /// One step of the task. Returns what it has to wait for; `None` when the exchange has ended.
    ///
    /// `inline`: there is no task, so instead of waiting the step returns (a value that means nothing).
    fn advance(slf: &Bound<'_, Self>, resume: Resume, inline: bool) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        let mut resume = Some(resume);
        loop {
            let begun = resume.take().unwrap_or(Resume::Send);
            match this.take_stage(py) {
                Stage::Start(arguments) => match begun {
                    Resume::Throw(error) => this.handler_failed(slf, error)?,
                    Resume::Send => match this.call_handler(py, &arguments) {
                        Ok(value) => match awaitable_iterator(&value) {
                            Ok(Some(iterator)) => this.put_stage(py, Stage::Handler(iterator)),
                            Ok(None) => this.respond(slf, &value)?,
                            Err(error) => this.handler_failed(slf, error)?,
                        },
                        Err(error) => this.handler_failed(slf, error)?,
                    },
                },
                Stage::Handler(iterator) => match poll(py, &iterator, begun) {
                    Polled::Yielded(value) => {
                        this.put_stage(py, Stage::Handler(iterator));
                        return Ok(Some(value));
                    }
                    Polled::Returned(value) => this.respond(slf, value.bind(py))?,
                    Polled::Raised(error) => this.handler_failed(slf, error)?,
                },
                Stage::Pull => {
                    if let Resume::Throw(error) = begun {
                        this.stream_interrupted(slf, error)?;
                        continue;
                    }
                    if let Some(waited) = this.pull(slf, inline)? {
                        return Ok(Some(waited));
                    }
                }
                Stage::Chunk(awaitable) => match poll(py, &awaitable, begun) {
                    Polled::Yielded(value) => {
                        this.put_stage(py, Stage::Chunk(awaitable));
                        this.flush(py)?;
                        this.rested(py);
                        return Ok(Some(value));
                    }
                    Polled::Returned(value) => this.produced(slf, value.bind(py))?,
                    Polled::Raised(error) if error.is_instance_of::<PyStopAsyncIteration>(py) => {
                        this.end_stream(slf, Ending::Finish)?;
                    }
                    Polled::Raised(error) => this.stream_failed(slf, error)?,
                },
                Stage::Drain(future) => {
                    if let Resume::Throw(error) = begun {
                        this.stream_interrupted(slf, error)?;
                        continue;
                    }
                    drop(future);
                    this.rested(py);
                    this.put_stage(py, Stage::Pull);
                }
                Stage::Close(awaitable) => match poll(py, &awaitable, begun) {
                    Polled::Yielded(value) => {
                        this.put_stage(py, Stage::Close(awaitable));
                        return Ok(Some(value));
                    }
                    Polled::Returned(_) => this.end_stream(slf, Ending::Abort)?,
                    Polled::Raised(error) => {
                        exit_request(py, &error)?;
                        if !is_cancelled(py, &error) && !error.is_instance_of::<PyStopAsyncIteration>(py) {
                            this.log(py, "a stream's generator failed while it was closed", Some(&error));
                        }
                        this.end_stream(slf, Ending::Abort)?;
                    }
                },
                Stage::Running => return Err(PyRuntimeError::new_err("the exchange is being driven already")),
                Stage::Done => {
                    this.put_stage(py, Stage::Done);
                    return Ok(None);
                }
            }
        }
    }

    fn log(&self, py: Python<'_>, what: &str, error: Option<&PyErr>) {
        let route = self.route.as_ref().map_or_else(String::new, |route| {
            format!(" of route {:?} ({})", route.get().name.bind(py).to_string_lossy(), route.get().pattern)
        });
        let request = self.request.as_ref().map_or_else(String::new, |request| format!(": {}", request.get().describe()));
        self.protocol.get().server.get().log(py, "error", &format!("{what}{route}{request}"), error);
    }

    // ---- the handler

    fn call_handler<'py>(&self, py: Python<'py>, arguments: &Arguments) -> PyResult<Bound<'py, PyAny>> {
        let Some(route) = self.route.as_ref().map(Py::get) else {
            return Err(PyRuntimeError::new_err("an exchange without a route has no handler"));
        };
        if route.drive != Drive::Thread {
            return route.call(py, arguments);
        }
        let server = self.protocol.get().server.get();
        let context = py.import(pyo3::intern!(py, "contextvars"))?.call_method0(pyo3::intern!(py, "copy_context"))?;
        let call = route.partial(py, arguments)?;
        let run = context.getattr(pyo3::intern!(py, "run"))?;
        server.event_loop.bind(py).call_method1(pyo3::intern!(py, "run_in_executor"), (py.None(), run, call))
    }

    /// The handler has returned.
    fn respond(&self, slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let protocol = self.protocol.get();
        match protocol.cancelled(py) {
            // A timeout that has passed stays passed, even if the handler turned its cancellation into a response.
            Some(Cancelled::TimedOut | Cancelled::Shutdown) => {
                return self.refuse(slf);
            }
            Some(Cancelled::Disconnected | Cancelled::Aborted) => {
                if let Ok(response) = value.cast::<Response>() {
                    if response.get().is_stream(py) {
                        let mut streaming = Streaming::new(response);
                        let close = streaming.close_unstarted(py)?;
                        return self.close_or_end(slf, close);
                    }
                }
                return self.end(slf);
            }
            None => {}
        }
        let Ok(response) = value.cast::<Response>() else {
            let error = match &self.route {
                Some(route) => not_a_response(value, route),
                None => PyTypeError::new_err("a handler must return a Response"),
            };
            return self.answer_error(slf, &error);
        };
        if response.get().is_stream(py) {
            self.inner.borrow(py).streaming = Some(Streaming::new(response));
            self.put_stage(py, Stage::Pull);
            return Ok(());
        }
        match protocol.send(py, response)? {
            Ok(()) => self.end(slf),
            Err(error) => self.answer_error(slf, &error),
        }
    }

    /// The handler has raised.
    fn handler_failed(&self, slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        if let Err(exit) = exit_request(py, &error) {
            self.protocol.get().abort(py);
            self.end(slf)?;
            return Err(exit);
        }
        let cancelled = is_cancelled(py, &error);
        match self.protocol.get().cancelled(py) {
            Some(Cancelled::TimedOut | Cancelled::Shutdown) => {
                if !cancelled {
                    self.log(py, "a handler failed while it was cancelled", Some(&error));
                }
                self.refuse(slf)
            }
            Some(Cancelled::Disconnected | Cancelled::Aborted) => {
                let expected = cancelled || self.is_disconnection(py, &error);
                if !expected {
                    self.log(py, "a handler failed after its client had gone", Some(&error));
                }
                self.end(slf)
            }
            None => self.answer_error(slf, &error),
        }
    }

    fn is_disconnection(&self, py: Python<'_>, error: &PyErr) -> bool {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        CLASS
            .get_or_try_init(py, || py.import("vibora.exceptions")?.getattr("ClientDisconnected").map(Bound::unbind))
            .is_ok_and(|class| error.matches(py, class.bind(py)).unwrap_or(false))
    }

    /// The time is up, or the server stops: 503 if nothing has been sent.
    fn refuse(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let detail = match self.protocol.get().cancelled(py) {
            Some(Cancelled::Shutdown) => "the server is shutting down",
            _ => "the response was not ready in time",
        };
        let error = vibora_error(py, "HTTPError", (503, detail));
        self.answer_error(slf, &error)
    }

    fn answer_error(&self, slf: &Bound<'_, Self>, error: &PyErr) -> PyResult<()> {
        let py = slf.py();
        if !self.inner.borrow(py).abandoned {
            let protocol = self.protocol.bind(py);
            self.protocol.get().respond_error(protocol, error, self.request.as_ref(), self.route.as_ref())?;
        }
        self.end(slf)
    }

    /// Nothing is left to do.
    fn end(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        self.put_stage(py, Stage::Done);
        Protocol::exchange_ended(self.protocol.bind(py), slf)
    }

    // ---- the stream

    /// Runs `work` on the stream's state.
    fn streaming<T>(&self, py: Python<'_>, work: impl FnOnce(&mut Streaming) -> T) -> PyResult<T> {
        self.inner
            .borrow(py)
            .streaming
            .as_mut()
            .map(work)
            .ok_or_else(|| PyRuntimeError::new_err("the exchange has no stream"))
    }

    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let chunk_timeout = self.streaming(py, |streaming| streaming.chunk_timeout)?;
        self.protocol.get().flush_chunks(py, chunk_timeout)
    }

    /// The loop has had its turn.
    fn rested(&self, py: Python<'_>) {
        if let Some(streaming) = &mut self.inner.borrow(py).streaming {
            streaming.share = 0;
        }
    }

    /// Asks for the next chunk, unless the client has to read first. Returns what to wait for.
    fn pull(&self, slf: &Bound<'_, Self>, inline: bool) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let protocol = self.protocol.get();
        if self.streaming(py, |streaming| streaming.source.is_none())? {
            match self.open_stream(slf) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => {
                    self.stream_failed(slf, error)?;
                    return Ok(None);
                }
            }
        }
        if protocol.cancelled(py).is_some() {
            self.close_stream(slf)?;
            return Ok(None);
        }
        let out = protocol.with_core(py, |_, out| out.len());
        if out >= FLUSH_AT {
            self.flush(py)?;
        }
        if protocol.must_wait(py) {
            self.flush(py)?;
            if inline {
                self.put_stage(py, Stage::Drain(None));
                return Ok(Some(py.None()));
            }
            let future = protocol.drain(py)?;
            future.setattr(pyo3::intern!(py, "_asyncio_future_blocking"), true)?;
            self.put_stage(py, Stage::Drain(Some(future.clone().unbind())));
            return Ok(Some(future.unbind()));
        }
        if self.streaming(py, |streaming| streaming.share)? >= FAIR_SHARE {
            self.flush(py)?;
            self.rested(py);
            self.put_stage(py, Stage::Pull);
            return Ok(Some(py.None()));
        }
        enum Step {
            Await(Py<PyAny>),
            Chunk(Py<PyAny>),
            End,
        }
        let source = self.streaming(py, |streaming| streaming.source.as_ref().map(|source| source.clone_ref(py)))?;
        let step = match source {
            Some(Source::Async { iterator, .. }) => iterator
                .bind(py)
                .call_method0(pyo3::intern!(py, "__anext__"))
                .and_then(|next| awaitable_iterator(&next)?.ok_or_else(|| not_awaitable(&next)))
                .map(Step::Await),
            Some(Source::Inline(iterator)) => {
                // SAFETY: the argument is an iterator; the result is a new reference, or null at its end or on error.
                match unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyIter_Next(iterator.as_ptr())) } {
                    Some(chunk) => Ok(Step::Chunk(chunk.unbind())),
                    None => PyErr::take(py).map_or(Ok(Step::End), Err),
                }
            }
            Some(Source::Threaded(puller)) => self.in_thread(py, &puller, "pull").map(Step::Await),
            None => return Err(PyRuntimeError::new_err("the stream was not opened")),
        };
        match step {
            Ok(Step::Await(awaitable)) => self.put_stage(py, Stage::Chunk(awaitable)),
            Ok(Step::Chunk(chunk)) => self.produced(slf, chunk.bind(py))?,
            Ok(Step::End) => self.end_stream(slf, Ending::Finish)?,
            Err(error) => self.stream_failed(slf, error)?,
        }
        Ok(None)
    }

    /// An awaitable's iterator for a method of the puller, called in the loop's thread pool.
    fn in_thread(&self, py: Python<'_>, puller: &Py<PyAny>, method: &str) -> PyResult<Py<PyAny>> {
        let context = py.import(pyo3::intern!(py, "contextvars"))?.call_method0(pyo3::intern!(py, "copy_context"))?;
        let run = context.getattr(pyo3::intern!(py, "run"))?;
        let event_loop = self.protocol.get().server.get().event_loop.bind(py);
        let future = event_loop
            .call_method1(pyo3::intern!(py, "run_in_executor"), (py.None(), run, puller.getattr(py, method)?))?;
        awaitable_iterator(&future)?.ok_or_else(|| not_awaitable(&future))
    }

    /// Creates the source. Returns false if the response has no content: then it is complete.
    fn open_stream(&self, slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let protocol = self.protocol.get();
        let (response, complete_timeout) = self
            .streaming(py, |streaming| (streaming.response.clone_ref(py), streaming.complete_timeout))?;
        response.get().settle_cookies(py)?;
        protocol.begin_stream(py, complete_timeout);
        let (status, source, head_first) = {
            let parts = response.get().parts.borrow(py);
            let Some(stream) = &parts.stream else {
                return Err(PyTypeError::new_err("the StreamingResponse was not initialised with a stream"));
            };
            (parts.status, stream.source.clone_ref(py), stream.send_head_first)
        };
        if protocol.with_core(py, |core, _| core.suppresses_content(status)) {
            self.send_head(py)?;
            let mut unstarted = Streaming::new(response.bind(py));
            let close = unstarted.close_unstarted(py)?;
            protocol
                .with_core(py, |core, out| core.finish(out, None))
                .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
            self.flush(py)?;
            self.close_or_end(slf, close)?;
            return Ok(false);
        }
        let opened = open_source(source.bind(py))?;
        self.streaming(py, |streaming| streaming.source = Some(opened))?;
        if head_first {
            self.send_head(py)?;
            self.flush(py)?;
        }
        Ok(true)
    }

    fn send_head(&self, py: Python<'_>) -> PyResult<()> {
        let protocol = self.protocol.get();
        let server = protocol.server.get();
        let response = self.streaming(py, |streaming| {
            streaming.head_sent = true;
            streaming.response.clone_ref(py)
        })?;
        let date = server.date(py);
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
        protocol
            .with_core(py, |core, out| core.send_head(out, &outgoing, None, &date, &server.http))
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        *server.served.borrow(py) += 1;
        Ok(())
    }

    /// The source has produced: a chunk, or from a thread several and whether they are the last.
    fn produced(&self, slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let threaded = self.streaming(py, |streaming| matches!(streaming.source, Some(Source::Threaded(_))))?;
        if !threaded {
            return match self.emit(py, value) {
                Ok(()) => {
                    self.put_stage(py, Stage::Pull);
                    Ok(())
                }
                Err(error) => self.stream_failed(slf, error),
            };
        }
        let (chunks, last) = value.extract::<(Bound<'_, PyList>, bool)>()?;
        for chunk in chunks.iter() {
            if let Err(error) = self.emit(py, &chunk) {
                return self.stream_failed(slf, error);
            }
        }
        if last {
            return self.end_stream(slf, Ending::Finish);
        }
        self.flush(py)?;
        self.put_stage(py, Stage::Pull);
        Ok(())
    }

    /// Encodes one chunk; the head before the first.
    fn emit(&self, py: Python<'_>, chunk: &Bound<'_, PyAny>) -> PyResult<()> {
        let protocol = self.protocol.get();
        if protocol.cancelled(py).is_some() {
            return Ok(());
        }
        let owned;
        let octets = if let Ok(bytes) = chunk.cast::<PyBytes>() {
            bytes.as_bytes()
        } else if let Ok(text) = chunk.cast::<PyString>() {
            text.to_str()?.as_bytes()
        } else {
            // SAFETY: the argument is a live object.
            if unsafe { ffi::PyObject_CheckBuffer(chunk.as_ptr()) } != 1 {
                return Err(PyTypeError::new_err(format!(
                    "a stream must yield bytes-like objects or str, not {}",
                    type_name(chunk)
                )));
            }
            // SAFETY: as above; the result is a new reference or null with an exception set.
            owned = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromObject(chunk.as_ptr()))? };
            owned.cast::<PyBytes>()?.as_bytes()
        };
        if !self.streaming(py, |streaming| {
            streaming.share = streaming.share.saturating_add(octets.len() + 64);
            streaming.head_sent
        })? {
            self.send_head(py)?;
        }
        protocol
            .with_core(py, |core, out| core.send_content(out, octets))
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    /// The generator has raised, or yielded what cannot be sent.
    fn stream_failed(&self, slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        if let Err(exit) = exit_request(py, &error) {
            self.protocol.get().abort(py);
            self.end(slf)?;
            return Err(exit);
        }
        let head_sent = self.streaming(py, |streaming| streaming.head_sent)?;
        let cancelled = self.protocol.get().cancelled(py);
        if cancelled.is_some() {
            if !is_cancelled(py, &error) {
                self.log(py, "a stream failed while it was cancelled", Some(&error));
            }
            return self.close_stream(slf);
        }
        if !head_sent {
            // Nothing has been sent: the failure is a real 500.
            self.protocol.get().respond_error(
                self.protocol.bind(py),
                &error,
                self.request.as_ref(),
                self.route.as_ref(),
            )?;
            return self.close_stream(slf);
        }
        self.log(py, "a stream failed, so its connection is reset", Some(&error));
        self.protocol.get().abort(py);
        self.close_stream(slf)
    }

    /// The task was cancelled while the generator stood between two chunks.
    fn stream_interrupted(&self, slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        if self.protocol.get().cancelled(py).is_none() {
            self.log(py, "a stream's task was cancelled, so its connection is reset", Some(&error));
            self.protocol.get().abort(py);
        }
        self.close_stream(slf)
    }

    /// Closes the generator; what remains is [`Ending::Abort`].
    fn close_stream(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (source, response) =
            self.streaming(py, |streaming| (streaming.source.take(), streaming.response.clone_ref(py)))?;
        let close = match source {
            Some(Source::Async { close: Some(close), .. }) => close
                .bind(py)
                .call0()
                .and_then(|awaitable| awaitable_iterator(&awaitable)?.ok_or_else(|| not_awaitable(&awaitable)))
                .map(Some),
            Some(Source::Threaded(puller)) => self.in_thread(py, &puller, "close").map(Some),
            Some(Source::Async { close: None, .. } | Source::Inline(_)) => Ok(None),
            None => Streaming::new(response.bind(py)).close_unstarted(py),
        };
        match close {
            Ok(close) => self.close_or_end(slf, close),
            Err(error) => {
                self.log(py, "a stream's generator could not be closed", Some(&error));
                self.end_stream(slf, Ending::Abort)
            }
        }
    }

    fn close_or_end(&self, slf: &Bound<'_, Self>, close: Option<Py<PyAny>>) -> PyResult<()> {
        match close {
            Some(awaitable) => {
                self.put_stage(slf.py(), Stage::Close(awaitable));
                Ok(())
            }
            None => self.end_stream(slf, Ending::Abort),
        }
    }

    /// The generator is through. An unfinished response is cut off, so that nobody takes it for a whole one.
    fn end_stream(&self, slf: &Bound<'_, Self>, ending: Ending) -> PyResult<()> {
        let py = slf.py();
        let protocol = self.protocol.get();
        if matches!(ending, Ending::Finish) && protocol.cancelled(py).is_none() {
            if !self.streaming(py, |streaming| streaming.head_sent)? {
                self.send_head(py)?;
            }
            let finished = protocol.with_core(py, |core, out| core.finish(out, None));
            if let Err(error) = finished {
                let error = PyRuntimeError::new_err(error.to_string());
                self.log(py, "a stream's content does not match its content-length; the connection is reset", Some(&error));
                protocol.abort(py);
            } else {
                self.flush(py)?;
            }
        } else if protocol.with_core(py, |core, _| core.is_unfinished()) {
            match protocol.cancelled(py) {
                Some(Cancelled::Shutdown) if !self.streaming(py, |streaming| streaming.head_sent)? => {
                    return self.refuse(slf);
                }
                _ => protocol.abort(py),
            }
        }
        self.end(slf)
    }

    fn step(slf: &Bound<'_, Self>, resume: Resume) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let protocol = slf.get().protocol.bind(py);
        match Self::advance(slf, resume, false) {
            Ok(Some(waited)) => {
                Protocol::suspended(protocol)?;
                Ok(Some(waited))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                exit_request(py, &error)?;
                // Not the user's error: ours. It ends this connection, and is told once.
                slf.get().log(py, "internal error", Some(&error));
                protocol.get().abort(py);
                slf.get().end(slf)?;
                Ok(None)
            }
        }
    }

    /// The coroutine that runs now, for those who look at the task.
    fn inner_coroutine(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &self.inner.borrow(py).stage {
            Stage::Handler(awaitable) | Stage::Chunk(awaitable) | Stage::Close(awaitable) => {
                Some(awaitable.clone_ref(py))
            }
            Stage::Start(_) | Stage::Pull | Stage::Drain(_) | Stage::Running | Stage::Done => None,
        }
    }

    fn of_inner(&self, py: Python<'_>, names: [&str; 2]) -> Py<PyAny> {
        self.inner_coroutine(py)
            .and_then(|inner| names.iter().find_map(|name| inner.getattr(py, *name).ok()))
            .unwrap_or_else(|| py.None())
    }
}

fn not_awaitable(value: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("{} is not awaitable", type_name(value)))
}

/// Finds out what was given as a stream.
fn open_source(source: &Bound<'_, PyAny>) -> PyResult<Source> {
    let py = source.py();
    let is_async = |value: &Bound<'_, PyAny>| value.hasattr(pyo3::intern!(py, "__anext__"));
    let from_async = |iterator: Bound<'_, PyAny>| -> PyResult<Source> {
        let close = iterator.getattr_opt(pyo3::intern!(py, "aclose"))?;
        Ok(Source::Async { iterator: iterator.unbind(), close: close.map(Bound::unbind) })
    };
    let threaded = |value: &Bound<'_, PyAny>| -> PyResult<Source> {
        let class = py.import("vibora._driving")?.getattr("ThreadedIterator")?;
        Ok(Source::Threaded(class.call1((value,))?.unbind()))
    };
    if source.is_exact_instance_of::<PyList>() || source.is_exact_instance_of::<PyTuple>() {
        return Ok(Source::Inline(source.try_iter()?.into_any().unbind()));
    }
    let source = if source.is_callable() && !is_async(source)? && !source.hasattr(pyo3::intern!(py, "__aiter__"))? {
        source.call0()?
    } else {
        source.clone()
    };
    if is_async(&source)? {
        return from_async(source);
    }
    if let Some(method) = source.getattr_opt(pyo3::intern!(py, "__aiter__"))? {
        return from_async(method.call0()?);
    }
    if source.is_exact_instance_of::<PyList>() || source.is_exact_instance_of::<PyTuple>() {
        return Ok(Source::Inline(source.try_iter()?.into_any().unbind()));
    }
    // SAFETY: the argument is a live object.
    if unsafe { ffi::PyCoro_CheckExact(source.as_ptr()) } != 0 {
        source.call_method0("close")?;
        return Err(PyTypeError::new_err("the stream is a coroutine function; it must `yield` its chunks"));
    }
    threaded(&source)
}

impl Source {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Async { iterator, close } => Self::Async {
                iterator: iterator.clone_ref(py),
                close: close.as_ref().map(|close| close.clone_ref(py)),
            },
            Self::Inline(iterator) => Self::Inline(iterator.clone_ref(py)),
            Self::Threaded(puller) => Self::Threaded(puller.clone_ref(py)),
        }
    }
}

impl Streaming {
    fn new(response: &Bound<'_, Response>) -> Self {
        let py = response.py();
        let (chunk_timeout, complete_timeout) = {
            let parts = response.get().parts.borrow(py);
            parts.stream.as_ref().map_or((0, 0), |stream| (stream.chunk_timeout, stream.complete_timeout))
        };
        Self {
            response: response.clone().unbind(),
            source: None,
            head_sent: false,
            chunk_timeout,
            complete_timeout,
            share: 0,
        }
    }

    /// The clean-up of a generator object that was handed over and never started.
    fn close_unstarted(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let source = self.response.get().parts.borrow(py).stream.as_ref().map(|stream| stream.source.clone_ref(py));
        let Some(source) = source else { return Ok(None) };
        let source = source.bind(py);
        if let Some(close) = source.getattr_opt(pyo3::intern!(py, "aclose"))? {
            return awaitable_iterator(&close.call0()?);
        }
        if source.hasattr(pyo3::intern!(py, "__next__"))? {
            if let Some(close) = source.getattr_opt(pyo3::intern!(py, "close"))? {
                close.call0()?;
            }
        }
        Ok(None)
    }
}

#[pymethods]
impl Exchange {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        Self::step(slf, Resume::Send)
    }

    fn send(slf: &Bound<'_, Self>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        Self::step(slf, Resume::Send)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        slf: &Bound<'_, Self>,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = traceback;
        let error = match value {
            Some(value) if !value.is_none() => PyErr::from_value(value),
            _ => PyErr::from_value(kind),
        };
        Self::step(slf, Resume::Throw(error))?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    /// The task is being destroyed.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner_coroutine(py);
        slf.get().put_stage(py, Stage::Done);
        if let Some(inner) = inner {
            if let Some(close) = inner.bind(py).getattr_opt("close")? {
                close.call0()?;
            }
        }
        Protocol::exchange_ended(slf.get().protocol.bind(py), slf)
    }

    #[getter]
    fn cr_frame(&self, py: Python<'_>) -> Py<PyAny> {
        self.of_inner(py, ["cr_frame", "ag_frame"])
    }

    #[getter]
    fn cr_code(&self, py: Python<'_>) -> Py<PyAny> {
        self.of_inner(py, ["cr_code", "ag_code"])
    }

    #[getter]
    fn cr_await(&self, py: Python<'_>) -> Py<PyAny> {
        self.of_inner(py, ["cr_await", "ag_await"])
    }

    #[getter]
    fn cr_running(&self, py: Python<'_>) -> bool {
        matches!(self.inner.borrow(py).stage, Stage::Running)
    }

    #[getter]
    fn __name__(&self, py: Python<'_>) -> String {
        self.route
            .as_ref()
            .map_or_else(|| "exchange".to_owned(), |route| route.get().name.bind(py).to_string_lossy().into_owned())
    }

    #[getter]
    fn __qualname__(&self, py: Python<'_>) -> String {
        self.__name__(py)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let request = self.request.as_ref().map_or_else(String::new, |request| request.get().describe());
        format!("<Exchange {:?} {request}>", self.__name__(py))
    }
}

impl Route {
    /// A callable without arguments that calls the handler.
    fn partial<'py>(&self, py: Python<'py>, arguments: &Arguments) -> PyResult<Bound<'py, PyAny>> {
        let (positional, keywords) = self.split(py, arguments)?;
        let mut all = vec![self.handler.clone_ref(py)];
        all.extend(positional);
        let class = py.import(pyo3::intern!(py, "functools"))?.getattr(pyo3::intern!(py, "partial"))?;
        class.call(PyTuple::new(py, all)?, Some(&keywords))
    }

    fn split<'py>(&self, py: Python<'py>, arguments: &Arguments) -> PyResult<(Vec<Py<PyAny>>, Bound<'py, PyDict>)> {
        let names: Vec<Bound<'py, PyAny>> = self.keyword_names(py);
        let cut = arguments.len().saturating_sub(names.len());
        let (positional, named) = arguments.split_at_checked(cut).unwrap_or((arguments, &[]));
        let keywords = PyDict::new(py);
        for (name, value) in names.iter().zip(named) {
            keywords.set_item(name, value)?;
        }
        Ok((positional.iter().map(|value| value.clone_ref(py)).collect(), keywords))
    }
}
