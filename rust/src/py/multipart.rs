//! Forms: `FormReader` collects one, `MultipartParser` hands it out part by part. What blocks, files above all, is the
//! business of `vibora.forms`.

use std::string::FromUtf8Error;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use super::cell::GilCell;
use super::errors::vibora_error;
use super::headers::Headers;
use super::query::QueryArgs;
use super::request::Request;
use crate::http::multipart::{Event, MultipartError, MultipartLimits};
use crate::http::parameters::{self, Text};
use crate::http::{multipart, target};

/// `RouteLimits`, as far as they are about forms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FormLimits {
    max_fields: usize,
    max_files: usize,
    max_fields_size: usize,
    max_part_header: usize,
    in_memory_threshold: usize,
}

impl Default for FormLimits {
    fn default() -> Self {
        Self {
            max_fields: 1000,
            max_files: 100,
            max_fields_size: 1024 * 1024,
            max_part_header: 8 * 1024,
            in_memory_threshold: 1024 * 1024,
        }
    }
}

impl FormLimits {
    /// From `(max_fields, max_files, max_fields_size, max_part_header, in_memory_threshold)`.
    pub(crate) fn from_tuple(limits: (usize, usize, usize, usize, usize)) -> Self {
        let (max_fields, max_files, max_fields_size, max_part_header, in_memory_threshold) = limits;
        Self {
            max_fields,
            max_files,
            max_fields_size,
            max_part_header,
            in_memory_threshold,
        }
    }

    fn of_parser(self) -> MultipartLimits {
        MultipartLimits {
            max_fields: self.max_fields,
            max_files: self.max_files,
            max_part_header: self.max_part_header,
            ..MultipartLimits::default()
        }
    }
}

/// The error that a part is answered with.
fn refused(py: Python<'_>, error: MultipartError, part: usize, limits: FormLimits) -> PyErr {
    let text = match error {
        MultipartError::TooManyFields => {
            format!("the form has more than {} fields", limits.max_fields)
        }
        MultipartError::TooManyFiles => {
            format!("the form has more than {} files", limits.max_files)
        }
        error if part == 0 => format!("multipart content: {error} ({})", error.rule()),
        error => format!("multipart content, part {part}: {error} ({})", error.rule()),
    };
    http_error(py, error.status(), text)
}

fn http_error(py: Python<'_>, status: u16, text: String) -> PyErr {
    match status {
        400 => vibora_error(py, "BadRequest", (text,)),
        413 => vibora_error(py, "ContentTooLarge", (text,)),
        415 => vibora_error(py, "UnsupportedMediaType", (text,)),
        431 => vibora_error(py, "HeaderFieldsTooLarge", (text,)),
        status => vibora_error(py, "HTTPError", (status, text)),
    }
}

fn fields_too_large(py: Python<'_>, limits: FormLimits) -> PyErr {
    let text = format!(
        "the fields of the form are larger than {} bytes together",
        limits.max_fields_size
    );
    http_error(py, 413, text)
}

/// How Python calls the encoding that a label names (the Encoding standard §4.2, those of forms).
fn codec(label: &[u8]) -> Option<&'static str> {
    let label = label.to_ascii_lowercase();
    let table: [(&[&str], &str); 30] = [
        (&["utf-8", "utf8"], "utf-8"),
        // As in browsers: who says Latin-1 means the encoding of Windows.
        (
            &["us-ascii", "ascii", "iso-8859-1", "iso8859-1", "latin1"],
            "cp1252",
        ),
        (&["windows-1252", "cp1252"], "cp1252"),
        (&["iso-8859-2"], "iso8859_2"),
        (&["iso-8859-3"], "iso8859_3"),
        (&["iso-8859-4"], "iso8859_4"),
        (&["iso-8859-5"], "iso8859_5"),
        (&["iso-8859-6"], "iso8859_6"),
        (&["iso-8859-7"], "iso8859_7"),
        (&["iso-8859-8", "iso-8859-8-i"], "iso8859_8"),
        (&["iso-8859-9", "windows-1254"], "cp1254"),
        (&["iso-8859-10"], "iso8859_10"),
        (&["iso-8859-13"], "iso8859_13"),
        (&["iso-8859-14"], "iso8859_14"),
        (&["iso-8859-15"], "iso8859_15"),
        (&["iso-8859-16"], "iso8859_16"),
        (&["windows-1250"], "cp1250"),
        (&["windows-1251"], "cp1251"),
        (&["windows-1253"], "cp1253"),
        (&["windows-1255"], "cp1255"),
        (&["windows-1256"], "cp1256"),
        (&["windows-1257"], "cp1257"),
        (&["windows-1258"], "cp1258"),
        (&["windows-874", "tis-620"], "cp874"),
        (&["koi8-r"], "koi8_r"),
        (&["koi8-u"], "koi8_u"),
        (&["gb18030", "gbk", "gb2312"], "gb18030"),
        (&["big5"], "big5hkscs"),
        (&["shift_jis", "windows-31j"], "cp932"),
        (&["euc-jp"], "euc_jp"),
    ];
    if label == b"euc-kr" {
        return Some("cp949");
    }
    table
        .iter()
        .find(|(labels, _)| labels.iter().any(|known| known.as_bytes() == label))
        .map(|(_, codec)| *codec)
}

