//! `Server`: what all connections of a worker share. It makes their protocol objects, runs their timers and creates
//! the tasks that own exchanges.

use std::sync::Arc;

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::access::{AccessLog, Ids};
use super::cell::GilCell;
use super::clock::{self, Clock, ManualClock};
use super::errors::exception;
use super::metrics::Metrics;
use super::protocol::{Buffers, Protocol};
use super::proxies::TrustedProxies;
use super::route::{Router, Table};
use super::tls::TlsContext;
use super::trusted::TrustedPeers;
use crate::http::connection::Limits;
use crate::http::date::DateCache;
use crate::http::head::RequestHead;
use crate::timer::TimerWheel;

/// The limits of a server, from `vibora.ServerLimits`. Times in milliseconds, 0: off.
pub(crate) struct ServerLimits {
    pub(crate) head_timeout: u64,
    pub(crate) keep_alive_timeout: u64,
    /// The transport's high-water mark: bytes unsent before a response waits for its client.
    pub(crate) write_buffer: usize,
    /// Bytes of unread content or waiting requests before reading pauses.
    pub(crate) read_buffer: usize,
    /// Exchanges that may run at a time; `usize::MAX`: off.
    pub(crate) max_concurrent_requests: usize,
}

/// How long a connection whose response is complete is read, so that the response survives the close.
pub(crate) const LINGER: u64 = 2_000;
/// When a large response that closes its connection is first looked after.
pub(crate) const WATCH: u64 = 100;
/// How often a peer that is not being read is looked for.
pub(crate) const PRESENCE: u64 = 300;
/// How long a peer that has closed its half may wait for its response.
pub(crate) const HALF_CLOSE: u64 = 500;
/// How long a cancelled handler or generator may clean up.
pub(crate) const CLEAN_UP: u64 = 5_000;
/// Counts those that hold a clone of it.
#[derive(Clone, Default)]
pub(crate) struct Coming(Arc<()>);

impl Coming {
    fn count(&self) -> usize {
        // The server's own is none.
        Arc::strong_count(&self.0) - 1
    }
}

/// How long the log says no more of requests that are refused because too many run.
const QUIET: u64 = 10_000;

struct Timers {
    wheel: TimerWheel,
    /// The open connections, by their key in the wheel.
    protocols: Vec<Option<Py<Protocol>>>,
    /// The loop's timer: its handle and when it fires.
    handle: Option<Py<PyAny>>,
    armed_for: u64,
    open: usize,
    /// There are as many connections as there may be, and this has been said.
    full: bool,
    drained: Vec<Py<PyAny>>,
}

/// What coroutines are driven with on this loop.
struct Tasks {
    class: Py<PyAny>,
    /// The loop's own `create_task`, where a task factory is set: then the factory decides.
    factory: Option<Py<PyAny>>,
    keywords: Py<PyTuple>,
    enter: Py<PyAny>,
    leave: Py<PyAny>,
    /// The current task while a handler that cannot suspend runs. A real task, long done.
    stand_in: Py<PyAny>,
}

/// How far the shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    /// The next response of every connection is its last.
    LastAnswers,
    /// Idle connections are closed, too.
    Closing,
}

/// Where lines of the access log go.
pub(crate) enum Access {
    Lines(Py<AccessLog>),
    /// A function that makes records for `logging`.
    Records(Py<PyAny>),
}

/// Counts answers, and tells when there are so many.
struct Answers {
    count: u64,
    milestone: u64,
    callback: Option<Py<PyAny>>,
}

