//! Counters in memory that all workers share: each worker counts in a part of its own, whoever is asked adds them up.
//!
//! The memory is a mapped file, in words of 64 bits. `vibora.metrics` makes it and knows what is where; this module
//! counts: in an entry per route, and in the gauges of its process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::http::head::Method;

/// The upper bounds of the durations, in microseconds.
const BOUNDS: [u64; 13] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];
/// Methods that are told apart; the last one stands for all others.
const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other",
];
/// No status, and 1xx to 5xx.
const CLASSES: usize = 6;
const DURATIONS: usize = METHODS.len() * CLASSES;
const SUM: usize = DURATIONS + BOUNDS.len() + 1;
const BYTES: usize = SUM + 1;
/// The words of an entry.
const ENTRY: usize = BYTES + 1;

/// `vibora._core.Metrics`.
#[pyclass(frozen, module = "vibora._core", name = "Metrics")]
pub(crate) struct Metrics {
    memory: PyBuffer<u8>,
    gauges: usize,
    entries: usize,
}

impl Metrics {
    fn words(&self) -> &[AtomicU64] {
        let start = self.memory.buf_ptr().cast::<AtomicU64>().cast_const();
        // SAFETY: the buffer is writable, contiguous and aligned, which `new` has checked; it stays where it is while
        // we hold it. Other processes reach it with atomic operations, or read it.
        unsafe { std::slice::from_raw_parts(start, self.memory.len_bytes() / 8) }
    }

    fn add(&self, at: usize, value: u64) {
        if let Some(word) = self.words().get(at) {
            word.fetch_add(value, Ordering::Relaxed);
        }
    }

    fn set(&self, at: usize, value: u64) {
        if let Some(word) = self.words().get(at) {
            word.store(value, Ordering::Relaxed);
        }
    }

    pub(crate) fn set_connections(&self, count: usize) {
        self.set(self.gauges, count as u64);
    }

    /// Requests that have begun.
    pub(crate) fn begun(&self) {
        self.add(self.gauges + 1, 1);
    }

    /// A response is out.
    pub(crate) fn count(
        &self,
        entry: usize,
        method: &[u8],
        status: Option<u16>,
        duration: Duration,
        bytes: u64,
    ) {
        self.add(self.gauges + 1, u64::MAX);
        let start = self.entries + entry * ENTRY;
        let method = match Method::parse(method) {
            Method::Get => 0,
            Method::Head => 1,
            Method::Post => 2,
            Method::Put => 3,
            Method::Patch => 4,
            Method::Delete => 5,
            Method::Options => 6,
            _ => METHODS.len() - 1,
        };
        let class = status.map_or(0, |status| usize::from(status / 100).min(CLASSES - 1));
        self.add(start + method * CLASSES + class, 1);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.add(start + DURATIONS + bucket, 1);
        self.add(start + SUM, micros);
        self.add(start + BYTES, bytes);
    }
}

#[pymethods]
impl Metrics {
    #[new]
    fn new(memory: PyBuffer<u8>, gauges: usize, entries: usize) -> PyResult<Self> {
        let aligned = memory.buf_ptr().cast::<AtomicU64>().is_aligned();
        if memory.readonly() || !memory.is_c_contiguous() || !aligned {
            return Err(PyValueError::new_err(
                "the memory of metrics must be writable, contiguous and aligned",
            ));
        }
        Ok(Self {
            memory,
            gauges,
            entries,
        })
    }

    /// The upper bounds of the durations, in seconds.
    #[classattr]
    #[allow(non_snake_case, reason = "a constant of the class")]
    fn BOUNDS() -> Vec<f64> {
        BOUNDS.iter().map(|micros| *micros as f64 / 1e6).collect()
    }

    #[classattr]
    #[allow(non_snake_case, reason = "a constant of the class")]
    fn METHODS() -> Vec<&'static str> {
        METHODS.to_vec()
    }

    #[classattr]
    const CLASSES: usize = CLASSES;

    /// The words of an entry.
    #[classattr]
    const ENTRY: usize = ENTRY;
}
