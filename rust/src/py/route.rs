//! Routes as Python registers them: the handler with its call plan, computed once, and the router over them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};
use smallvec::SmallVec;

use super::cell::GilCell;
use super::multipart::FormLimits;
use super::request::Request;
use super::text::utf8;
use crate::http::target;
use crate::router::{self, Host, Lookup, Pattern, RouteError, Scope, Strategy};

/// How a handler is driven (DESIGN: "Driving Python").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drive {
    /// A coroutine function that cannot suspend: one `send` completes it, no task is needed.
    Direct,
    /// A coroutine function that waits for nothing but its request's content: driven as `Direct` when that is there,
    /// else as `Task`.
    Content,
    /// A coroutine function, or anything that returns an awaitable: an `asyncio.Task` owns the exchange.
    Task,
    /// A plain function, in the loop's thread pool.
    Thread,
    /// A plain function, called on the loop.
    Inline,
}

/// What becomes of a handler whose client has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDisconnect {
    Cancel,
    Finish,
    /// Safe methods are cancelled, others finish.
    Auto,
}

/// The type a path parameter is converted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Converter {
    Str,
    Int,
    Float,
    Bool,
    Uuid,
    Date,
}

impl Converter {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "str" => Self::Str,
            "int" => Self::Int,
            "float" => Self::Float,
            "bool" => Self::Bool,
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            _ => return None,
        })
    }

    /// The value of a routed segment; `Ok(None)` if it is no such value: the route does not match then.
    pub(crate) fn convert<'py>(
        self,
        py: Python<'py>,
        routed: &[u8],
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let decoded = target::decode_segment(routed);
        let Ok(text) = std::str::from_utf8(&decoded) else {
            return Ok(None);
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        Ok(match self {
            Self::Str => Some(PyString::new(py, text).into_any()),
            Self::Int if !digits(text.strip_prefix('-').unwrap_or(text)) => None,
            Self::Int => match text.parse::<i64>() {
                Ok(value) => Some(value.into_pyobject(py)?.into_any()),
                // Beyond 64 bits Python's own int() has the word, and its limit of digits.
                Err(_) => py.get_type::<pyo3::types::PyInt>().call1((text,)).ok(),
            },
            Self::Float => match text.parse::<f64>() {
                Ok(value)
                    if value.is_finite()
                        && text.bytes().all(|b| b"0123456789.eE+-".contains(&b)) =>
                {
                    Some(value.into_pyobject(py)?.into_any())
                }
                _ => None,
            },
            Self::Bool => match text {
                "true" | "True" | "1" => Some(true.into_pyobject(py)?.to_owned().into_any()),
                "false" | "False" | "0" => Some(false.into_pyobject(py)?.to_owned().into_any()),
                _ => None,
            },
            Self::Uuid => {
                let shape = text.len() == 36
                    && text.bytes().enumerate().all(|(at, b)| match at {
                        8 | 13 | 18 | 23 => b == b'-',
                        _ => b.is_ascii_hexdigit(),
                    });
                if shape {
                    Some(class(py, "uuid", "UUID", &UUID)?.call1((text,))?)
                } else {
                    None
                }
            }
            Self::Date => {
                let mut parts = text.split('-');
                let widths = [4, 2, 2];
                let shape = text.len() == 10
                    && widths.iter().all(|width| {
                        parts
                            .next()
                            .is_some_and(|part| part.len() == *width && digits(part))
                    });
                // A date that the calendar does not have does not match either.
                if shape {
                    class(py, "datetime", "date", &DATE)?
                        .call_method1("fromisoformat", (text,))
                        .ok()
                } else {
                    None
                }
            }
        })
    }
}

static UUID: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static DATE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

fn class<'py>(
    py: Python<'py>,
    module: &str,
    name: &str,
    cell: &'static PyOnceLock<Py<PyAny>>,
) -> PyResult<&'py Bound<'py, PyAny>> {
    cell.get_or_try_init(py, || py.import(module)?.getattr(name).map(Bound::unbind))
        .map(|class| class.bind(py))
}

/// The value of a parameter whose group took no part in the match. No path has this octet:
/// [`decode_path`](target::decode_path) refuses it.
const ABSENT: &[u8] = b"\0";

