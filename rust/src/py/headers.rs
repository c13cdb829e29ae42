//! `vibora.Headers`: field lines as users see them (RFC 9110 §5).

use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyMapping, PyString, PyTuple};

use super::cell::GilCell;
use super::text::{field_octets, latin1};
use crate::http::fields::FieldMap;

/// An ordered multi-map of field lines: case kept, looked up without regard to case.
#[pyclass(frozen, module = "vibora", name = "Headers", mapping)]
#[derive(Default)]
pub(crate) struct Headers {
    pub(crate) fields: GilCell<FieldMap>,
}

impl Headers {
    pub(crate) fn from_fields(fields: FieldMap) -> Self {
        Self {
            fields: GilCell::new(fields),
        }
    }
}

/// Adds one line, with an error that names it.
pub(crate) fn append(
    fields: &mut FieldMap,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let name = field_octets(name, "header name")?;
    let value = field_octets(value, "header value")?;
    fields
        .append(&name, &value)
        .map_err(|error| refused(&name, &value, error))
}

fn refused(name: &[u8], value: &[u8], error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(format!(
        "header {:?}: {:?}: {error}",
        String::from_utf8_lossy(name),
        String::from_utf8_lossy(value)
    ))
}

/// Reads what users may give as headers: a mapping, an iterable of pairs, or `Headers`.
pub(crate) fn read_fields(source: &Bound<'_, PyAny>) -> PyResult<FieldMap> {
    let py = source.py();
    if let Ok(headers) = source.cast::<Headers>() {
        return Ok(headers.get().fields.borrow(py).clone());
    }
    if let Ok(dict) = source.cast_exact::<PyDict>() {
        let mut fields = room_for(dict.len());
        for (name, value) in dict {
            append_values(&mut fields, &name, &value)?;
        }
        return Ok(fields);
    }
    // What is a mapping is found out by asking `collections.abc`, which takes its time.
    let is_sequence =
        source.is_exact_instance_of::<PyTuple>() || source.is_exact_instance_of::<PyList>();
    let mut fields = if is_sequence {
        room_for(source.len()?)
    } else if let Ok(mapping) = source.cast::<PyMapping>() {
        let mut fields = room_for(mapping.len()?);
        for item in mapping.items()?.iter() {
            append_values(&mut fields, &item.get_item(0)?, &item.get_item(1)?)?;
        }
        return Ok(fields);
    } else {
        FieldMap::new()
    };
    let pairs = source.try_iter().map_err(|_| {
        PyTypeError::new_err(format!(
            "headers must be a mapping, an iterable of (name, value) pairs or Headers, not {}",
            type_name(source)
        ))
    })?;
    for pair in pairs {
        let pair = pair?;
        let (name, value) = pair
            .extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()
            .map_err(|_| {
                PyTypeError::new_err(format!(
                    "headers must be (name, value) pairs, not {}",
                    type_name(&pair)
                ))
            })?;
        append(&mut fields, &name, &value)?;
    }
    Ok(fields)
}

/// A map in which so many fields of the usual size have room.
fn room_for(fields: usize) -> FieldMap {
    let fields = fields.min(256);
    FieldMap::with_capacity(fields, fields * 32)
}

/// A mapping's value may be a list or tuple: one line each.
fn append_values(
    fields: &mut FieldMap,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        for value in value.try_iter()? {
            append(fields, name, &value?)?;
        }
        return Ok(());
    }
    append(fields, name, value)
}

pub(crate) fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(
        |_| "an object".to_owned(),
        |name| format!("{:?}", name.to_string_lossy()),
    )
}

#[pymethods]
impl Headers {
    #[new]
    #[pyo3(signature = (headers=None, /))]
    fn new(headers: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let fields = headers.map_or_else(|| Ok(FieldMap::new()), read_fields)?;
        Ok(Self::from_fields(fields))
    }

    #[pyo3(signature = (name, default=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let name = field_octets(name, "header name")?;
        let found = self
            .fields
            .borrow(py)
            .get(&name)
            .map(|value| latin1(py, value).into_any());
        Ok(found.or(default))
    }

    fn get_all<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Bound<'py, PyString>>> {
        let name = field_octets(name, "header name")?;
        Ok(self
            .fields
            .borrow(py)
            .get_all(&name)
            .map(|value| latin1(py, value))
            .collect())
    }

    fn add(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        append(&mut self.fields.borrow(py), name, value)
    }

    #[pyo3(signature = (name, default))]
    fn setdefault<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(value) = self.get(py, name, None)? {
            return Ok(value);
        }
        self.add(py, name, default)?;
        self.__getitem__(py, name).map(Bound::into_any)
    }

    fn update(&self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let new = read_fields(headers)?;
        let mut fields = self.fields.borrow(py);
        for (name, _) in new.iter() {
            fields.remove(name);
        }
        for (name, value) in new.iter() {
            fields
                .append(name, value)
                .map_err(|error| refused(name, value, error))?;
        }
        Ok(())
    }

    fn copy(&self, py: Python<'_>) -> Self {
        Self::from_fields(self.fields.borrow(py).clone())
    }

    fn items<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyString>, Bound<'py, PyString>)> {
        self.fields
            .borrow(py)
            .iter()
            .map(|(name, value)| (latin1(py, name), latin1(py, value)))
            .collect()
    }

    fn keys<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyString>> {
        let fields = self.fields.borrow(py);
        let mut seen: Vec<&[u8]> = Vec::with_capacity(fields.len());
        for (name, _) in fields.iter() {
            if !seen.iter().any(|other| other.eq_ignore_ascii_case(name)) {
                seen.push(name);
            }
        }
        seen.into_iter().map(|name| latin1(py, name)).collect()
    }

    fn values<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyString>> {
        self.fields
            .borrow(py)
            .iter()
            .map(|(_, value)| latin1(py, value))
            .collect()
    }

    #[getter]
    fn raw<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        self.fields
            .borrow(py)
            .iter()
            .map(|(name, value)| (PyBytes::new(py, name), PyBytes::new(py, value)))
            .collect()
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyString>> {
        let octets = field_octets(name, "header name")?;
        let fields = self.fields.borrow(py);
        fields
            .get(&octets)
            .map(|value| latin1(py, value))
            .ok_or_else(|| PyKeyError::new_err(name.clone().unbind()))
    }

    fn __setitem__(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let name = field_octets(name, "header name")?;
        let value = field_octets(value, "header value")?;
        self.fields
            .borrow(py)
            .set(&name, &value)
            .map_err(|error| refused(&name, &value, error))
    }

    fn __delitem__(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> PyResult<()> {
        let octets = field_octets(name, "header name")?;
        if self.fields.borrow(py).remove(&octets) {
            Ok(())
        } else {
            Err(PyKeyError::new_err(name.clone().unbind()))
        }
    }

    fn __contains__(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> bool {
        field_octets(name, "header name").is_ok_and(|name| self.fields.borrow(py).contains(&name))
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.fields.borrow(py).len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyList::new(py, self.keys(py))?.try_iter()?.into_any())
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> bool {
        let Ok(other) = read_fields(other) else {
            return false;
        };
        let fields = self.fields.borrow(py);
        let lines = |map: &FieldMap| {
            let mut lines: Vec<_> = map
                .iter()
                .map(|(n, v)| (n.to_ascii_lowercase(), v.to_vec()))
                .collect();
            lines.sort_by(|a, b| a.0.cmp(&b.0));
            lines
        };
        lines(&fields) == lines(&other)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!(
            "Headers({})",
            PyList::new(py, self.items(py))?.repr()?
        ))
    }
}
