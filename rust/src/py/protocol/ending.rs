//! How connections and exchanges end: after the last response, by a disconnect, by a reset, at the shutdown.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use super::{Caller, Cancelled, Protocol};
use crate::http::connection::Receiving;
use crate::http::deadlines::TimerKind;
use crate::py::content::BodyFailure;
use crate::py::route::OnDisconnect;
use crate::py::server::{CLEAN_UP, LINGER, WATCH};
use crate::py::socket;

impl Protocol {
    /// After a callback's work: writes, closes if the last response is out, decides about reading, arms the timers.
    pub(super) fn settle(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let limits = &this.server.get().limits;
        this.flush(py)?;
        this.report(py)?;
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
                state.await_request(limits, this.server.get().now());
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

    /// Closes after the last response: flushes, and lingers where the peer may still be sending.
    pub(super) fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(transport) = self.transport(py) else {
            return Ok(());
        };
        if self.closes_later(py) {
            self.expect_consumption(py);
            return Ok(());
        }
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
        self.farewell(py)?;
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
                    .set(TimerKind::Linger, self.server.get().now() + patience);
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
            state.aborted = true;
            state.pending = Vec::new();
            state.ingress = None;
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
            let deadline = self.server.get().now() + CLEAN_UP;
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

    /// Who is at the other end: asked of the transport once.
    pub(crate) fn caller(&self, py: Python<'_>) -> PyResult<Arc<Caller>> {
        let known = self.state.borrow(py).caller.clone();
        if let Some(caller) = known {
            return Ok(caller);
        }
        let Some(transport) = self.transport(py) else {
            return Ok(Arc::default());
        };
        let extra_info = pyo3::intern!(py, "get_extra_info");
        let transport = transport.bind(py);
        let name = transport.call_method1(extra_info, (pyo3::intern!(py, "peername"),))?;
        let tls = transport.call_method1(extra_info, (pyo3::intern!(py, "sslcontext"),))?;
        let is_address = name.is_instance_of::<PyTuple>() && name.len()? >= 2;
        let caller = Arc::new(Caller {
            address: if is_address {
                Some((name.get_item(0)?.extract()?, name.get_item(1)?.extract()?))
            } else {
                None
            },
            // The name of a unix socket is a path, and empty for nearly every client.
            unix_socket: name.is_instance_of::<PyString>() || name.is_instance_of::<PyBytes>(),
            secure: !tls.is_none() || self.server.get().tls.is_some(),
        });
        self.state.borrow(py).caller = Some(caller.clone());
        Ok(caller)
    }

    /// The address and port that the client has connected to.
    pub(crate) fn local_address(&self, py: Python<'_>) -> PyResult<Option<(String, u16)>> {
        let Some(transport) = self.transport(py) else {
            return Ok(None);
        };
        let name = transport
            .bind(py)
            .call_method1("get_extra_info", ("sockname",))?;
        if name.is_instance_of::<PyTuple>() && name.len()? >= 2 {
            return Ok(Some((
                name.get_item(0)?.extract()?,
                name.get_item(1)?.extract()?,
            )));
        }
        Ok(None)
    }

    /// An idle connection's time is up. It is not idle while the client still reads its last response.
    pub(super) fn end_idle(&self, py: Python<'_>) -> PyResult<()> {
        if self.consumed(py).1 > 0 {
            self.expect_consumption(py);
            let again = self.server.get().limits.keep_alive_timeout.max(1);
            let mut state = self.state.borrow(py);
            state
                .deadlines
                .set(TimerKind::KeepAlive, self.server.get().now() + again);
            return Ok(());
        }
        {
            let mut state = self.state.borrow(py);
            state.core.close();
            state.closing = true;
        }
        self.farewell(py)?;
        match self.transport(py) {
            Some(transport) => transport
                .call_method0(py, pyo3::intern!(py, "close"))
                .map(drop),
            None => Ok(()),
        }
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
        self.watch_exchange_end(py, current.cancelled);
        current.exchange.get().abandon(py);
        if let Some(request) = &current.request {
            request.get().release(py);
        }
        if let Some(task) = current.task {
            task.call_method0(py, pyo3::intern!(py, "cancel"))?;
        }
        if lost {
            self.report(py)?;
            return self.leave_server(py);
        }
        self.abort(py);
        self.report(py)
    }

    /// Makes the current response, or the next, the last.
    pub(crate) fn begin_shutdown(&self, py: Python<'_>) {
        self.state.borrow(py).core.close_after_response();
    }

    /// Closes the connection if no request of it is being received or answered.
    pub(crate) fn close_if_idle(&self, py: Python<'_>) -> PyResult<()> {
        let idle = {
            let mut state = self.state.borrow(py);
            state.core.close_after_response();
            state.current.is_none()
                && state.pending.is_empty()
                && state.core.receiving() == Receiving::Head
                && !state.closing
        };
        // What is here and not read yet is a request: it is still answered.
        if !idle || self.descriptor(py).is_some_and(socket::has_unread) {
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
