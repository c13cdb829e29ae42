//! `Protocol`: one connection, as an `asyncio.Protocol` for any loop's transport.
//!
//! The loop hands it bytes; it asks [`Connection`] what they mean, routes requests, drives handlers, and writes what
//! they answer, once per batch. A handler that cannot suspend is run right here; any other gets an [`Exchange`] in a
//! task of its own, and the connection waits for it: one exchange at a time, responses in order.

mod driving;
mod ending;
mod ingress;
mod outcome;
mod receiving;
mod sending;
mod timing;

use std::mem;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::http::connection::{Connection, Receiving};
use crate::http::deadlines::{Deadlines, TimerKind, Unconsumed, UploadPace};
use crate::py::cell::GilCell;
use crate::py::errors::panicked;
use crate::py::exchange::Exchange;
use crate::py::request::Request;
use crate::py::route::Route;
use crate::py::server::{Coming, HALF_CLOSE, Server, Stage, settle};
use crate::py::socket;

use ingress::Ingress;

pub(crate) use driving::{exit_request, not_a_response};
pub(crate) use ingress::Buffers;
pub(crate) use outcome::Outcome;

/// Content of at least this many bytes is written without being copied behind its head.
const LARGE: usize = 64 * 1024;
/// A chunk of a stream of at least this many bytes is written without being copied into a buffer.
pub(crate) const LARGE_CHUNK: usize = 16 * 1024;
/// A close after content of at least this many bytes is watched until the client has consumed it. Less than this is left
/// to the kernel, which gives up on it by itself.
const WATCHED: usize = 16 * 1024;
/// What the kernel may hold unsent of a stream.
const UNSENT: u32 = 128 * 1024;

/// The route's timeout where no route is known: the default of `RouteLimits.timeout`.
const DEFAULT_TIMEOUT: u64 = 30_000;

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

#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts; what depends on each other is in `core`"
)]
struct State {
    core: Connection,
    transport: Option<Py<PyAny>>,
    write: Option<Py<PyAny>>,
    /// Held until the connection is open.
    coming: Option<Coming>,
    /// What stands between the transport and HTTP: PROXY protocol, TLS.
    ingress: Option<Box<Ingress>>,
    /// The certificate that the client has shown, in DER.
    certificate: Option<Py<PyBytes>>,
    fd: Option<i32>,
    /// What is sent past the transport goes where its next write would.
    direct: bool,
    /// It was looked whether it does.
    settled: bool,
    /// The transport was handed bytes, which it may still hold.
    queued: bool,
    /// The system may keep back the end of what was sent last.
    held_back: bool,
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
    /// The route of the latest request, and the beginning of its request line, for the log.
    route: Option<Py<Route>>,
    line: Vec<u8>,
    /// Milliseconds in which the client has to consume a response that is not a stream; 0: off.
    response_timeout: u64,
    /// `chunk_timeout` and `complete_timeout` of the latest stream, in milliseconds.
    stream_timeouts: (u64, u64),
    key: Option<u32>,
    /// Who is at the other end, once somebody has asked, or a proxy has told. Outlives the connection.
    caller: Option<Arc<Caller>>,
    /// The peer has sent its last byte.
    eof: bool,
    /// The peer has been silent for so long after its last byte that it counts as gone.
    gone: bool,
    /// How often in a row deadlines were put off because the loop was late.
    forgiven: u8,
    /// The transport has been told to close.
    closing: bool,
    /// The latest response is so large that its way to the client is watched when the connection closes.
    large: bool,
    stream_bounded: bool,
    /// The exchange whose end somebody wants to know, and those that have ended and are not out.
    watched: Option<Box<outcome::Watched>>,
    sent: Vec<outcome::Watched>,
    /// The client did not consume in time.
    cut: bool,
    /// The transport has been aborted.
    aborted: bool,
}

/// One connection.
#[pyclass(frozen, weakref, module = "vibora._core", name = "Protocol")]
pub(crate) struct Protocol {
    pub(crate) server: Py<Server>,
    state: GilCell<State>,
}

