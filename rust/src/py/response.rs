//! `vibora.Response` and its family: what a handler returns.
//!
//! Everything that could corrupt the message is refused where it is set: the status, names and values of fields.

use pyo3::exceptions::{PyNotImplementedError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyMapping, PyString, PyTuple};

use super::cell::GilCell;
use super::headers::{Headers, read_fields, type_name};
use super::text::field_octets;
use crate::http::fields::FieldMap;

const TEXT: &[u8] = b"text/plain; charset=utf-8";
const HTML: &[u8] = b"text/html; charset=utf-8";
const JSON: &[u8] = b"application/json";

/// The field lines of a response: none, owned, or already shown to Python.
#[derive(Default)]
pub(crate) enum Fields {
    #[default]
    None,
    Owned(Box<FieldMap>),
    Shared(Py<Headers>),
}

/// What makes a response a stream.
pub(crate) struct Stream {
    /// Milliseconds; 0: off.
    pub(crate) chunk_timeout: u64,
    /// Milliseconds; 0: off.
    pub(crate) complete_timeout: u64,
    pub(crate) send_head_first: bool,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            chunk_timeout: 10_000,
            complete_timeout: 0,
            send_head_first: false,
        }
    }
}

pub(crate) struct Parts {
    pub(crate) status: u16,
    /// `None`: empty.
    pub(crate) content: Option<Py<PyBytes>>,
    pub(crate) fields: Fields,
    pub(crate) content_type: Option<&'static [u8]>,
    pub(crate) cookies: Option<Py<PyList>>,
    pub(crate) stream: Option<Box<Stream>>,
    /// It has to be asked what it is, once the request is known: see [`DeferredResponse`].
    pub(crate) deferred: bool,
}

/// How a response is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Head and content at once.
    Whole,
    Stream,
    /// Not itself: what its `resolve` makes of the request is sent.
    Deferred,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            status: 200,
            content: None,
            fields: Fields::None,
            content_type: Some(TEXT),
            cookies: None,
            stream: None,
            deferred: false,
        }
    }
}

impl Parts {
    fn fields_mut(
        &mut self,
        py: Python<'_>,
        change: impl FnOnce(&mut FieldMap) -> PyResult<()>,
    ) -> PyResult<()> {
        match &mut self.fields {
            Fields::None => {
                let mut fields = FieldMap::new();
                change(&mut fields)?;
                self.fields = Fields::Owned(Box::new(fields));
                Ok(())
            }
            Fields::Owned(fields) => change(fields),
            Fields::Shared(headers) => change(&mut headers.get().fields.borrow(py)),
        }
    }
}

/// What a handler returns; the base of all responses.
///
/// `content` is bytes-like or text (sent as UTF-8), `status_code` any of 200 to 599, `headers` a mapping, pairs or
/// `Headers`, `cookies` an iterable of cookies or a mapping of names to values. What could corrupt the message is
/// refused where it is set, with a `ValueError`.
#[pyclass(frozen, subclass, weakref, module = "vibora", name = "Response")]
#[derive(Default)]
pub(crate) struct Response {
    pub(crate) parts: GilCell<Parts>,
}

/// Reads a body: bytes-like or text.
fn read_content<'py>(content: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = content.cast_exact::<PyBytes>() {
        return Ok(bytes.clone());
    }
    let py = content.py();
    if let Ok(text) = content.cast::<PyString>() {
        return Ok(PyBytes::new(py, text.to_str()?.as_bytes()));
    }
    // SAFETY: the argument is a live object.
    if unsafe { ffi::PyObject_CheckBuffer(content.as_ptr()) } == 1 {
        // SAFETY: the argument is a live object that has the buffer protocol; the result is a new reference or null
        // with an exception set.
        let bytes =
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromObject(content.as_ptr()))? };
        return Ok(bytes.cast_into::<PyBytes>()?);
    }
    Err(PyTypeError::new_err(format!(
        "content must be str or bytes-like, not {}; JsonResponse takes any JSON value, StreamingResponse a generator",
        type_name(content)
    )))
}

