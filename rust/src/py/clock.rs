//! The only clocks of the core. Coarse ones where the system has them: a few nanoseconds a reading, good to about 4 ms.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Where a server reads the time of its deadlines.
pub(crate) enum Clock {
    System,
    Manual(Py<ManualClock>),
}

impl Clock {
    /// Milliseconds since some moment.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match self {
            Self::System => imp::monotonic_ms(),
            Self::Manual(clock) => clock.get().now.load(Ordering::Relaxed),
        }
    }
}

/// A clock that stands still until it is moved, for tests.
#[pyclass(frozen, subclass, module = "vibora._core", name = "ManualClock")]
pub(crate) struct ManualClock {
    now: AtomicU64,
}

#[pymethods]
impl ManualClock {
    #[new]
    fn new() -> Self {
        Self {
            now: AtomicU64::new(0),
        }
    }

    #[getter]
    fn milliseconds(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn move_to(&self, milliseconds: u64) -> PyResult<()> {
        if milliseconds < self.milliseconds() {
            return Err(PyValueError::new_err("a clock does not go back"));
        }
        self.now.store(milliseconds, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod imp {
    fn read(clock: libc::clockid_t) -> libc::timespec {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` is a valid place for the result, and both clocks exist on every Linux since 2.6.32.
        unsafe { libc::clock_gettime(clock, &raw mut time) };
        time
    }

    pub(crate) fn monotonic_ms() -> u64 {
        let time = read(libc::CLOCK_MONOTONIC_COARSE);
        (time.tv_sec as u64) * 1_000 + (time.tv_nsec as u64) / 1_000_000
    }

    pub(crate) fn unix_seconds() -> u64 {
        read(libc::CLOCK_REALTIME_COARSE).tv_sec as u64
    }

    pub(crate) fn unix_milliseconds() -> u64 {
        let time = read(libc::CLOCK_REALTIME_COARSE);
        (time.tv_sec as u64) * 1_000 + (time.tv_nsec as u64) / 1_000_000
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::sync::OnceLock;
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    pub(crate) fn monotonic_ms() -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_millis() as u64
    }

    pub(crate) fn unix_seconds() -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }

    pub(crate) fn unix_milliseconds() -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64)
    }
}

pub(crate) use imp::{unix_milliseconds, unix_seconds};
