//! `vibora.Request`: a request as handlers see it. Nothing is decoded before a handler asks for it.

use std::borrow::Cow;
use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyModule, PyString};

use super::cell::GilCell;
use super::content::{Body, BodyFailure, Streamed, Want};
use super::errors::vibora_error;
use super::headers::Headers;
use super::multipart::FormLimits;
use super::protocol::{Caller, Protocol};
use super::query::QueryArgs;
use super::reading::{Answer, Finish, Reading, RequestStream};
use super::route::Route;
use super::server::{Server, settle};
use super::text::{latin1, utf8};
use crate::http::access::is_id;
use crate::http::cookies;
use crate::http::fields::FieldMap;
use crate::http::forwarded::{Peer, Scheme};
use crate::http::head::{HeadLimits, Method, RequestHead, Span, Version, parse_head};
use crate::http::target;
use crate::router::Lookup;

pub(crate) struct State {
    pub(crate) body: Body,
    protocol: Option<Py<Protocol>>,
    headers: Option<Py<Headers>>,
    args: Option<Py<QueryArgs>>,
    cookies: Option<Py<PyDict>>,
    context: Option<Py<PyDict>>,
    /// What a session middleware has set.
    session: Option<Py<PyAny>>,
    /// What trusted proxies say, once it has been asked for.
    reported: Option<Arc<Reported>>,
    route: Option<Py<Route>>,
    /// What is called, in reverse, when the exchange is over.
    exits: Option<Py<PyList>>,
    /// What `form()` and `files()` have read.
    form: Option<Py<PyAny>>,
    /// What the app keeps of the exchange: a `vibora.components.Frame`.
    frame: Option<Py<PyAny>>,
    /// What it is called, unless the client says so: the number that `Server::ids` has given it; 0 if none yet.
    number: u64,
}

/// Who is at the other end, for those who decide whether to trust it.
pub(crate) fn peer_of(caller: &Caller) -> Peer {
    match caller.ip() {
        Some(address) => Peer::Address(address),
        None if caller.unix_socket => Peer::UnixSocket,
        None => Peer::Unknown,
    }
}

/// The request as the client sent it, where trusted proxies tell.
struct Reported {
    client: Option<String>,
    scheme: Scheme,
    host: Vec<u8>,
}

/// A request.
#[pyclass(frozen, weakref, module = "vibora", name = "Request")]
pub(crate) struct Request {
    /// The head's octets; the spans below point into them.
    head: Box<[u8]>,
    method: Method,
    method_text: Span,
    path: Span,
    query: Option<Span>,
    authority: Span,
    version: Version,
    length: Option<u64>,
    server: Py<Server>,
    caller: Arc<Caller>,
    pub(crate) state: GilCell<State>,
}

impl Request {
    pub(crate) fn new(
        head: &RequestHead,
        octets: &[u8],
        length: Option<u64>,
        protocol: &Bound<'_, Protocol>,
        caller: Arc<Caller>,
        route: Option<Py<Route>>,
    ) -> Self {
        Self {
            head: octets.into(),
            method: head.method,
            method_text: head.method_text,
            path: head.path,
            query: head.query,
            authority: head.authority,
            version: head.version,
            length,
            server: protocol.get().server.clone_ref(protocol.py()),
            caller,
            state: GilCell::new(State {
                body: Body::new(length == Some(0)),
                protocol: Some(protocol.clone().unbind()),
                headers: None,
                args: None,
                cookies: None,
                context: None,
                session: None,
                reported: None,
                route,
                exits: None,
                form: None,
                frame: None,
                number: 0,
            }),
        }
    }

    pub(crate) fn set_number(&self, py: Python<'_>, number: u64) {
        self.state.borrow(py).number = number;
    }

    pub(crate) fn is_safe(&self) -> bool {
        self.method.is_safe()
    }