/// One argument of the handler's call.
enum Argument {
    Request,
    Parameter {
        index: usize,
        converter: Converter,
        /// What stands for a group that took no part; `None` where there is no default.
        default: Option<Py<PyAny>>,
    },
    Constant(Py<PyAny>),
}

/// A registered route. Immutable.
#[pyclass(frozen, weakref, module = "vibora", name = "Route")]
pub(crate) struct Route {
    #[pyo3(get)]
    pub(crate) handler: Py<PyAny>,
    /// What is called: the handler, or what the app has wrapped around it.
    call: Py<PyAny>,
    #[pyo3(get)]
    pub(crate) pattern: String,
    /// The `re.Pattern` that matches the path, in place of `pattern`.
    expression: Option<Py<PyAny>>,
    hosts: Vec<BoundHost>,
    strategy: Strategy,
    #[pyo3(get)]
    pub(crate) methods: Vec<String>,
    #[pyo3(get)]
    pub(crate) name: Py<PyString>,
    pub(crate) drive: Drive,
    arguments: Vec<Argument>,
    /// Names of the trailing arguments that are passed by keyword.
    keywords: Option<Py<PyTuple>>,
    parameters: Vec<Py<PyString>>,
    pub(crate) wants_request: bool,
    #[pyo3(get)]
    pub(crate) max_body_size: u64,
    /// Milliseconds; 0: off.
    pub(crate) timeout: u64,
    /// Milliseconds; 0: off.
    pub(crate) body_timeout: u64,
    /// Bytes per second; 0: off.
    pub(crate) min_body_rate: u64,
    pub(crate) on_disconnect: OnDisconnect,
    pub(crate) form_limits: FormLimits,
    /// Where `Metrics` counts its requests.
    metrics_entry: AtomicUsize,
}

impl Route {
    pub(crate) fn metrics_entry(&self) -> usize {
        self.metrics_entry.load(Ordering::Relaxed)
    }
}

/// A host that a route is bound to.
enum BoundHost {
    Name(String),
    /// A `re.Pattern`.
    Expression(Py<PyAny>),
}

impl BoundHost {
    fn new(host: Bound<'_, PyAny>) -> PyResult<Self> {
        match host.cast::<PyString>() {
            Ok(name) => Ok(Self::Name(name.to_str()?.to_owned())),
            Err(_) => Ok(Self::Expression(host.unbind())),
        }
    }
}

fn parse_strategy(name: &str) -> PyResult<Strategy> {
    match name {
        "strict" => Ok(Strategy::Strict),
        "redirect" => Ok(Strategy::Redirect),
        "clone" => Ok(Strategy::Clone),
        other => Err(PyValueError::new_err(format!(
            "strategy must be 'strict', 'redirect' or 'clone', not {other:?}"
        ))),
    }
}

fn milliseconds(seconds: f64) -> u64 {
    if seconds > 0.0 {
        ((seconds * 1000.0) as u64).max(1)
    } else {
        0
    }
}

/// The handler's arguments, ready for the call.
pub(crate) type Arguments = SmallVec<[Py<PyAny>; 6]>;

impl Route {
    /// Builds the handler's arguments. `Ok(None)`: a parameter cannot be converted, so the route does not match.
    pub(crate) fn arguments(
        &self,
        py: Python<'_>,
        request: Option<&Py<Request>>,
        parameters: &[&[u8]],
    ) -> PyResult<Option<Arguments>> {
        let mut values = Arguments::with_capacity(self.arguments.len());
        for argument in &self.arguments {
            values.push(match argument {
                Argument::Request => match request {
                    Some(request) => request.clone_ref(py).into_any(),
                    None => return Err(PyTypeError::new_err("the call plan has no request")),
                },
                Argument::Parameter {
                    index,
                    converter,
                    default,
                } => {
                    let routed = parameters.get(*index).copied().unwrap_or_default();
                    if routed == ABSENT {
                        let default = default.as_ref().map(|value| value.clone_ref(py));
                        values.push(default.unwrap_or_else(|| py.None()));
                        continue;
                    }
                    match converter.convert(py, routed)? {
                        Some(value) => value.unbind(),
                        None => return Ok(None),
                    }
                }
                Argument::Constant(value) => value.clone_ref(py),
            });
        }
        Ok(Some(values))
    }

