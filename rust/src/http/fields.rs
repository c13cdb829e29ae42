//! The header and trailer sections as a value: an ordered multi-map of field lines (RFC 9110 §5).
//!
//! Names keep the case they were given in and are looked up case-insensitively (RFC 9110 §5.1). Lines of the same name
//! keep their order (§5.3). The backing bytes are the lines exactly as they go on the wire, one after the other, so that
//! encoding a map that holds nothing the connection must decide itself is a single copy.

use std::fmt;
use std::ops::Range;

use crate::http::grammar::{is_field_value, is_token, trim_ows};

/// Why a field line was refused (RFC 9110 §5.1, §5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// The name is not a token.
    InvalidName,
    /// The value holds a byte that is not allowed in a field value.
    InvalidValue,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidName => "a field name must be one or more letters, digits or any of !#$%&'*+-.^_`|~",
            Self::InvalidValue => {
                "CR, LF and NUL are not allowed in a field value, nor is any other control character but the tab"
            }
        })
    }
}

impl std::error::Error for FieldError {}

/// A set of the field names the encoder and the connection ask about for every message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownFields(u16);

impl KnownFields {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// `content-type` (RFC 9110 §8.3).
    pub const CONTENT_TYPE: Self = Self(1);
    /// `content-length` (RFC 9110 §8.6).
    pub const CONTENT_LENGTH: Self = Self(1 << 1);
    /// `transfer-encoding` (RFC 9112 §6.1).
    pub const TRANSFER_ENCODING: Self = Self(1 << 2);
    /// `connection` (RFC 9110 §7.6.1).
    pub const CONNECTION: Self = Self(1 << 3);
    /// `date` (RFC 9110 §6.6.1).
    pub const DATE: Self = Self(1 << 4);
    /// `set-cookie` (RFC 6265 §4.1).
    pub const SET_COOKIE: Self = Self(1 << 5);
    /// `keep-alive`, a hop-by-hop field (RFC 9110 §7.6.1).
    pub const KEEP_ALIVE: Self = Self(1 << 6);
    /// `proxy-connection`, a hop-by-hop field (RFC 9110 §7.6.1).
    pub const PROXY_CONNECTION: Self = Self(1 << 7);
    /// `te`, a hop-by-hop field (RFC 9110 §10.1.4).
    pub const TE: Self = Self(1 << 8);
    /// `upgrade`, a hop-by-hop field (RFC 9110 §7.8).
    pub const UPGRADE: Self = Self(1 << 9);
    /// `trailer` (RFC 9110 §6.6.2).
    pub const TRAILER: Self = Self(1 << 10);
    /// `server` (RFC 9110 §10.2.4).
    pub const SERVER: Self = Self(1 << 11);
    /// `vary` (RFC 9110 §12.5.5).
    pub const VARY: Self = Self(1 << 12);
    /// `content-encoding` (RFC 9110 §8.4).
    pub const CONTENT_ENCODING: Self = Self(1 << 13);

    /// The one-element set of `name`, compared case-insensitively; empty for every other name.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let (candidate, set): (&[u8], Self) =
            match (name.len(), name.first().map(u8::to_ascii_lowercase)) {
                (2, _) => (b"te", Self::TE),
                (4, Some(b'd')) => (b"date", Self::DATE),
                (4, Some(b'v')) => (b"vary", Self::VARY),
                (6, _) => (b"server", Self::SERVER),
                (7, Some(b'u')) => (b"upgrade", Self::UPGRADE),
                (7, Some(b't')) => (b"trailer", Self::TRAILER),
                (10, Some(b'c')) => (b"connection", Self::CONNECTION),
                (10, Some(b's')) => (b"set-cookie", Self::SET_COOKIE),
                (10, Some(b'k')) => (b"keep-alive", Self::KEEP_ALIVE),
                (12, _) => (b"content-type", Self::CONTENT_TYPE),
                (14, _) => (b"content-length", Self::CONTENT_LENGTH),
                (16, Some(b'p')) => (b"proxy-connection", Self::PROXY_CONNECTION),
                (16, Some(b'c')) => (b"content-encoding", Self::CONTENT_ENCODING),
                (17, _) => (b"transfer-encoding", Self::TRANSFER_ENCODING),
                _ => return Self::NONE,
            };
        if name.eq_ignore_ascii_case(candidate) {
            set
        } else {
            Self::NONE
        }
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every element of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any element of `other` is in this set.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

/// Where one field line lies in the backing bytes: `name: value\r\n` from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    start: usize,
    name: usize,
    value: usize,
}

/// What a line adds to its name and value: `: ` and CRLF.
const LINE_OVERHEAD: usize = 4;

impl Line {
    fn name(self) -> Range<usize> {
        self.start..self.start + self.name
    }

    fn value(self) -> Range<usize> {
        let start = self.start + self.name + 2;
        start..start + self.value
    }

    fn len(self) -> usize {
        self.name + self.value + LINE_OVERHEAD
    }
}

