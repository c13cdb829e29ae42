//! The core of Vibora: HTTP/1.1 on the server's side, and the bridge that drives Python handlers.
//!
//! # Layers
//!
//! ```text
//! L0  error  http::grammar                                  nothing but core
//! L1  http::{target, head, body, fields, response, date,    L0; bytes in, values out
//!     parameters, multipart, proxy}  router  tls
//! L2  http::{connection, deadlines}  timer                               L0-L1; `now` is an argument, never read
//! L3  py::*                                                 the only `use pyo3`; loops, transports, clocks
//! ```
//!
//! Everything below L3 is sans-io: no sockets, no clock, no Python, no `unsafe`. `cargo test` runs it
//! without an interpreter. The `python` feature (switched on by maturin) adds L3 and the
//! `vibora._core` extension module.

#![cfg_attr(not(feature = "python"), forbid(unsafe_code))]

pub mod error;
pub mod http;
#[cfg(feature = "python")]
mod py;
pub mod router;
pub mod timer;
pub mod tls;