fn read_status(status: &Bound<'_, PyAny>) -> PyResult<u16> {
    match status.extract::<i64>() {
        Ok(code @ 200..=599) => Ok(code as u16),
        Ok(code) => Err(PyValueError::new_err(format!(
            "status_code must be 200 to 599, not {code}"
        ))),
        Err(_) => Err(PyTypeError::new_err(format!(
            "status_code must be an int, not {}",
            type_name(status)
        ))),
    }
}

/// Cookies as given: a mapping of names to values, or an iterable of `Cookie` or `name=value` strings.
fn read_cookies<'py>(cookies: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let py = cookies.py();
    if let Ok(mapping) = cookies.cast::<PyMapping>() {
        let list = of_cookies(py, "of_mapping")?.call1((mapping,))?;
        return Ok(list.cast_into::<PyList>()?);
    }
    let list = PyList::empty(py);
    for cookie in cookies.try_iter()? {
        let cookie = cookie?;
        // A `Morsel` of `http.cookies`: its `str()` is the whole line, with the field's name.
        match cookie.getattr_opt(pyo3::intern!(py, "OutputString"))? {
            Some(value) => list.append(value.call0()?)?,
            None => list.append(cookie)?,
        }
    }
    for cookie in list.iter() {
        check_cookie(&cookie)?;
    }
    Ok(list)
}

/// A function of `vibora.cookies`.
fn of_cookies<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import(pyo3::intern!(py, "vibora.cookies"))?
        .getattr(name)
}

fn check_cookie(cookie: &Bound<'_, PyAny>) -> PyResult<()> {
    let line = cookie.str()?;
    let line = field_octets(&line, "cookie")?.into_owned();
    FieldMap::new()
        .append(b"set-cookie", &line)
        .map_err(|error| {
            PyValueError::new_err(format!(
                "cookie {:?}: {error}",
                String::from_utf8_lossy(&line)
            ))
        })
}

pub(crate) type Optional<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

/// The arguments that all responses share, read into their parts.
fn read_common(
    parts: &mut Parts,
    status: Optional<'_, '_>,
    headers: Optional<'_, '_>,
    cookies: Optional<'_, '_>,
) -> PyResult<()> {
    if let Some(status) = status {
        parts.status = read_status(status)?;
    }
    if let Some(headers) = headers.filter(|headers| !headers.is_none()) {
        let fields = read_fields(headers)?;
        if !fields.is_empty() {
            parts.fields = Fields::Owned(Box::new(fields));
        }
    }
    if let Some(cookies) = cookies.filter(|cookies| !cookies.is_none()) {
        parts.cookies = Some(read_cookies(cookies)?.unbind());
    }
    Ok(())
}

fn deferred_parts(
    _py: Python<'_>,
    status: Optional<'_, '_>,
    headers: Optional<'_, '_>,
    cookies: Optional<'_, '_>,
) -> PyResult<Parts> {
    let mut parts = Parts {
        content_type: None,
        deferred: true,
        ..Parts::default()
    };
    read_common(&mut parts, status, headers, cookies)?;
    Ok(parts)
}

fn plain_parts(
    content_type: &'static [u8],
    content: Optional<'_, '_>,
    status: Optional<'_, '_>,
    headers: Optional<'_, '_>,
    cookies: Optional<'_, '_>,
) -> PyResult<Parts> {
    let mut parts = Parts {
        content_type: Some(content_type),
        ..Parts::default()
    };
    if let Some(content) = content {
        parts.content = Some(read_content(content)?.unbind());
    }
    read_common(&mut parts, status, headers, cookies)?;
    Ok(parts)
}

impl Response {
    pub(crate) fn from_parts(parts: Parts) -> Self {
        Self {
            parts: GilCell::new(parts),
        }
    }

    pub(crate) fn kind(&self, py: Python<'_>) -> Kind {
        let parts = self.parts.borrow(py);
        match (&parts.stream, parts.deferred) {
            (_, true) => Kind::Deferred,
            (Some(_), false) => Kind::Stream,
            (None, false) => Kind::Whole,
        }
    }