/// An ordered multi-map of field lines, case kept, looked up case-insensitively.
///
/// ```
/// use vibora::http::fields::FieldMap;
///
/// let mut fields = FieldMap::new();
/// fields.append(b"X-Colour", b"green")?;
/// fields.append(b"x-colour", b" blue ")?;
/// assert_eq!(fields.get(b"X-COLOUR"), Some(&b"green"[..]));
/// assert_eq!(fields.get_all(b"x-colour").collect::<Vec<_>>(), [b"green".as_slice(), b"blue"]);
/// assert!(fields.append(b"x-bad", b"1\r\nx-injected: 2").is_err());
/// # Ok::<(), vibora::http::fields::FieldError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldMap {
    /// The lines as they go on the wire, in order and without gaps.
    bytes: Vec<u8>,
    lines: Vec<Line>,
    known: KnownFields,
}

impl FieldMap {
    /// Returns an empty map that has not allocated.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns an empty map with room for `fields` lines whose names and values together take `bytes` bytes.
    #[must_use]
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes.saturating_add(fields.saturating_mul(LINE_OVERHEAD))),
            lines: Vec::with_capacity(fields),
            known: KnownFields::NONE,
        }
    }

    /// Copies fields that were validated already: the name and value ranges a parsed request head has in `bytes`.
    ///
    /// A range outside `bytes` counts as empty.
    #[must_use]
    pub fn from_spans(
        bytes: &[u8],
        fields: impl Iterator<Item = (Range<usize>, Range<usize>)>,
    ) -> Self {
        let (expected, _) = fields.size_hint();
        let mut map = Self::with_capacity(expected, bytes.len());
        for (name, value) in fields {
            map.push(
                bytes.get(name).unwrap_or_default(),
                bytes.get(value).unwrap_or_default(),
            );
        }
        map
    }

    /// Adds a line after all others. Spaces and tabs around the value are dropped (RFC 9110 §5.5).
    ///
    /// # Errors
    ///
    /// [`FieldError`] when the name is not a token or the value is not a field value; the map is unchanged.
    pub fn append(&mut self, name: &[u8], value: &[u8]) -> Result<(), FieldError> {
        let value = validate(name, value)?;
        self.push(name, value);
        Ok(())
    }

    /// Replaces every line of that name with one, at the place of the first; adds it at the end when there is none.
    ///
    /// # Errors
    ///
    /// [`FieldError`] when the name is not a token or the value is not a field value; the map is unchanged.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), FieldError> {
        let value = validate(name, value)?;
        let Some(first) = self.position(name) else {
            self.push(name, value);
            return Ok(());
        };
        self.remove(name);
        let start = self
            .lines
            .get(first)
            .map_or(self.bytes.len(), |line| line.start);
        let tail = self.bytes.split_off(start);
        self.push(name, value);
        self.bytes.extend_from_slice(&tail);
        let moved = self.lines.get_mut(first..).unwrap_or_default();
        moved.rotate_right(1);
        if let Some((added, later)) = moved.split_first_mut() {
            for line in later {
                line.start += added.len();
            }
        }
        Ok(())
    }

    /// The value of the first line of that name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.position(name)
            .map(|index| &self.bytes[self.lines[index].value()])
    }

    /// The values of all lines of that name, in order.
    pub fn get_all(&self, name: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.iter()
            .filter(move |(candidate, _)| candidate.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Removes every line of that name; tells whether there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let Self {
            bytes,
            lines,
            known,
        } = self;
        let before = lines.len();
        let mut end = 0;
        lines.retain_mut(|line| {
            if bytes[line.name()].eq_ignore_ascii_case(name) {
                return false;
            }
            bytes.copy_within(line.start..line.start + line.len(), end);
            line.start = end;
            end += line.len();
            true
        });
        bytes.truncate(end);
        known.remove(KnownFields::of(name));
        lines.len() != before
    }

    /// Whether there is a line of that name.
    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.position(name).is_some()
    }

    /// The number of lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is no line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Removes every line and keeps the allocations.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lines.clear();
        self.known = KnownFields::NONE;
    }

    /// The names and values of all lines, in order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + DoubleEndedIterator {
        self.lines
            .iter()
            .map(|line| (&self.bytes[line.name()], &self.bytes[line.value()]))
    }

    /// Which of the names the encoder asks about are present.
    #[must_use]
    pub fn known(&self) -> KnownFields {
        self.known
    }

    /// All lines as they go on the wire: `name: value` and CRLF each, without the empty line that ends a section.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.bytes
    }

    fn push(&mut self, name: &[u8], value: &[u8]) {
        let line = Line {
            start: self.bytes.len(),
            name: name.len(),
            value: value.len(),
        };
        self.bytes.reserve(line.len());
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
        self.lines.push(line);
        self.known.insert(KnownFields::of(name));
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        self.lines.iter().position(|line| {
            line.name == name.len() && self.bytes[line.name()].eq_ignore_ascii_case(name)
        })
    }
}

/// Checks a line and returns the value without the optional whitespace around it.
fn validate<'a>(name: &[u8], value: &'a [u8]) -> Result<&'a [u8], FieldError> {
    if !is_token(name) {
        return Err(FieldError::InvalidName);
    }
    let value = trim_ows(value);
    if is_field_value(value) {
        Ok(value)
    } else {
        Err(FieldError::InvalidValue)
    }
}
