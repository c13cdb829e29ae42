//! The header and trailer sections as a value: an ordered multi-map of field lines (RFC 9110 §5).
//!
//! Names keep the case they were given in and are looked up case-insensitively (RFC 9110 §5.1). Lines of the same name
//! keep their order (§5.3). The backing bytes are the lines exactly as they go on the wire, one after the other, so
//! that encoding a map that holds nothing the connection must decide itself is a single copy.

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

#[cfg(test)]
mod tests {
    use super::*;

    type Lines = Vec<(Vec<u8>, Vec<u8>)>;

    fn map(lines: &[(&str, &str)]) -> FieldMap {
        let mut map = FieldMap::new();
        for (name, value) in lines {
            map.append(name.as_bytes(), value.as_bytes()).unwrap();
        }
        map
    }

    fn lines(map: &FieldMap) -> Vec<(&str, &str)> {
        map.iter()
            .map(|(name, value)| {
                (
                    std::str::from_utf8(name).unwrap(),
                    std::str::from_utf8(value).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn keeps_order_and_case_and_finds_in_any_case() {
        let map = map(&[
            ("Accept", "a"),
            ("X-Two", "1"),
            ("x-two", "2"),
            ("host", "h"),
        ]);
        assert_eq!(
            lines(&map),
            [
                ("Accept", "a"),
                ("X-Two", "1"),
                ("x-two", "2"),
                ("host", "h")
            ]
        );
        assert_eq!(map.len(), 4);
        assert_eq!(map.get(b"ACCEPT"), Some(&b"a"[..]));
        assert_eq!(map.get(b"x-TWO"), Some(&b"1"[..]));
        assert_eq!(map.get_all(b"X-two").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(map.get(b"accep"), None);
        assert_eq!(map.get(b"accept-"), None);
        assert!(map.contains(b"HOST") && !map.contains(b""));
    }

    #[test]
    fn set_replaces_all_lines_at_the_place_of_the_first() {
        let mut map = map(&[("a", "1"), ("b", "2"), ("c", "3"), ("B", "4"), ("d", "5")]);
        map.set(b"B", b"a longer value").unwrap();
        assert_eq!(
            lines(&map),
            [("a", "1"), ("B", "a longer value"), ("c", "3"), ("d", "5")]
        );
        map.set(b"e", b"6").unwrap();
        map.set(b"d", b"").unwrap();
        map.set(b"A", b"7").unwrap();
        assert_eq!(
            lines(&map),
            [
                ("A", "7"),
                ("B", "a longer value"),
                ("c", "3"),
                ("d", ""),
                ("e", "6")
            ]
        );
        assert_eq!(
            map.wire(),
            b"A: 7\r\nB: a longer value\r\nc: 3\r\nd: \r\ne: 6\r\n"
        );
    }

    #[test]
    fn remove_takes_every_line_of_the_name() {
        let mut map = map(&[("a", "1"), ("b", "2"), ("A", "3"), ("c", "4")]);
        assert!(map.remove(b"A"));
        assert!(!map.remove(b"a"));
        assert_eq!(lines(&map), [("b", "2"), ("c", "4")]);
        assert_eq!(map.wire(), b"b: 2\r\nc: 4\r\n");
        map.clear();
        assert!(map.is_empty() && map.wire().is_empty());
        assert_eq!(map, FieldMap::new());
    }

    #[test]
    fn drops_whitespace_around_a_value_but_not_inside() {
        for (given, kept) in [
            (" a", "a"),
            ("a ", "a"),
            ("\t a \t", "a"),
            ("a b", "a b"),
            ("a\tb", "a\tb"),
            ("", ""),
            (" \t ", ""),
        ] {
            assert_eq!(lines(&map(&[("n", given)])), [("n", kept)]);
        }
    }

    #[test]
    fn refuses_names_that_are_not_tokens() {
        let mut map = FieldMap::new();
        let mut names: Vec<Vec<u8>> = b"\0\t\n\r \"(),/:;<=>?@[\\]{}\x7f\x80\xff"
            .iter()
            .flat_map(|&byte| {
                [
                    vec![byte],
                    vec![b'a', byte],
                    vec![byte, b'a'],
                    vec![b'a', byte, b'b'],
                ]
            })
            .collect();
        names.push(Vec::new());
        for name in names {
            assert_eq!(
                map.append(&name, b"v"),
                Err(FieldError::InvalidName),
                "{name:?}"
            );
            assert_eq!(
                map.set(&name, b"v"),
                Err(FieldError::InvalidName),
                "{name:?}"
            );
        }
        assert_eq!(map, FieldMap::new());
    }

    #[test]
    fn refuses_values_that_would_inject_a_line() {
        let before = map(&[("set-cookie", "a=1")]);
        for value in [
            &b"a\r\nx-injected: 1"[..],
            b"a\nx-injected: 1",
            b"a\rx-injected: 1",
            b"a\r\n b",
            b"\r\n",
            b"a\0",
            b"\n",
            b" \r\n ",
            b"a\r",
            b"a\x7f",
            b"a\x0b",
        ] {
            let mut map = before.clone();
            assert_eq!(
                map.append(b"x", value),
                Err(FieldError::InvalidValue),
                "{value:?}"
            );
            assert_eq!(
                map.set(b"set-cookie", value),
                Err(FieldError::InvalidValue),
                "{value:?}"
            );
            assert_eq!(map, before);
        }
        let mut obs_text = before;
        assert_eq!(obs_text.append(b"x", b"caf\xe9"), Ok(()));
    }

    #[test]
    fn errors_say_which_bytes_are_not_allowed() {
        assert!(
            FieldError::InvalidValue
                .to_string()
                .starts_with("CR, LF and NUL are not allowed in a field value")
        );
        assert!(
            FieldError::InvalidName
                .to_string()
                .starts_with("a field name must be")
        );
    }

    #[test]
    fn copies_the_spans_of_a_request() {
        let head = b"GET / HTTP/1.1\r\nHost:  h \r\nContent-Length:0\r\n\r\n";
        let spans = [
            (16..20, 23..24),
            (27..41, 42..43),
            (0..3, 90..99),
            (90..99, 0..3),
        ];
        let map = FieldMap::from_spans(head, spans.into_iter());
        assert_eq!(
            lines(&map),
            [
                ("Host", "h"),
                ("Content-Length", "0"),
                ("GET", ""),
                ("", "GET")
            ]
        );
        assert_eq!(map.known(), KnownFields::CONTENT_LENGTH);
    }

    #[test]
    fn knows_each_known_name_in_any_case() {
        let names = [
            "te",
            "date",
            "vary",
            "server",
            "upgrade",
            "trailer",
            "connection",
            "set-cookie",
            "keep-alive",
            "content-type",
            "content-length",
            "proxy-connection",
            "content-encoding",
            "transfer-encoding",
        ];
        let mut all = KnownFields::NONE;
        for name in names {
            let one = KnownFields::of(name.as_bytes());
            assert!(one != KnownFields::NONE && !all.intersects(one), "{name}");
            assert_eq!(KnownFields::of(name.to_ascii_uppercase().as_bytes()), one);
            assert_eq!(
                KnownFields::of(format!("{name}x").as_bytes()),
                KnownFields::NONE
            );
            assert_eq!(KnownFields::of(&name.as_bytes()[1..]), KnownFields::NONE);
            all = all.union(one);
        }
        assert_eq!(KnownFields::of(b""), KnownFields::NONE);
        assert!(all.contains(KnownFields::DATE.union(KnownFields::TE)));
    }

    #[test]
    fn behaves_like_a_list_of_lines() {
        const NAMES: [&[u8]; 6] = [b"a", b"A", b"Date", b"dAtE", b"connection", b"X-Long-Name"];
        const VALUES: [&[u8]; 4] = [b"", b"1", b"close", b"a value of some length"];
        let mut state = 42_u64;
        let mut random = move |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut map = FieldMap::new();
        let mut model: Lines = Vec::new();
        for _ in 0..20_000 {
            let (name, value) = (NAMES[random(NAMES.len())], VALUES[random(VALUES.len())]);
            match random(8) {
                0..=3 => {
                    map.append(name, value).unwrap();
                    model.push((name.to_vec(), value.to_vec()));
                }
                4 | 5 => {
                    map.set(name, value).unwrap();
                    let first = model
                        .iter()
                        .position(|(other, _)| other.eq_ignore_ascii_case(name));
                    let place = first.unwrap_or(model.len());
                    model.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
                    model.insert(place, (name.to_vec(), value.to_vec()));
                }
                _ => {
                    let had = model
                        .iter()
                        .any(|(other, _)| other.eq_ignore_ascii_case(name));
                    assert_eq!(map.remove(name), had);
                    model.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
                }
            }
            let found: Lines = map
                .iter()
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect();
            assert_eq!(found, model);
            let wire: Vec<u8> = model
                .iter()
                .flat_map(|(name, value)| [name, &b": "[..], value, b"\r\n"].concat())
                .collect();
            assert_eq!(map.wire(), wire);
            let known = model.iter().fold(KnownFields::NONE, |known, (name, _)| {
                known.union(KnownFields::of(name))
            });
            assert_eq!(map.known(), known);
        }
    }
}