/// One worker's server.
#[pyclass(frozen, weakref, module = "vibora._core", name = "Server")]
pub(crate) struct Server {
    pub(crate) event_loop: Py<PyAny>,
    router: Py<Router>,
    /// What `request.app` is.
    pub(crate) app: Option<Py<PyAny>>,
    pub(crate) proxies: Option<Py<TrustedProxies>>,
    on_error: Py<PyAny>,
    /// Told of each exception that an exchange ends in, with the connection: for test clients.
    on_failure: Option<Py<PyAny>>,
    clock: Clock,
    /// Automatic answers are the app's business as well.
    pub(crate) intercept: bool,
    /// Who wants to know what became of responses.
    pub(crate) on_sent: Option<Py<PyAny>>,
    pub(crate) access: Option<Access>,
    pub(crate) metrics: Option<Py<Metrics>>,
    /// One of these three is there.
    pub(crate) observes: bool,
    pub(crate) ids: Ids,
    pub(crate) logger: Py<PyAny>,
    create_future: Py<PyAny>,
    /// What every exchange's context is a copy of.
    pub(crate) context: Py<PyAny>,
    pub(crate) limits: ServerLimits,
    pub(crate) http: Limits,
    tasks: Tasks,
    pub(crate) head: GilCell<RequestHead>,
    date: GilCell<DateCache>,
    /// What the running callback has encoded and not yet written. Empty between callbacks.
    pub(crate) out: GilCell<Vec<u8>>,
    /// What its connections are encrypted with, if they are.
    pub(crate) tls: Option<Py<TlsContext>>,
    pub(crate) buffers: GilCell<Buffers>,
    /// Whose connections begin with a header of the PROXY protocol.
    pub(crate) proxied: Option<TrustedPeers>,
    max_connections: usize,
    /// Connections that have a protocol object and are not open yet.
    coming: Coming,
    /// Called with whether there are as many.
    on_pressure: Option<Py<PyAny>>,
    /// When requests were last refused because too many ran, in milliseconds.
    refused: GilCell<Option<u64>>,
    timers: GilCell<Timers>,
    /// The stand-in is the current task.
    entered: GilCell<bool>,
    stage: GilCell<Stage>,
    answers: GilCell<Answers>,
    pub(crate) running: GilCell<usize>,
}

fn seconds(limits: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    let value = limits.getattr(name)?;
    let seconds: f64 = if value.is_none() {
        0.0
    } else {
        value.extract()?
    };
    Ok(if seconds > 0.0 {
        ((seconds * 1000.0) as u64).max(1)
    } else {
        0
    })
}

impl Server {
    pub(crate) fn table(&self, py: Python<'_>) -> Arc<Table> {
        self.router.get().table(py)
    }

    pub(crate) fn stage(&self, py: Python<'_>) -> Stage {
        *self.stage.borrow(py)
    }

    pub(crate) fn is_stopping(&self, py: Python<'_>) -> bool {
        self.stage(py) > Stage::Serving
    }

    /// One more response has been made.
    pub(crate) fn count_answer(&self, py: Python<'_>) {
        let mut answers = self.answers.borrow(py);
        answers.count += 1;
        if answers.count < answers.milestone {
            return;
        }
        answers.milestone = u64::MAX;
        let callback = answers.callback.take();
        drop(answers);
        if let Some(callback) = callback {
            if let Err(error) = self.call_soon(py, callback.bind(py)) {
                error.write_unraisable(py, Some(callback.bind(py)));
            }
        }
    }

