//! The stream of an exchange: where chunks come from, when the client has to read first, and how the generator is
//! closed on every path.

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use super::{Exchange, Polled, Resume, Stage, poll};
use crate::http::connection::Outgoing;
use crate::py::errors::is_cancelled;
use crate::py::generator::{self, Resumed};
use crate::py::headers::type_name;
use crate::py::protocol::{Cancelled, LARGE_CHUNK, exit_request};
use crate::py::response::{Fields, Response, StreamingResponse};
use crate::py::slots::{self, awaited};

/// A stream's chunks are written when they add up to this much, even if its generator goes on without suspending.
const FLUSH_AT: usize = 64 * 1024;
/// A generator that never suspends lets the loop go on after this many bytes.
const FAIR_SHARE: usize = 512 * 1024;

/// Where chunks come from.
struct Source {
    kind: SourceKind,
    iterator: Py<PyAny>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SourceKind {
    /// An async iterator, of which nothing else is known yet.
    Async,
    /// An async iterator that is asked by `__anext__`.
    Iterator,
    /// An async generator that is resumed without its `__anext__`.
    Generator,
    /// A list's or tuple's iterator: never blocks.
    Inline,
    /// A `vibora._threaded.ThreadedIterator`.
    Threaded,
}

/// How a stream must end once its generator is closed.
pub(super) enum Ending {
    /// The generator is exhausted: the terminator may be sent.
    Finish,
    /// Something went wrong, or the client is gone: no clean end may be seen.
    Abort,
}

pub(super) struct Streaming {
    pub(super) response: Py<Response>,
    source: Option<Source>,
    /// The source has given something.
    begun: bool,
    pub(super) head_sent: bool,
    pub(super) chunk_timeout: u64,
    pub(super) complete_timeout: u64,
    /// Bytes encoded since the loop last had its turn.
    pub(super) share: usize,
    /// The generator has raised before its first chunk, and has yet to be closed.
    pub(super) failed: bool,
}

impl Exchange {
    /// Runs `work` on the stream's state.
    pub(super) fn streaming<T>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Streaming) -> T,
    ) -> PyResult<T> {
        self.inner
            .borrow(py)
            .streaming
            .as_mut()
            .map(work)
            .ok_or_else(|| PyRuntimeError::new_err("the exchange has no stream"))
    }

    pub(super) fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let chunk_timeout = self.streaming(py, |streaming| streaming.chunk_timeout)?;
        self.protocol.get().flush_chunks(py, chunk_timeout)
    }

    /// The loop has had its turn.
    pub(super) fn rested(&self, py: Python<'_>) {
        if let Some(streaming) = &mut self.inner.borrow(py).streaming {
            streaming.share = 0;
        }
    }

    /// Asks for the next chunk, unless the client has to read first. Returns what to wait for.
    pub(super) fn pull(slf: &Bound<'_, Self>, inline: bool) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        let protocol = this.protocol.get();
        let (source, share) = this.streaming(py, |streaming| {
            streaming.judge(py);
            let source = streaming.source.as_ref();
            let source = source.map(|source| (source.kind, source.iterator.bind(py).clone()));
            (source, streaming.share)
        })?;
        let Some((kind, iterator)) = source else {
            match Self::open_stream(slf, inline) {
                Ok(true) => this.put_stage(py, Stage::Pull),
                Ok(false) => {}
                Err(error) => Self::stream_failed(slf, error)?,
            }
            return Ok(None);
        };
        let mut outlet = protocol.outlet(py);
        if outlet.cancelled {
            Self::close_stream(slf)?;
            return Ok(None);
        }
        if outlet.encoded >= FLUSH_AT {
            this.flush(py)?;
            outlet = protocol.outlet(py);
        }
        if outlet.must_wait {
            this.flush(py)?;
            if inline {
                this.put_stage(py, Stage::Drain(None));
                return Ok(Some(py.None()));
            }
            let future = protocol.drain(py)?;
            future.setattr(pyo3::intern!(py, "_asyncio_future_blocking"), true)?;
            this.put_stage(py, Stage::Drain(Some(future.clone().unbind())));
            return Ok(Some(future.unbind()));
        }
        if share >= FAIR_SHARE {
            this.flush(py)?;
            this.rested(py);
            this.put_stage(py, Stage::Pull);
            return Ok(Some(py.None()));
        }
        match kind {
            SourceKind::Generator => return Self::resume(slf, &iterator),
            SourceKind::Async | SourceKind::Iterator | SourceKind::Threaded => {
                match slots::next(&iterator).and_then(|next| awaited(&next)) {
                    Ok(awaitable) => {
                        let polled = poll(py, &awaitable, Resume::Send);
                        return Self::chunk_polled(slf, awaitable, polled);
                    }
                    Err(error) => Self::stream_failed(slf, error)?,
                }
            }
            SourceKind::Inline => {
                // SAFETY: the argument is an iterator; the result is a new reference, or null at its end or on error.
                let next = unsafe {
                    Bound::from_owned_ptr_or_opt(py, ffi::PyIter_Next(iterator.as_ptr()))
                };
                match (next, PyErr::take(py)) {
                    (Some(chunk), _) => Self::produced(slf, &chunk)?,
                    (None, None) => Self::end_stream(slf, Ending::Finish)?,
                    (None, Some(error)) => Self::stream_failed(slf, error)?,
                }
            }
        }
        Ok(None)
    }

    /// Resumes a generator, from where it stands. Returns what to wait for.
    fn resume(slf: &Bound<'_, Self>, generator: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        match generator::resume(generator) {
            Resumed::Yielded(chunk) => Self::produced(slf, &chunk)?,
            Resumed::Exhausted => Self::end_stream(slf, Ending::Finish)?,
            Resumed::Raised(error) => Self::stream_failed(slf, error)?,
            Resumed::Suspended(waited) => {
                this.put_stage(py, Stage::Waiting(generator.clone().unbind()));
                this.flush(py)?;
                this.rested(py);
                return Ok(Some(waited));
            }
        }
        Ok(None)
    }

    /// What a generator waited for is there, or it is interrupted. Returns what to wait for.
    pub(super) fn go_on(
        slf: &Bound<'_, Self>,
        generator: &Py<PyAny>,
        resume: Resume,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let generator = generator.bind(py);
        match resume {
            Resume::Send => Self::resume(slf, generator),
            Resume::Throw(_) => {
                // Its `__anext__` throws where the generator stands, and goes on from there.
                let awaitable = awaited(&slots::next(generator)?)?;
                let polled = poll(py, &awaitable, resume);
                Self::chunk_polled(slf, awaitable, polled)
            }
        }
    }

    /// The source was asked for a chunk. Returns what to wait for.
    pub(super) fn chunk_polled(
        slf: &Bound<'_, Self>,
        awaitable: Py<PyAny>,
        polled: Polled,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        match polled {
            Polled::Yielded(value) => {
                this.put_stage(py, Stage::Chunk(awaitable));
                this.flush(py)?;
                this.rested(py);
                return Ok(Some(value));
            }
            Polled::Returned(value) => {
                this.streaming(py, |streaming| streaming.begun = true)?;
                Self::produced(slf, value.bind(py))?;
            }
            Polled::Exhausted => Self::end_stream(slf, Ending::Finish)?,
            Polled::Raised(error) => Self::stream_failed(slf, error)?,
        }
        Ok(None)
    }

    /// Creates the source. Returns false if the response has no content: then it is complete.
    ///
    /// `inline`: there is no task, since the source cannot suspend.
    pub(super) fn open_stream(slf: &Bound<'_, Self>, inline: bool) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let protocol = this.protocol.get();
        let (response, chunk_timeout, complete_timeout) = this.streaming(py, |streaming| {
            (
                streaming.response.clone_ref(py),
                streaming.chunk_timeout,
                streaming.complete_timeout,
            )
        })?;
        response.get().settle_cookies(py)?;
        protocol.begin_stream(py, chunk_timeout, complete_timeout);
        let (status, head_first) = {
            let parts = response.get().parts.borrow(py);
            let first = parts.stream.as_ref().map(|stream| stream.send_head_first);
            (parts.status, first)
        };
        let source = StreamingResponse::source_of(response.bind(py));
        let (Some(source), Some(head_first)) = (source, head_first) else {
            return Err(PyTypeError::new_err(
                "the StreamingResponse was not initialised with a stream",
            ));
        };
        if protocol.with_core(py, |core, _| core.suppresses_content(status)) {
            this.send_head(py)?;
            let mut unstarted = Streaming::new(response.bind(py));
            let close = unstarted.close_unstarted(py)?;
            protocol
                .with_core(py, |core, out| core.finish(out, None))
                .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
            protocol.watch_end(py);
            this.flush(py)?;
            Self::close_or_end(slf, close)?;
            return Ok(false);
        }
        let opened = open_source(source.bind(py), inline)?;
        this.streaming(py, |streaming| streaming.source = Some(opened))?;
        if head_first {
            this.send_head(py)?;
            this.flush(py)?;
        }
        Ok(true)
    }

    pub(super) fn send_head(&self, py: Python<'_>) -> PyResult<()> {
        let protocol = self.protocol.get();
        let server = protocol.server.get();
        let response = self.streaming(py, |streaming| {
            streaming.head_sent = true;
            streaming.response.clone_ref(py)
        })?;
        let date = server.date(py);
        let status = response.get().parts.borrow(py).status;
        protocol.watch_head(py, status);
        let parts = response.get().parts.borrow(py);
        let shared;
        let fields = match &parts.fields {
            Fields::None => None,
            Fields::Owned(fields) => Some(&**fields),
            Fields::Shared(headers) => {
                shared = headers.get().fields.borrow(py);
                Some(&*shared)
            }
        };
        let outgoing = Outgoing {
            status: parts.status,
            fields,
            content_type: parts.content_type,
        };
        protocol
            .with_core(py, |core, out| {
                core.send_head(out, &outgoing, None, &date, &server.http)
            })
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        server.count_answer(py);
        Ok(())
    }

    /// The source has produced: a chunk, or from a thread several.
    pub(super) fn produced(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if let Ok(chunks) = value.cast_exact::<PyList>() {
            if this.streaming(py, |streaming| {
                let source = streaming.source.as_ref();
                source.is_some_and(|source| source.kind == SourceKind::Threaded)
            })? {
                for chunk in chunks.iter() {
                    if let Err(error) = this.emit(py, &chunk) {
                        return Self::stream_failed(slf, error);
                    }
                }
                this.flush(py)?;
                this.put_stage(py, Stage::Pull);
                return Ok(());
            }
        }
        match this.emit(py, value) {
            Ok(()) => {
                this.put_stage(py, Stage::Pull);
                Ok(())
            }
            Err(error) => Self::stream_failed(slf, error),
        }
    }

    /// Encodes one chunk; the head before the first.
    pub(super) fn emit(&self, py: Python<'_>, chunk: &Bound<'_, PyAny>) -> PyResult<()> {
        let protocol = self.protocol.get();
        let owned;
        let mut bytes = None;
        let octets = if let Ok(whole) = chunk.cast::<PyBytes>() {
            bytes = Some(whole);
            whole.as_bytes()
        } else if let Ok(text) = chunk.cast::<PyString>() {
            text.to_str()?.as_bytes()
        } else {
            // SAFETY: the argument is a live object.
            if unsafe { ffi::PyObject_CheckBuffer(chunk.as_ptr()) } != 1 {
                return Err(PyTypeError::new_err(format!(
                    "a stream must yield bytes-like objects or str, not {}",
                    type_name(chunk)
                )));
            }
            // SAFETY: as above; the result is a new reference or null with an exception set.
            owned = unsafe {
                Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromObject(chunk.as_ptr()))?
            };
            let whole = owned.cast::<PyBytes>()?;
            bytes = Some(whole);
            whole.as_bytes()
        };
        let (head_sent, chunk_timeout) = self.streaming(py, |streaming| {
            streaming.share = streaming.share.saturating_add(octets.len() + 64);
            (streaming.head_sent, streaming.chunk_timeout)
        })?;
        if !head_sent {
            if protocol.cancelled(py).is_some() {
                return Ok(());
            }
            self.send_head(py)?;
        }
        match bytes.filter(|_| octets.len() >= LARGE_CHUNK) {
            Some(bytes) => protocol.send_large_chunk(py, bytes, chunk_timeout)?,
            None => protocol.send_chunk(py, octets),
        }
        .map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    /// The generator has raised, or yielded what cannot be sent.
    pub(super) fn stream_failed(slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if let Err(exit) = exit_request(py, &error) {
            this.protocol.get().abort(py);
            Self::finish(slf)?;
            return Err(exit);
        }
        this.note_failure(py, &error);
        let head_sent = this.streaming(py, |streaming| streaming.head_sent)?;
        let cancelled = this.protocol.get().cancelled(py);
        if cancelled.is_some() {
            if !is_cancelled(py, &error) {
                this.log(py, "a stream failed while it was cancelled", Some(&error));
            }
            return Self::close_stream(slf);
        }
        if !head_sent {
            // Nothing has been sent: the failure is a real 500. The generator is closed after that.
            this.streaming(py, |streaming| streaming.failed = true)?;
            return Self::answer_error(slf, &error);
        }
        this.log(
            py,
            "a stream failed, so its connection is reset",
            Some(&error),
        );
        this.protocol.get().abort(py);
        Self::close_stream(slf)
    }

    fn note_failure(&self, py: Python<'_>, error: &PyErr) {
        if let Some(request) = &self.request {
            request.get().note_failure(py, error);
        }
    }

    /// The task was cancelled while the generator stood between two chunks.
    pub(super) fn stream_interrupted(slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.note_failure(py, &error);
        if this.protocol.get().cancelled(py).is_none() {
            this.log(
                py,
                "a stream's task was cancelled, so its connection is reset",
                Some(&error),
            );
            this.protocol.get().abort(py);
        }
        Self::close_stream(slf)
    }

    /// Closes the generator; what remains is [`Ending::Abort`].
    pub(super) fn close_stream(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (source, response) = this.streaming(py, |streaming| {
            (streaming.source.take(), streaming.response.clone_ref(py))
        })?;
        let close = match source {
            Some(source) if source.kind == SourceKind::Inline => Ok(None),
            Some(source) => close_async(source.iterator.bind(py)),
            None => Streaming::new(response.bind(py)).close_unstarted(py),
        };
        match close {
            Ok(close) => Self::close_or_end(slf, close),
            Err(error) => {
                this.log(py, "a stream's generator could not be closed", Some(&error));
                Self::end_stream(slf, Ending::Abort)
            }
        }
    }

    pub(super) fn close_or_end(slf: &Bound<'_, Self>, close: Option<Py<PyAny>>) -> PyResult<()> {
        let this = slf.get();
        match close {
            Some(awaitable) => {
                let py = slf.py();
                this.put_stage(py, Stage::Close(awaitable));
                this.protocol.get().bound_clean_up(py);
                Ok(())
            }
            None => Self::end_stream(slf, Ending::Abort),
        }
    }

    /// The generator is through. An unfinished response is cut off, so that nobody takes it for a whole one.
    pub(super) fn end_stream(slf: &Bound<'_, Self>, ending: Ending) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let protocol = this.protocol.get();
        if matches!(ending, Ending::Finish) && protocol.cancelled(py).is_none() {
            if !this.streaming(py, |streaming| streaming.head_sent)? {
                this.send_head(py)?;
            }
            let finished = protocol.with_core(py, |core, out| core.finish(out, None));
            if let Err(error) = finished {
                let error = PyRuntimeError::new_err(error.to_string());
                this.log(
                    py,
                    "a stream's content does not match its content-length; the connection is reset",
                    Some(&error),
                );
                protocol.abort(py);
            } else {
                protocol.watch_end(py);
                this.flush(py)?;
            }
        } else if protocol.with_core(py, |core, _| core.is_unfinished()) {
            match protocol.cancelled(py) {
                Some(Cancelled::Shutdown)
                    if !this.streaming(py, |streaming| streaming.head_sent)? =>
                {
                    return Self::refuse(slf);
                }
                _ => protocol.abort(py),
            }
        }
        Self::end(slf)
    }
}

