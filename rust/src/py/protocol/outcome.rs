//! What became of responses, for those who want to know: hooks, the access log, metrics. Costs nothing otherwise.
//!
//! Durations are of real time, finer than the milliseconds of deadlines, also where a test moves the clock of those.

use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::{Cancelled, Protocol};
use crate::http::access::{Record, is_id};
use crate::http::fields::FieldMap;
use crate::http::head::{RequestHead, Span};
use crate::py::access::AccessLog;
use crate::py::request::{Request, peer_of};
use crate::py::route::Route;
use crate::py::server::{Access, Server};
use crate::py::text::latin1;

/// The field that gives a request its name, where the client or a proxy has done so.
const ID_FIELD: &[u8] = b"x-request-id";

/// How much of a request line is kept.
const KEPT: usize = 2_000;

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Complete,
    Disconnected,
    TimedOut,
    Aborted,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Disconnected => "disconnected",
            Self::TimedOut => "timed out",
            Self::Aborted => "aborted",
        }
    }
}

/// An exchange that somebody wants to know the end of.
pub(super) struct Watched {
    line: Vec<u8>,
    started: Instant,
    first: Option<Instant>,
    status: Option<u16>,
    /// Where the response begins and ends in what is written to the connection.
    begin: u64,
    end: u64,
    reason: Reason,
    pub(super) request: Option<Py<Request>>,
    pub(super) route: Option<Py<Route>>,
    /// What the request is called: as the client says, or a number.
    id: Option<Box<[u8]>>,
    number: u64,
    /// The client's address, where a proxy tells it.
    client: Option<String>,
}

impl Watched {
    fn word(&self, at: usize) -> &[u8] {
        word(&self.line, at)
    }

    fn id(&self, server: &Server) -> Vec<u8> {
        match &self.id {
            Some(id) => id.to_vec(),
            None if self.number == 0 => Vec::new(),
            None => server.ids.spell(self.number).into_bytes(),
        }
    }
}

fn word(line: &[u8], at: usize) -> &[u8] {
    line.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .nth(at)
        .unwrap_or_default()
}

/// The path of a target, without the query.
fn path_of(target: &[u8]) -> &[u8] {
    target.split(|b| *b == b'?').next().unwrap_or_default()
}

/// What the client says that the request is called, if that is harmless.
fn given_id<'a>(head: &RequestHead, octets: &'a [u8]) -> Option<&'a [u8]> {
    let field = head.fields.iter().find(|field| {
        field.name.len() == ID_FIELD.len() && field.name.of(octets).eq_ignore_ascii_case(ID_FIELD)
    })?;
    Some(field.value.of(octets)).filter(|value| is_id(value))
}

/// `vibora.Outcome`.
#[pyclass(frozen, module = "vibora", name = "Outcome")]
pub(crate) struct Outcome {
    line: Vec<u8>,
    #[pyo3(get)]
    status_code: Option<u16>,
    #[pyo3(get)]
    bytes_sent: u64,
    #[pyo3(get)]
    duration: f64,
    #[pyo3(get)]
    time_to_first_byte: Option<f64>,
    #[pyo3(get)]
    reason: &'static str,
    #[pyo3(get)]
    client: Option<(String, u16)>,
}

#[pymethods]
impl Outcome {
    #[getter]
    fn method<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        latin1(py, word(&self.line, 0))
    }

    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        latin1(py, path_of(word(&self.line, 1)))
    }

    fn __repr__(&self) -> String {
        let status = self
            .status_code
            .map_or_else(|| "-".to_owned(), |status| status.to_string());
        format!(
            "<Outcome {status} {} {} bytes {:.6} s>",
            self.reason, self.bytes_sent, self.duration
        )
    }
}

impl Protocol {
    #[inline]
    fn observes(&self) -> bool {
        self.server.get().observes
    }

    /// A request has begun.
    pub(super) fn watch_request(&self, py: Python<'_>, octets: &[u8]) {
        if !self.observes() {
            return;
        }
        self.begin_watching(py, octets);
    }

