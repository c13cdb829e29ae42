//! How connections and exchanges end: deadlines, consumption by the client, disconnects, resets, shutdown.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::{Cancelled, Protocol, State, timeout_name};
use crate::http::connection::{Receiving, Sending};
use crate::http::deadlines::TimerKind;
use crate::py::clock;
use crate::py::content::BodyFailure;
use crate::py::errors::vibora_error;
use crate::py::route::OnDisconnect;
use crate::py::server::{CLEAN_UP, HALF_CLOSE, LINGER, PRESENCE, Server, ServerLimits, WATCH};
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
    fn forgive(&mut self, now: u64) {
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
    fn await_request(&mut self, limits: &ServerLimits) {
        let now = clock::monotonic_ms();
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
    /// After a callback's work: writes, closes if the last response is out, decides about reading, arms the timers.
    pub(super) fn settle(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let limits = &this.server.get().limits;
        this.flush(py)?;
        if this.must_wait(py) && this.state.borrow(py).current.is_none() {
            this.expect_consumption(py);
        }
        let (over, pause, resume) = {
            let mut state = this.state.borrow(py);
            if state.transport.is_none() {
                return Ok(());
            }
            let idle = state.current.is_none();
            if idle && state.eof && !state.writing_paused {
                // What the peer sent before its last byte has been answered.
                state.core.close();
            }
            let over = idle && state.core.is_closed() && !state.closing;
            if idle && !state.core.is_closed() {
                state.await_request(limits);
            }
            state.watch_content();
            let behind = state.pending.len() > limits.read_buffer && !state.core.is_closed();
            let blocked = !idle || state.writing_paused;
            let content = state.reading.is_some();
            (
                over,
                behind && blocked,
                state.reading_paused && !behind && !content,
            )
        };
        if pause {
            this.pause_reading(py)?;
        } else if resume {
            this.resume_reading(py)?;
        }
        if over {
            this.close(py)?;
        }
        this.arm(py)
    }

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

    /// Closes after the last response: flushes, and lingers where the peer may still be sending.
    pub(super) fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(transport) = self.transport(py) else {
            return Ok(());
        };
        let transport = transport.bind(py);
        let stopping = self.server.get().is_stopping(py);
        let (linger, patience) = {
            let mut state = self.state.borrow(py);
            if state.closing {
                return Ok(());
            }
            state.closing = true;
            state.pending = Vec::new();
            let unread = state.core.must_linger();
            let linger = (unread || state.large) && !state.eof;
            state.core.close();
            state.deadlines.clear(TimerKind::Head);
            state.deadlines.clear(TimerKind::KeepAlive);
            // A response that is only watched is soon on its way; what a peer may still send takes longer.
            (linger, if unread && !stopping { LINGER } else { WATCH })
        };
        // However the connection ends: it does not wait for ever for a client that does not read.
        self.expect_consumption(py);
        if linger
            && transport
                .call_method0(pyo3::intern!(py, "can_write_eof"))?
                .is_truthy()?
        {
            let paused = {
                let mut state = self.state.borrow(py);
                state
                    .deadlines
                    .set(TimerKind::Linger, clock::monotonic_ms() + patience);
                std::mem::take(&mut state.reading_paused)
            };
            if paused {
                transport.call_method0(pyo3::intern!(py, "resume_reading"))?;
            }
            return transport
                .call_method0(pyo3::intern!(py, "write_eof"))
                .map(drop);
        }
        transport.call_method0(pyo3::intern!(py, "close")).map(drop)
    }

    /// Ends the connection at once: a reset, nothing flushed. The exchange, if one runs, has to be cancelled as well.
    pub(crate) fn abort(&self, py: Python<'_>) {
        let Some(transport) = self.transport(py) else {
            return;
        };
        let fd = self.descriptor(py);
        {
            let mut state = self.state.borrow(py);
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
        }
        if let Some(fd) = fd {
            socket::reset_on_close(fd);
        }
        if let Err(error) = transport.call_method0(py, pyo3::intern!(py, "abort")) {
            self.server.get().log(
                py,
                "error",
                "the transport could not be aborted",
                Some(&error),
            );
        }
    }

    /// A cancelled exchange, or a generator that is being closed, has so long to clean up.
    pub(crate) fn bound_clean_up(&self, py: Python<'_>) {
        let mut state = self.state.borrow(py);
        if state.deadlines.get(TimerKind::CleanUp).is_none() {
            let deadline = clock::monotonic_ms() + CLEAN_UP;
            state.deadlines.set(TimerKind::CleanUp, deadline);
        }
    }

    /// Cancels the running exchange.
    pub(super) fn cancel(&self, py: Python<'_>, reason: Cancelled) -> PyResult<()> {
        let task = {
            let mut state = self.state.borrow(py);
            let Some(current) = &mut state.current else {
                return Ok(());
            };
            if current.cancelled.is_some() {
                return Ok(());
            }
            current.cancelled = Some(reason);
            let task = current.task.as_ref().map(|task| task.clone_ref(py));
            task.filter(|_| !current.exchange.get().is_closing(py))
        };
        self.bound_clean_up(py);
        match task {
            Some(task) => task.call_method0(py, pyo3::intern!(py, "cancel")).map(drop),
            None => Ok(()),
        }
    }

    /// The client has gone: streams and safe methods are cancelled, others finish unless their route says otherwise.
    pub(super) fn disconnected(&self, py: Python<'_>) -> PyResult<()> {
        let (reading, cancel) = {
            let mut state = self.state.borrow(py);
            let reading = state.reading.take();
            let cancel = state.current.as_ref().is_some_and(|current| {
                let policy = current
                    .route
                    .as_ref()
                    .map_or(OnDisconnect::Auto, |route| route.get().on_disconnect);
                current.streaming
                    || match policy {
                        OnDisconnect::Cancel => true,
                        OnDisconnect::Finish => false,
                        OnDisconnect::Auto => current
                            .request
                            .as_ref()
                            .is_none_or(|request| request.get().is_safe()),
                    }
            });
            (reading, cancel)
        };
        if let Some(request) = reading {
            request.get().fail(py, BodyFailure::Disconnected);
            request.get().wake(py)?;
        }
        if cancel {
            self.cancel(py, Cancelled::Disconnected)
        } else {
            Ok(())
        }
    }

    /// The server forgets the connection, once it is lost and no exchange is left.
    pub(super) fn leave_server(&self, py: Python<'_>) -> PyResult<()> {
        let key = self.state.borrow(py).key.take();
        match key {
            Some(key) => self.server.get().closed(py, key),
            None => Ok(()),
        }
    }

    /// The peer's address and port.
    pub(crate) fn peer(&self, py: Python<'_>) -> PyResult<Option<(String, u16)>> {
        let Some(transport) = self.transport(py) else {
            return Ok(self.state.borrow(py).peer.clone());
        };
        let name = transport
            .bind(py)
            .call_method1("get_extra_info", ("peername",))?;
        if name.is_instance_of::<PyTuple>() && name.len()? >= 2 {
            return Ok(Some((
                name.get_item(0)?.extract()?,
                name.get_item(1)?.extract()?,
            )));
        }
        Ok(None)
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
        let written = self.state.borrow(py).written;
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
        let presence = self.descriptor(py).map_or(Presence::Here, socket::presence);
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

    /// An idle connection's time is up. It is not idle while the client still reads its last response.
    pub(super) fn end_idle(&self, py: Python<'_>) -> PyResult<()> {
        if self.consumed(py).1 > 0 {
            self.expect_consumption(py);
            let again = self.server.get().limits.keep_alive_timeout.max(1);
            let mut state = self.state.borrow(py);
            state
                .deadlines
                .set(TimerKind::KeepAlive, clock::monotonic_ms() + again);
            return Ok(());
        }
        {
            let mut state = self.state.borrow(py);
            state.core.close();
            state.closing = true;
        }
        match self.transport(py) {
            Some(transport) => transport
                .call_method0(py, pyo3::intern!(py, "close"))
                .map(drop),
            None => Ok(()),
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
        let client = match self.peer(py) {
            Ok(Some((host, port))) => format!("{host}:{port}"),
            Ok(None) | Err(_) => "-".to_owned(),
        };
        format!(
            "{}{seconds}: route {route}, {request}, client {client}: {what}",
            timeout_name(kind)
        )
    }

    /// A cancelled or closed exchange has not ended in time: the connection goes on without it.
    pub(super) fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        let message = self.describe(
            py,
            "did not clean up within 5 s; it is abandoned",
            TimerKind::CleanUp,
        );
        self.server.get().log(py, "error", &message, None);
        let (current, lost) = {
            let mut state = self.state.borrow(py);
            (state.current.take(), state.transport.is_none())
        };
        let Some(current) = current else {
            return Ok(());
        };
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

    pub(crate) fn begin_shutdown(&self, py: Python<'_>) -> PyResult<()> {
        let idle = {
            let mut state = self.state.borrow(py);
            state.core.close_after_response();
            state.current.is_none()
                && state.pending.is_empty()
                && state.core.receiving() == Receiving::Head
                && !state.closing
        };
        if !idle {
            return Ok(());
        }
        if self.consumed(py).1 == 0 {
            return self.end_idle(py);
        }
        // The client is still reading its last response.
        self.state.borrow(py).core.close();
        self.close(py)?;
        self.arm(py)
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
