//! `Exchange`: one request's handler and its response, as a coroutine that a task drives.
//!
//! The task belongs to the exchange alone: the handler, then the stream it returned, then the stream's clean-up, all run
//! in it, in one context. What they await is passed up to the task untouched, so that timeouts, task groups and
//! cancellation work as they do in any coroutine.
//!
//! ```text
//! Start ──▶ Handler ──▶ (response sent) ──▶ Exit ──▶ Done   what the request has to clean up is run last
//!             │   └───▶ Pull ⇄ Chunk, Waiting  the generator is asked for, and makes, a chunk
//!             ▼          │ ▲
//!           Answer       ▼ │                  an error becomes a response, with the app's own handlers
//!                       Drain                 the client has to read first
//!   any stage of a stream ──▶ Close ──▶ Exit  the generator is closed on every path
//! ```

mod streaming;

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyStopIteration, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use crate::py::cell::GilCell;
use crate::py::errors::{exception, is_cancelled, panicked, vibora_error};
use crate::py::protocol::{Cancelled, Protocol, exit_request, not_a_response};
use crate::py::request::Request;
use crate::py::response::{Kind, Response};
use crate::py::route::{Arguments, Drive, Route};
use crate::py::slots::{awaitable_iterator, awaited};
use streaming::{Ending, Streaming};

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
    /// An async iterator has no more to give: `StopAsyncIteration`, which is never made an object.
    Exhausted,
}

/// How pulling a stream without a task has ended.
pub(crate) enum Outcome {
    Done,
    /// It has to wait, and needs a task for that.
    NeedsTask,
}