const UTF_8: &str = "utf-8";

/// `octets` as text; `what` they are is told if they are none.
fn decode<'py>(
    py: Python<'py>,
    octets: &[u8],
    codec: &str,
    what: impl FnOnce() -> String,
) -> PyResult<Bound<'py, PyString>> {
    if codec == UTF_8 {
        if let Ok(text) = std::str::from_utf8(octets) {
            return Ok(PyString::new(py, text));
        }
    } else if let Ok(text) = PyBytes::new(py, octets).call_method1("decode", (codec,)) {
        return Ok(text.cast_into::<PyString>()?);
    }
    let text = format!(
        "{} is not {codec} text; charset in content-type and a _charset_ field say what it is",
        what()
    );
    Err(http_error(py, 400, text))
}

/// The codec of a content type's `charset` parameter; none if it has none.
fn charset(
    py: Python<'_>,
    parameters: parameters::Parameters<'_>,
) -> PyResult<Option<&'static str>> {
    match parameters::only(parameters, b"charset") {
        Ok(None) => Ok(None),
        Ok(Some(label)) => codec(&label).map(Some).ok_or_else(|| {
            let text = format!(
                "the charset {:?} is unknown",
                String::from_utf8_lossy(&label)
            );
            http_error(py, 415, text)
        }),
        Err(_) => Err(http_error(
            py,
            400,
            "the parameters of a content-type are malformed".to_owned(),
        )),
    }
}

/// What kind of form a request has.
enum Kind {
    Urlencoded(&'static str),
    Multipart(Vec<u8>),
}

/// Reads the `Content-Type` of a request.
fn kind(py: Python<'_>, request: &Request, only_multipart: bool) -> PyResult<Kind> {
    let expected = if only_multipart {
        "multipart/form-data"
    } else {
        "application/x-www-form-urlencoded or multipart/form-data"
    };
    let content_type = request.field(b"content-type").unwrap_or_default();
    let (media_type, parameters) = parameters::split(&content_type);
    if media_type.eq_ignore_ascii_case(b"multipart/form-data") {
        return match parameters::only(parameters, b"boundary") {
            Ok(Some(boundary)) => Ok(Kind::Multipart(boundary.into_owned())),
            Ok(None) => Err(http_error(
                py,
                400,
                "the content-type multipart/form-data has no boundary (RFC 7578 §4.1)".to_owned(),
            )),
            Err(_) => Err(http_error(
                py,
                400,
                "the parameters of the content-type are malformed".to_owned(),
            )),
        };
    }
    if !only_multipart {
        if media_type.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            return charset(py, parameters).map(|codec| Kind::Urlencoded(codec.unwrap_or(UTF_8)));
        }
        // A form without anything in it, sent without saying that it is one.
        if media_type.is_empty() && request.is_empty() {
            return Ok(Kind::Urlencoded(UTF_8));
        }
    }
    let text = if media_type.is_empty() {
        format!("the request has no content-type; expected is {expected}")
    } else {
        format!(
            "the content-type is {:?}; expected is {expected}",
            String::from_utf8_lossy(media_type)
        )
    };
    Err(http_error(py, 415, text))
}

fn parser(
    py: Python<'_>,
    boundary: &[u8],
    limits: FormLimits,
) -> PyResult<multipart::MultipartParser> {
    multipart::MultipartParser::new(boundary, limits.of_parser())
        .map_err(|error| refused(py, error, 0, limits))
}