/// Who is at the other end of a connection.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    /// Address and port; `None` on a unix socket.
    pub(crate) address: Option<(String, u16)>,
    pub(crate) unix_socket: bool,
    /// The connection is encrypted.
    pub(crate) secure: bool,
}

impl Caller {
    /// The address, without the zone that a link-local one has (`fe80::1%eth0`).
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        let (address, _) = self.address.as_ref()?;
        address.split('%').next()?.parse().ok()
    }
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
        TimerKind::Presence => "presence",
    }
}

impl Protocol {
    pub(crate) fn new(server: Py<Server>, coming: Coming) -> Self {
        Self {
            server,
            state: GilCell::new(State {
                core: Connection::new(),
                transport: None,
                write: None,
                coming: Some(coming),
                ingress: None,
                certificate: None,
                fd: None,
                direct: false,
                settled: false,
                queued: false,
                held_back: false,
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
                route: None,
                line: Vec::new(),
                response_timeout: DEFAULT_TIMEOUT,
                stream_timeouts: (0, 0),
                key: None,
                caller: None,
                eof: false,
                gone: false,
                forgiven: 0,
                closing: false,
                large: false,
                stream_bounded: false,
                watched: None,
                sent: Vec::new(),
                cut: false,
                aborted: false,
            }),
        }
    }

    /// The transport, while the connection lives.
    fn transport(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state
            .borrow(py)
            .transport
            .as_ref()
            .map(|transport| transport.clone_ref(py))
    }

    /// The socket's descriptor, looked up once.
    fn descriptor(&self, py: Python<'_>) -> Option<i32> {
        let known = self.state.borrow(py).fd;
        if known.is_some() {
            return known;
        }
        let found = self
            .transport(py)
            .and_then(|transport| socket::descriptor(transport.bind(py)));
        self.state.borrow(py).fd = found;
        found
    }