    /// Calls the handler.
    #[inline]
    pub(crate) fn call<'py>(
        &self,
        py: Python<'py>,
        arguments: &Arguments,
    ) -> PyResult<Bound<'py, PyAny>> {
        let keywords = self
            .keywords
            .as_ref()
            .map_or(std::ptr::null_mut(), Py::as_ptr);
        let named = self
            .keywords
            .as_ref()
            .map_or(0, |names| names.bind(py).len());
        // SAFETY: `Py<PyAny>` is a transparent pointer, so the vector is an array of `PyObject *`, alive through the
        // call; the last `named` of them belong to the names in the tuple. The result is a new reference or null with
        // an exception set.
        unsafe {
            let result = ffi::PyObject_Vectorcall(
                self.call.as_ptr(),
                arguments.as_ptr().cast(),
                arguments.len().saturating_sub(named),
                keywords,
            );
            Bound::from_owned_ptr_or_err(py, result)
        }
    }

    /// What is called.
    pub(crate) fn callee(&self, py: Python<'_>) -> Py<PyAny> {
        self.call.clone_ref(py)
    }

    /// The names of the trailing arguments that are passed by keyword.
    pub(crate) fn keyword_names<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyAny>> {
        self.keywords
            .as_ref()
            .map_or_else(Vec::new, |names| names.bind(py).iter().collect())
    }

    /// The path's parameters by name, converted as the handler asks for them, else as text.
    pub(crate) fn path_parameters<'py>(
        &self,
        py: Python<'py>,
        parameters: &[&[u8]],
    ) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (at, name) in self.parameters.iter().enumerate() {
            let routed = parameters.get(at).copied().unwrap_or_default();
            if routed == ABSENT {
                dict.set_item(name, py.None())?;
                continue;
            }
            let value = match self
                .converter(at)
                .map(|converter| converter.convert(py, routed))
                .transpose()?
                .flatten()
            {
                Some(value) => value,
                None => utf8(py, &target::decode_segment(routed)).into_any(),
            };
            dict.set_item(name, value)?;
        }
        Ok(dict)
    }

    /// What a parameter is converted to, if the handler asks for it.
    fn converter(&self, at: usize) -> Option<Converter> {
        self.arguments.iter().find_map(|argument| match argument {
            Argument::Parameter {
                index, converter, ..
            } if *index == at => Some(*converter),
            _ => None,
        })
    }

    /// The parameters of a path that the expression matched.
    fn groups(&self, py: Python<'_>, found: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<u8>>> {
        self.parameters
            .iter()
            .map(|name| {
                let group: Option<String> = found
                    .call_method1(intern!(py, "group"), (name,))?
                    .extract()?;
                Ok(group.map_or_else(|| ABSENT.to_vec(), String::into_bytes))
            })
            .collect()
    }
}