/// The head of a part.
#[pyclass(frozen, module = "vibora.multipart", name = "PartHead")]
pub(crate) struct PartHead {
    #[pyo3(get)]
    name: Py<PyString>,
    #[pyo3(get)]
    filename: Option<Py<PyString>>,
    #[pyo3(get)]
    headers: Py<Headers>,
    /// The codec of the part, if it says one, else that of the form.
    #[pyo3(get)]
    codec: &'static str,
}

impl PartHead {
    fn new(
        py: Python<'_>,
        head: multipart::PartHead,
        codec: &'static str,
        part: usize,
    ) -> PyResult<Self> {
        let text = |text: Text, what: &str| match text {
            Text::Decoded(text) => Ok(PyString::new(py, &text).unbind()),
            Text::Octets(octets) => {
                let what = || format!("multipart content, part {part}: its {what}");
                decode(py, &octets, codec, what).map(Bound::unbind)
            }
        };
        let own = match head.fields.get(b"content-type") {
            Some(content_type) => charset(py, parameters::split(content_type).1)?,
            None => None,
        };
        Ok(Self {
            name: text(head.name, "name")?,
            filename: head
                .filename
                .map(|filename| text(filename, "file name"))
                .transpose()?,
            headers: Py::new(py, Headers::from_fields(head.fields))?,
            codec: own.unwrap_or(codec),
        })
    }
}

#[pymethods]
impl PartHead {
    #[getter]
    fn content_type(&self, py: Python<'_>) -> Option<String> {
        self.headers
            .get()
            .fields
            .borrow(py)
            .get(b"content-type")
            .map(|value| value.iter().map(|octet| char::from(*octet)).collect())
    }

    /// The content of the part as text.
    fn decode<'py>(
        &self,
        py: Python<'py>,
        content: &Bound<'py, PyBytes>,
    ) -> PyResult<Bound<'py, PyString>> {
        decode(py, content.as_bytes(), self.codec, || {
            format!(
                "the content of part {:?}",
                self.name.bind(py).to_string_lossy()
            )
        })
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<PartHead {:?}>", self.name.bind(py).to_string_lossy())
    }
}

/// `request.form()`: the pairs of a form, several values to a name.
#[pyclass(frozen, extends = QueryArgs, module = "vibora.forms", name = "FormData", mapping)]
pub(crate) struct FormData;

fn form_data(py: Python<'_>, pairs: Vec<(String, String)>) -> PyResult<Py<FormData>> {
    let form = PyClassInitializer::from(QueryArgs::from_pairs(pairs)).add_subclass(FormData);
    Py::new(py, form)
}

// ---- part by part

struct Parsing {
    parser: multipart::MultipartParser,
    limits: FormLimits,
    codec: &'static str,
    input: Option<(Py<PyBytes>, usize)>,
}

/// Multipart content, event by event.
#[pyclass(frozen, module = "vibora.multipart", name = "MultipartParser")]
pub(crate) struct MultipartParser {
    /// Taken out while a call runs.
    state: GilCell<Option<Box<Parsing>>>,
    max_fields_size: usize,
}

impl MultipartParser {
    fn with(py: Python<'_>, boundary: &[u8], limits: FormLimits) -> PyResult<Self> {
        Ok(Self {
            state: GilCell::new(Some(Box::new(Parsing {
                parser: parser(py, boundary, limits)?,
                limits,
                codec: UTF_8,
                input: None,
            }))),
            max_fields_size: limits.max_fields_size,
        })
    }

    fn run<T>(&self, py: Python<'_>, job: impl FnOnce(&mut Parsing) -> PyResult<T>) -> PyResult<T> {
        let taken = self.state.borrow(py).take();
        let mut state = taken.ok_or_else(|| PyRuntimeError::new_err("the parser is in use"))?;
        let result = job(&mut state);
        *self.state.borrow(py) = Some(state);
        result
    }
}

#[pymethods]
impl MultipartParser {
    #[new]
    #[pyo3(signature = (boundary, *, max_fields=1000, max_files=100, max_part_header=8192))]
    fn new(
        py: Python<'_>,
        boundary: &str,
        max_fields: usize,
        max_files: usize,
        max_part_header: usize,
    ) -> PyResult<Self> {
        let limits = FormLimits {
            max_fields,
            max_files,
            max_part_header,
            ..FormLimits::default()
        };
        Self::with(py, boundary.as_bytes(), limits)
    }

