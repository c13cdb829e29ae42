//! `vibora.proxies.TrustedProxies`: whose word counts about where a request comes from.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::errors::vibora_error;
use super::headers::type_name;
use crate::http::forwarded::{ForwardedFields, Trust};

/// The proxies that an app stands behind.
#[pyclass(frozen, eq, module = "vibora.proxies", name = "TrustedProxies")]
#[derive(PartialEq, Eq)]
pub(crate) struct TrustedProxies {
    pub(crate) trust: Trust,
    networks: Vec<String>,
    headers: Vec<String>,
}

/// The entries of what may be one string with commas, or an iterable.
fn entries(source: &Bound<'_, PyAny>, what: &str) -> PyResult<Vec<String>> {
    if let Ok(text) = source.cast::<PyString>() {
        let entries = text.to_str()?.split(',').map(str::trim);
        return Ok(entries
            .filter(|entry| !entry.is_empty())
            .map(str::to_owned)
            .collect());
    }
    let iterable = source.try_iter().map_err(|_| {
        PyTypeError::new_err(format!(
            "{what} must be an iterable of str, or one str with commas, not {}",
            type_name(source)
        ))
    })?;
    // `str()` also takes the networks and addresses of the module `ipaddress`.
    iterable
        .map(|entry| Ok(entry?.str()?.to_str()?.to_owned()))
        .collect()
}

#[pymethods]
impl TrustedProxies {
    #[new]
    #[pyo3(signature = (networks, *, headers=None))]
    fn new(networks: &Bound<'_, PyAny>, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let py = networks.py();
        let refused = |message: String| vibora_error(py, "ConfigurationError", (message,));
        let headers = match headers {
            Some(headers) => entries(headers, "headers")?,
            None => ForwardedFields::NAMES.map(str::to_owned).to_vec(),
        };
        let mut fields = ForwardedFields::NONE;
        for name in &headers {
            fields = fields.union(ForwardedFields::of(name).ok_or_else(|| {
                refused(format!(
                    "trusted proxies: {name:?} is none of the fields that can be believed: {}",
                    ForwardedFields::NAMES.join(", ")
                ))
            })?);
        }
        let networks = entries(networks, "trusted proxies")?;
        let mut trust = Trust::new(fields);
        for entry in &networks {
            trust
                .add(entry)
                .map_err(|message| refused(format!("trusted proxies: {message}")))?;
        }
        Ok(Self {
            trust,
            networks,
            headers: headers
                .into_iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
        })
    }

    #[getter]
    fn networks(&self) -> Vec<&str> {
        self.networks.iter().map(String::as_str).collect()
    }

    #[getter]
    fn headers(&self) -> Vec<&str> {
        self.headers.iter().map(String::as_str).collect()
    }

    fn __repr__(&self) -> String {
        format!("TrustedProxies({:?})", self.networks)
    }
}