    fn replace(&self, py: Python<'_>, parts: Parts) {
        let old = std::mem::replace(&mut *self.parts.borrow(py), parts);
        drop(old);
    }

    /// Moves the cookies into the field lines, once, before the head is encoded.
    pub(crate) fn settle_cookies(&self, py: Python<'_>) -> PyResult<()> {
        let Some(cookies) = self.parts.borrow(py).cookies.take() else {
            return Ok(());
        };
        for cookie in cookies.bind(py).iter() {
            let line = cookie.str()?;
            let line = field_octets(&line, "cookie")?.into_owned();
            self.parts.borrow(py).fields_mut(py, |fields| {
                fields
                    .append(b"set-cookie", &line)
                    .map_err(|error| PyValueError::new_err(format!("set-cookie: {error}")))
            })?;
        }
        Ok(())
    }
}

#[pymethods]
impl Response {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(content=b'', status_code=200, headers=None, cookies=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    #[pyo3(signature = (content=None, status_code=None, headers=None, cookies=None))]
    fn __init__(
        slf: &Bound<'_, Self>,
        content: Optional<'_, '_>,
        status_code: Optional<'_, '_>,
        headers: Optional<'_, '_>,
        cookies: Optional<'_, '_>,
    ) -> PyResult<()> {
        slf.get().replace(
            slf.py(),
            plain_parts(TEXT, content, status_code, headers, cookies)?,
        );
        Ok(())
    }

    #[getter]
    fn content<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        match &self.parts.borrow(py).content {
            Some(content) => content.bind(py).clone(),
            None => PyBytes::new(py, b""),
        }
    }

    #[setter]
    fn set_content(&self, py: Python<'_>, content: &Bound<'_, PyAny>) -> PyResult<()> {
        let content = read_content(content)?.unbind();
        let old = self.parts.borrow(py).content.replace(content);
        drop(old);
        Ok(())
    }

    #[getter]
    fn status_code(&self, py: Python<'_>) -> u16 {
        self.parts.borrow(py).status
    }

    #[setter]
    fn set_status_code(&self, py: Python<'_>, status: &Bound<'_, PyAny>) -> PyResult<()> {
        let status = read_status(status)?;
        self.parts.borrow(py).status = status;
        Ok(())
    }

    #[getter]
    fn headers(&self, py: Python<'_>) -> PyResult<Py<Headers>> {
        // In a statement of its own: the borrow ends here, not with the match.
        let fields = std::mem::take(&mut self.parts.borrow(py).fields);
        let headers = match fields {
            Fields::None => Py::new(py, Headers::from_fields(FieldMap::new()))?,
            Fields::Owned(fields) => Py::new(py, Headers::from_fields(*fields))?,
            Fields::Shared(headers) => headers,
        };
        self.parts.borrow(py).fields = Fields::Shared(headers.clone_ref(py));
        Ok(headers)
    }

    #[setter]
    fn set_headers(&self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let fields = read_fields(headers)?;
        let old = std::mem::replace(
            &mut self.parts.borrow(py).fields,
            Fields::Owned(Box::new(fields)),
        );
        drop(old);
        Ok(())
    }

    #[getter]
    fn cookies<'py>(&self, py: Python<'py>) -> Bound<'py, PyList> {
        self.parts
            .borrow(py)
            .cookies
            .get_or_insert_with(|| PyList::empty(py).unbind())
            .bind(py)
            .clone()
    }

    #[setter]
    fn set_cookies(&self, py: Python<'_>, cookies: &Bound<'_, PyAny>) -> PyResult<()> {
        let cookies = read_cookies(cookies)?.unbind();
        let old = self.parts.borrow(py).cookies.replace(cookies);
        drop(old);
        Ok(())
    }

    #[pyo3(signature = (name, value="", **attributes))]
    fn set_cookie(
        &self,
        py: Python<'_>,
        name: &str,
        value: &str,
        attributes: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        of_cookies(py, "add_to")?
            .call((self.cookies(py), name, value), attributes)
            .map(drop)
    }

    #[pyo3(signature = (name, **attributes))]
    fn delete_cookie(
        &self,
        py: Python<'_>,
        name: &str,
        attributes: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        of_cookies(py, "delete_from")?
            .call((self.cookies(py), name), attributes)
            .map(drop)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let status = slf.get().parts.borrow(slf.py()).status;
        Ok(format!("<{} {status}>", slf.get_type().name()?))
    }
}

