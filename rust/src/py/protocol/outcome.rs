//! What became of responses, for those who want to know: hooks, the access log, metrics. Costs nothing otherwise.
//!
//! Durations are of real time, finer than the milliseconds of deadlines, also where a test moves the clock of those.

use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::{Cancelled, Protocol};
use crate::py::request::Request;
use crate::py::route::Route;
use crate::py::text::latin1;

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
    route: Option<Py<Route>>,
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

impl Outcome {
    fn word(&self, at: usize) -> &[u8] {
        self.line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .nth(at)
            .unwrap_or_default()
    }
}

#[pymethods]
impl Outcome {
    #[getter]
    fn method<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        latin1(py, self.word(0))
    }

    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        let target = self.word(1);
        latin1(py, target.split(|b| *b == b'?').next().unwrap_or_default())
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
    fn observes(&self) -> bool {
        self.server.get().on_sent.is_some()
    }

    /// A request has begun.
    pub(super) fn watch_request(&self, py: Python<'_>, octets: &[u8]) {
        if !self.observes() {
            return;
        }
        let line = octets.split(|b| *b == b'\r').next().unwrap_or_default();
        let watched = Watched {
            line: line.get(..KEPT).unwrap_or(line).to_vec(),
            started: Instant::now(),
            first: None,
            status: None,
            begin: 0,
            end: 0,
            reason: Reason::Complete,
            request: None,
            route: None,
        };
        self.state.borrow(py).watched = Some(Box::new(watched));
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
        if let Some(watched) = &mut self.state.borrow(py).watched {
            watched.request = Some(request.clone_ref(py));
            watched.route = route.map(|route| route.clone_ref(py));
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
        if self.observes() {
            self.watch_over(py, Reason::Complete);
        }
    }

    fn watch_over(&self, py: Python<'_>, reason: Reason) {
        let buffered = self.server.get().out.borrow(py).len() as u64;
        let mut state = self.state.borrow(py);
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
        let Some(on_sent) = &self.server.get().on_sent else {
            return Ok(());
        };
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
        for watched in sent {
            let reason = match (watched.reason, lost) {
                (Reason::Complete, Some(true)) => Reason::TimedOut,
                (Reason::Complete, Some(false)) => Reason::Disconnected,
                (reason, _) => reason,
            };
            let since = |moment: Instant| moment.duration_since(watched.started).as_secs_f64();
            let outcome = Outcome {
                status_code: watched.status,
                bytes_sent: if watched.status.is_some() {
                    watched.end.saturating_sub(watched.begin)
                } else {
                    0
                },
                duration: since(Instant::now()),
                time_to_first_byte: watched.first.map(since),
                reason: reason.name(),
                client: client.clone(),
                line: watched.line,
            };
            let told = on_sent.call1(py, (watched.request, watched.route, Py::new(py, outcome)?));
            if let Err(error) = told {
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
}
