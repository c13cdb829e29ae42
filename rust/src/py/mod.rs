//! The bridge to Python: the extension module `vibora._core`.
//!
//! The only layer that knows of Python, of event loops and their transports, and of clocks. State lives in
//! [`cell::GilCell`]s; no borrow of one is held across a call into Python.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "times and sizes are far from the edges of their types"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "pyo3 hands arguments over by value"
)]
#![allow(
    missing_docs,
    reason = "the public documentation of native classes is in _core.pyi"
)]

mod access;
mod cell;
mod clock;
mod construct;
mod content;
mod context;
mod errors;
mod exchange;
mod generator;
mod headers;
mod metrics;
mod multipart;
mod protocol;
mod proxies;
mod query;
mod reading;
mod request;
mod response;
mod route;
mod server;
mod slots;
mod socket;
mod suspension;
mod text;
mod tls;
mod trusted;

/// The native core of Vibora. Its classes are documented in `_core.pyi`; import them from `vibora`.
#[pyo3::pymodule(gil_used = true)]
mod _core {
    use pyo3::exceptions::PyImportError;
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::access::AccessLog;
    #[pymodule_export]
    use super::clock::ManualClock;
    #[pymodule_export]
    use super::exchange::Exchange;
    #[pymodule_export]
    use super::headers::Headers;
    #[pymodule_export]
    use super::metrics::Metrics;
    #[pymodule_export]
    use super::multipart::{FormData, FormReader, MultipartParser, PartHead};
    #[pymodule_export]
    use super::protocol::{Outcome, Protocol};
    #[pymodule_export]
    use super::proxies::TrustedProxies;
    #[pymodule_export]
    use super::query::QueryArgs;
    #[pymodule_export]
    use super::reading::RequestStream;
    #[pymodule_export]
    use super::request::Request;
    #[pymodule_export]
    use super::response::{
        DeferredResponse, HtmlResponse, JsonResponse, RedirectResponse, Response,
        StreamingResponse, TextResponse,
    };
    #[pymodule_export]
    use super::route::{Route, RouteConflict, Router};
    #[pymodule_export]
    use super::server::Server;
    #[pymodule_export]
    use super::tls::TlsContext;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // Free-threaded interpreters switch the lock on for us, unless they were told not to.
        if let Some(enabled) = module.py().import("sys")?.getattr_opt("_is_gil_enabled")? {
            if !enabled.call0()?.is_truthy()? {
                return Err(PyImportError::new_err(
                    "vibora needs the interpreter's lock; run Python without PYTHON_GIL=0 and -X gil=0",
                ));
            }
        }
        super::construct::install_all(module.py());
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add(
            "__build__",
            if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
        )
    }
}