    /// Runs a callback of the loop. An error or a panic in it is ours: it is logged and ends this connection only. A
    /// request to exit, from a handler that ran in the callback, is passed on.
    fn guarded(slf: &Bound<'_, Self>, work: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let failure = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(panic) => panicked(panic.as_ref()),
        };
        let server = this.server.get();
        server.out.borrow(py).clear();
        this.state.borrow(py).busy = false;
        server.leave(py)?;
        if exit_request(py, &failure).is_err() {
            server.exit(py, &failure)?;
        } else {
            server.log(
                py,
                "error",
                "internal error; the connection is reset",
                Some(&failure),
            );
        }
        this.abort(py);
        this.cancel(py, Cancelled::Aborted)
    }

    /// The peer has sent its last byte: it has closed its half, or has said so by TLS. A response that is complete within
    /// half a second still reaches it; then it counts as gone.
    fn finished(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let lingering = {
            let mut state = this.state.borrow(py);
            let again = mem::replace(&mut state.eof, true);
            let transport = state.transport.as_ref().filter(|_| state.closing);
            if again && transport.is_none() {
                return Ok(());
            }
            transport.map(|transport| transport.clone_ref(py))
        };
        if let Some(transport) = lingering {
            // Both have said their last: there is nothing to linger for (RFC 9112 §9.6).
            return transport
                .call_method0(py, pyo3::intern!(py, "close"))
                .map(drop);
        }
        let due = {
            let state = this.state.borrow(py);
            state.current.is_none() && !state.pending.is_empty()
        };
        if due {
            // A request whose turn has come, and not its callback, is no cut one.
            Self::pump(slf, b"", None)?;
        }
        let (cut, waiting) = {
            let mut state = this.state.borrow(py);
            let idle = state.current.is_none();
            let partial = idle && !state.pending.is_empty() && !state.writing_paused;
            let cut = if idle && !partial && !state.pending.is_empty() {
                false // requests that wait for the client to read
            } else {
                match state.core.receiving() {
                    Receiving::Done => false,
                    _ => state.core.receive_eof(partial).is_err(),
                }
            };
            let waiting = !cut && (!idle || !state.pending.is_empty());
            if waiting {
                let deadline = this.server.get().now() + HALF_CLOSE;
                state.deadlines.set(TimerKind::HalfClose, deadline);
            }
            (cut, waiting)
        };
        if cut {
            // A request was cut: its handler learns of it, and nobody waits for the answer.
            this.disconnected(py)?;
        }
        if !waiting {
            this.state.borrow(py).core.close();
            this.close(py)?;
        }
        this.arm(py)
    }
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
            let reached = server.stage(py);
            {
                let mut state = this.state.borrow(py);
                state.transport = Some(transport.clone().unbind());
                state.write = Some(write);
                state.coming = None;
                state.key = Some(key);
                if server.limits.head_timeout > 0 {
                    state
                        .deadlines
                        .set(TimerKind::Head, server.now() + server.limits.head_timeout);
                }
            }
            if server.tls.is_some() || server.proxied.is_some() {
                let ingress = Ingress::new(py, server, &*this.caller(py)?)
                    .map_err(|error| PyRuntimeError::new_err(format!("tls: {error}")))?;
                this.state.borrow(py).ingress = ingress;
            }
            if reached >= Stage::LastAnswers {
                this.begin_shutdown(py);
            }
            if reached >= Stage::Closing {
                return this.close_if_idle(py);
            }
            this.arm(py)
        })
    }

    fn data_received(slf: &Bound<'_, Self>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        Self::guarded(slf, || {
            let has_ingress = slf.get().state.borrow(slf.py()).ingress.is_some();
            if has_ingress {
                Self::admit(slf, data)
            } else {
                Self::pump(slf, data.as_bytes(), Some(data))
            }
        })
    }

    /// Pipelined requests that waited for their turn.
    fn _proceed(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::guarded(slf, || Self::pump(slf, b"", None))
    }

    fn eof_received(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::guarded(slf, || Self::finished(slf))?;
        // The transport is closed by us, when there is nothing left to send.
        Ok(true)
    }

    fn connection_lost(slf: &Bound<'_, Self>, _error: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::guarded(slf, || {
            let py = slf.py();
            let this = slf.get();
            if this.state.borrow(py).current.is_some() {
                this.caller(py)?;
            }
            let (transport, write, drain) = {
                let mut state = this.state.borrow(py);
                state.core.close();
                state.closing = true;
                state.fd = None;
                state.direct = false;
                state.ingress = None;
                state.pending = Vec::new();
                state.pace = None;
                state.chunks.clear();
                state.responses.clear();
                let route = state.deadlines.get(TimerKind::Route);
                let clean_up = state.deadlines.get(TimerKind::CleanUp);
                state.deadlines.clear_all();
                for (kind, deadline) in [(TimerKind::Route, route), (TimerKind::CleanUp, clean_up)]
                {
                    if let Some(deadline) = deadline {
                        state.deadlines.set(kind, deadline);
                    }
                }
                (
                    state.transport.take(),
                    state.write.take(),
                    state.drain.take(),
                )
            };
            drop((transport, write));
            this.disconnected(py)?;
            if let Some(drain) = drain {
                settle(drain.bind(py))?;
            }
            this.report(py)?;
            if this.state.borrow(py).current.is_none() {
                return this.leave_server(py);
            }
            this.arm(py)
        })
    }

    /// Panics, as a defect of the core would: for the test that this ends one connection and nothing else.
    fn _panic(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::guarded(slf, || panic!("as the test asked"))
    }

    fn pause_writing(slf: &Bound<'_, Self>) {
        slf.get().state.borrow(slf.py()).writing_paused = true;
    }

    fn resume_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::guarded(slf, || {
            let py = slf.py();
            let this = slf.get();
            this.state.borrow(py).writing_paused = false;
            this.send_backlog(py)?;
            let (drain, proceed) = {
                let mut state = this.state.borrow(py);
                if state.writing_paused {
                    return Ok(()); // the client has to read what was encrypted meanwhile
                }
                let proceed = state.current.is_none() && !state.pending.is_empty();
                (state.drain.take(), proceed)
            };
            this.report(py)?;
            if let Some(drain) = drain {
                settle(drain.bind(py))?;
            }
            if proceed {
                return this
                    .server
                    .get()
                    .call_soon(py, &slf.getattr(pyo3::intern!(py, "_proceed"))?);
            }
            Ok(())
        })
    }
}
