//! `request.args`: the query's pairs, several values to a name.

use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::http::target::query_pairs;

/// The pairs of a query string, in their order. Immutable.
#[pyclass(frozen, subclass, module = "vibora", name = "QueryArgs", mapping)]
pub(crate) struct QueryArgs {
    pairs: Vec<(String, String)>,
}

impl QueryArgs {
    pub(crate) fn from_pairs(pairs: Vec<(String, String)>) -> Self {
        Self { pairs }
    }

    pub(crate) fn parse(raw: &[u8]) -> Self {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        Self {
            pairs: query_pairs(raw)
                .map(|(name, value)| (text(&name), text(&value)))
                .collect(),
        }
    }

    fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }
}

#[pymethods]
impl QueryArgs {
    #[pyo3(signature = (name, default=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> Option<Bound<'py, PyAny>> {
        self.values(name)
            .next()
            .map(|value| PyString::new(py, value).into_any())
            .or(default)
    }

    fn get_all<'a>(&'a self, name: &str) -> Vec<&'a str> {
        self.values(name).collect()
    }

    fn get_list<'a>(&'a self, name: &str) -> Vec<&'a str> {
        self.get_all(name)
    }

    fn items(&self) -> Vec<(&str, &str)> {
        self.pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    fn keys(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in &self.pairs {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, value) in &self.pairs {
            match dict.get_item(name)? {
                Some(values) => values.cast_into::<PyList>()?.append(value)?,
                None => dict.set_item(name, PyList::new(py, [value])?)?,
            }
        }
        Ok(dict)
    }

    fn __getitem__<'a>(&'a self, name: &str) -> PyResult<&'a str> {
        self.values(name)
            .next()
            .ok_or_else(|| PyKeyError::new_err(name.to_owned()))
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> bool {
        name.cast::<PyString>().is_ok_and(|name| {
            name.to_str()
                .is_ok_and(|name| self.values(name).next().is_some())
        })
    }

    fn __len__(&self) -> usize {
        self.pairs.len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyList::new(py, self.keys())?.try_iter()?.into_any())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let class = slf.get_type();
        Ok(format!("{}({:?})", class.name()?, slf.get().pairs))
    }
}