    /// Method and path for the log, with everything unprintable escaped.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{} {}",
            self.method_text.of(&self.head).escape_ascii(),
            self.octets_of_path().escape_ascii()
        )
    }

    fn octets_of_path(&self) -> &[u8] {
        if self.path.is_empty() {
            b"/"
        } else {
            self.path.of(&self.head)
        }
    }

    /// Content has arrived: see [`Body::feed`].
    pub(crate) fn feed(
        &self,
        py: Python<'_>,
        data: &[u8],
        read: Option<&Bound<'_, PyBytes>>,
    ) -> usize {
        self.state.borrow(py).body.feed(data, read)
    }

    pub(crate) fn complete(&self, py: Python<'_>) {
        self.state.borrow(py).body.complete = true;
    }

    pub(crate) fn fail(&self, py: Python<'_>, failure: BodyFailure) {
        self.state.borrow(py).body.fail(failure);
    }

    /// Whether a handler waits for content.
    pub(crate) fn has_reader(&self, py: Python<'_>) -> PyResult<bool> {
        let waiter = self
            .state
            .borrow(py)
            .body
            .waiter
            .as_ref()
            .map(|waiter| waiter.clone_ref(py));
        match waiter {
            // A reader that was cancelled leaves its future behind.
            Some(waiter) => Ok(!waiter
                .call_method0(py, pyo3::intern!(py, "done"))?
                .is_truthy(py)?),
            None => Ok(false),
        }
    }

    /// Whether a piece of content is what the waiting handler waits for.
    pub(crate) fn is_satisfied(&self, py: Python<'_>) -> bool {
        !self.state.borrow(py).body.wants_all
    }

    /// Wakes the handler that waits for content.
    pub(crate) fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let waiter = self.state.borrow(py).body.waiter.take();
        waiter.map_or(Ok(()), |waiter| settle(waiter.bind(py)))
    }

    /// What is to be called when the response is out, the last first.
    pub(crate) fn take_exits(&self, py: Python<'_>) -> Option<Py<PyList>> {
        self.state.borrow(py).exits.take()
    }

    /// The exchange is over: lets go of the connection, and of what was made for the request, which refers to it.
    pub(crate) fn release(&self, py: Python<'_>) {
        let held = {
            let mut state = self.state.borrow(py);
            (state.protocol.take(), state.frame.take())
        };
        drop(held);
    }

    /// The response has failed: what is cleaned up with the request is to know.
    pub(crate) fn note_failure(&self, py: Python<'_>, error: &PyErr) {
        let frame = {
            let state = self.state.borrow(py);
            state.frame.as_ref().map(|frame| frame.clone_ref(py))
        };
        if let Some(frame) = frame {
            // A frame takes any value.
            let _ = frame.setattr(py, pyo3::intern!(py, "error"), error.value(py));
        }
    }

    /// The limits of its forms.
    pub(crate) fn form_limits(&self, py: Python<'_>) -> FormLimits {
        self.state
            .borrow(py)
            .route
            .as_ref()
            .map(|route| route.get().form_limits)
            .unwrap_or_default()
    }

    /// Refuses to read a form out of content that was streamed: its beginning is gone.
    pub(crate) fn check_unread(&self, py: Python<'_>) -> PyResult<()> {
        if self.state.borrow(py).body.streamed != Streamed::Nothing {
            return Err(vibora_error(
                py,
                "StreamAlreadyConsumed",
                ("the request's content has been read already",),
            ));
        }
        Ok(())
    }

    /// Whether it has no content.
    pub(crate) fn is_empty(&self) -> bool {
        self.length == Some(0)
    }

    pub(crate) fn announces_more_than(&self, size: usize) -> bool {
        self.length.is_some_and(|length| length > size as u64)
    }

    pub(crate) fn protocol(&self, py: Python<'_>) -> Option<Py<Protocol>> {
        self.state
            .borrow(py)
            .protocol
            .as_ref()
            .map(|protocol| protocol.clone_ref(py))
    }

    fn fields(&self) -> FieldMap {
        // The head has been parsed before; whoever asks for its fields pays for finding them again.
        let limits = HeadLimits {
            max_request_line: usize::MAX,
            max_head: usize::MAX,
            max_fields: 256,
        };
        let mut head = RequestHead {
            fields: Vec::with_capacity(32),
            ..RequestHead::default()
        };
        match parse_head(&self.head, &limits, &mut head) {
            Ok(Some(())) => {
                let range = |span: Span| span.start as usize..span.end as usize;
                FieldMap::from_spans(
                    &self.head,
                    head.fields
                        .iter()
                        .map(|field| (range(field.name), range(field.value))),
                )
            }
            Ok(None) | Err(_) => FieldMap::new(),
        }
    }

    /// The scheme of the connection.
    fn connected_scheme(&self) -> Scheme {
        if self.caller.secure {
            Scheme::Https
        } else {
            Scheme::Http
        }
    }

    /// What trusted proxies say; `None` where none are trusted.
    fn reported(&self, py: Python<'_>) -> Option<Arc<Reported>> {
        let proxies = self.server.get().proxies.as_ref()?.get();
        if let Some(reported) = &self.state.borrow(py).reported {
            return Some(reported.clone());
        }
        let fields = self.fields();
        let origin = proxies.trust.origin(peer_of(&self.caller), &fields);
        let scheme = origin.scheme.unwrap_or_else(|| self.connected_scheme());
        let mut host = origin
            .host
            .map_or_else(|| self.authority.of(&self.head).to_vec(), Cow::into_owned);
        if let Some(port) = origin.port {
            let has_port = split_host(&host).1.is_some();
            if !host.is_empty() && !has_port && port != scheme.default_port() {
                host.extend_from_slice(format!(":{port}").as_bytes());
            }
        }
        let reported = Arc::new(Reported {
            client: origin
                .client
                .map(|address| address.to_string())
                .or_else(|| self.connected_ip()),
            scheme,
            host,
        });
        self.state.borrow(py).reported = Some(reported.clone());
        Some(reported)
    }

    /// The host that the client asks for, with the port if it says so.
    pub(crate) fn authority(&self, py: Python<'_>) -> Vec<u8> {
        match self.reported(py) {
            Some(reported) => reported.host.clone(),
            None => self.authority.of(&self.head).to_vec(),
        }
    }

    /// The peer's address, as IPv4 where it is one that was mapped into IPv6.
    fn connected_ip(&self) -> Option<String> {
        let (address, _) = self.caller.address.as_ref()?;
        let ip = self.caller.ip().map(|ip| ip.to_canonical().to_string());
        Some(ip.unwrap_or_else(|| address.clone()))
    }

    pub(crate) fn field(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.fields().get(name).map(<[u8]>::to_vec)
    }
}

