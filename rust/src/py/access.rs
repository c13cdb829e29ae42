//! The access log: lines are collected here and written by a thread of their own, which never holds the interpreter.
//!
//! A destination that does not keep up costs lines, never time: what waits is bounded, and what is lost is counted.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use super::cell::GilCell;
use super::clock;
use crate::http::access::{Encoder, Format, Record};

/// Bytes of lines that are handed over without waiting for the timer.
const BATCH: usize = 32 * 1024;
/// Batches that may wait to be written: this many times [`BATCH`] is the memory of a destination that is stuck.
const WAITING: usize = 64;
/// Seconds after which lines are handed over, however few.
const DELAY: f64 = 0.1;
/// What a pipe takes in one piece (`PIPE_BUF`): more of it could be mixed with the lines of another worker.
const PIECE: usize = 4096;
/// How long the writer waits for a destination that takes nothing right now and must not be waited for.
const PAUSE: Duration = Duration::from_millis(5);

struct Batch {
    lines: Vec<u8>,
    count: u64,
}

/// What the writer tells.
#[derive(Default)]
struct Losses {
    lines: AtomicU64,
    errno: AtomicI32,
}

struct State {
    encoder: Encoder,
    lines: Vec<u8>,
    count: u64,
    /// The timer of the loop that will hand lines over.
    armed: bool,
    /// Lines that nobody has been told about.
    dropped: u64,
    /// It has been said that the destination does not keep up, and that it cannot be written.
    told_behind: bool,
    told_error: bool,
    writer: Option<SyncSender<Batch>>,
    done: Option<Receiver<()>>,
}

/// `vibora._core.AccessLog`.
#[pyclass(frozen, module = "vibora._core", name = "AccessLog")]
pub(crate) struct AccessLog {
    event_loop: Py<PyAny>,
    logger: Py<PyAny>,
    losses: Arc<Losses>,
    state: GilCell<State>,
}

impl AccessLog {
    /// Adds the line of an exchange.
    pub(crate) fn add(slf: &Bound<'_, Self>, record: &Record<'_>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (full, arm) = {
            let mut guard = this.state.borrow(py);
            let state = &mut *guard;
            if state.writer.is_none() {
                return Ok(());
            }
            state
                .encoder
                .encode(&mut state.lines, record, clock::unix_milliseconds());
            state.count += 1;
            let full = state.lines.len() >= BATCH;
            (full, !full && !std::mem::replace(&mut state.armed, true))
        };
        if full {
            return this.hand_over(py);
        }
        if arm {
            let flush = slf.getattr(pyo3::intern!(py, "flush"))?;
            this.event_loop
                .bind(py)
                .call_method1(pyo3::intern!(py, "call_later"), (DELAY, flush))?;
        }
        Ok(())
    }

    /// Gives the writer what there is, if it has room.
    fn hand_over(&self, py: Python<'_>) -> PyResult<()> {
        let (behind, recovered, errno) = {
            let mut guard = self.state.borrow(py);
            let state = &mut *guard;
            let Some(writer) = &state.writer else {
                return Ok(());
            };
            if state.lines.is_empty() {
                return Ok(());
            }
            let lines = std::mem::replace(&mut state.lines, Vec::with_capacity(BATCH + PIECE));
            let count = std::mem::take(&mut state.count);
            let sent = writer.try_send(Batch { lines, count });
            let mut behind = false;
            let mut recovered = 0;
            match sent {
                Ok(()) if state.dropped > 0 => {
                    recovered = std::mem::take(&mut state.dropped);
                    state.told_behind = false;
                }
                Ok(()) => {}
                Err(TrySendError::Full(batch)) => {
                    state.dropped += batch.count;
                    // Its memory serves again.
                    state.lines = batch.lines;
                    state.lines.clear();
                    behind = !std::mem::replace(&mut state.told_behind, true);
                }
                Err(TrySendError::Disconnected(batch)) => state.dropped += batch.count,
            }
            let errno = self.losses.errno.load(Ordering::Relaxed);
            let told = errno != 0 && !std::mem::replace(&mut state.told_error, errno != 0);
            (behind, recovered, told.then_some(errno))
        };
        let logger = self.logger.bind(py);
        if behind {
            logger.call_method1(
                "warning",
                ("access log: its destination does not keep up; lines are dropped",),
            )?;
        }
        if recovered > 0 {
            logger.call_method1("warning", ("access log: %d lines were dropped", recovered))?;
        }
        if let Some(errno) = errno {
            let error = io::Error::from_raw_os_error(errno).to_string();
            logger.call_method1("error", ("access log: lines are lost: %s", error))?;
        }
        Ok(())
    }
}