    pub(crate) fn new_future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.create_future.bind(py).call0()
    }

    /// The time of the deadlines, in milliseconds.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    pub(crate) fn date(&self, py: Python<'_>) -> [u8; 29] {
        *self.date.borrow(py).at(clock::unix_seconds())
    }

    /// Asks Python for the response to an error.
    pub(crate) fn error_response<'py>(
        &self,
        py: Python<'py>,
        request: Option<&Py<super::request::Request>>,
        error: &PyErr,
        route: Option<&Py<super::route::Route>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.on_error
            .bind(py)
            .call1((request, exception(py, error), route))
    }

    /// Tells whoever wants to know that an exchange has failed with an exception that nobody has answered for.
    pub(crate) fn tell_failure(&self, py: Python<'_>, protocol: &Py<Protocol>, error: &PyErr) {
        let Some(on_failure) = &self.on_failure else {
            return;
        };
        if let Err(error) = on_failure.bind(py).call1((protocol, exception(py, error))) {
            error.write_unraisable(py, Some(on_failure.bind(py)));
        }
    }

    /// A copy of the server's context, for one exchange.
    pub(crate) fn new_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: `context` is a context object; the result is a new reference or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_Copy(self.context.as_ptr())) }
    }

    /// Creates the task that owns an exchange. On Python 3.12 and newer it runs until it suspends before this returns.
    pub(crate) fn create_task<'py>(
        &self,
        py: Python<'py>,
        coroutine: &Bound<'py, PyAny>,
        name: &Py<PyString>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(factory) = &self.tasks.factory {
            let keywords = PyDict::new(py);
            keywords.set_item("name", name)?;
            keywords.set_item("context", context)?;
            return factory.bind(py).call((coroutine,), Some(&keywords));
        }
        let eager = true.into_pyobject(py)?;
        let arguments = [
            coroutine.as_ptr(),
            self.event_loop.as_ptr(),
            name.as_ptr(),
            context.as_ptr(),
            eager.as_ptr(),
        ];
        // SAFETY: the array holds one positional argument and as many keyword arguments as `keywords` has names (the
        // last, `eager_start`, only where it is named); all are alive through the call. The result is a new reference
        // or null with an exception set.
        unsafe {
            let task = ffi::PyObject_Vectorcall(
                self.tasks.class.as_ptr(),
                arguments.as_ptr(),
                1,
                self.tasks.keywords.as_ptr(),
            );
            Bound::from_owned_ptr_or_err(py, task)
        }
    }

    /// Makes the stand-in the current task, unless it is, or another task is.
    pub(crate) fn enter(&self, py: Python<'_>) {
        if !*self.entered.borrow(py) {
            let entered = self
                .tasks
                .enter
                .bind(py)
                .call1((&self.event_loop, &self.tasks.stand_in))
                .is_ok();
            *self.entered.borrow(py) = entered;
        }
    }

    /// Undoes `enter`.
    pub(crate) fn leave(&self, py: Python<'_>) -> PyResult<()> {
        if std::mem::take(&mut *self.entered.borrow(py)) {
            self.tasks
                .leave
                .bind(py)
                .call1((&self.event_loop, &self.tasks.stand_in))?;
        }
        Ok(())
    }

    pub(crate) fn call_soon(&self, py: Python<'_>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        let keywords = PyDict::new(py);
        keywords.set_item("context", &self.context)?;
        self.event_loop
            .bind(py)
            .call_method("call_soon", (callback,), Some(&keywords))
            .map(drop)
    }

    /// Raises a request to exit out of the loop, in a turn of its own: not every loop lets it out of a protocol's
    /// callback.
    pub(crate) fn exit(&self, py: Python<'_>, request: &PyErr) -> PyResult<()> {
        let exit = py.import("vibora._driving")?.getattr("exit_with")?;
        self.event_loop
            .bind(py)
            .call_method1("call_soon", (exit, exception(py, request)))
            .map(drop)
    }

    /// Logs to `vibora`, at the level that `level` names.
    pub(crate) fn log(&self, py: Python<'_>, level: &str, message: &str, error: Option<&PyErr>) {
        let logged = (|| {
            let keywords = PyDict::new(py);
            if let Some(error) = error {
                keywords.set_item("exc_info", exception(py, error))?;
            }
            self.logger
                .bind(py)
                .call_method(level, ("%s", message), Some(&keywords))
                .map(drop)
        })();
        if let Err(error) = logged {
            error.write_unraisable(py, Some(self.logger.bind(py)));
        }
    }

    // ---- connections and their timers

    pub(crate) fn open(&self, py: Python<'_>, protocol: Py<Protocol>) -> u32 {
        let mut timers = self.timers.borrow(py);
        let key = timers.wheel.register();
        let at = key as usize;
        if timers.protocols.len() <= at {
            timers.protocols.resize_with(at + 1, || None);
        }
        if let Some(slot) = timers.protocols.get_mut(at) {
            *slot = Some(protocol);
        }
        timers.open += 1;
        if let Some(metrics) = &self.metrics {
            metrics.get().set_connections(timers.open);
        }
        key
    }

    /// Whether so many exchanges run that another one is refused. Said in the log now and then.
    pub(crate) fn is_overloaded(&self, py: Python<'_>) -> bool {
        let limit = self.limits.max_concurrent_requests;
        if *self.running.borrow(py) < limit {
            return false;
        }
        let now = self.now();
        let last = *self.refused.borrow(py);
        if last.is_none_or(|last| now - last > QUIET) {
            *self.refused.borrow(py) = Some(now);
            let message = format!(
                "max_concurrent_requests ({limit}) are running: further requests are answered with 503"
            );
            self.log(py, "warning", &message, None);
        }
        true
    }

    /// The connection is gone and its exchange has ended.
    pub(crate) fn closed(&self, py: Python<'_>, key: u32) -> PyResult<()> {
        let (protocol, handle, waiters, room) = {
            let mut timers = self.timers.borrow(py);
            let Some(protocol) = timers
                .protocols
                .get_mut(key as usize)
                .and_then(Option::take)
            else {
                return Ok(());
            };
            timers.wheel.release(key);
            timers.open -= 1;
            let room = timers.full && timers.open + self.coming.count() < self.max_connections;
            timers.full &= !room;
            if let Some(metrics) = &self.metrics {
                metrics.get().set_connections(timers.open);
            }
            if timers.open > 0 {
                (protocol, None, Vec::new(), room)
            } else {
                timers.armed_for = u64::MAX;
                (
                    protocol,
                    timers.handle.take(),
                    std::mem::take(&mut timers.drained),
                    room,
                )
            }
        };
        drop(protocol);
        if let (true, Some(on_pressure)) = (room, &self.on_pressure) {
            on_pressure.call1(py, (false,))?;
        }
        if let Some(handle) = handle {
            handle.bind(py).call_method0("cancel")?;
        }
        for waiter in waiters {
            settle(waiter.bind(py))?;
        }
        Ok(())
    }

    /// The connection's earliest deadline has moved forward.
    pub(crate) fn schedule(slf: &Bound<'_, Self>, key: u32, deadline: u64) -> PyResult<()> {
        slf.get()
            .timers
            .borrow(slf.py())
            .wheel
            .schedule(key, deadline);
        Self::arm(slf)
    }

    /// Sees to it that the loop's timer fires when the wheel needs it, if at all.
    fn arm(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if matches!(this.clock, Clock::Manual(_)) {
            return Ok(()); // whoever moves the clock calls `tick`
        }
        let (wakeup, old) = {
            let mut timers = this.timers.borrow(py);
            match timers.wheel.next_wakeup() {
                Some(wakeup) if wakeup < timers.armed_for => {
                    timers.armed_for = wakeup;
                    (wakeup, timers.handle.take())
                }
                Some(_) | None => return Ok(()),
            }
        };
        if let Some(old) = old {
            old.bind(py).call_method0("cancel")?;
        }
        // One millisecond more than the coarse clock may lag, so that the timer does not fire into the past.
        let delay = (wakeup.saturating_sub(this.now()) + 5) as f64 / 1000.0;
        let tick = slf.getattr(pyo3::intern!(py, "tick"))?;
        let handle = this
            .event_loop
            .bind(py)
            .call_method1(pyo3::intern!(py, "call_later"), (delay, tick))?;
        this.timers.borrow(py).handle = Some(handle.unbind());
        Ok(())
    }

    fn open_protocols(&self, py: Python<'_>) -> Vec<Py<Protocol>> {
        self.timers
            .borrow(py)
            .protocols
            .iter()
            .flatten()
            .map(|protocol| protocol.clone_ref(py))
            .collect()
    }
}