    fn begin_watching(&self, py: Python<'_>, octets: &[u8]) {
        let server = self.server.get();
        let line = octets.split(|b| *b == b'\r').next().unwrap_or_default();
        let mut watched = Watched {
            line: line.get(..KEPT).unwrap_or(line).to_vec(),
            started: Instant::now(),
            first: None,
            status: None,
            begin: 0,
            end: 0,
            reason: Reason::Complete,
            request: None,
            route: None,
            id: None,
            number: 0,
            client: None,
        };
        if server.access.is_some() {
            if !octets.is_empty() {
                let head = server.head.borrow(py);
                watched.id = given_id(&head, octets).map(Into::into);
            }
            if watched.id.is_none() {
                watched.number = server.ids.next(py);
            }
            // Asked now: the transport does not know it any more when the connection is lost.
            if let Ok(caller) = self.caller(py) {
                if let (Some(proxies), false) = (&server.proxies, octets.is_empty()) {
                    let head = server.head.borrow(py);
                    let range = |span: Span| span.start as usize..span.end as usize;
                    let fields = head
                        .fields
                        .iter()
                        .map(|field| (range(field.name), range(field.value)));
                    let fields = FieldMap::from_spans(octets, fields);
                    let origin = proxies.get().trust.origin(peer_of(&caller), &fields);
                    watched.client = origin.client.map(|address| address.to_string());
                }
            }
        }
        let before = self.state.borrow(py).watched.replace(Box::new(watched));
        if let (Some(metrics), None) = (&server.metrics, before) {
            metrics.get().begun();
        }
    }

    /// The request that is being watched has an object now.
    pub(super) fn watch_object(
        &self,
        py: Python<'_>,
        request: &Py<Request>,
        route: Option<&Py<Route>>,
    ) {
        if !self.observes() {
            return;
        }
        let keep = self.server.get().on_sent.is_some();
        if let Some(watched) = &mut self.state.borrow(py).watched {
            if keep {
                watched.request = Some(request.clone_ref(py));
            }
            watched.route = route.map(|route| route.clone_ref(py));
            request.get().set_number(py, watched.number);
        }
    }

    /// The head of a response is about to be encoded.
    pub(crate) fn watch_head(&self, py: Python<'_>, status: u16) {
        if !self.observes() {
            return;
        }
        if self.state.borrow(py).watched.is_none() {
            self.watch_request(py, b"");
        }
        let buffered = self.server.get().out.borrow(py).len() as u64;
        let mut state = self.state.borrow(py);
        let begin = state.handed_over() + buffered;
        if let Some(watched) = &mut state.watched {
            watched.first = Some(Instant::now());
            watched.status = Some(status);
            watched.begin = begin;
        }
    }

    /// A response has been encoded to its end.
    pub(crate) fn watch_end(&self, py: Python<'_>) {
        if !self.observes() {
            return;
        }
        let reason = {
            let state = self.state.borrow(py);
            let lost = state.transport.is_none() || state.aborted || state.gone;
            match (lost, state.cut) {
                (false, _) => Reason::Complete,
                (true, true) => Reason::TimedOut,
                // A handler that finishes what it does has answered nobody.
                (true, false) => Reason::Disconnected,
            }
        };
        self.watch_over(py, reason);
    }

    fn watch_over(&self, py: Python<'_>, reason: Reason) {
        let buffered = self.server.get().out.borrow(py).len() as u64;
        let mut state = self.state.borrow(py);
        // What is encoded for a connection that is lost goes nowhere.
        let buffered = state.transport.as_ref().map_or(0, |_| buffered);
        let end = state.handed_over() + buffered;
        if let Some(mut watched) = state.watched.take() {
            watched.end = end;
            watched.reason = reason;
            state.sent.push(*watched);
        }
    }