/// The awaitable of `iterator.aclose()`, if there is such a method.
fn close_async(iterator: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    match iterator.getattr_opt(pyo3::intern!(iterator.py(), "aclose"))? {
        Some(close) => awaited(&close.call0()?).map(Some),
        None => Ok(None),
    }
}

/// Finds out what was given as a stream.
///
/// `inline`: it was seen that it cannot suspend. Then a generator needs no event loop that would close it: it can be
/// closed wherever it is dropped.
fn open_source(source: &Bound<'_, PyAny>, inline: bool) -> PyResult<Source> {
    let py = source.py();
    if let Some(chunks) = Source::of_chunks(source)? {
        return Ok(chunks);
    }
    let source = if source.is_callable()
        && !slots::is_async_iterator(source)
        && !slots::is_async_iterable(source)
    {
        source.call0()?
    } else {
        source.clone()
    };
    if slots::is_async_iterator(&source) {
        let direct = inline && generator::can_be_resumed(&source);
        let kind = if direct {
            SourceKind::Generator
        } else {
            SourceKind::Async
        };
        return Ok(Source::new(kind, source));
    }
    if let Some(iterator) = slots::async_iterator(&source) {
        return Ok(Source::new(SourceKind::Async, iterator?));
    }
    if let Some(chunks) = Source::of_chunks(&source)? {
        return Ok(chunks);
    }
    // SAFETY: the argument is a live object.
    if unsafe { ffi::PyCoro_CheckExact(source.as_ptr()) } != 0 {
        source.call_method0("close")?;
        return Err(PyTypeError::new_err(
            "the stream is a coroutine function; it must `yield` its chunks",
        ));
    }
    let class = py.import("vibora._threaded")?.getattr("ThreadedIterator")?;
    Ok(Source::new(SourceKind::Threaded, class.call1((source,))?))
}