    /// A parser for the content of a request, within the limits of its route.
    #[staticmethod]
    fn for_request(py: Python<'_>, request: &Bound<'_, Request>) -> PyResult<Self> {
        request.get().check_unread(py)?;
        let limits = request.get().form_limits(py);
        match kind(py, request.get(), true)? {
            Kind::Multipart(boundary) => Self::with(py, &boundary, limits),
            Kind::Urlencoded(_) => Err(PyRuntimeError::new_err("not multipart")),
        }
    }

    #[getter]
    fn max_fields_size(&self) -> usize {
        self.max_fields_size
    }

    fn feed(&self, py: Python<'_>, data: Py<PyBytes>) -> PyResult<()> {
        self.run(py, |state| {
            if state.input.is_some() {
                return Err(PyValueError::new_err(
                    "what was fed before has not been parsed: call next_event until it returns None",
                ));
            }
            state.input = Some((data, 0));
            Ok(())
        })
    }

    /// The next event: a `PartHead`, bytes, False at the end of a part, True after the last, None: feed more.
    fn next_event<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.run(py, |state| {
            let Some((data, at)) = state.input.take() else {
                return Ok(py.None().into_bound(py));
            };
            let octets = data.as_bytes(py);
            let mut input = octets.get(at..).unwrap_or_default();
            let (limits, codec) = (state.limits, state.codec);
            let event = match state.parser.parse(&mut input) {
                Ok(Event::NeedMore) => return Ok(py.None().into_bound(py)),
                Ok(Event::Part(head)) => {
                    let part = state.parser.part();
                    Bound::new(py, PartHead::new(py, *head, codec, part)?)?.into_any()
                }
                Ok(Event::Data(piece)) if std::ptr::eq(piece, octets) => {
                    data.bind(py).clone().into_any()
                }
                Ok(Event::Data(piece)) => PyBytes::new(py, piece).into_any(),
                Ok(Event::PartEnd) => false.into_pyobject(py)?.to_owned().into_any(),
                Ok(Event::End) => true.into_pyobject(py)?.to_owned().into_any(),
                Err(error) => return Err(refused(py, error, state.parser.part(), limits)),
            };
            let at = octets.len() - input.len();
            state.input = Some((data, at));
            Ok(event)
        })
    }

    /// From here on, names and fields are in this charset (RFC 7578 §4.6).
    fn set_charset(&self, py: Python<'_>, label: &str) -> PyResult<()> {
        self.run(py, |state| {
            state.codec = form_charset(py, label.as_bytes())?;
            Ok(())
        })
    }

    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, |state| {
            state
                .parser
                .finish()
                .map_err(|error| refused(py, error, state.parser.part(), state.limits))
        })
    }
}

