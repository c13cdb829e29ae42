//! Handlers: run here if they cannot suspend, else in a task of their own; and what becomes of their results.

use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PySystemExit, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::{Current, DEFAULT_TIMEOUT, Protocol};
use crate::http::deadlines::TimerKind;
use crate::py::context;
use crate::py::exchange::{Exchange, Outcome};
use crate::py::headers::type_name;
use crate::py::request::Request;
use crate::py::response::{Kind, Response};
use crate::py::route::{Arguments, Drive, Route};
use crate::py::slots::awaited;
use crate::py::suspension::stream_cannot_suspend;

impl Protocol {
    pub(super) fn request(
        slf: &Bound<'_, Self>,
        octets: &[u8],
        route: Option<&Py<Route>>,
    ) -> PyResult<Py<Request>> {
        let py = slf.py();
        let this = slf.get();
        let route = route.map(|route| route.clone_ref(py));
        let caller = this.caller(py)?;
        let request = {
            let head = this.server.get().head.borrow(py);
            let length = this.state.borrow(py).core.announced_length();
            let route = route.as_ref().map(|route| route.clone_ref(py));
            Request::new(&head, octets, length, slf, caller, route)
        };
        let request = Py::new(py, request)?;
        this.watch_object(py, &request, route.as_ref());
        Ok(request)
    }