#[pymethods]
impl Route {
    #[new]
    #[pyo3(signature = (handler, *, call=None, pattern, methods, name, drive, arguments, parameters, max_body_size, timeout, body_timeout, min_body_rate, on_disconnect, expression=None, hosts=Vec::new(), strategy="strict", form_limits=None))]
    #[allow(
        clippy::too_many_arguments,
        reason = "a record with named fields; only vibora.routing constructs it"
    )]
    fn new(
        py: Python<'_>,
        handler: Py<PyAny>,
        call: Option<Py<PyAny>>,
        pattern: String,
        methods: Vec<String>,
        name: Py<PyString>,
        drive: &str,
        arguments: Vec<(String, Bound<'_, PyAny>, Option<String>)>,
        parameters: Vec<Py<PyString>>,
        max_body_size: u64,
        timeout: f64,
        body_timeout: f64,
        min_body_rate: u64,
        on_disconnect: &str,
        expression: Option<Py<PyAny>>,
        hosts: Vec<Bound<'_, PyAny>>,
        strategy: &str,
        form_limits: Option<(usize, usize, usize, usize, usize)>,
    ) -> PyResult<Self> {
        let drive = match drive {
            "direct" => Drive::Direct,
            "content" => Drive::Content,
            "task" => Drive::Task,
            "thread" => Drive::Thread,
            "inline" => Drive::Inline,
            other => return Err(PyValueError::new_err(format!("unknown drive {other:?}"))),
        };
        let on_disconnect = match on_disconnect {
            "cancel" => OnDisconnect::Cancel,
            "finish" => OnDisconnect::Finish,
            "auto" => OnDisconnect::Auto,
            other => {
                return Err(PyValueError::new_err(format!(
                    "on_disconnect must be 'cancel', 'finish' or 'auto', not {other:?}"
                )));
            }
        };
        let strategy = parse_strategy(strategy)?;
        let hosts = hosts
            .into_iter()
            .map(BoundHost::new)
            .collect::<PyResult<_>>()?;
        let mut plan = Vec::with_capacity(arguments.len());
        let mut keywords = Vec::new();
        for (kind, value, keyword) in arguments {
            match keyword {
                Some(keyword) => keywords.push(keyword),
                None if keywords.is_empty() => {}
                None => {
                    return Err(PyValueError::new_err(
                        "positional arguments come before keyword arguments",
                    ));
                }
            }
            plan.push(match kind.as_str() {
                "request" => Argument::Request,
                "parameter" => {
                    let value = value.cast::<PyTuple>().map_err(PyErr::from)?;
                    let index: usize = value.get_item(0)?.extract()?;
                    let converter: String = value.get_item(1)?.extract()?;
                    let default = value.get_item(2).ok().map(Bound::unbind);
                    if index >= parameters.len() {
                        return Err(PyIndexError::new_err("parameter index out of range"));
                    }
                    let converter = Converter::parse(&converter).ok_or_else(|| {
                        PyValueError::new_err(format!("unknown converter {converter:?}"))
                    })?;
                    Argument::Parameter {
                        index,
                        converter,
                        default,
                    }
                }
                "constant" => Argument::Constant(value.unbind()),
                other => {
                    return Err(PyValueError::new_err(format!(
                        "unknown argument kind {other:?}"
                    )));
                }
            });
        }
        Ok(Self {
            metrics_entry: AtomicUsize::new(0),
            wants_request: plan
                .iter()
                .any(|argument| matches!(argument, Argument::Request)),
            call: call.unwrap_or_else(|| handler.clone_ref(py)),
            handler,
            pattern,
            expression,
            hosts,
            strategy,
            methods,
            name,
            drive,
            arguments: plan,
            keywords: if keywords.is_empty() {
                None
            } else {
                Some(PyTuple::new(py, keywords)?.unbind())
            },
            parameters,
            max_body_size: if max_body_size == 0 {
                u64::MAX
            } else {
                max_body_size
            },
            timeout: milliseconds(timeout),
            body_timeout: milliseconds(body_timeout),
            min_body_rate,
            on_disconnect,
            form_limits: form_limits.map_or_else(FormLimits::default, FormLimits::from_tuple),
        })
    }

    /// Has its requests counted in an entry of `Metrics`.
    fn count_in(&self, entry: usize) {
        self.metrics_entry.store(entry, Ordering::Relaxed);
    }

    #[getter]
    fn expression(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.expression
            .as_ref()
            .map(|pattern| pattern.clone_ref(py))
    }

    #[getter]
    fn hosts<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyAny>> {
        self.hosts
            .iter()
            .map(|host| match host {
                BoundHost::Name(name) => PyString::new(py, name).into_any(),
                BoundHost::Expression(pattern) => pattern.bind(py).clone(),
            })
            .collect()
    }

    #[getter]
    fn strategy(&self) -> &'static str {
        match self.strategy {
            Strategy::Strict => "strict",
            Strategy::Redirect => "redirect",
            Strategy::Clone => "clone",
        }
    }

    #[getter]
    fn parameters(&self, py: Python<'_>) -> Vec<Py<PyString>> {
        self.parameters
            .iter()
            .map(|name| name.clone_ref(py))
            .collect()
    }

    /// Whether a path parameter takes a text for its value.
    fn accepts(&self, py: Python<'_>, parameter: &str, text: &str) -> PyResult<bool> {
        for (at, name) in self.parameters.iter().enumerate() {
            if name.bind(py).to_str()? == parameter {
                // As it would be routed, where these two stay encoded.
                let routed = text.replace('%', "%25").replace('/', "%2F");
                return match self.converter(at) {
                    Some(converter) => Ok(converter.convert(py, routed.as_bytes())?.is_some()),
                    None => Ok(true),
                };
            }
        }
        Ok(false)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!(
            "<Route {:?} {} {}>",
            self.name.bind(py).to_string_lossy(),
            self.methods.join(","),
            self.pattern
        )
    }
}