/// Defines a subclass of [`Response`] whose construction differs only in how its parts are made.
macro_rules! response_class {
    ($(#[$doc:meta])* $class:ident, $name:literal, $text:literal, ($($signature:tt)*), ($($argument:ident: $type:ty),*), $parts:expr $(, { $($extra:tt)* })?) => {
        $(#[$doc])*
        #[pyclass(frozen, subclass, extends = Response, module = "vibora", name = $name)]
        pub(crate) struct $class;

        #[pymethods]
        impl $class {
            #[new]
            #[pyo3(signature = (*_args, **_kwargs), text_signature = $text)]
            fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
                PyClassInitializer::from(Response::default()).add_subclass(Self)
            }

            #[pyo3(signature = ($($signature)*))]
            #[allow(clippy::too_many_arguments, reason = "the signature is the public one, kept from Vibora")]
            fn __init__(slf: &Bound<'_, Self>, $($argument: $type),*) -> PyResult<()> {
                let parts: Parts = $parts(slf.py(), $($argument),*)?;
                slf.as_super().get().replace(slf.py(), parts);
                Ok(())
            }

            $($($extra)*)?
        }
    };
}

response_class!(
    /// Text: `text/plain; charset=utf-8`.
    TextResponse, "TextResponse",
    "(content=b'', status_code=200, headers=None, cookies=None)",
    (content=None, status_code=None, headers=None, cookies=None),
    (content: Optional<'_, '_>, status_code: Optional<'_, '_>, headers: Optional<'_, '_>, cookies: Optional<'_, '_>),
    text_parts
);

response_class!(
    /// A page: `text/html; charset=utf-8`.
    HtmlResponse, "HtmlResponse",
    "(content=b'', status_code=200, headers=None, cookies=None)",
    (content=None, status_code=None, headers=None, cookies=None),
    (content: Optional<'_, '_>, status_code: Optional<'_, '_>, headers: Optional<'_, '_>, cookies: Optional<'_, '_>),
    html_parts
);

response_class!(
    /// A JSON value, encoded by orjson when the response is made.
    JsonResponse, "JsonResponse",
    "(content, status_code=200, headers=None, cookies=None, *, default=None)",
    (content, status_code=None, headers=None, cookies=None, *, default=None),
    (content: &Bound<'_, PyAny>, status_code: Optional<'_, '_>, headers: Optional<'_, '_>, cookies: Optional<'_, '_>, default: Optional<'_, '_>),
    json_parts
);

response_class!(
    /// A redirect: an empty response with `location`.
    RedirectResponse, "RedirectResponse",
    "(location, status_code=302, headers=None, cookies=None)",
    (location, status_code=None, headers=None, cookies=None),
    (location: &Bound<'_, PyAny>, status_code: Optional<'_, '_>, headers: Optional<'_, '_>, cookies: Optional<'_, '_>),
    redirect_parts
);

response_class!(
    /// A response that is made of the request, by `resolve`, before anything is sent.
    DeferredResponse, "DeferredResponse",
    "(status_code=200, headers=None, cookies=None)",
    (status_code=None, headers=None, cookies=None),
    (status_code: Optional<'_, '_>, headers: Optional<'_, '_>, cookies: Optional<'_, '_>),
    deferred_parts,
    {
        #[pyo3(signature = (request, /))]
        fn resolve(slf: &Bound<'_, Self>, request: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
            let _ = request;
            Err(PyNotImplementedError::new_err(format!("{} must define resolve(request)", slf.get_type().name()?)))
        }
    }
);

/// Content produced piece by piece.
///
/// `stream` is an (async) generator function, an (async) iterator or an iterable of bytes or text. The client has
/// `chunk_timeout` seconds to consume each piece and `complete_timeout` seconds for all; 0 or None: no limit. The
/// time that the generator takes does not count.
#[pyclass(frozen, subclass, extends = Response, module = "vibora", name = "StreamingResponse")]
#[derive(Default)]
pub(crate) struct StreamingResponse {
    /// Here and not in [`Parts`], because a generator may refer to its own response: the garbage collector has to see it,
    /// and plain responses are spared its bookkeeping.
    source: GilCell<Option<Py<PyAny>>>,
}

impl StreamingResponse {
    /// What the chunks of a response come from, if it is a stream.
    pub(crate) fn source_of(response: &Bound<'_, Response>) -> Option<Py<PyAny>> {
        let py = response.py();
        let this = response.cast::<Self>().ok()?;
        let source = this.get().source.borrow(py);
        source.as_ref().map(|source| source.clone_ref(py))
    }
}

#[pymethods]
impl StreamingResponse {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(stream, status_code=200, headers=None, cookies=None, chunk_timeout=10, complete_timeout=0, *, send_head_first=False)")]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Response::default()).add_subclass(Self::default())
    }

    #[pyo3(signature = (stream, status_code=None, headers=None, cookies=None, chunk_timeout=Some(10.0), complete_timeout=Some(0.0), *, send_head_first=false))]
    #[allow(
        clippy::too_many_arguments,
        reason = "the signature is the public one, kept from Vibora"
    )]
    fn __init__(
        slf: &Bound<'_, Self>,
        stream: &Bound<'_, PyAny>,
        status_code: Optional<'_, '_>,
        headers: Optional<'_, '_>,
        cookies: Optional<'_, '_>,
        chunk_timeout: Option<f64>,
        complete_timeout: Option<f64>,
        send_head_first: bool,
    ) -> PyResult<()> {
        let py = slf.py();
        let settings = Stream {
            chunk_timeout: milliseconds("chunk_timeout", chunk_timeout)?,
            complete_timeout: milliseconds("complete_timeout", complete_timeout)?,
            send_head_first,
        };
        let parts = stream_parts(stream, settings, status_code, headers, cookies)?;
        slf.as_super().get().replace(py, parts);
        let old = slf.get().source.borrow(py).replace(stream.clone().unbind());
        drop(old);
        Ok(())
    }

    #[getter]
    fn stream<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Self::source_of(slf.as_super()).map(|source| source.into_bound(slf.py()))
    }

    #[getter]
    fn chunk_timeout(slf: &Bound<'_, Self>) -> f64 {
        let parts = slf.as_super().get().parts.borrow(slf.py());
        let stream = parts.stream.as_ref();
        stream.map_or(0.0, |stream| stream.chunk_timeout as f64 / 1000.0)
    }

    #[getter]
    fn complete_timeout(slf: &Bound<'_, Self>) -> f64 {
        let parts = slf.as_super().get().parts.borrow(slf.py());
        let stream = parts.stream.as_ref();
        stream.map_or(0.0, |stream| stream.complete_timeout as f64 / 1000.0)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(source) = self.source.for_traversal() {
            visit.call(&*source)?;
        }
        Ok(())
    }

    fn __clear__(&self, py: Python<'_>) {
        let source = self.source.borrow(py).take();
        drop(source);
    }
}