/// Completes a future unless somebody has cancelled it.
pub(crate) fn settle(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future
        .call_method0(pyo3::intern!(py, "done"))?
        .is_truthy()?
    {
        future.call_method1(pyo3::intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}

#[pymethods]
impl Server {
    #[new]
    #[allow(
        clippy::too_many_arguments,
        reason = "named ones, where Python calls it"
    )]
    #[pyo3(signature = (
        event_loop, router, *, on_error, limits, logger, app=None, proxies=None, on_failure=None, clock=None,
        intercept=false, on_sent=None, tls=None, proxy_protocol=None, max_connections=0, on_pressure=None,
        access=None, metrics=None
    ))]
    fn new(
        py: Python<'_>,
        event_loop: Bound<'_, PyAny>,
        router: Py<Router>,
        on_error: Py<PyAny>,
        limits: &Bound<'_, PyAny>,
        logger: Py<PyAny>,
        app: Option<Py<PyAny>>,
        proxies: Option<Py<TrustedProxies>>,
        on_failure: Option<Py<PyAny>>,
        clock: Option<Py<ManualClock>>,
        intercept: bool,
        on_sent: Option<Py<PyAny>>,
        tls: Option<Py<TlsContext>>,
        proxy_protocol: Option<&Bound<'_, PyAny>>,
        max_connections: usize,
        on_pressure: Option<Py<PyAny>>,
        access: Option<Bound<'_, PyAny>>,
        metrics: Option<Py<Metrics>>,
    ) -> PyResult<Self> {
        let clock = clock.map_or(Clock::System, Clock::Manual);
        let asyncio = py.import("asyncio")?;
        let eager = py.version_info() >= (3, 12);
        let factory = event_loop.call_method0("get_task_factory")?;
        let factory = if factory.is_none() {
            None
        } else {
            Some(event_loop.getattr("create_task")?.unbind())
        };
        let names: &[&str] = if eager {
            &["loop", "name", "context", "eager_start"]
        } else {
            &["loop", "name", "context"]
        };
        let keywords = PyDict::new(py);
        keywords.set_item("loop", &event_loop)?;
        keywords.set_item("name", "vibora")?;
        let coroutine = py.import("vibora._driving")?.call_method0("stand_in")?;
        let stand_in = asyncio
            .getattr("Task")?
            .call((coroutine,), Some(&keywords))?;
        // SAFETY: the result is a new reference or null with an exception set.
        let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
        let mut http = Limits::default();
        http.head.max_request_line = limits.getattr("max_request_line")?.extract()?;
        http.head.max_head = limits.getattr("max_headers_size")?.extract()?;
        http.head.max_fields = limits.getattr("max_header_fields")?.extract()?;
        Ok(Self {
            create_future: event_loop.getattr("create_future")?.unbind(),
            event_loop: event_loop.unbind(),
            router,
            app,
            proxies,
            on_error,
            on_failure,
            intercept,
            observes: on_sent.is_some() || access.is_some() || metrics.is_some(),
            on_sent,
            access: access.map(|access| match access.cast_into::<AccessLog>() {
                Ok(lines) => Access::Lines(lines.unbind()),
                Err(other) => Access::Records(other.into_inner().unbind()),
            }),
            metrics,
            ids: Ids::new(),
            logger,
            context: context.unbind(),
            limits: ServerLimits {
                head_timeout: seconds(limits, "head_timeout")?,
                keep_alive_timeout: seconds(limits, "keep_alive_timeout")?,
                write_buffer: limits.getattr("write_buffer")?.extract()?,
                read_buffer: limits.getattr("read_buffer")?.extract()?,
                max_concurrent_requests: limits
                    .getattr("max_concurrent_requests")?
                    .extract::<Option<usize>>()?
                    .unwrap_or(usize::MAX),
            },
            http,
            tasks: Tasks {
                class: asyncio.getattr("Task")?.unbind(),
                factory,
                keywords: PyTuple::new(py, names)?.unbind(),
                enter: py.import("asyncio.tasks")?.getattr("_enter_task")?.unbind(),
                leave: py.import("asyncio.tasks")?.getattr("_leave_task")?.unbind(),
                stand_in: stand_in.unbind(),
            },
            head: GilCell::default(),
            date: GilCell::new(DateCache::new()),
            out: GilCell::default(),
            tls,
            buffers: GilCell::default(),
            max_connections: if max_connections == 0 {
                usize::MAX
            } else {
                max_connections
            },
            coming: Coming::default(),
            on_pressure,
            refused: GilCell::new(None),
            proxied: proxy_protocol.map(TrustedPeers::new).transpose()?,
            timers: GilCell::new(Timers {
                wheel: TimerWheel::new(clock.now()),
                protocols: Vec::new(),
                handle: None,
                armed_for: u64::MAX,
                open: 0,
                full: false,
                drained: Vec::new(),
            }),
            clock,
            entered: GilCell::new(false),
            stage: GilCell::new(Stage::Serving),
            answers: GilCell::new(Answers {
                count: 0,
                milestone: u64::MAX,
                callback: None,
            }),
            running: GilCell::new(0),
        })
    }

    /// A protocol object for a new connection: the factory for `loop.create_server`.
    fn protocol(slf: &Bound<'_, Self>) -> PyResult<Protocol> {
        let py = slf.py();
        let this = slf.get();
        let coming = this.coming.clone();
        let filled = {
            let mut timers = this.timers.borrow(py);
            let filled = timers.open + coming.count() >= this.max_connections && !timers.full;
            timers.full |= filled;
            filled
        };
        if let (true, Some(on_pressure)) = (filled, &this.on_pressure) {
            on_pressure.call1(py, (true,))?;
        }
        Ok(Protocol::new(slf.clone().unbind(), coming))
    }

    /// Connections that are open, or whose handler still runs.
    #[getter]
    fn connections(&self, py: Python<'_>) -> usize {
        self.timers.borrow(py).open
    }

    /// Exchanges whose handler or stream is running in a task.
    #[getter]
    fn exchanges(&self, py: Python<'_>) -> usize {
        *self.running.borrow(py)
    }

    /// Responses that have been made.
    #[getter]
    fn requests(&self, py: Python<'_>) -> u64 {
        self.answers.borrow(py).count
    }

    /// Whether the shutdown has begun.
    #[getter]
    fn stopping(&self, py: Python<'_>) -> bool {
        self.is_stopping(py)
    }

    /// Has a callback called, once, when so many responses have been made.
    fn call_at(&self, py: Python<'_>, requests: u64, callback: Py<PyAny>) {
        let mut answers = self.answers.borrow(py);
        answers.milestone = requests;
        answers.callback = Some(callback);
    }

    /// Makes the next response of every connection its last, which says `connection: close`.
    fn begin_shutdown(&self, py: Python<'_>) {
        *self.stage.borrow(py) = Stage::LastAnswers;
        for protocol in self.open_protocols(py) {
            protocol.get().begin_shutdown(py);
        }
    }

    /// Closes the connections that are idle, now and as they come to be.
    fn close_idle(&self, py: Python<'_>) -> PyResult<()> {
        *self.stage.borrow(py) = Stage::Closing;
        for protocol in self.open_protocols(py) {
            protocol.get().close_if_idle(py)?;
        }
        Ok(())
    }

    /// A future that is done when no connection is left.
    fn drained<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.new_future(py)?;
        if self.timers.borrow(py).open == 0 {
            settle(&future)?;
        } else {
            self.timers.borrow(py).drained.push(future.clone().unbind());
        }
        Ok(future)
    }

    /// Cancels all handlers and streams that run. Returns how many.
    fn cancel_exchanges(&self, py: Python<'_>) -> PyResult<usize> {
        let mut cancelled = 0;
        for protocol in self.open_protocols(py) {
            cancelled += usize::from(protocol.get().cancel_for_shutdown(py)?);
        }
        Ok(cancelled)
    }

    /// Resets all connections. Returns how many.
    fn abort_connections(&self, py: Python<'_>) -> PyResult<usize> {
        let mut aborted = 0;
        for protocol in self.open_protocols(py) {
            aborted += usize::from(protocol.get().abort_for_shutdown(py)?);
        }
        Ok(aborted)
    }

    // An app knows its servers, and `on_error` may know the app.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.app)?;
        visit.call(&self.on_error)?;
        if let Some(Access::Records(function)) = &self.access {
            visit.call(function)?;
        }
        visit.call(&self.on_failure)?;
        visit.call(&self.on_pressure)
    }

    /// Sees to the deadlines that have passed: the loop's timer has fired, or a manual clock was moved.
    fn tick(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let now = this.now();
        let due: Vec<Py<Protocol>> = {
            let mut timers = this.timers.borrow(py);
            timers.handle = None;
            timers.armed_for = u64::MAX;
            let mut fired = Vec::new();
            timers.wheel.expire(now, &mut fired);
            fired
                .iter()
                .filter_map(|key| {
                    timers
                        .protocols
                        .get(*key as usize)?
                        .as_ref()
                        .map(|protocol| protocol.clone_ref(py))
                })
                .collect()
        };
        for protocol in due {
            Protocol::timer_fired(protocol.bind(py), now)?;
        }
        Self::arm(slf)
    }

    /// The earliest deadline of all connections, in milliseconds of the server's clock.
    fn next_deadline(&self, py: Python<'_>) -> Option<u64> {
        let timers = self.timers.borrow(py);
        (0u32..)
            .zip(&timers.protocols)
            .filter_map(|(key, _)| timers.wheel.deadline(key))
            .min()
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!(
            "<Server connections={} exchanges={}>",
            self.connections(py),
            self.exchanges(py)
        )
    }
}