#[pymethods]
impl AccessLog {
    #[new]
    #[pyo3(signature = (event_loop, format, *, logger, path=None))]
    fn new(
        event_loop: Py<PyAny>,
        format: &str,
        logger: Py<PyAny>,
        path: Option<PathBuf>,
    ) -> PyResult<Self> {
        let format = match format {
            "text" => Format::Text,
            "json" => Format::Json,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "expected 'text' or 'json', got {format:?}"
                )));
            }
        };
        let destination = Destination::open(path)?;
        let (writer, batches) = sync_channel(WAITING);
        let (ended, done) = channel();
        let losses = Arc::new(Losses::default());
        let shared = losses.clone();
        thread::Builder::new()
            .name("vibora access log".to_owned())
            .spawn(move || {
                write_all(destination, &batches, &shared);
                // Nobody listens any more if it has taken too long.
                let _ = ended.send(());
            })
            .map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self {
            event_loop,
            logger,
            losses,
            state: GilCell::new(State {
                encoder: Encoder::new(format),
                lines: Vec::with_capacity(BATCH + PIECE),
                count: 0,
                armed: false,
                dropped: 0,
                told_behind: false,
                told_error: false,
                writer: Some(writer),
                done: Some(done),
            }),
        })
    }

    /// Hands over what there is: the loop's timer has fired.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.state.borrow(py).armed = false;
        self.hand_over(py)
    }

    /// Lines that were lost.
    #[getter]
    fn lost(&self, py: Python<'_>) -> u64 {
        self.state.borrow(py).dropped + self.losses.lines.load(Ordering::Relaxed)
    }

    /// Hands over what there is, and waits for the writer, so many seconds at most. Returns whether it has ended.
    fn close(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        self.hand_over(py)?;
        let done = {
            let mut state = self.state.borrow(py);
            state.writer = None;
            state.done.take()
        };
        let Some(done) = done else {
            return Ok(true);
        };
        let timeout = Duration::try_from_secs_f64(timeout).unwrap_or_default();
        let ended = py.detach(move || done.recv_timeout(timeout).is_ok());
        Ok(ended)
    }
}

// ---- the writer, in its thread

struct Destination {
    file: File,
    /// Where it is, unless it is the standard output: what is moved away by a rotation is opened again.
    path: Option<PathBuf>,
    in_pieces: bool,
}

impl Destination {
    fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let file = match &path {
            Some(path) => open(path)?,
            None => standard_output()?,
        };
        Ok(Self {
            in_pieces: is_no_file(&file),
            file,
            path,
        })
    }

    fn reopen_if_moved(&mut self) -> io::Result<()> {
        match &self.path {
            Some(path) if !self.in_pieces && is_another(path, &self.file) => {
                self.file = open(path)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.reopen_if_moved()?;
        let mut rest = lines;
        while !rest.is_empty() {
            let piece = if self.in_pieces { piece(rest) } else { rest };
            rest = rest.get(piece.len()..).unwrap_or_default();
            self.write_piece(piece)?;
        }
        Ok(())
    }

    fn write_piece(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            match self.file.write(piece) {
                Ok(written) => piece = piece.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whoever shares the descriptor wants it so.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// As many whole lines as a pipe takes in one piece; one at least.
fn piece(lines: &[u8]) -> &[u8] {
    let most = lines.get(..PIECE).unwrap_or(lines);
    let end = memchr::memrchr(b'\n', most)
        .or_else(|| memchr::memchr(b'\n', lines))
        .map_or(lines.len(), |at| at + 1);
    lines.get(..end).unwrap_or(lines)
}

fn write_all(mut destination: Destination, batches: &Receiver<Batch>, losses: &Losses) {
    for batch in batches {
        if let Err(error) = destination.write(&batch.lines) {
            losses.lines.fetch_add(batch.count, Ordering::Relaxed);
            losses
                .errno
                .store(error.raw_os_error().unwrap_or(-1), Ordering::Relaxed);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        // Opened for reading as well, a FIFO does not wait for its reader.
        let is_fifo = path
            .metadata()
            .is_ok_and(|about| about.file_type().is_fifo());
        options.read(is_fifo);
    }
    options.open(path)
}

#[cfg(unix)]
fn standard_output() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

#[cfg(unix)]
fn is_no_file(file: &File) -> bool {
    !file.metadata().is_ok_and(|about| about.is_file())
}

#[cfg(unix)]
fn is_another(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let about = |found: std::fs::Metadata| (found.dev(), found.ino());
    path.metadata().ok().map(about) != file.metadata().ok().map(about)
}

#[cfg(not(unix))]
fn standard_output() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(File::from(io::stdout().as_handle().try_clone_to_owned()?))
}

#[cfg(not(unix))]
fn is_no_file(_: &File) -> bool {
    false
}

#[cfg(not(unix))]
fn is_another(_: &Path, _: &File) -> bool {
    false
}

// ---- what requests are called

/// The names of requests that came without one: 8 digits of the worker, and 8 or more that count.
pub(crate) struct Ids {
    worker: u32,
    count: GilCell<u64>,
}

impl Ids {
    pub(crate) fn new() -> Self {
        let mut hasher = RandomState::new().build_hasher();
        // A worker that was forked has its parent's state, but not its number, nor its time.
        hasher.write_u32(std::process::id());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        hasher.write_u128(now.map_or(0, |since| since.as_nanos()));
        Self {
            worker: hasher.finish() as u32,
            count: GilCell::new(0),
        }
    }

    pub(crate) fn next(&self, py: Python<'_>) -> u64 {
        let mut count = self.count.borrow(py);
        *count += 1;
        *count
    }

    pub(crate) fn spell(&self, number: u64) -> String {
        format!("{:08x}{number:08x}", self.worker)
    }
}