#[pymethods]
impl Request {
    #[getter]
    fn method<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        match self.method {
            Method::Get => pyo3::intern!(py, "GET").clone(),
            Method::Post => pyo3::intern!(py, "POST").clone(),
            _ => latin1(py, self.method_text.of(&self.head)),
        }
    }

    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        match target::decode_path(self.octets_of_path()) {
            Ok(routed) => utf8(py, &target::decode_segment(&routed)),
            Err(_) => utf8(py, self.octets_of_path()),
        }
    }

    #[getter]
    fn raw_path<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.octets_of_path())
    }

    #[getter]
    fn query_string<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        utf8(
            py,
            self.query.map_or(&b""[..], |query| query.of(&self.head)),
        )
    }

    #[getter]
    fn host<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        match self.reported(py) {
            Some(reported) => latin1(py, &reported.host),
            None => latin1(py, self.authority.of(&self.head)),
        }
    }

    #[getter]
    fn scheme(&self, py: Python<'_>) -> &'static str {
        self.reported(py)
            .map_or_else(|| self.connected_scheme(), |reported| reported.scheme)
            .as_str()
    }

    #[getter]
    fn url<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static URL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class = URL.get_or_try_init(py, || {
            py.import("vibora.urls")?.getattr("URL").map(Bound::unbind)
        })?;
        let (scheme, authority) = match self.reported(py) {
            Some(reported) => (reported.scheme, reported.host.clone()),
            None => (
                self.connected_scheme(),
                self.authority.of(&self.head).to_vec(),
            ),
        };
        let (host, port) = split_host(&authority);
        let (host, port) = if host.is_empty() {
            // A client of HTTP/1.0 may leave out whom it asks: then it is asking us.
            let address = match self.protocol(py) {
                Some(protocol) => protocol.get().local_address(py)?,
                None => None,
            };
            address.map_or_else(
                || ("localhost".to_owned(), None),
                |(host, port)| {
                    (
                        host,
                        Some(port).filter(|port| *port != scheme.default_port()),
                    )
                },
            )
        } else {
            (String::from_utf8_lossy(host).to_ascii_lowercase(), port)
        };
        class.bind(py).call1((
            scheme.as_str(),
            host,
            port,
            self.path(py),
            latin1(py, self.octets_of_path()),
            self.query_string(py),
        ))
    }

    fn client_ip(&self, py: Python<'_>) -> Option<String> {
        self.reported(py)
            .map_or_else(|| self.connected_ip(), |reported| reported.client.clone())
    }

    #[getter]
    fn id(&self, py: Python<'_>) -> String {
        let given = self.field(b"x-request-id").filter(|value| is_id(value));
        if let Some(given) = given.and_then(|value| String::from_utf8(value).ok()) {
            return given;
        }
        let ids = &self.server.get().ids;
        let mut state = self.state.borrow(py);
        if state.number == 0 {
            state.number = ids.next(py);
        }
        ids.spell(state.number)
    }

    #[getter]
    fn cookies(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        if let Some(cookies) = &self.state.borrow(py).cookies {
            return Ok(cookies.clone_ref(py));
        }
        let found = PyDict::new(py);
        let fields = self.fields();
        for (name, value) in fields.get_all(b"cookie").flat_map(cookies::cookies) {
            let name = utf8(py, name);
            // RFC 6265bis §5.8.3: browsers send the cookie with the longest path first.
            if !found.contains(&name)? {
                found.set_item(name, utf8(py, &value))?;
            }
        }
        self.state.borrow(py).cookies = Some(found.clone().unbind());
        Ok(found.unbind())
    }

    #[getter]
    fn session(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.state.borrow(py).session.as_ref().map_or_else(
            || {
                Err(vibora_error(
                    py,
                    "ConfigurationError",
                    ("this app has no sessions: no middleware has set request.session",),
                ))
            },
            |session| Ok(session.clone_ref(py)),
        )
    }

    #[setter]
    fn set_session(&self, py: Python<'_>, session: Py<PyAny>) {
        let old = self.state.borrow(py).session.replace(session);
        drop(old);
    }

    #[getter]
    fn args(&self, py: Python<'_>) -> PyResult<Py<QueryArgs>> {
        if let Some(args) = &self.state.borrow(py).args {
            return Ok(args.clone_ref(py));
        }
        let args = Py::new(
            py,
            QueryArgs::parse(self.query.map_or(&b""[..], |query| query.of(&self.head))),
        )?;
        self.state.borrow(py).args = Some(args.clone_ref(py));
        Ok(args)
    }

    #[getter]
    fn headers(&self, py: Python<'_>) -> PyResult<Py<Headers>> {
        if let Some(headers) = &self.state.borrow(py).headers {
            return Ok(headers.clone_ref(py));
        }
        let headers = Py::new(py, Headers::from_fields(self.fields()))?;
        self.state.borrow(py).headers = Some(headers.clone_ref(py));
        Ok(headers)
    }

    #[getter]
    fn http_version(&self) -> &'static str {
        match self.version {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
        }
    }

    #[getter]
    fn content_type<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        self.field(b"content-type").map(|value| latin1(py, &value))
    }

    #[getter]
    fn content_length(&self, py: Python<'_>) -> Option<u64> {
        // A request without content has no length to tell unless it says so itself.
        if self.length == Some(0) && !self.fields().contains(b"content-length") {
            return None;
        }
        let _ = py;
        self.length
    }

    /// The peer's address and port; `None` on a unix socket.
    #[getter]
    fn client(&self) -> Option<(String, u16)> {
        self.caller.address.clone()
    }

    /// The certificate that the client has shown, in DER.
    #[getter]
    fn client_certificate(&self, py: Python<'_>) -> PyResult<Option<Py<PyBytes>>> {
        match self.protocol(py) {
            Some(protocol) => protocol.get().client_certificate(py),
            None => Ok(None),
        }
    }

    #[getter]
    fn route(&self, py: Python<'_>) -> Option<Py<Route>> {
        self.state
            .borrow(py)
            .route
            .as_ref()
            .map(|route| route.clone_ref(py))
    }

    #[getter]
    fn app(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.server.get().app.as_ref().map_or_else(
            || {
                Err(PyRuntimeError::new_err(
                    "the server of this request was started without an app",
                ))
            },
            |app| Ok(app.clone_ref(py)),
        )
    }

    #[getter]
    fn context(&self, py: Python<'_>) -> Py<PyDict> {
        self.state
            .borrow(py)
            .context
            .get_or_insert_with(|| PyDict::new(py).unbind())
            .clone_ref(py)
    }

    #[getter]
    fn path_params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (Some(route), Some(protocol)) = (self.route(py), self.protocol(py)) else {
            return Ok(PyDict::new(py));
        };
        let table = protocol.get().server.get().table(py);
        let Ok(path) = target::decode_path(self.octets_of_path()) else {
            return Ok(PyDict::new(py));
        };
        let method = self.method_text.of(&self.head);
        let mut groups = Vec::new();
        match table.find(py, method, &self.authority(py), &path, &mut groups)? {
            Lookup::Found { parameters, .. } => route.get().path_parameters(py, &parameters),
            _ => Ok(PyDict::new(py)),
        }
    }

    #[getter]
    fn stream(slf: Py<Self>) -> RequestStream {
        RequestStream { request: slf }
    }

    fn content(slf: Py<Self>) -> Reading {
        Reading {
            request: slf,
            want: Want::Whole,
            finish: Finish::Bytes,
        }
    }

    fn text(slf: Py<Self>) -> Reading {
        Reading {
            request: slf,
            want: Want::Whole,
            finish: Finish::Text,
        }
    }

    #[pyo3(signature = (loads=None, strict=false))]
    fn json(slf: Py<Self>, loads: Option<Py<PyAny>>, strict: bool) -> Reading {
        Reading {
            request: slf,
            want: Want::Whole,
            finish: Finish::Json { loads, strict },
        }
    }

    /// An exception that nobody has answered for: see [`Server::tell_failure`].
    fn _tell_failure(&self, py: Python<'_>, error: Bound<'_, PyAny>) {
        if let Some(protocol) = self.protocol(py) {
            let server = &protocol.get().server;
            server
                .get()
                .tell_failure(py, &protocol, &PyErr::from_value(error));
        }
    }

    /// Has `callback`, which may return an awaitable, called when the exchange is over, before those added earlier.
    fn _on_exit(&self, py: Python<'_>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        let exits = self
            .state
            .borrow(py)
            .exits
            .get_or_insert_with(|| PyList::empty(py).unbind())
            .clone_ref(py);
        exits.bind(py).append(callback)
    }

    fn form<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        forms(slf, pyo3::intern!(slf.py(), "read_fields"))
    }

    fn files<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        forms(slf, pyo3::intern!(slf.py(), "read_files"))
    }

    fn multipart<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        forms(slf, pyo3::intern!(slf.py(), "Multipart"))
    }

    #[getter(_form)]
    fn kept_form(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state
            .borrow(py)
            .form
            .as_ref()
            .map(|form| form.clone_ref(py))
    }

    #[setter(_form)]
    fn keep_form(&self, py: Python<'_>, form: Py<PyAny>) {
        let before = self.state.borrow(py).form.replace(form);
        drop(before);
    }

    /// The content, if it has been read as a whole.
    #[getter(_collected)]
    fn collected(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        self.state
            .borrow(py)
            .body
            .collected
            .as_ref()
            .map(|content| content.clone_ref(py))
    }

    #[getter]
    fn _frame(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let state = self.state.borrow(py);
        state.frame.as_ref().map(|frame| frame.clone_ref(py))
    }

    #[setter(_frame)]
    fn set_frame(&self, py: Python<'_>, frame: Py<PyAny>) {
        let old = self.state.borrow(py).frame.replace(frame);
        drop(old);
    }

    // `context` holds whatever the app likes, the request itself included.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)?;
        if let Some(state) = self.state.for_traversal() {
            visit.call(&state.context)?;
            visit.call(&state.exits)?;
            visit.call(&state.session)?;
            visit.call(&state.cookies)?;
            visit.call(&state.form)?;
            visit.call(&state.frame)?;
        }
        Ok(())
    }

    fn __clear__(&self, py: Python<'_>) {
        let held = {
            let mut state = self.state.borrow(py);
            (
                state.context.take(),
                state.session.take(),
                state.exits.take(),
                state.form.take(),
                state.frame.take(),
            )
        };
        drop(held);
    }

    /// An awaitable that says whether the client has gone.
    fn is_disconnected(&self, py: Python<'_>) -> Answer {
        let gone = self
            .protocol(py)
            .is_none_or(|protocol| protocol.get().is_disconnected(py));
        Answer { value: gone }
    }

    /// Whether the server has begun to shut down.
    #[getter]
    fn is_shutting_down(&self, py: Python<'_>) -> bool {
        self.protocol(py)
            .is_none_or(|protocol| protocol.get().server.get().is_stopping(py))
    }

    fn __repr__(&self) -> String {
        format!("<Request {}>", self.describe())
    }
}