impl Source {
    fn new(kind: SourceKind, iterator: Bound<'_, PyAny>) -> Self {
        Self {
            kind,
            iterator: iterator.unbind(),
        }
    }

    /// The chunks of a list or a tuple.
    fn of_chunks(chunks: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        if !chunks.is_exact_instance_of::<PyList>() && !chunks.is_exact_instance_of::<PyTuple>() {
            return Ok(None);
        }
        let iterator = chunks.try_iter()?.into_any();
        Ok(Some(Self::new(SourceKind::Inline, iterator)))
    }
}

impl Streaming {
    pub(super) fn new(response: &Bound<'_, Response>) -> Self {
        let py = response.py();
        let (chunk_timeout, complete_timeout) = {
            let parts = response.get().parts.borrow(py);
            parts.stream.as_ref().map_or((0, 0), |stream| {
                (stream.chunk_timeout, stream.complete_timeout)
            })
        };
        Self {
            response: response.clone().unbind(),
            source: None,
            begun: false,
            head_sent: false,
            chunk_timeout,
            complete_timeout,
            share: 0,
            failed: false,
        }
    }

    /// Finds out, when it has begun, how a source is asked for more.
    ///
    /// A generator is resumed directly if nobody else has it: `__anext__` is what would tell another that it is in use.
    fn judge(&mut self, py: Python<'_>) {
        let Some(source) = &mut self.source else {
            return;
        };
        if source.kind != SourceKind::Async || !self.begun {
            return;
        }
        let iterator = source.iterator.bind(py);
        let given = StreamingResponse::source_of(self.response.bind(py));
        let is_given = given.is_some_and(|given| given.is(iterator));
        // SAFETY: the argument is a live object.
        let references = unsafe { ffi::Py_REFCNT(iterator.as_ptr()) };
        let is_ours = references == 1 + ffi::Py_ssize_t::from(is_given);
        source.kind = if is_ours && generator::can_be_resumed(iterator) {
            SourceKind::Generator
        } else {
            SourceKind::Iterator
        };
    }

    /// The clean-up of a generator object that was handed over and never started.
    pub(super) fn close_unstarted(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(source) = StreamingResponse::source_of(self.response.bind(py)) else {
            return Ok(None);
        };
        let source = source.bind(py);
        if let Some(close) = close_async(source)? {
            return Ok(Some(close));
        }
        if source.hasattr(pyo3::intern!(py, "__next__"))? {
            if let Some(close) = source.getattr_opt(pyo3::intern!(py, "close"))? {
                close.call0()?;
            }
        }
        Ok(None)
    }
}
