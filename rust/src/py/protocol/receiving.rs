//! What arrives: bytes become requests and content; content waits for the handler that reads it.

use std::borrow::Cow;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{LARGE, Protocol, exit_request};
use crate::error::ProtocolError;
use crate::http::connection::{Event, Receiving};
use crate::http::deadlines::{TimerKind, UploadPace};
use crate::http::target;
use crate::http::target::TargetForm;
use crate::py::content::BodyFailure;
use crate::py::errors::vibora_error;
use crate::py::exchange::Exchange;
use crate::py::request::Request;
use crate::py::route::{Drive, Route, Table};
use crate::py::server::PRESENCE;
use crate::router::{Lookup, other_spelling};

impl Protocol {
    /// Works through what has arrived, then writes what was answered.
    ///
    /// `read` is the object that `data` is all of, where there is one.
    pub(super) fn pump(
        slf: &Bound<'_, Self>,
        data: &[u8],
        read: Option<&Bound<'_, PyBytes>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let pending;
        let mut input = {
            let mut state = this.state.borrow(py);
            if state.transport.is_none() || state.closing && state.core.is_closed() {
                return Ok(());
            }
            state.busy = true;
            state.forgiven = 0;
            if state.pending.is_empty() {
                data
            } else {
                state.pending.extend_from_slice(data);
                pending = std::mem::take(&mut state.pending);
                &pending
            }
        };
        Self::work(slf, &mut input, read)?;
        this.server.get().leave(py)?;
        {
            let mut state = this.state.borrow(py);
            state.busy = false;
            if !input.is_empty() {
                // Handlers may have asked for content meanwhile, but only this function takes from `pending`.
                state.pending = input.to_vec();
            }
        }
        Self::settle(slf)
    }