impl From<&Bound<'_, PyAny>> for StreamingResponse {
    fn from(source: &Bound<'_, PyAny>) -> Self {
        Self {
            source: GilCell::new(Some(source.clone().unbind())),
        }
    }
}

/// Checks what a stream is made of.
pub(crate) fn stream_parts(
    stream: &Bound<'_, PyAny>,
    settings: Stream,
    status: Optional<'_, '_>,
    headers: Optional<'_, '_>,
    cookies: Optional<'_, '_>,
) -> PyResult<Parts> {
    check_stream(stream)?;
    let mut parts = Parts::default();
    read_common(&mut parts, status, headers, cookies)?;
    parts.stream = Some(Box::new(settings));
    Ok(parts)
}

pub(crate) fn text_parts(
    _py: Python<'_>,
    content: Optional<'_, '_>,
    status: Optional<'_, '_>,
    headers: Optional<'_, '_>,
    cookies: Optional<'_, '_>,
) -> PyResult<Parts> {
    plain_parts(TEXT, content, status, headers, cookies)
}

pub(crate) fn html_parts(
    _py: Python<'_>,
    content: Optional<'_, '_>,
    status: Optional<'_, '_>,
    headers: Optional<'_, '_>,
    cookies: Optional<'_, '_>,
) -> PyResult<Parts> {
    plain_parts(HTML, content, status, headers, cookies)
}