enum Stage {
    Start(Arguments),
    Handler(Py<PyAny>),
    /// The app makes the response to an error.
    Answer(Py<PyAny>),
    /// Ready to ask for the next chunk.
    Pull,
    /// The iterator is making a chunk.
    Chunk(Py<PyAny>),
    /// The generator, which is resumed directly, is making a chunk.
    Waiting(Py<PyAny>),
    Drain(Option<Py<PyAny>>),
    Close(Py<PyAny>),
    /// The response is out: what the request was given is cleaned up.
    Exit(Py<PyAny>),
    /// Taken out while a step runs.
    Running,
    Done,
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

/// Clears the current exception if it is a `StopAsyncIteration`, and says whether it was.
fn take_exhaustion(_py: Python<'_>) -> bool {
    // SAFETY: the token proves that the thread is attached; an exception is set, and the class is static.
    unsafe {
        let exhausted = ffi::PyErr_ExceptionMatches(ffi::PyExc_StopAsyncIteration) != 0;
        if exhausted {
            ffi::PyErr_Clear();
        }
        exhausted
    }
}

fn poll(py: Python<'_>, awaitable: &Py<PyAny>, resume: Resume) -> Polled {
    match resume {
        Resume::Send => {
            let mut sent = std::ptr::null_mut();
            // SAFETY: both arguments are live objects; `sent` receives a new reference unless the result is an error.
            match unsafe { ffi::PyIter_Send(awaitable.as_ptr(), ffi::Py_None(), &raw mut sent) } {
                ffi::PySendResult::PYGEN_RETURN => {
                    // SAFETY: the result says that `sent` is a new reference.
                    Polled::Returned(unsafe { Bound::from_owned_ptr(py, sent) }.unbind())
                }
                ffi::PySendResult::PYGEN_NEXT => {
                    // SAFETY: as above.
                    Polled::Yielded(unsafe { Bound::from_owned_ptr(py, sent) }.unbind())
                }
                ffi::PySendResult::PYGEN_ERROR if take_exhaustion(py) => Polled::Exhausted,
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
                    Err(error) if error.is_instance_of::<PyStopAsyncIteration>(py) => {
                        Polled::Exhausted
                    }
                    Err(error) => Polled::Raised(error),
                },
                Ok(None) => Polled::Raised(error),
                Err(error) => Polled::Raised(error),
            }
        }
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
            inner: GilCell::new(Inner {
                stage: Stage::Start(arguments),
                streaming: None,
                abandoned: false,
            }),
        }
    }

    /// An exchange that the app answers with what `awaitable` makes: the response to an error, or a deferred one.
    pub(crate) fn pending(
        protocol: &Bound<'_, Protocol>,
        route: Option<&Py<Route>>,
        request: &Py<Request>,
        awaitable: Py<PyAny>,
        is_error: bool,
    ) -> Self {
        let py = protocol.py();
        Self {
            protocol: protocol.clone().unbind(),
            route: route.map(|route| route.clone_ref(py)),
            request: Some(request.clone_ref(py)),
            inner: GilCell::new(Inner {
                stage: if is_error {
                    Stage::Answer(awaitable)
                } else {
                    Stage::Handler(awaitable)
                },
                streaming: None,
                abandoned: false,
            }),
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

    /// Whether the generator is being closed: what is left is clean-up, which is not cancelled.
    pub(crate) fn is_closing(&self, py: Python<'_>) -> bool {
        matches!(
            self.inner.borrow(py).stage,
            Stage::Close(_) | Stage::Exit(_)
        )
    }

    /// The connection has given up on this exchange: whatever it still does has no effect.
    pub(crate) fn abandon(&self, py: Python<'_>) {
        self.inner.borrow(py).abandoned = true;
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
    #[allow(clippy::too_many_lines, reason = "one arm for each stage")]
    fn advance(slf: &Bound<'_, Self>, resume: Resume, inline: bool) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        let mut resume = Some(resume);
        loop {
            let begun = resume.take().unwrap_or(Resume::Send);
            match this.take_stage(py) {
                Stage::Start(arguments) => match begun {
                    Resume::Throw(error) => Self::handler_failed(slf, error)?,
                    Resume::Send => match this.call_handler(py, &arguments) {
                        Ok(value) => match awaitable_iterator(&value) {
                            Ok(Some(iterator)) => this.put_stage(py, Stage::Handler(iterator)),
                            Ok(None) => Self::respond(slf, &value)?,
                            Err(error) => Self::handler_failed(slf, error)?,
                        },
                        Err(error) => Self::handler_failed(slf, error)?,
                    },
                },
                Stage::Handler(iterator) => match poll(py, &iterator, begun) {
                    Polled::Yielded(value) => {
                        this.put_stage(py, Stage::Handler(iterator));
                        return Ok(Some(value));
                    }
                    Polled::Returned(value) => Self::respond(slf, value.bind(py))?,
                    Polled::Raised(error) => Self::handler_failed(slf, error)?,
                    Polled::Exhausted => {
                        Self::handler_failed(slf, PyStopAsyncIteration::new_err(()))?;
                    }
                },
                Stage::Pull => {
                    if let Resume::Throw(error) = begun {
                        Self::stream_interrupted(slf, error)?;
                        continue;
                    }
                    if let Some(waited) = Self::pull(slf, inline)? {
                        return Ok(Some(waited));
                    }
                }
                Stage::Chunk(awaitable) => {
                    let polled = poll(py, &awaitable, begun);
                    if let Some(waited) = Self::chunk_polled(slf, awaitable, polled)? {
                        return Ok(Some(waited));
                    }
                }
                Stage::Waiting(generator) => {
                    if let Some(waited) = Self::go_on(slf, &generator, begun)? {
                        return Ok(Some(waited));
                    }
                }
                Stage::Drain(future) => {
                    if let Resume::Throw(error) = begun {
                        Self::stream_interrupted(slf, error)?;
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
                    Polled::Returned(_) | Polled::Exhausted => {
                        Self::end_stream(slf, Ending::Abort)?;
                    }
                    Polled::Raised(error) => {
                        exit_request(py, &error)?;
                        if !is_cancelled(py, &error) {
                            this.log(
                                py,
                                "a stream's generator failed while it was closed",
                                Some(&error),
                            );
                        }
                        Self::end_stream(slf, Ending::Abort)?;
                    }
                },
                Stage::Answer(awaitable) => match poll(py, &awaitable, begun) {
                    Polled::Yielded(value) => {
                        this.put_stage(py, Stage::Answer(awaitable));
                        return Ok(Some(value));
                    }
                    Polled::Returned(value) => Self::answered(slf, value.bind(py))?,
                    Polled::Raised(error) => Self::answer_failed(slf, &error)?,
                    Polled::Exhausted => {
                        Self::answer_failed(slf, &PyStopAsyncIteration::new_err(()))?;
                    }
                },
                Stage::Exit(awaitable) => match poll(py, &awaitable, begun) {
                    Polled::Yielded(value) => {
                        this.put_stage(py, Stage::Exit(awaitable));
                        return Ok(Some(value));
                    }
                    Polled::Returned(_) | Polled::Exhausted => Self::finish(slf)?,
                    Polled::Raised(error) => {
                        if let Err(exit) = exit_request(py, &error) {
                            Self::finish(slf)?;
                            return Err(exit);
                        }
                        if !is_cancelled(py, &error) {
                            this.log(py, "the clean-up of a request failed", Some(&error));
                        }
                        Self::finish(slf)?;
                    }
                },
                Stage::Running => {
                    return Err(PyRuntimeError::new_err(
                        "the exchange is being driven already",
                    ));
                }
                Stage::Done => {
                    this.put_stage(py, Stage::Done);
                    return Ok(None);
                }
            }
        }
    }

    fn log(&self, py: Python<'_>, what: &str, error: Option<&PyErr>) {
        let route = self.route.as_ref().map_or_else(String::new, |route| {
            format!(
                " of route {:?} ({})",
                route.get().name.bind(py).to_string_lossy(),
                route.get().pattern
            )
        });
        let request = self.request.as_ref().map_or_else(String::new, |request| {
            format!(": {}", request.get().describe())
        });
        let server = self.protocol.get().server.get();
        server.log(py, "error", &format!("{what}{route}{request}"), error);
        if let Some(error) = error {
            server.tell_failure(py, &self.protocol, error);
        }
    }

    // ---- the handler

    fn call_handler<'py>(
        &self,
        py: Python<'py>,
        arguments: &Arguments,
    ) -> PyResult<Bound<'py, PyAny>> {
        static RUN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let Some(route) = self.route.as_ref().map(Py::get) else {
            return Err(PyRuntimeError::new_err(
                "an exchange without a route has no handler",
            ));
        };
        if route.drive != Drive::Thread {
            return route.call(py, arguments);
        }
        // SAFETY: the result is a new reference or null with an exception set.
        let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
        let run = RUN.get_or_try_init(py, || {
            py.import("vibora._threads")?
                .getattr("run_in_thread")
                .map(Bound::unbind)
        })?;
        run.bind(py).call1((route.partial(py, arguments)?, context))
    }

    /// The handler has returned.
    fn respond(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let protocol = this.protocol.get();
        match protocol.cancelled(py) {
            // A timeout that has passed stays passed, even if the handler turned its cancellation into a response.
            Some(Cancelled::TimedOut | Cancelled::Shutdown) => {
                return Self::refuse(slf);
            }
            Some(Cancelled::Disconnected | Cancelled::Aborted) => {
                if let Ok(response) = value.cast::<Response>() {
                    if response.get().kind(py) == Kind::Stream {
                        let mut streaming = Streaming::new(response);
                        let close = streaming.close_unstarted(py)?;
                        return Self::close_or_end(slf, close);
                    }
                }
                return Self::end(slf);
            }
            None => {}
        }
        let Ok(response) = value.cast::<Response>() else {
            let error = match &this.route {
                Some(route) => not_a_response(value, route),
                None => PyTypeError::new_err("a handler must return a Response"),
            };
            return Self::answer_error(slf, &error);
        };
        match response.get().kind(py) {
            Kind::Whole => match protocol.send(py, response)? {
                Ok(()) => Self::end(slf),
                Err(error) => Self::answer_error(slf, &error),
            },
            Kind::Stream => {
                this.inner.borrow(py).streaming = Some(Streaming::new(response));
                this.put_stage(py, Stage::Pull);
                Ok(())
            }
            Kind::Deferred => match this.resolve(response) {
                Ok(awaitable) => {
                    this.put_stage(py, Stage::Handler(awaitable));
                    Ok(())
                }
                Err(error) => Self::answer_error(slf, &error),
            },
        }
    }

    /// Asks a deferred response what it is.
    fn resolve(&self, response: &Bound<'_, Response>) -> PyResult<Py<PyAny>> {
        let resolved = response.call_method1(
            pyo3::intern!(response.py(), "resolve"),
            (self.request.as_ref(),),
        )?;
        awaited(&resolved)
    }

    /// The handler has raised.
    fn handler_failed(slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if let Err(exit) = exit_request(py, &error) {
            this.protocol.get().abort(py);
            Self::finish(slf)?;
            return Err(exit);
        }
        let cancelled = is_cancelled(py, &error);
        match this.protocol.get().cancelled(py) {
            Some(Cancelled::TimedOut | Cancelled::Shutdown) => {
                if !cancelled {
                    this.log(py, "a handler failed while it was cancelled", Some(&error));
                }
                Self::refuse(slf)
            }
            Some(Cancelled::Disconnected | Cancelled::Aborted) => {
                let expected = cancelled || Self::is_disconnection(py, &error);
                if !expected {
                    this.log(
                        py,
                        "a handler failed after its client had gone",
                        Some(&error),
                    );
                }
                Self::end(slf)
            }
            None => Self::answer_error(slf, &error),
        }
    }

    fn is_disconnection(py: Python<'_>, error: &PyErr) -> bool {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        CLASS
            .get_or_try_init(py, || {
                py.import("vibora.exceptions")?
                    .getattr("ClientDisconnected")
                    .map(Bound::unbind)
            })
            .is_ok_and(|class| error.matches(py, class.bind(py)).unwrap_or(false))
    }

    /// The time is up, or the server stops: 503 if nothing has been sent.
    fn refuse(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let detail = match this.protocol.get().cancelled(py) {
            Some(Cancelled::Shutdown) => "the server is shutting down",
            _ => "the response was not ready in time",
        };
        let error = vibora_error(py, "ServiceUnavailable", (detail,));
        Self::answer_error(slf, &error)
    }

    fn answer_error(slf: &Bound<'_, Self>, error: &PyErr) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.inner.borrow(py).abandoned {
            return Self::finish(slf);
        }
        let protocol = this.protocol.bind(py);
        match Protocol::answer(protocol, error, this.request.as_ref(), this.route.as_ref())? {
            Some(awaitable) => {
                this.put_stage(py, Stage::Answer(awaitable));
                Ok(())
            }
            None => Self::after_answer(slf),
        }
    }

    /// The app has made the response to an error.
    fn answered(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.inner.borrow(py).abandoned {
            return Self::finish(slf);
        }
        if let Some(Cancelled::Disconnected | Cancelled::Aborted) =
            this.protocol.get().cancelled(py)
        {
            return Self::after_answer(slf);
        }
        if let Ok(response) = value.cast::<Response>() {
            let mut inner = this.inner.borrow(py);
            let cancelled = this.protocol.get().cancelled(py);
            if response.get().kind(py) == Kind::Stream
                && inner.streaming.is_none()
                && cancelled.is_none()
            {
                inner.streaming = Some(Streaming::new(response));
                inner.stage = Stage::Pull;
                return Ok(());
            }
        }
        this.protocol.get().send_answer(py, value)?;
        Self::after_answer(slf)
    }

    /// The app could not make the response to an error. Its own handlers' failures are its own business: this is a
    /// cancellation, or a defect.
    fn answer_failed(slf: &Bound<'_, Self>, error: &PyErr) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if let Err(exit) = exit_request(py, error) {
            this.protocol.get().abort(py);
            Self::finish(slf)?;
            return Err(exit);
        }
        let cancelled = this.protocol.get().cancelled(py);
        if !is_cancelled(py, error) {
            this.log(
                py,
                "the response to an error could not be made",
                Some(error),
            );
        }
        if !this.inner.borrow(py).abandoned {
            let late = matches!(cancelled, Some(Cancelled::TimedOut | Cancelled::Shutdown));
            let status = if late { 503 } else { 500 };
            this.protocol.get().send_empty(py, status, None)?;
        }
        Self::after_answer(slf)
    }

    /// An error has been answered. The generator that raised it, if one did, is closed.
    fn after_answer(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let failed = match &mut slf.get().inner.borrow(py).streaming {
            Some(streaming) => std::mem::take(&mut streaming.failed),
            None => false,
        };
        if failed {
            Self::close_stream(slf)
        } else {
            Self::end(slf)
        }
    }

    /// The response is over. What is left is what the request has to clean up.
    fn end(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let exits = this
            .request
            .as_ref()
            .and_then(|request| request.get().take_exits(py));
        let Some(exits) = exits else {
            return Self::finish(slf);
        };
        let run = py
            .import(pyo3::intern!(py, "vibora._driving"))
            .and_then(|module| module.call_method1(pyo3::intern!(py, "run_exits"), (exits,)))
            .and_then(|run| awaited(&run));
        match run {
            Ok(awaitable) => {
                this.put_stage(py, Stage::Exit(awaitable));
                Protocol::begin_exit(this.protocol.bind(py))
            }
            Err(error) => {
                this.log(py, "the clean-up of a request failed", Some(&error));
                Self::finish(slf)
            }
        }
    }

    /// Nothing is left to do.
    fn finish(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.put_stage(py, Stage::Done);
        Protocol::exchange_ended(this.protocol.bind(py), slf)
    }

    fn step(slf: &Bound<'_, Self>, resume: Resume) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let protocol = slf.get().protocol.bind(py);
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            let waited = Self::advance(slf, resume, false)?;
            if waited.is_some() {
                Protocol::suspended(protocol)?;
            }
            Ok(waited)
        }));
        let error = match stepped.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))) {
            Ok(waited) => return Ok(waited),
            Err(error) => error,
        };
        exit_request(py, &error)?;
        // Not the user's error: ours. It ends this connection, and is told once.
        slf.get().log(py, "internal error", Some(&error));
        protocol.get().server.get().out.borrow(py).clear();
        protocol.get().abort(py);
        Self::finish(slf)?;
        Ok(None)
    }

    /// The coroutine that runs now, for those who look at the task.
    fn inner_coroutine(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &self.inner.borrow(py).stage {
            Stage::Handler(awaitable)
            | Stage::Answer(awaitable)
            | Stage::Chunk(awaitable)
            | Stage::Waiting(awaitable)
            | Stage::Close(awaitable)
            | Stage::Exit(awaitable) => Some(awaitable.clone_ref(py)),
            Stage::Start(_) | Stage::Pull | Stage::Drain(_) | Stage::Running | Stage::Done => None,
        }
    }

    fn of_inner(&self, py: Python<'_>, names: [&str; 2]) -> Py<PyAny> {
        self.inner_coroutine(py)
            .and_then(|inner| names.iter().find_map(|name| inner.getattr(py, *name).ok()))
            .unwrap_or_else(|| py.None())
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
        self.route.as_ref().map_or_else(
            || "exchange".to_owned(),
            |route| route.get().name.bind(py).to_string_lossy().into_owned(),
        )
    }

    #[getter]
    fn __qualname__(&self, py: Python<'_>) -> String {
        self.__name__(py)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let request = self
            .request
            .as_ref()
            .map_or_else(String::new, |request| request.get().describe());
        format!("<Exchange {:?} {request}>", self.__name__(py))
    }
}