/// Calls a function of `vibora.forms` with the request.
fn forms<'py>(
    request: &Bound<'py, Request>,
    function: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let py = request.py();
    MODULE
        .get_or_try_init(py, || py.import("vibora.forms").map(Bound::unbind))?
        .bind(py)
        .call_method1(function, (request,))
}

/// The host and the port of a valid authority: `example.org:80`, `[::1]:80`. The host comes without brackets.
fn split_host(authority: &[u8]) -> (&[u8], Option<u16>) {
    let (host, after) = if let [b'[', rest @ ..] = authority {
        let end = memchr::memchr(b']', rest).unwrap_or(rest.len());
        (
            rest.get(..end).unwrap_or_default(),
            rest.get(end + 1..).unwrap_or_default(),
        )
    } else {
        let end = memchr::memchr(b':', authority).unwrap_or(authority.len());
        authority.split_at_checked(end).unwrap_or((authority, b""))
    };
    let port = after
        .strip_prefix(b":")
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    (host, port)
}

#[cfg(test)]
mod tests {
    use super::split_host;

    #[test]
    fn a_host_is_split_from_its_port() {
        for (authority, host, port) in [
            ("", "", None),
            ("a", "a", None),
            ("a:80", "a", Some(80)),
            ("a:", "a", None),
            ("[::1]", "::1", None),
            ("[::1]:8000", "::1", Some(8000)),
        ] {
            assert_eq!(split_host(authority.as_bytes()), (host.as_bytes(), port));
        }
    }
}