    /// The loop over events.
    pub(super) fn work(
        slf: &Bound<'_, Self>,
        input: &mut &[u8],
        read: Option<&Bound<'_, PyBytes>>,
    ) -> PyResult<()> {
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
                if state.writing_paused
                    && state.current.is_none()
                    && state.core.receiving() == Receiving::Head
                {
                    return Ok(());
                }
                let mut head = server.head.borrow(py);
                state.core.next_event(input, &mut head, &server.http)
            };
            match event {
                Ok(Event::NeedMore) => return Ok(()),
                Ok(Event::Request) => Self::begin(slf, start, input)?,
                Ok(Event::Content(data)) => {
                    let request = this
                        .state
                        .borrow(py)
                        .reading
                        .as_ref()
                        .map(|request| request.clone_ref(py));
                    if let Some(request) = request {
                        let whole = read.filter(|read| std::ptr::eq(read.as_bytes(), data));
                        this.content_arrived(py, &request, data, whole)?;
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
                    Self::protocol_error(slf, error)?;
                    return Ok(());
                }
            }
            if server.out.borrow(py).len() >= LARGE {
                this.flush(py)?;
            }
        }
    }

    /// A request's head is complete: routes it and starts its handler.
    pub(super) fn begin(slf: &Bound<'_, Self>, start: &[u8], input: &mut &[u8]) -> PyResult<()> {
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
        this.watch_request(py, octets);
        match form {
            TargetForm::Origin | TargetForm::Absolute => {}
            // RFC 9110 §9.3.7: OPTIONS * asks about the server as a whole. §9.3.6: an origin server makes no tunnels.
            TargetForm::Asterisk => return this.send_empty(py, 204, None),
            TargetForm::Authority => {
                let error = vibora_error(
                    py,
                    "MethodNotImplemented",
                    ("this server makes no tunnels",),
                );
                this.state.borrow(py).core.close_after_response();
                return Self::fail(slf, &error, octets, None);
            }
        }
        let Ok(path) = target::decode_path(path) else {
            let error = vibora_error(
                py,
                "BadRequest",
                ("the path is not percent-encoded correctly",),
            );
            return Self::fail(slf, &error, octets, None);
        };
        let table = server.table(py);
        let mut groups = Vec::new();
        let lookup = if table.tree.is_conditional() {
            match Self::find(slf, &table, start, octets, &path, &mut groups) {
                Ok(lookup) => lookup,
                Err(error) => {
                    exit_request(py, &error)?;
                    return Self::fail(slf, &error, octets, None);
                }
            }
        } else {
            table.tree.lookup(method, &path)
        };
        match lookup {
            Lookup::Found { route, parameters } => match table.routes.get(route) {
                Some(route) => Self::start(slf, route, &parameters, octets, input),
                None => Err(PyRuntimeError::new_err(
                    "the router knows a route that the table does not",
                )),
            },
            other => Self::refuse(slf, &other, start, octets),
        }
    }

    /// Finds the route where hosts or expressions count.
    #[cold]
    fn find<'t, 'p>(
        slf: &Bound<'_, Self>,
        table: &'t Table,
        start: &[u8],
        octets: &[u8],
        path: &'p [u8],
        groups: &'p mut Vec<Vec<u8>>,
    ) -> PyResult<Lookup<'t, 'p>> {
        let py = slf.py();
        let server = slf.get().server.get();
        let (method, authority) = {
            let head = server.head.borrow(py);
            (head.method_text.of(start), head.authority.of(start))
        };
        // The host that routes are chosen by is the one that handlers are told.
        let host = match server.proxies {
            Some(_) => Cow::Owned(Self::request(slf, octets, None)?.get().authority(py)),
            None => Cow::Borrowed(authority),
        };
        table.find(py, method, &host, path, groups)
    }

    /// Answers a request that no route answers.
    #[cold]
    fn refuse(
        slf: &Bound<'_, Self>,
        lookup: &Lookup<'_, '_>,
        start: &[u8],
        octets: &[u8],
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let error = match lookup {
            Lookup::Options { allow } if this.server.get().intercept => {
                vibora_error(py, "AutomaticOptions", (*allow,))
            }
            Lookup::Options { allow } => return this.send_empty(py, 204, Some(("allow", allow))),
            Lookup::MethodNotAllowed { allow } => {
                let allowed: Vec<&str> = allow.split(", ").collect();
                vibora_error(py, "MethodNotAllowed", (allowed,))
            }
            Lookup::Redirect { .. } => {
                let location = {
                    let head = this.server.get().head.borrow(py);
                    let query = head.query.map(|query| query.of(start));
                    other_spelling(head.path.of(start), query)
                };
                vibora_error(py, "SlashRedirect", (location,))
            }
            Lookup::NotFound | Lookup::Found { .. } | Lookup::Matched { .. } => {
                vibora_error(py, "NotFound", ())
            }
        };
        Self::fail(slf, &error, octets, None)
    }

    /// Runs the handler of the route that was found, or gives it its task.
    fn start(
        slf: &Bound<'_, Self>,
        route: &Py<Route>,
        parameters: &[&[u8]],
        octets: &[u8],
        input: &mut &[u8],
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let server = this.server.get();
        let plan = route.get();
        let limited = {
            let mut state = this.state.borrow(py);
            state.route = Some(route.clone_ref(py));
            if let Some(watched) = &mut state.watched {
                watched.route = Some(route.clone_ref(py));
            }
            state.note(octets);
            state.large = false;
            state.response_timeout = plan.timeout;
            state.core.limit_content(plan.max_body_size)
        };
        if let Err(error) = limited {
            let error = BodyFailure::Protocol(error).error(py);
            return Self::fail(slf, &error, octets, Some(route));
        }
        let mut inline = matches!(plan.drive, Drive::Direct | Drive::Inline);
        if !inline
            && (plan.drive != Drive::Content || this.state.borrow(py).core.expects_content())
            && server.is_overloaded(py)
        {
            return this.send_empty(py, 503, Some(("retry-after", "1")));
        }
        let request = if plan.wants_request || !inline || server.on_sent.is_some() {
            Some(Self::request(slf, octets, Some(route))?)
        } else {
            None
        };
        let Some(arguments) = plan.arguments(py, request.as_ref(), parameters)? else {
            let error = vibora_error(py, "NotFound", ());
            return Self::fail(slf, &error, octets, None);
        };
        if let (Some(request), false) = (&request, inline) {
            if this.state.borrow(py).core.expects_content()
                && !Self::take_content(slf, request, plan, input)?
            {
                return Ok(());
            }
            inline = plan.drive == Drive::Content && !this.state.borrow(py).core.expects_content();
        }
        if inline {
            server.enter(py);
            let context = server.new_context(py)?;
            return match Self::run_inline(py, plan, &arguments, &context) {
                Ok(value) => {
                    Self::respond_inline(slf, &value, &context, octets, route, request)?;
                    Ok(())
                }
                Err(error) => {
                    exit_request(py, &error)?;
                    match request {
                        Some(request) => {
                            Self::respond_error(slf, &error, Some(&request), Some(route))
                        }
                        None => Self::fail(slf, &error, octets, Some(route)),
                    }
                }
            };
        }
        let Some(request) = request else {
            return Err(PyRuntimeError::new_err("an exchange needs a request"));
        };
        server.leave(py)?;
        let context = server.new_context(py)?;
        let exchange = Exchange::start(slf, route, &request, arguments);
        Self::spawn(slf, exchange, &context, Some(route), Some(&request), false)
    }

    /// Takes what has already arrived of the request's content, so that a handler finds it there. Returns false if the
    /// content was refused and the request has been answered.
    pub(super) fn take_content(
        slf: &Bound<'_, Self>,
        request: &Py<Request>,
        route: &Route,
        input: &mut &[u8],
    ) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let server = this.server.get();
        this.state.borrow(py).reading = Some(request.clone_ref(py));
        loop {
            let event = {
                let mut state = this.state.borrow(py);
                let mut head = server.head.borrow(py);
                state.core.next_event(input, &mut head, &server.http)
            };
            match event {
                Ok(Event::Content(data)) => {
                    if request.get().feed(py, data, None) > server.limits.read_buffer {
                        break;
                    }
                }
                Ok(Event::End) => {
                    this.state.borrow(py).reading = None;
                    request.get().complete(py);
                    return Ok(true);
                }
                Ok(Event::NeedMore | Event::Request | Event::Pipelined) => break,
                Err(error) => {
                    *input = &[];
                    this.state.borrow(py).reading = None;
                    let error = BodyFailure::Protocol(error).error(py);
                    Self::respond_error(slf, &error, Some(request), None)?;
                    return Ok(false);
                }
            }
        }
        this.offer_content(py, request, route);
        Ok(true)
    }

    /// Content that is still to come goes to the request. The client's time runs while somebody waits for it, and only
    /// then.
    pub(super) fn offer_content(&self, py: Python<'_>, request: &Py<Request>, route: &Route) {
        let mut state = self.state.borrow(py);
        if !state.core.expects_content() {
            return;
        }
        let now = self.server.get().now();
        let mut pace = UploadPace::new(now, route.body_timeout, route.min_body_rate);
        pace.pause(now);
        state.pace = Some(pace);
        state.reading = Some(request.clone_ref(py));
    }

    /// A piece of content has arrived for a request that is being handled.
    pub(super) fn content_arrived(
        &self,
        py: Python<'_>,
        request: &Py<Request>,
        data: &[u8],
        read: Option<&Bound<'_, PyBytes>>,
    ) -> PyResult<()> {
        let waiting = request.get().feed(py, data, read);
        if request.get().has_reader(py)? {
            if !request.get().is_satisfied(py) {
                // Somebody collects the whole content, and this was not its end.
                if let Some(pace) = &mut self.state.borrow(py).pace {
                    pace.progress(self.server.get().now());
                }
                return Ok(());
            }
            if let Some(pace) = &mut self.state.borrow(py).pace {
                pace.pause(self.server.get().now());
            }
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
            if let Some(pace) = &mut state.pace {
                pace.resume(server.now());
            }
            state.watch_content();
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

    pub(super) fn pause_reading(&self, py: Python<'_>) -> PyResult<()> {
        let transport = {
            let mut state = self.state.borrow(py);
            if state.reading_paused || state.closing {
                return Ok(());
            }
            state.reading_paused = true;
            let deadline = self.server.get().now() + PRESENCE;
            state.deadlines.set(TimerKind::Presence, deadline);
            state
                .transport
                .as_ref()
                .map(|transport| transport.clone_ref(py))
        };
        match transport {
            Some(transport) => transport
                .call_method0(py, pyo3::intern!(py, "pause_reading"))
                .map(drop),
            None => Ok(()),
        }
    }

    pub(super) fn resume_reading(&self, py: Python<'_>) -> PyResult<()> {
        let transport = {
            let mut state = self.state.borrow(py);
            if !state.reading_paused || state.closing {
                return Ok(());
            }
            state.reading_paused = false;
            state.deadlines.clear(TimerKind::Presence);
            state
                .transport
                .as_ref()
                .map(|transport| transport.clone_ref(py))
        };
        match transport {
            Some(transport) => transport
                .call_method0(py, pyo3::intern!(py, "resume_reading"))
                .map(drop),
            None => Ok(()),
        }
    }

    /// The peer has broken a rule of the protocol.
    pub(super) fn protocol_error(slf: &Bound<'_, Self>, error: ProtocolError) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (reading, current) = {
            let mut state = this.state.borrow(py);
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
        Self::respond_error(slf, &failure, None, None)
    }
}
