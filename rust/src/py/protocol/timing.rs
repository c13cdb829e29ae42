//! What time does to a connection: its deadlines, and what the client has consumed when one of them comes.

use pyo3::prelude::*;

use super::{Cancelled, Protocol, State, timeout_name};
use crate::http::connection::{Receiving, Sending};
use crate::http::deadlines::TimerKind;
use crate::py::content::BodyFailure;
use crate::py::errors::vibora_error;
use crate::py::server::{CLEAN_UP, HALF_CLOSE, LINGER, PRESENCE, Server, ServerLimits};
use crate::py::socket::{self, Presence};

/// How much of a request line is kept for the log.
const NOTED: usize = 120;

/// How late a deadline may be noticed, in milliseconds, before the delay counts as the server's own.
const PUNCTUAL: u64 = 200;
/// How often in a row a peer's deadlines are put off because the loop was blocked.
const FORGIVEN: u8 = 2;

impl State {
    /// The loop was blocked, so that what the peer did in time could not be seen: its deadlines are put off by as much,
    /// a second at most. Not again and again: a loop that is always late would keep its slow clients for ever.
    pub(super) fn forgive(&mut self, now: u64) {
        let late = self
            .deadlines
            .next()
            .map_or(0, |due| now.saturating_sub(due));
        if late <= PUNCTUAL || self.forgiven >= FORGIVEN {
            return;
        }
        self.forgiven += 1;
        for kind in TimerKind::OF_THE_PEER {
            if self.deadlines.get(kind).is_some_and(|due| due <= now) {
                self.deadlines.set(kind, now + late.min(1_000));
            }
        }
        self.chunks.put_off(late.min(1_000));
        self.responses.put_off(late.min(1_000));
    }

    /// Keeps the beginning of the request line, for the log.
    pub(super) fn note(&mut self, head: &[u8]) {
        let line = head.get(..NOTED).unwrap_or(head);
        self.line.clear();
        self.line.extend_from_slice(line);
    }

    /// Method and path of the latest request, with everything unprintable escaped.
    fn noted(&self) -> String {
        let mut words = self
            .line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        let path = target.split(|b| *b == b'?').next().unwrap_or_default();
        format!("{} {}", method.escape_ascii(), path.escape_ascii())
    }

    /// No exchange runs: sets by when the next request has to begin, or to be complete.
    pub(super) fn await_request(&mut self, limits: &ServerLimits, now: u64) {
        let (kind, other, timeout) =
            if self.core.receiving() == Receiving::Head && self.pending.is_empty() {
                (
                    TimerKind::KeepAlive,
                    TimerKind::Head,
                    limits.keep_alive_timeout,
                )
            } else {
                // A head has begun, or content that nobody reads has to pass before one can.
                (TimerKind::Head, TimerKind::KeepAlive, limits.head_timeout)
            };
        self.deadlines.clear(other);
        if kind == TimerKind::Head && self.writing_paused {
            // Requests wait for the client to read its responses; that has a deadline of its own.
            self.deadlines.clear(kind);
        } else if timeout > 0
            && (kind == TimerKind::KeepAlive || self.deadlines.get(kind).is_none())
        {
            self.deadlines.set(kind, now + timeout);
        }
    }

    /// Sets by when more content has to arrive, while a handler waits for it.
    pub(super) fn watch_content(&mut self) {
        let received = self.core.received_length();
        match self.pace.as_ref().and_then(|pace| pace.deadline(received)) {
            Some(deadline) => self.deadlines.set(TimerKind::Body, deadline),
            None => self.deadlines.clear(TimerKind::Body),
        }
    }
}