pyo3::create_exception!(
    vibora,
    RouteConflict,
    PyValueError,
    "Two routes that can match the same request; `existing` is the one that was there first."
);

/// The routes and the tree over them. Shared, and copied when a route is added while it is in use.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) tree: router::Router,
    pub(crate) routes: Vec<Py<Route>>,
    /// The `re.Pattern` of each expression that the tree knows.
    expressions: Vec<Py<PyAny>>,
}

impl Table {
    /// Finds the route of a request where hosts and expressions may count. Calls into Python. What the groups of an
    /// expression have matched is put into `groups`, and found there as the parameters.
    pub(crate) fn find<'t, 'p>(
        &'t self,
        py: Python<'_>,
        method: &[u8],
        authority: &[u8],
        path: &'p [u8],
        groups: &'p mut Vec<Vec<u8>>,
    ) -> PyResult<Lookup<'t, 'p>> {
        let mut last = None;
        let mut failure = None;
        let lookup = self
            .tree
            .lookup_for(method, authority, path, &mut |expression, text| {
                if failure.is_some() {
                    return false;
                }
                match self.fullmatch(py, expression, text) {
                    Ok(found) => last = found,
                    Err(error) => {
                        failure = Some(error);
                        return false;
                    }
                }
                last.is_some()
            });
        if let Some(error) = failure {
            return Err(error);
        }
        match (lookup, last) {
            (Lookup::Matched { route }, Some(found)) => {
                if let Some(route) = self.routes.get(route) {
                    *groups = route.get().groups(py, &found)?;
                }
                let groups: &'p Vec<Vec<u8>> = groups;
                let parameters = groups.iter().map(Vec::as_slice).collect();
                Ok(Lookup::Found { route, parameters })
            }
            (lookup, _) => Ok(lookup),
        }
    }

    /// The match of an expression, if it matches all of a text. What is not UTF-8 is matched by none.
    fn fullmatch<'py>(
        &self,
        py: Python<'py>,
        expression: usize,
        text: &[u8],
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match (self.expressions.get(expression), std::str::from_utf8(text)) {
            (Some(pattern), Ok(text)) => {
                let found = pattern
                    .bind(py)
                    .call_method1(intern!(py, "fullmatch"), (text,))?;
                Ok((!found.is_none()).then_some(found))
            }
            _ => Ok(None),
        }
    }

    /// A table with the same routes.
    fn copy(&self, py: Python<'_>) -> Self {
        Self {
            tree: self.tree.clone(),
            routes: self
                .routes
                .iter()
                .map(|route| route.clone_ref(py))
                .collect(),
            expressions: self
                .expressions
                .iter()
                .map(|pattern| pattern.clone_ref(py))
                .collect(),
        }
    }

    /// The number of a `re.Pattern`, a new one if no route has its equal. Calls into Python.
    fn number_of(&mut self, pattern: &Bound<'_, PyAny>) -> PyResult<usize> {
        for (number, known) in self.expressions.iter().enumerate() {
            if pattern.eq(known)? {
                return Ok(number);
            }
        }
        self.expressions.push(pattern.clone().unbind());
        Ok(self.expressions.len() - 1)
    }

    /// Adds a route. Calls into Python.
    fn add(
        &mut self,
        py: Python<'_>,
        route: &Bound<'_, Route>,
    ) -> PyResult<Result<(), RouteError>> {
        let this = route.get();
        let methods: Vec<&str> = this.methods.iter().map(String::as_str).collect();
        let pattern = match &this.expression {
            Some(expression) => Pattern::Expression(self.number_of(expression.bind(py))?),
            None => Pattern::Text(&this.pattern),
        };
        let mut hosts = Vec::with_capacity(this.hosts.len());
        for host in &this.hosts {
            hosts.push(match host {
                BoundHost::Name(name) => Host::Name(name),
                BoundHost::Expression(expression) => {
                    Host::Expression(self.number_of(expression.bind(py))?)
                }
            });
        }
        let scope = Scope {
            pattern,
            methods: &methods,
            hosts: &hosts,
            strategy: this.strategy,
        };
        let added = self.tree.add_scoped(&scope, self.routes.len());
        if added.is_ok() {
            self.routes.push(route.clone().unbind());
        }
        Ok(added)
    }
}