/// The codec that a `_charset_` field says.
fn form_charset(py: Python<'_>, label: &[u8]) -> PyResult<&'static str> {
    codec(label).ok_or_else(|| {
        let text = format!(
            "the form's _charset_ {:?} is unknown",
            String::from_utf8_lossy(label)
        );
        http_error(py, 400, text)
    })
}

// ---- all of it

/// A file of the form.
struct File {
    head: Py<PartHead>,
    /// Its content, as long as it is kept in memory.
    memory: Vec<u8>,
    /// Where in the temporary file its content begins, if it is there.
    start: Option<u64>,
    size: u64,
}

enum Current {
    Field {
        name: String,
        codec: &'static str,
        content: Vec<u8>,
    },
    File(File),
}

struct Collecting {
    codec: &'static str,
    /// None for an urlencoded form, whose octets are collected.
    parser: Option<multipart::MultipartParser>,
    octets: Vec<u8>,
    pairs: Vec<(String, String)>,
    /// Octets of names and values.
    fields_size: usize,
    current: Option<Current>,
    files: Vec<File>,
    /// Octets of files that are kept in memory.
    in_memory: usize,
    /// What has to go to the temporary file.
    waiting: Vec<Py<PyBytes>>,
    waiting_size: usize,
    spooled: u64,
}

impl Collecting {
    fn part(
        &mut self,
        py: Python<'_>,
        head: multipart::PartHead,
        part: usize,
        limits: FormLimits,
    ) -> PyResult<()> {
        let head_size = head.fields.wire().len();
        let head = PartHead::new(py, head, self.codec, part)?;
        self.current = Some(if head.filename.is_some() {
            Current::File(File {
                head: Py::new(py, head)?,
                memory: Vec::new(),
                start: None,
                size: 0,
            })
        } else {
            self.count(py, head_size, limits)?;
            Current::Field {
                name: head.name.bind(py).to_str()?.to_owned(),
                codec: head.codec,
                content: Vec::new(),
            }
        });
        Ok(())
    }

    fn count(&mut self, py: Python<'_>, size: usize, limits: FormLimits) -> PyResult<()> {
        self.fields_size = self.fields_size.saturating_add(size);
        if self.fields_size > limits.max_fields_size {
            return Err(fields_too_large(py, limits));
        }
        Ok(())
    }

    fn data(
        &mut self,
        py: Python<'_>,
        data: &[u8],
        piece: &Bound<'_, PyBytes>,
        limits: FormLimits,
    ) -> PyResult<()> {
        if matches!(self.current, Some(Current::Field { .. })) {
            self.count(py, data.len(), limits)?;
        }
        match &mut self.current {
            Some(Current::Field { content, .. }) => content.extend_from_slice(data),
            Some(Current::File(file)) => {
                file.size += data.len() as u64;
                if file.start.is_none() && self.in_memory + data.len() <= limits.in_memory_threshold
                {
                    file.memory.extend_from_slice(data);
                    self.in_memory += data.len();
                    return Ok(());
                }
                if file.start.is_none() {
                    file.start = Some(self.spooled);
                    let memory = std::mem::take(&mut file.memory);
                    self.in_memory -= memory.len();
                    if !memory.is_empty() {
                        self.spooled += memory.len() as u64;
                        self.waiting_size += memory.len();
                        self.waiting.push(PyBytes::new(py, &memory).unbind());
                    }
                }
                self.spooled += data.len() as u64;
                self.waiting_size += data.len();
                self.waiting.push(if std::ptr::eq(data, piece.as_bytes()) {
                    piece.clone().unbind()
                } else {
                    PyBytes::new(py, data).unbind()
                });
            }
            None => {}
        }
        Ok(())
    }

    fn end_of_part(&mut self, py: Python<'_>) -> PyResult<()> {
        match self.current.take() {
            Some(Current::Field {
                name,
                codec,
                content,
            }) => {
                if name == "_charset_" {
                    self.codec = form_charset(py, &content)?;
                }
                let value = match codec {
                    UTF_8 => String::from_utf8(content).map_err(FromUtf8Error::into_bytes),
                    _ => Err(content),
                };
                let value = match value {
                    Ok(value) => value,
                    Err(content) => {
                        let what = || format!("the content of field {name:?}");
                        decode(py, &content, codec, what)?.to_str()?.to_owned()
                    }
                };
                self.pairs.push((name, value));
            }
            Some(Current::File(file)) => {
                // HTML §4.10.21.7: a file input without a file is sent as an empty file without a name.
                let unnamed = match &file.head.get().filename {
                    Some(filename) => filename.bind(py).to_str()?.is_empty(),
                    None => true,
                };
                if !unnamed || file.size > 0 {
                    self.files.push(file);
                }
            }
            None => {}
        }
        Ok(())
    }

    fn feed(
        &mut self,
        py: Python<'_>,
        piece: &Bound<'_, PyBytes>,
        limits: FormLimits,
    ) -> PyResult<()> {
        let mut input = piece.as_bytes();
        let Some(mut parser) = self.parser.take() else {
            self.count(py, input.len(), limits)?;
            self.octets.extend_from_slice(input);
            return Ok(());
        };
        loop {
            match parser.parse(&mut input) {
                Ok(Event::NeedMore) => break,
                Ok(Event::Part(head)) => self.part(py, *head, parser.part(), limits)?,
                Ok(Event::Data(data)) => self.data(py, data, piece, limits)?,
                Ok(Event::PartEnd) => self.end_of_part(py)?,
                Ok(Event::End) => {}
                Err(error) => return Err(refused(py, error, parser.part(), limits)),
            }
        }
        self.parser = Some(parser);
        Ok(())
    }

    fn urlencoded(&mut self, py: Python<'_>, limits: FormLimits) -> PyResult<()> {
        let octets = std::mem::take(&mut self.octets);
        for (name, value) in target::query_pairs(&octets) {
            if self.pairs.len() >= limits.max_fields {
                let text = format!("the form has more than {} fields", limits.max_fields);
                return Err(http_error(py, 413, text));
            }
            let text = |octets: Vec<u8>| -> PyResult<String> {
                let octets = match self.codec {
                    UTF_8 => match String::from_utf8(octets) {
                        Ok(text) => return Ok(text),
                        Err(error) => error.into_bytes(),
                    },
                    _ => octets,
                };
                let what = || format!("field {} of the form", self.pairs.len() + 1);
                Ok(decode(py, &octets, self.codec, what)?.to_str()?.to_owned())
            };
            let pair = (text(name.into_owned())?, text(value.into_owned())?);
            self.pairs.push(pair);
        }
        Ok(())
    }
}

/// Collects a form: fields in memory, files in memory as far as the limits go.
#[pyclass(frozen, module = "vibora._core", name = "FormReader")]
pub(crate) struct FormReader {
    /// Taken out while a call runs, and for good by an error.
    state: GilCell<Option<Box<Collecting>>>,
    limits: FormLimits,
}

impl FormReader {
    fn take_state(&self, py: Python<'_>) -> PyResult<Box<Collecting>> {
        let taken = self.state.borrow(py).take();
        taken.ok_or_else(|| PyRuntimeError::new_err("the form's reader is in use, or has ended"))
    }
}

#[pymethods]
impl FormReader {
    /// A reader of the form in a request; an error if it has none.
    #[new]
    fn new(py: Python<'_>, request: &Bound<'_, Request>) -> PyResult<Self> {
        request.get().check_unread(py)?;
        let limits = request.get().form_limits(py);
        let (parser, codec) = match kind(py, request.get(), false)? {
            Kind::Multipart(boundary) => (Some(parser(py, &boundary, limits)?), UTF_8),
            Kind::Urlencoded(codec) => {
                // No need to wait for what will be refused.
                if request.get().announces_more_than(limits.max_fields_size) {
                    return Err(fields_too_large(py, limits));
                }
                (None, codec)
            }
        };
        Ok(Self {
            state: GilCell::new(Some(Box::new(Collecting {
                codec,
                parser,
                octets: Vec::new(),
                pairs: Vec::new(),
                fields_size: 0,
                current: None,
                files: Vec::new(),
                in_memory: 0,
                waiting: Vec::new(),
                waiting_size: 0,
                spooled: 0,
            }))),
            limits,
        })
    }

    /// Takes a piece of content; returns how many bytes wait to be written to a temporary file.
    fn feed(&self, py: Python<'_>, piece: &Bound<'_, PyBytes>) -> PyResult<usize> {
        let mut state = self.take_state(py)?;
        state.feed(py, piece, self.limits)?;
        let waiting = state.waiting_size;
        *self.state.borrow(py) = Some(state);
        Ok(waiting)
    }

    /// What has to be appended to the temporary file.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let mut state = self.take_state(py)?;
        let waiting = std::mem::take(&mut state.waiting);
        state.waiting_size = 0;
        *self.state.borrow(py) = Some(state);
        PyList::new(py, waiting)
    }

    /// The form, and its files: head, content or None, where in the temporary file the content begins, its size.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<(Py<FormData>, Bound<'py, PyList>)> {
        let mut state = self.take_state(py)?;
        match &state.parser {
            Some(parser) => parser
                .finish()
                .map_err(|error| refused(py, error, parser.part(), self.limits))?,
            None => state.urlencoded(py, self.limits)?,
        }
        let files = PyList::empty(py);
        for file in std::mem::take(&mut state.files) {
            let content = match file.start {
                Some(_) => None,
                None => Some(PyBytes::new(py, &file.memory)),
            };
            let start = file.start.unwrap_or_default();
            let entry: Bound<'_, PyTuple> =
                (file.head, content, start, file.size).into_pyobject(py)?;
            files.append(entry)?;
        }
        Ok((form_data(py, std::mem::take(&mut state.pairs))?, files))
    }
}

#[cfg(test)]
mod tests {
    use super::codec;

    #[test]
    fn encodings_are_those_of_browsers() {
        for (label, expected) in [
            ("UTF-8", Some("utf-8")),
            ("Latin1", Some("cp1252")),
            ("euc-kr", Some("cp949")),
            ("utf-7", None),
            ("idna", None),
            ("zlib", None),
            ("", None),
        ] {
            assert_eq!(codec(label.as_bytes()), expected, "{label}");
        }
    }
}