/// `orjson.dumps` and the option that lets it take numpy's values.
fn orjson(py: Python<'_>) -> PyResult<&'static (Py<PyAny>, Py<PyAny>)> {
    static ORJSON: pyo3::sync::PyOnceLock<(Py<PyAny>, Py<PyAny>)> = pyo3::sync::PyOnceLock::new();
    ORJSON.get_or_try_init(py, || {
        let module = py.import("orjson")?;
        Ok((
            module.getattr("dumps")?.unbind(),
            module.getattr("OPT_SERIALIZE_NUMPY")?.unbind(),
        ))
    })
}

pub(crate) fn json_parts(
    py: Python<'_>,
    content: &Bound<'_, PyAny>,
    status: Optional<'_, '_>,
    headers: Optional<'_, '_>,
    cookies: Optional<'_, '_>,
    default: Optional<'_, '_>,
) -> PyResult<Parts> {
    let mut parts = Parts {
        content_type: Some(JSON),
        ..Parts::default()
    };
    read_common(&mut parts, status, headers, cookies)?;
    let (dumps, option) = orjson(py)?;
    let encoded = dumps.bind(py).call1((content, default, option))?;
    parts.content = Some(encoded.cast_into::<PyBytes>()?.unbind());
    Ok(parts)
}

fn redirect_parts(
    py: Python<'_>,
    location: &Bound<'_, PyAny>,
    status: Optional<'_, '_>,
    headers: Optional<'_, '_>,
    cookies: Optional<'_, '_>,
) -> PyResult<Parts> {
    let mut parts = Parts {
        status: 302,
        content_type: None,
        ..Parts::default()
    };
    read_common(&mut parts, status, headers, cookies)?;
    if !matches!(parts.status, 300..=399) {
        return Err(PyValueError::new_err(format!(
            "a redirect's status_code must be 300 to 399, not {}",
            parts.status
        )));
    }
    let text = location.str()?;
    // RFC 9110 §10.2.2: a URI reference is ASCII; other characters are sent percent-encoded as UTF-8.
    let mut octets = Vec::with_capacity(text.len()?);
    for byte in text.to_str()?.bytes() {
        if byte.is_ascii() {
            octets.push(byte);
        } else {
            octets.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    parts.fields_mut(py, |fields| {
        fields
            .set(b"location", &octets)
            .map_err(|error| PyValueError::new_err(format!("location {text:?}: {error}")))
    })?;
    Ok(parts)
}

fn milliseconds(name: &str, seconds: Option<f64>) -> PyResult<u64> {
    match seconds {
        None | Some(0.0) => Ok(0),
        Some(seconds) if seconds.is_finite() && seconds > 0.0 => {
            Ok(((seconds * 1000.0) as u64).max(1))
        }
        Some(seconds) => Err(PyValueError::new_err(format!(
            "{name} must be seconds, or 0 or None for no timeout, not {seconds}"
        ))),
    }
}

/// Refuses what is no stream.
fn check_stream(stream: &Bound<'_, PyAny>) -> PyResult<()> {
    let is_stream = stream.is_callable()
        || stream.hasattr("__aiter__")?
        || stream.hasattr("__iter__")?
        || stream.hasattr("__next__")?;
    // Text and bytes are iterable, but not into bytes: a likely mistake.
    if !is_stream || stream.is_instance_of::<PyBytes>() || stream.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err(format!(
            "stream must be a generator function, an (async) iterator or an iterable of bytes, not {}",
            type_name(stream)
        )));
    }
    Ok(())
}