    /// Runs a handler that cannot suspend, in its context.
    #[inline]
    pub(super) fn run_inline<'py>(
        py: Python<'py>,
        route: &Route,
        arguments: &Arguments,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _entered = context::enter(context)?;
        let called = route.call(py, arguments)?;
        if route.drive == Drive::Inline {
            return Ok(called);
        }
        let mut sent = std::ptr::null_mut();
        // SAFETY: both arguments are live objects; `sent` receives a new reference unless the result is an error.
        match unsafe { ffi::PyIter_Send(called.as_ptr(), ffi::Py_None(), &raw mut sent) } {
            // SAFETY: the result says that `sent` is a new reference.
            ffi::PySendResult::PYGEN_RETURN => Ok(unsafe { Bound::from_owned_ptr(py, sent) }),
            ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
            ffi::PySendResult::PYGEN_NEXT => {
                // SAFETY: the result says that `sent` is a new reference.
                drop(unsafe { Bound::from_owned_ptr(py, sent) });
                called.call_method0("close")?;
                Err(PyRuntimeError::new_err(
                    "a handler that cannot suspend has suspended",
                ))
            }
        }
    }

    /// Gives an exchange its task.
    pub(super) fn spawn(
        slf: &Bound<'_, Self>,
        exchange: Exchange,
        context: &Bound<'_, PyAny>,
        route: Option<&Py<Route>>,
        request: Option<&Py<Request>>,
        streaming: bool,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let server = this.server.get();
        let exchange = Py::new(py, exchange)?;
        {
            let mut state = this.state.borrow(py);
            if !streaming {
                let timeout = route.map_or(DEFAULT_TIMEOUT, |route| route.get().timeout);
                if timeout > 0 {
                    let deadline = server.now() + timeout;
                    state.deadlines.set(TimerKind::Route, deadline);
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
        Self::create_task(slf, &exchange, context)
    }

    pub(crate) fn create_task(
        slf: &Bound<'_, Self>,
        exchange: &Py<Exchange>,
        context: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let name = {
            let state = this.state.borrow(py);
            let route = state
                .current
                .as_ref()
                .and_then(|current| current.route.as_ref());
            route.map_or_else(
                || PyString::new(py, "vibora").unbind(),
                |route| route.get().name.clone_ref(py),
            )
        };
        let task = this
            .server
            .get()
            .create_task(py, exchange.bind(py), &name, context)?;
        let overdue = {
            let mut state = this.state.borrow(py);
            match &mut state.current {
                Some(current) if current.exchange.is(exchange) => {
                    current.task = Some(task.clone().unbind());
                    // Its first step ran before there was a task to cancel.
                    current.cancelled.is_some() && !exchange.get().is_closing(py)
                }
                _ => false,
            }
        };
        if overdue {
            task.call_method0(pyo3::intern!(py, "cancel"))?;
        }
        Ok(())
    }

    /// Answers with what a handler has returned, when it ran without a task.
    pub(super) fn respond_inline(
        slf: &Bound<'_, Self>,
        value: &Bound<'_, PyAny>,
        context: &Bound<'_, PyAny>,
        octets: &[u8],
        route: &Py<Route>,
        request: Option<Py<Request>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Ok(response) = value.cast::<Response>() else {
            let error = not_a_response(value, route);
            return match request {
                Some(request) => Self::respond_error(slf, &error, Some(&request), Some(route)),
                None => Self::fail(slf, &error, octets, Some(route)),
            };
        };
        if response.get().kind(py) == Kind::Whole {
            match this.send(py, response)? {
                Ok(()) => {
                    if let Some(request) = request {
                        request.get().release(py);
                    }
                    return Ok(());
                }
                Err(error) => {
                    return match request {
                        Some(request) => {
                            Self::respond_error(slf, &error, Some(&request), Some(route))
                        }
                        None => Self::fail(slf, &error, octets, Some(route)),
                    };
                }
            }
        }
        if response.get().kind(py) == Kind::Deferred {
            return Self::respond_deferred(slf, response, context, octets, route, request);
        }
        let inline = stream_cannot_suspend(py, response)?;
        if !inline && this.server.get().is_overloaded(py) {
            if let Some(request) = request {
                request.get().release(py);
            }
            return this.send_empty(py, 503, Some(("retry-after", "1")));
        }
        if let (Some(request), false) = (&request, inline) {
            // The stream may read what the handler, which cannot wait, has not.
            this.offer_content(py, request, route.get());
        }
        let request = match request {
            Some(request) => request,
            None => Self::request(slf, octets, Some(route))?,
        };
        let exchange = Exchange::stream(slf, Some(route), Some(&request), response);
        if !inline {
            this.server.get().leave(py)?;
            return Self::spawn(slf, exchange, context, Some(route), Some(&request), true);
        }
        Self::run_stream(slf, exchange, context, Some(route), Some(&request))
    }

    /// A handler that ran without a task has returned what has to be resolved: it gets one for that.
    fn respond_deferred(
        slf: &Bound<'_, Self>,
        response: &Bound<'_, Response>,
        context: &Bound<'_, PyAny>,
        octets: &[u8],
        route: &Py<Route>,
        request: Option<Py<Request>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let request = match request {
            Some(request) => request,
            None => Self::request(slf, octets, Some(route))?,
        };
        let resolved = {
            let _entered = context::enter(context)?;
            response.call_method1(pyo3::intern!(py, "resolve"), (&request,))
        };
        match resolved.and_then(|resolved| awaited(&resolved)) {
            Ok(awaitable) => {
                slf.get().offer_content(py, &request, route.get());
                let exchange = Exchange::pending(slf, Some(route), &request, awaitable, false);
                slf.get().server.get().leave(py)?;
                Self::spawn(slf, exchange, context, Some(route), Some(&request), false)
            }
            Err(error) => {
                exit_request(py, &error)?;
                Self::respond_error(slf, &error, Some(&request), Some(route))
            }
        }
    }

    /// Pulls a stream whose generator cannot suspend right here. It gets a task only if it has to wait for the client.
    pub(super) fn run_stream(
        slf: &Bound<'_, Self>,
        exchange: Exchange,
        context: &Bound<'_, PyAny>,
        route: Option<&Py<Route>>,
        request: Option<&Py<Request>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let exchange = Bound::new(py, exchange)?;
        this.state.borrow(py).current = Some(Current {
            exchange: exchange.clone().unbind(),
            task: None,
            request: request.map(|request| request.clone_ref(py)),
            route: route.map(|route| route.clone_ref(py)),
            streaming: true,
            cancelled: None,
        });
        *this.server.get().running.borrow(py) += 1;
        let outcome = {
            let _entered = context::enter(context)?;
            Exchange::run_inline(&exchange)
        };
        match outcome? {
            Outcome::Done => Ok(()),
            Outcome::NeedsTask => {
                this.server.get().leave(py)?;
                Self::create_task(slf, &exchange.unbind(), context)
            }
        }
    }

    /// The response is out, and the request's clean-up begins: it has time of its own.
    pub(crate) fn begin_exit(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        slf.get().state.borrow(py).deadlines.clear(TimerKind::Route);
        slf.get().bound_clean_up(py);
        Self::suspended(slf)
    }

    /// The exchange has suspended: the loop goes on, so what was encoded is written and the timers are armed.
    pub(crate) fn suspended(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.state.borrow(py).busy {
            return Ok(());
        }
        this.flush(py)?;
        this.report(py)?;
        this.arm(py)
    }

    /// The exchange has ended. The connection takes up the next, or closes.
    pub(crate) fn exchange_ended(
        slf: &Bound<'_, Self>,
        exchange: &Bound<'_, Exchange>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let server = this.server.get();
        let (current, reading, lost, busy, more) = {
            let mut state = this.state.borrow(py);
            if !state
                .current
                .as_ref()
                .is_some_and(|current| current.exchange.is(exchange))
            {
                return Ok(());
            }
            let current = state.current.take();
            state.drain = None;
            state.deadlines.clear(TimerKind::Route);
            state.deadlines.clear(TimerKind::CleanUp);
            state.deadlines.clear(TimerKind::Body);
            state.pace = None;
            if state.complete_end == u64::MAX {
                state.complete_end = state.handed_over() + server.out.borrow(py).len() as u64;
            }
            let more = !state.pending.is_empty() && !state.core.is_closed();
            (
                current,
                state.reading.take(),
                state.transport.is_none(),
                state.busy,
                more,
            )
        };
        *server.running.borrow(py) -= 1;
        drop(reading);
        this.watch_exchange_end(py, current.as_ref().and_then(|current| current.cancelled));
        if let Some(request) = current
            .as_ref()
            .and_then(|current| current.request.as_ref())
        {
            request.get().release(py);
        }
        drop(current);
        if lost {
            this.report(py)?;
            return this.leave_server(py);
        }
        if busy {
            return Ok(());
        }
        if more {
            // Pipelined requests wait: in a turn of their own, outside of this exchange's task and context.
            this.flush(py)?;
            this.report(py)?;
            return server.call_soon(py, &slf.getattr(pyo3::intern!(py, "_proceed"))?);
        }
        Self::settle(slf)
    }
}

/// `KeyboardInterrupt` and `SystemExit` are not a handler's failure: they are for whoever runs the loop.
pub(crate) fn exit_request(py: Python<'_>, error: &PyErr) -> PyResult<()> {
    if error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py) {
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
    } else if value.is_instance_of::<pyo3::types::PyDict>()
        || value.is_instance_of::<pyo3::types::PyList>()
    {
        "; JsonResponse(...) sends it as JSON"
    } else {
        ""
    };
    PyTypeError::new_err(format!(
        "handler {:?} of route {:?} must return a Response, not {}{hint}",
        route.name.bind(py).to_string_lossy(),
        route.pattern,
        type_name(value)
    ))
}
