//! `vibora._core.TLSContext`: what a server's TLS sessions are made with, and can be exchanged while it serves.

use std::sync::Arc;

use pyo3::prelude::*;
use rustls::ServerConfig;

use super::cell::GilCell;
use super::clock;
use super::errors::vibora_error;
use crate::tls::config::{ClientAuth, Config, Identity, Options, Pem};

/// A file: its name and its content.
type File = (String, Vec<u8>);

/// A certificate and its key.
type Pair = (File, File);

struct Current {
    server: Arc<ServerConfig>,
    not_after: Vec<(String, u64)>,
}

#[pyclass(frozen, module = "vibora._core", name = "TLSContext")]
pub(crate) struct TlsContext(GilCell<Current>);

impl TlsContext {
    /// What the next session is made with.
    pub(crate) fn server(&self, py: Python<'_>) -> Arc<ServerConfig> {
        self.0.borrow(py).server.clone()
    }
}

fn identity_of((certificate, key): &Pair) -> Identity<'_> {
    Identity {
        certificate: pem(certificate),
        key: pem(key),
    }
}

fn pem((name, octets): &File) -> Pem<'_> {
    Pem { name, octets }
}

#[pymethods]
impl TlsContext {
    #[new]
    #[allow(
        clippy::too_many_arguments,
        reason = "named ones, where Python calls it"
    )]
    #[pyo3(signature = (identity, *, sni, ca, client_auth, tls12, alpn, ticket_secret))]
    fn new(
        py: Python<'_>,
        identity: Pair,
        sni: Vec<(String, Pair)>,
        ca: Option<File>,
        client_auth: &str,
        tls12: bool,
        alpn: Vec<String>,
        ticket_secret: &[u8],
    ) -> PyResult<Self> {
        let options = Options {
            identity: identity_of(&identity),
            by_host: sni
                .iter()
                .map(|(host, identity)| (host.as_str(), identity_of(identity)))
                .collect(),
            ca: ca.as_ref().map(pem),
            client_auth: match client_auth {
                "required" => ClientAuth::Required,
                "optional" => ClientAuth::Optional,
                _ => ClientAuth::None,
            },
            tls12,
            alpn: alpn.into_iter().map(String::into_bytes).collect(),
            ticket_secret,
            clock: clock::unix_seconds,
        };
        let config = Config::new(&options)
            .map_err(|error| vibora_error(py, "ConfigurationError", (error.to_string(),)))?;
        Ok(Self(GilCell::new(Current {
            server: config.server,
            not_after: config.not_after,
        })))
    }

    /// Becomes another: connections that are open keep what they were made with.
    fn replace(&self, py: Python<'_>, other: &Self) {
        if std::ptr::eq(self, other) {
            return;
        }
        let (server, not_after) = {
            let other = other.0.borrow(py);
            (other.server.clone(), other.not_after.clone())
        };
        *self.0.borrow(py) = Current { server, not_after };
    }

    #[getter]
    fn not_after(&self, py: Python<'_>) -> Vec<(String, u64)> {
        self.0.borrow(py).not_after.clone()
    }
}