    /// An exchange has ended. If its response has not, it never will.
    pub(super) fn watch_exchange_end(&self, py: Python<'_>, cancelled: Option<Cancelled>) {
        if !self.observes() || self.state.borrow(py).watched.is_none() {
            return;
        }
        let reason = {
            let state = self.state.borrow(py);
            match cancelled {
                _ if state.cut => Reason::TimedOut,
                Some(Cancelled::TimedOut) => Reason::TimedOut,
                Some(Cancelled::Disconnected) => Reason::Disconnected,
                None if state.transport.is_none() => Reason::Disconnected,
                Some(Cancelled::Aborted | Cancelled::Shutdown) | None => Reason::Aborted,
            }
        };
        self.watch_over(py, reason);
    }

    /// Tells of the responses that are out: those the transport has taken, or never will.
    pub(super) fn report(&self, py: Python<'_>) -> PyResult<()> {
        if !self.observes() {
            return Ok(());
        }
        let (sent, lost) = {
            let mut state = self.state.borrow(py);
            let lost = state.transport.is_none() || state.aborted;
            if state.sent.is_empty() || state.writing_paused && !lost {
                return Ok(());
            }
            let stuck = lost && state.writing_paused;
            (std::mem::take(&mut state.sent), stuck.then_some(state.cut))
        };
        let client = self.caller(py)?.address.clone();
        let now = Instant::now();
        for mut watched in sent {
            watched.reason = match (watched.reason, lost) {
                (Reason::Complete, Some(true)) => Reason::TimedOut,
                (Reason::Complete, Some(false)) => Reason::Disconnected,
                (reason, _) => reason,
            };
            if let Err(error) = self.tell(py, watched, client.as_ref(), now) {
                self.server.get().log(
                    py,
                    "error",
                    "what became of a response could not be told",
                    Some(&error),
                );
            }
        }
        Ok(())
    }

    /// Tells of one response.
    fn tell(
        &self,
        py: Python<'_>,
        watched: Watched,
        client: Option<&(String, u16)>,
        now: Instant,
    ) -> PyResult<()> {
        let server = self.server.get();
        let duration = now.duration_since(watched.started);
        let first = watched
            .first
            .map(|first| first.duration_since(watched.started));
        let bytes = match watched.status {
            Some(_) => watched.end.saturating_sub(watched.begin),
            None => 0,
        };
        if let Some(metrics) = &server.metrics {
            let entry = watched
                .route
                .as_ref()
                .map_or(0, |route| route.get().metrics_entry());
            metrics
                .get()
                .count(entry, watched.word(0), watched.status, duration, bytes);
        }
        if let Some(Access::Lines(lines)) = &server.access {
            let address = client.map(|(address, _)| address);
            let id = watched.id(server);
            let record = Record {
                client: watched
                    .client
                    .as_ref()
                    .or(address)
                    .map_or(b"", |address| address.as_bytes()),
                method: watched.word(0),
                path: path_of(watched.word(1)),
                route: watched
                    .route
                    .as_ref()
                    .map_or(b"", |route| route.get().pattern.as_bytes()),
                status: watched.status,
                bytes,
                first,
                duration,
                id: &id,
                reason: watched.reason.name(),
            };
            AccessLog::add(lines.bind(py), &record)?;
        }
        if server.on_sent.is_none() && !matches!(server.access, Some(Access::Records(_))) {
            return Ok(());
        }
        let id = watched.id(server);
        let address = watched
            .client
            .clone()
            .or_else(|| client.map(|(address, _)| address.clone()));
        let outcome = Outcome {
            status_code: watched.status,
            bytes_sent: bytes,
            duration: duration.as_secs_f64(),
            time_to_first_byte: first.as_ref().map(Duration::as_secs_f64),
            reason: watched.reason.name(),
            client: client.cloned(),
            line: watched.line,
        };
        let outcome = Py::new(py, outcome)?;
        if let Some(Access::Records(emit)) = &server.access {
            emit.call1(py, (&outcome, &watched.route, address, latin1(py, &id)))?;
        }
        if let Some(on_sent) = &server.on_sent {
            on_sent.call1(py, (watched.request, watched.route, outcome))?;
        }
        Ok(())
    }
}