/// Finds the route of a request.
#[pyclass(frozen, module = "vibora", name = "Router")]
#[derive(Default)]
pub(crate) struct Router {
    table: GilCell<Arc<Table>>,
}

impl Router {
    /// The table as it is now. A reference count is all that is held while Python runs.
    #[inline]
    pub(crate) fn table(&self, py: Python<'_>) -> Arc<Table> {
        Arc::clone(&self.table.borrow(py))
    }
}

#[pymethods]
impl Router {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Adds a route.
    fn add(&self, py: Python<'_>, route: &Bound<'_, Route>) -> PyResult<()> {
        // Taken out, so that nothing is borrowed while expressions are compared; requests keep the table they have.
        let mut shared = std::mem::take(&mut *self.table.borrow(py));
        let mut copy = Arc::get_mut(&mut shared).is_none().then(|| shared.copy(py));
        let added = match (&mut copy, Arc::get_mut(&mut shared)) {
            (Some(table), _) | (None, Some(table)) => table.add(py, route),
            (None, None) => Err(PyValueError::new_err("the routes are in use")),
        };
        let table = copy.map_or(shared, Arc::new);
        *self.table.borrow(py) = Arc::clone(&table);
        added?.map_err(|error| {
            let this = route.get();
            let methods: Vec<&str> = this.methods.iter().map(String::as_str).collect();
            conflict(py, error, this, &methods, &table.routes)
        })
    }

    /// The route that answers `method` on `path`, if there is one.
    #[pyo3(signature = (method, path, host=""))]
    fn lookup(
        &self,
        py: Python<'_>,
        method: &str,
        path: &str,
        host: &str,
    ) -> PyResult<Option<Py<Route>>> {
        let table = self.table(py);
        let path = target::decode_path(path.as_bytes())
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let mut groups = Vec::new();
        match table.find(py, method.as_bytes(), host.as_bytes(), &path, &mut groups)? {
            Lookup::Found { route, .. } => {
                Ok(table.routes.get(route).map(|route| route.clone_ref(py)))
            }
            _ => Ok(None),
        }
    }

    /// All routes in the order of their registration.
    #[getter]
    fn routes(&self, py: Python<'_>) -> Vec<Py<Route>> {
        self.table(py)
            .routes
            .iter()
            .map(|route| route.clone_ref(py))
            .collect()
    }
}

fn conflict(
    py: Python<'_>,
    error: RouteError,
    new: &Route,
    methods: &[&str],
    routes: &[Py<Route>],
) -> PyErr {
    let (existing, method) = match error {
        RouteError::BadPattern(message) => return PyValueError::new_err(message),
        RouteError::Duplicate { existing, method } => (existing, method),
        RouteError::Conflict { existing } => (existing, methods.join(", ")),
    };
    let Some(route) = routes.get(existing) else {
        return PyValueError::new_err(format!("{:?} conflicts with another route", new.pattern));
    };
    let message = format!(
        "{method} {:?} can match the same requests as {:?} of {:?}",
        new.pattern,
        route.get().pattern,
        route.get().name.bind(py).to_string_lossy()
    );
    let error = RouteConflict::new_err(message);
    match error.value(py).setattr("existing", route) {
        Ok(()) => error,
        Err(error) => error,
    }
}