impl Route {
    /// A callable without arguments that calls the handler.
    fn partial<'py>(&self, py: Python<'py>, arguments: &Arguments) -> PyResult<Bound<'py, PyAny>> {
        static PARTIAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let (positional, keywords) = self.split(py, arguments)?;
        let mut all = vec![self.callee(py)];
        all.extend(positional);
        let class = PARTIAL.get_or_try_init(py, || {
            py.import("functools")?
                .getattr("partial")
                .map(Bound::unbind)
        })?;
        class.bind(py).call(PyTuple::new(py, all)?, Some(&keywords))
    }

    fn split<'py>(
        &self,
        py: Python<'py>,
        arguments: &Arguments,
    ) -> PyResult<(Vec<Py<PyAny>>, Bound<'py, PyDict>)> {
        let names: Vec<Bound<'py, PyAny>> = self.keyword_names(py);
        let cut = arguments.len().saturating_sub(names.len());
        let (positional, by_name) = arguments.split_at_checked(cut).unwrap_or((arguments, &[]));
        let keywords = PyDict::new(py);
        for (name, value) in names.iter().zip(by_name) {
            keywords.set_item(name, value)?;
        }
        Ok((
            positional.iter().map(|value| value.clone_ref(py)).collect(),
            keywords,
        ))
    }
}