impl Protocol {
    /// Tells the worker's timer wheel of a deadline that is earlier than what it knows.
    pub(super) fn arm(&self, py: Python<'_>) -> PyResult<()> {
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

    /// How many bytes the client has acknowledged, and how many of those written it has not.
    pub(super) fn consumed(&self, py: Python<'_>) -> (u64, u64) {
        let fd = self.descriptor(py);
        let buffered = self
            .transport(py)
            .and_then(|transport| {
                let size = transport.call_method0(py, pyo3::intern!(py, "get_write_buffer_size"));
                size.ok()?.extract::<u64>(py).ok()
            })
            .unwrap_or(0);
        let (written, unsealed) = {
            let state = self.state.borrow(py);
            (state.handed_over(), state.unsealed())
        };
        let open = unsealed + buffered + fd.map_or(0, socket::unacknowledged);
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
                    state.forgive(now);
                    state.deadlines.expire(now)
                };
                match kind {
                    Some(kind) => Self::expired(slf, kind, now)?,
                    None => return Self::settle_timer(slf),
                }
            }
        })
    }

    pub(super) fn settle_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.flush(py)?;
        this.report(py)?;
        let over = {
            let state = this.state.borrow(py);
            state.current.is_none()
                && state.core.is_closed()
                && !state.closing
                && state.transport.is_some()
        };
        if over {
            this.close(py)?;
        }
        this.arm(py)
    }

    pub(super) fn expired(slf: &Bound<'_, Self>, kind: TimerKind, now: u64) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        match kind {
            TimerKind::Head => {
                let partial = !this.state.borrow(py).pending.is_empty();
                if !partial {
                    return this.end_idle(py);
                }
                {
                    let mut state = this.state.borrow(py);
                    state.pending = Vec::new();
                    state.core.refuse();
                }
                let error = vibora_error(
                    py,
                    "RequestTimeout",
                    ("the request's head came too slowly",),
                );
                Self::respond_error(slf, &error, None, None)
            }
            TimerKind::KeepAlive => this.end_idle(py),
            TimerKind::Body => {
                let request = {
                    let mut state = this.state.borrow(py);
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
                let sent = this.state.borrow(py).core.sending() != Sending::Head;
                if sent {
                    return this.cut(py, kind, now);
                }
                let message = this.describe(
                    py,
                    "gave no response within its timeout; it is cancelled",
                    kind,
                );
                this.server.get().log(py, "warning", &message, None);
                this.cancel(py, Cancelled::TimedOut)
            }
            TimerKind::Chunk | TimerKind::Flush | TimerKind::Complete => {
                this.check_consumption(py, kind, now)
            }
            TimerKind::HalfClose => {
                this.state.borrow(py).gone = true;
                this.disconnected(py)?;
                let cancelled = {
                    let state = this.state.borrow(py);
                    state
                        .current
                        .as_ref()
                        .is_some_and(|current| current.cancelled.is_some())
                };
                if cancelled {
                    this.abort(py);
                }
                Ok(())
            }
            TimerKind::Linger => {
                // While the client still reads the response, the response's own deadline counts.
                if this.consumed(py).1 > 0 {
                    this.state.borrow(py).deadlines.set(kind, now + LINGER / 2);
                    return Ok(());
                }
                match this.transport(py) {
                    Some(transport) => transport
                        .call_method0(py, pyo3::intern!(py, "close"))
                        .map(drop),
                    None => Ok(()),
                }
            }
            TimerKind::CleanUp => this.abandon(py),
            TimerKind::Presence => {
                this.look_for_peer(py, now);
                Ok(())
            }
        }
    }

    /// The loop does not tell of a peer that leaves while it is not read: asks the system, every now and then.
    fn look_for_peer(&self, py: Python<'_>, now: u64) {
        let presence = match (self.descriptor(py), self.transport(py)) {
            (Some(fd), _) => socket::presence(fd),
            (None, Some(transport)) => socket::presence_told(transport.bind(py)),
            (None, None) => Presence::Here,
        };
        if presence == Presence::Gone {
            return self.abort(py);
        }
        let mut state = self.state.borrow(py);
        if presence == Presence::Silent
            && state.current.is_some()
            && !state.gone
            && state.deadlines.get(TimerKind::HalfClose).is_none()
        {
            state.deadlines.set(TimerKind::HalfClose, now + HALF_CLOSE);
        }
        if state.reading_paused {
            state.deadlines.set(TimerKind::Presence, now + PRESENCE);
        }
    }

    /// A response's deadline has come: has the client consumed what was due?
    pub(super) fn check_consumption(
        &self,
        py: Python<'_>,
        kind: TimerKind,
        now: u64,
    ) -> PyResult<()> {
        let (consumed, _) = self.consumed(py);
        let late = {
            let mut state = self.state.borrow(py);
            match kind {
                TimerKind::Complete => consumed < state.complete_end,
                TimerKind::Chunk | TimerKind::Flush => {
                    let State {
                        chunks,
                        responses,
                        deadlines,
                        forgiven,
                        ..
                    } = &mut *state;
                    let queue = if kind == TimerKind::Chunk {
                        chunks
                    } else {
                        responses
                    };
                    if queue.consume(consumed) {
                        *forgiven = 0;
                    }
                    match queue.deadline() {
                        Some(deadline) if deadline <= now => true,
                        Some(deadline) => {
                            deadlines.set(kind, deadline);
                            false
                        }
                        None => false,
                    }
                }
                _ => false,
            }
        };
        if late {
            self.cut(py, kind, now)
        } else {
            Ok(())
        }
    }

    /// A client did not consume in time: resets the connection, cancels what runs, and says so once.
    pub(super) fn cut(&self, py: Python<'_>, kind: TimerKind, _now: u64) -> PyResult<()> {
        let (_, open) = self.consumed(py);
        let written = self.state.borrow(py).written;
        let what = format!(
            "the client did not consume in time: {written} bytes sent, {open} of them not consumed; connection reset"
        );
        let message = self.describe(py, &what, kind);
        self.server.get().log(py, "warning", &message, None);
        self.state.borrow(py).cut = true;
        self.abort(py);
        self.cancel(py, Cancelled::Aborted)
    }

    /// A log line's facts: route, request, client, timeout.
    pub(super) fn describe(&self, py: Python<'_>, what: &str, kind: TimerKind) -> String {
        let (route, request, seconds) = {
            let state = self.state.borrow(py);
            let route = state.route.as_ref().map(Py::get);
            let milliseconds = match kind {
                TimerKind::Chunk => Some(state.stream_timeouts.0),
                TimerKind::Complete => Some(state.stream_timeouts.1),
                TimerKind::Route | TimerKind::Flush => Some(state.response_timeout),
                TimerKind::Body => route.map(|route| route.body_timeout),
                TimerKind::CleanUp => Some(CLEAN_UP),
                TimerKind::Head
                | TimerKind::KeepAlive
                | TimerKind::HalfClose
                | TimerKind::Linger
                | TimerKind::Presence => None,
            };
            let seconds = milliseconds.map(|milliseconds| milliseconds as f64 / 1000.0);
            (
                route.map_or_else(
                    || "-".to_owned(),
                    |route| {
                        format!(
                            "{:?} ({})",
                            route.name.bind(py).to_string_lossy(),
                            route.pattern
                        )
                    },
                ),
                state.noted(),
                seconds.map_or_else(String::new, |seconds| format!(" ({seconds} s)")),
            )
        };
        let caller = self.caller(py).unwrap_or_default();
        let client = caller
            .address
            .as_ref()
            .map_or_else(|| "-".to_owned(), |(host, port)| format!("{host}:{port}"));
        format!(
            "{}{seconds}: route {route}, {request}, client {client}: {what}",
            timeout_name(kind)
        )
    }
}
