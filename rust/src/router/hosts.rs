//! The hosts that routes are bound to: names, names below a name, expressions.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::RouteError;
use crate::http::grammar::is_host_and_port;

/// No name is longer (RFC 1035 §2.3.4), so that looking for one is bounded.
const MAX_NAME: usize = 255;

/// A host that a route can be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// `api.example.com`, or `*.example.com` for all names below, at any depth. Case does not count.
    Name(&'a str),
    /// An expression that the whole name matches; whoever looks up says whether one does.
    Expression(usize),
}

/// A host as it is kept: names below a name begin with the dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Name(Box<[u8]>),
    Expression(usize),
}

impl Key {
    pub(super) fn new(host: &Host<'_>) -> Result<Self, RouteError> {
        match *host {
            Host::Expression(expression) => Ok(Self::Expression(expression)),
            Host::Name(text) => key_of(text).map(Self::Name).ok_or_else(|| {
                RouteError::BadPattern(format!(
                    "host {text:?}: expected a name without port such as \"api.example.com\", or \"*.example.com\""
                ))
            }),
        }
    }
}

/// How a name is kept, if it is one.
fn key_of(text: &str) -> Option<Box<[u8]>> {
    let name = text.strip_prefix("*.").unwrap_or(text).as_bytes();
    let key = name_of(name)?;
    let is_whole = key.len() == name.strip_suffix(b".").unwrap_or(name).len();
    let is_name = is_host_and_port(&key) && !key.contains(&b'*') && !key.contains(&b'%');
    if !is_whole || !is_name {
        return None;
    }
    let mut key = key.into_vec();
    if text.starts_with("*.") {
        key.insert(0, b'.');
    }
    Some(key.into())
}

/// The name in an authority: without the port, in lower case, without the dot of the root. `None` if no name is like it:
/// none begins with a dot, none is as long.
pub(super) fn name_of(authority: &[u8]) -> Option<SmallVec<[u8; 64]>> {
    let end = if authority.starts_with(b"[") {
        authority.iter().position(|&octet| octet == b']')? + 1
    } else {
        authority
            .iter()
            .position(|&octet| octet == b':')
            .unwrap_or(authority.len())
    };
    let name = authority.get(..end).unwrap_or_default();
    let name = name.strip_suffix(b".").unwrap_or(name);
    (name.len() <= MAX_NAME && !name.starts_with(b"."))
        .then(|| name.iter().map(u8::to_ascii_lowercase).collect())
}

/// What is kept for each host.
#[derive(Clone, Debug)]
pub(super) struct Hosts<T> {
    names: HashMap<Box<[u8]>, usize>,
    /// In the order in which they came, each with its place.
    expressions: Vec<(usize, usize)>,
    places: Vec<T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self {
            names: HashMap::new(),
            expressions: Vec::new(),
            places: Vec::new(),
        }
    }
}

impl<T: Default> Hosts<T> {
    pub(super) fn get(&self, key: &Key) -> Option<&T> {
        self.place(key).and_then(|place| self.places.get(place))
    }

    pub(super) fn entry(&mut self, key: &Key) -> &mut T {
        let place = self.place(key).unwrap_or_else(|| {
            let place = self.places.len();
            match key {
                Key::Name(name) => {
                    self.names.insert(name.clone(), place);
                }
                Key::Expression(expression) => self.expressions.push((*expression, place)),
            }
            self.places.push(T::default());
            place
        });
        &mut self.places[place]
    }

    fn place(&self, key: &Key) -> Option<usize> {
        match key {
            Key::Name(name) => self.names.get(name).copied(),
            Key::Expression(expression) => self
                .expressions
                .iter()
                .find(|(other, _)| other == expression)
                .map(|(_, place)| *place),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// What is kept for a name and for the names that it is below, the longest first.
    pub(super) fn named(&self, name: &[u8]) -> impl Iterator<Item = &T> {
        let above = name
            .iter()
            .enumerate()
            .filter(|&(at, &octet)| octet == b'.' && at > 0)
            .map(|(at, _)| &name[at..]);
        std::iter::once(name)
            .chain(above)
            .filter_map(|key| self.names.get(key))
            .map(|place| &self.places[*place])
    }

    /// The expressions in the order in which they came, and what is kept for each.
    pub(super) fn expressions(&self) -> impl Iterator<Item = (usize, &T)> {
        self.expressions
            .iter()
            .map(|(expression, place)| (*expression, &self.places[*place]))
    }
}
