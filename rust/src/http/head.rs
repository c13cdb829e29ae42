//! The head of a request: request line, header section, and what they say about the rest of the message
//! (RFC 9112 §2, §3, §5, §6.3, §9.3).
//!
//! Strict where the RFC gives a choice: CRLF only, single spaces, no line folding, one `Content-Length`, chunked alone.
//! Each leniency is a place where two servers in a chain can disagree on where a request ends.
//!
//! The parser reads from left to right and keeps no state: while it says "not enough yet", call it again with more.
//! Cutting the input anywhere changes neither the result nor which error is reported. An octet that can stand nowhere
//! is refused on sight; what depends on a whole line or on the whole head is judged when that is in.
//!
//! Left out: the meaning of other fields (`fields`), matching `Host` against configured names, the content (`body`).

mod section;

use super::body::Framing;
use super::grammar;
use super::target::{self, TargetForm};
use crate::error::ProtocolError;

/// Empty lines that may precede a request line.
///
/// RFC 9112 §2.2: "a server that is expecting to receive and parse a request-line SHOULD ignore at least one empty line
/// (CRLF) received prior to the request-line". Old clients end a body with one CRLF too many; no client sends five.
const MAX_EMPTY_LINES: usize = 4;

/// The most field lines that any configuration admits: a linear search among them stays cheap.
const MAX_FIELDS: usize = 256;

/// A range of octets in the bytes that a head was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first octet.
    pub start: u32,
    /// After the last octet.
    pub end: u32,
}

impl Span {
    /// The octets themselves; empty if `bytes` are not those that the span was made for.
    #[must_use]
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// The number of octets.
    #[must_use]
    #[inline]
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Is there nothing in it?
    #[must_use]
    #[inline]
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// A span of positions in a head, which [`parse_head`] keeps below 2^32.
    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "parse_head looks at less than 2^32 octets"
    )]
    fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }
}

/// The version of the protocol that the client conforms to (RFC 9110 §2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1, or a later minor version, whose messages a server of 1.1 can process.
    #[default]
    Http11,
}

/// A request method (RFC 9110 §9, RFC 5789).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// GET
    #[default]
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// CONNECT
    Connect,
    /// OPTIONS
    Options,
    /// TRACE
    Trace,
    /// PATCH
    Patch,
    /// Any other token; `RequestHead::method_text` has it.
    Other,
}

impl Method {
    /// The method of this name; names are case-sensitive (RFC 9110 §9.1).
    #[must_use]
    #[inline]
    pub fn parse(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }

    /// The name, if it is one of those listed.
    #[must_use]
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Get => Some("GET"),
            Self::Head => Some("HEAD"),
            Self::Post => Some("POST"),
            Self::Put => Some("PUT"),
            Self::Delete => Some("DELETE"),
            Self::Connect => Some("CONNECT"),
            Self::Options => Some("OPTIONS"),
            Self::Trace => Some("TRACE"),
            Self::Patch => Some("PATCH"),
            Self::Other => None,
        }
    }

    /// Is it defined not to change anything (RFC 9110 §9.2.1)? Unknown methods are not.
    #[must_use]
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }
}

/// One field line (RFC 9112 §5).
#[derive(Clone, Copy, Debug, Default)]
pub struct Field {
    /// The name, in the case it was sent in.
    pub name: Span,
    /// The value without the whitespace around it.
    pub value: Span,
}

/// Bounds on a head, each of which bounds memory and the work of parsing again when more octets arrive.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Octets of the request line without its CRLF; more is 414. RFC 9112 §3 recommends at least 8,000.
    pub max_request_line: usize,
    /// Octets of the header section with its line ends and the final empty line; more is 431.
    pub max_head: usize,
    /// Field lines; more is 431. Never more than 256.
    pub max_fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            max_request_line: 8192,
            max_head: 32 * 1024,
            max_fields: 100,
        }
    }
}

/// A parsed head; reuse one for all requests of a connection and parsing allocates nothing.
///
/// All spans are positions in the bytes given to [`parse_head`].
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The method as sent.
    pub method_text: Span,
    /// The whole request-target as sent.
    pub target: Span,
    /// Which form the target has.
    pub form: TargetForm,
    /// Raw path without query. `*` for asterisk-form; empty for authority-form and for an absolute-form without path,
    /// which means `/`.
    pub path: Span,
    /// Raw query without `?`; `Some` and empty if there is only the `?`.
    pub query: Option<Span>,
    /// The authority that the request is for: the target's, else the value of `Host`; empty when there is none.
    ///
    /// RFC 9112 §3.2.2: "When an origin server receives a request with an absolute-form of request-target, the origin
    /// server MUST ignore the received Host header field".
    pub authority: Span,
    /// The protocol version.
    pub version: Version,
    /// The field lines in the order received.
    pub fields: Vec<Field>,
    /// How the length of the body is known.
    pub framing: Framing,
    /// May another request follow on this connection (RFC 9112 §9.3)? HTTP/1.1: unless `close` is listed; HTTP/1.0: only
    /// if `keep-alive` is and `close` is not.
    pub keep_alive: bool,
    /// Does the client wait for 100 (Continue) before it sends the body (RFC 9110 §10.1.1)? Never on HTTP/1.0.
    pub expect_continue: bool,
    /// Does the client offer a switch of protocols (RFC 9110 §7.8): an `Upgrade` field, and `upgrade` in `Connection`?
    /// Never on HTTP/1.0.
    pub upgrade: bool,
    /// Octets that the head took, leading empty lines and the final one included.
    pub len: usize,
}

/// Parses the head at the start of `bytes` into `head`.
///
/// `Ok(None)`: there is not enough of it yet, and `head` holds nothing of use.
///
/// ```
/// use vibora::http::head::{HeadLimits, Method, RequestHead, parse_head};
///
/// let bytes = b"GET /where?q=now HTTP/1.1\r\nHost: www.example.org\r\n\r\n";
/// let mut head = RequestHead::default();
/// assert_eq!(parse_head(bytes, &HeadLimits::default(), &mut head), Ok(Some(())));
/// assert_eq!((head.method, head.path.of(bytes)), (Method::Get, &b"/where"[..]));
/// ```
///
/// # Errors
///
/// The octets are not a valid request head, or a limit is passed; also if only the beginning is in and it cannot become
/// one. Nothing that follows may be parsed as a request.
#[inline]
pub fn parse_head(
    bytes: &[u8],
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<Option<()>, ProtocolError> {
    let Some(start) = skip_empty_lines(bytes)? else {
        return Ok(None);
    };

    let rest = bytes.get(start..).unwrap_or_default();
    // Each part of the head is looked for in a window as large as the part may be: what does not end in its window is
    // too long, wherever the input is cut. Windows also keep positions below 2^32.
    let room = limits
        .max_request_line
        .saturating_add(2)
        .min(u32::MAX as usize / 2);
    let window = rest.get(..room).unwrap_or(rest);
    let Some(line_len) = parse_request_line(window, start, head)? else {
        return if window.len() == room {
            Err(ProtocolError::RequestLineTooLong)
        } else {
            Ok(None)
        };
    };

    let rest = rest.get(line_len..).unwrap_or_default();
    let room = limits.max_head.min(u32::MAX as usize / 4);
    let window = rest.get(..room).unwrap_or(rest);
    let max_fields = limits.max_fields.min(MAX_FIELDS);
    let section = start + line_len;
    let Some(section_len) = parse_fields(window, section, max_fields, &mut head.fields)? else {
        return if window.len() == room {
            Err(ProtocolError::HeadTooLarge)
        } else {
            Ok(None)
        };
    };

    head.len = section + section_len;
    section::conclude(bytes, head)?;
    Ok(Some(()))
}

/// Counts the octets of the empty lines before a request line; none if it is not known yet where they end.
fn skip_empty_lines(bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
    let mut rest = bytes;
    for skipped in 0..=MAX_EMPTY_LINES {
        rest = match rest {
            [b'\r', b'\n', after @ ..] => after,
            [] | [b'\r'] => return Ok(None),
            [b'\r', ..] => return Err(ProtocolError::BareCarriageReturn),
            [b'\n', ..] => return Err(ProtocolError::BareLineFeed),
            _ => return Ok(Some(2 * skipped)),
        }
    }
    Err(ProtocolError::TooManyEmptyLines)
}

/// RFC 9112 §3: `request-line = method SP request-target SP HTTP-version`; returns its length with CRLF.
#[inline]
fn parse_request_line(
    line: &[u8],
    start: usize,
    head: &mut RequestHead,
) -> Result<Option<usize>, ProtocolError> {
    let method_len = grammar::token_len(line);
    let (method, after_method) = line.split_at_checked(method_len).unwrap_or((line, b""));
    let after_method = match after_method {
        [] => return Ok(None),
        [b' ', after @ ..] if method_len > 0 => after,
        _ => return stray(after_method, ProtocolError::InvalidMethod),
    };

    let path_end = grammar::path_len(after_method);
    let target_len = match after_method.get(path_end..) {
        Some(query @ [b'?', ..]) => path_end + grammar::target_len(query),
        _ => path_end,
    };
    let (target, after_target) = after_method
        .split_at_checked(target_len)
        .unwrap_or((after_method, b""));
    let after_target = match after_target {
        [] => return Ok(None),
        [b' ', after @ ..] if target_len > 0 => after,
        [b' ' | b'\t', ..] => return Err(ProtocolError::MalformedRequestLine),
        [b'#', ..] => return Err(ProtocolError::FragmentInTarget),
        _ => return stray(after_target, ProtocolError::InvalidTargetOctet),
    };

    head.version = match after_target {
        [
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            b'1',
            b'\r',
            b'\n',
            ..,
        ] => Version::Http11,
        _ => match parse_version(after_target)? {
            Some(version) => version,
            None => return Ok(None),
        },
    };

    head.method = Method::parse(method);
    let parts = target::parse_target(head.method, target, path_end)?;
    let at = start + method_len + 1;
    head.method_text = Span::new(start, start + method_len);
    head.target = Span::new(at, at + target_len);
    head.form = parts.form;
    head.authority = Span::new(at + parts.authority.start, at + parts.authority.end);
    head.path = Span::new(at + parts.path.start, at + parts.path.end);
    head.query = parts
        .query
        .map(|query| Span::new(at + query.start, at + query.end));
    Ok(Some(
        method_len + 1 + target_len + 1 + b"HTTP/1.1\r\n".len(),
    ))
}

/// What to say about an octet that ends a part of a line too early.
#[cold]
fn stray<T>(rest: &[u8], otherwise: ProtocolError) -> Result<Option<T>, ProtocolError> {
    match rest {
        [] | [b'\r'] => Ok(None),
        // In a request line: HTTP/0.9, or a part is missing.
        [b'\r', b'\n', ..] => Err(match otherwise {
            ProtocolError::InvalidFieldName => ProtocolError::MissingColon,
            _ => ProtocolError::MalformedRequestLine,
        }),
        [b'\r', ..] => Err(ProtocolError::BareCarriageReturn),
        [b'\n', ..] => Err(ProtocolError::BareLineFeed),
        _ => Err(otherwise),
    }
}

/// RFC 9112 §2.3: `HTTP-version = HTTP-name "/" DIGIT "." DIGIT`, with the CRLF after it.
#[cold]
fn parse_version(rest: &[u8]) -> Result<Option<Version>, ProtocolError> {
    const LEN: usize = b"HTTP/1.1".len();
    let len = rest
        .iter()
        .position(|&octet| !octet.is_ascii_graphic())
        .unwrap_or(rest.len());
    let (version, after) = rest.split_at_checked(len).unwrap_or((rest, b""));
    match (version, after) {
        _ if len > LEN => Err(ProtocolError::MalformedVersion),
        (_, [] | [b'\r']) => Ok(None),
        (_, [b' ' | b'\t', ..]) => Err(ProtocolError::MalformedRequestLine),
        ([b'H', b'T', b'T', b'P', b'/', major, b'.', minor], [b'\r', b'\n', ..])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            match (major, minor) {
                (b'1', b'0') => Ok(Some(Version::Http10)),
                // RFC 9110 §2.5: a higher minor version of the same major version is processed as our highest.
                (b'1', _) => Ok(Some(Version::Http11)),
                _ => Err(ProtocolError::UnsupportedVersion),
            }
        }
        (_, [b'\r', b'\n', ..]) => Err(ProtocolError::MalformedVersion),
        _ => stray(after, ProtocolError::MalformedVersion),
    }
}

/// What one line of a header or trailer section is.
#[derive(Debug)]
pub(crate) enum Line {
    /// The empty line that ends the section.
    Empty,
    /// A field line.
    Field(FieldLine),
}

/// Where the parts of a field line are, as offsets in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldLine {
    name_len: usize,
    value_start: usize,
    value_end: usize,
    /// Length with CRLF.
    len: usize,
}

impl FieldLine {
    /// The field name.
    pub(crate) fn name(self, line: &[u8]) -> &[u8] {
        line.get(..self.name_len).unwrap_or_default()
    }

    /// The field value without the whitespace around it.
    pub(crate) fn value(self, line: &[u8]) -> &[u8] {
        line.get(self.value_start..self.value_end)
            .unwrap_or_default()
    }
}

/// Parses the line at the start of `bytes`, of a header section or of a trailer section; none if it has no end yet.
///
/// RFC 9112 §5: `field-line = field-name ":" OWS field-value OWS`.
///
/// # Errors
///
/// The line is not a field line, or cannot become one.
#[inline]
pub(crate) fn parse_line(bytes: &[u8]) -> Result<Option<Line>, ProtocolError> {
    let name_len = grammar::token_len(bytes);
    let (_, after_name) = bytes.split_at_checked(name_len).unwrap_or((bytes, b""));
    let after_colon = match after_name {
        [] => return Ok(None),
        [b':', after @ ..] if name_len > 0 => after,
        [b'\r', b'\n', ..] if name_len == 0 => return Ok(Some(Line::Empty)),
        _ => return bad_name(name_len, after_name),
    };

    let mut value = after_colon;
    while let [b' ' | b'\t', after @ ..] = value {
        value = after;
    }
    let value_start = bytes.len() - value.len();
    let (mut value, end) = value
        .split_at_checked(grammar::field_value_len(value))
        .unwrap_or((value, b""));
    match end {
        [b'\r', b'\n', ..] => {}
        [] | [b'\r'] => return Ok(None),
        [b'\r', ..] => return Err(ProtocolError::BareCarriageReturn),
        [b'\n', ..] => return Err(ProtocolError::BareLineFeed),
        _ => return Err(ProtocolError::InvalidFieldValue),
    }
    let len = bytes.len() - end.len() + 2;
    while let [before @ .., b' ' | b'\t'] = value {
        value = before;
    }
    Ok(Some(Line::Field(FieldLine {
        name_len,
        value_start,
        value_end: value_start + value.len(),
        len,
    })))
}

/// What is wrong with a line whose name ends in something else than a colon.
#[cold]
fn bad_name(name_len: usize, rest: &[u8]) -> Result<Option<Line>, ProtocolError> {
    match rest {
        [b' ' | b'\t', ..] if name_len > 0 => Err(ProtocolError::WhitespaceBeforeColon),
        // Judged when the line is in, like every line that is only misplaced.
        [b' ' | b'\t', ..] if memchr::memchr2(b'\r', b'\n', rest).is_none() => Ok(None),
        [b' ' | b'\t', ..] => Err(ProtocolError::LineFolding),
        _ => stray(rest, ProtocolError::InvalidFieldName),
    }
}

/// Parses the field lines; returns the length of the section with the empty line that ends it.
#[inline]
fn parse_fields(
    section: &[u8],
    start: usize,
    max_fields: usize,
    fields: &mut Vec<Field>,
) -> Result<Option<usize>, ProtocolError> {
    fields.clear();
    let mut rest = section;
    loop {
        let line = match parse_line(rest)? {
            None => return Ok(None),
            Some(Line::Empty) => return Ok(Some(section.len() - rest.len() + 2)),
            Some(Line::Field(line)) => line,
        };
        if fields.len() == max_fields {
            return Err(ProtocolError::TooManyFields);
        }
        let at = start + section.len() - rest.len();
        fields.push(Field {
            name: Span::new(at, at + line.name_len),
            value: Span::new(at + line.value_start, at + line.value_end),
        });
        rest = rest.get(line.len..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses `bytes` whole, every beginning of it, and more than it; checks that cutting changes nothing.
    ///
    /// As the parser keeps no state, the beginnings are all splits there are.
    pub(super) fn every_split(
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<RequestHead>, ProtocolError> {
        // One head for all, as a connection has: nothing of an earlier parse may show.
        let mut head = RequestHead::default();
        let whole = parse_head(bytes, limits, &mut head);
        let parsed = head.clone();
        let mut settled = None;
        for len in 0..bytes.len() {
            let result = parse_head(&bytes[..len], limits, &mut head);
            match result {
                Ok(None) => assert_eq!(settled, None, "unsettled by more octets at {len}"),
                Ok(Some(())) => assert!(head.len <= len, "took {} of {len} octets", head.len),
                Err(_) => {}
            }
            if result != Ok(None) {
                settled.get_or_insert(result);
                assert_eq!(
                    result,
                    whole,
                    "at {len} of {:?}",
                    bytes.escape_ascii().to_string()
                );
            }
        }
        if whole == Ok(None) {
            return Ok(None);
        }
        for trailing in [
            &b"\r\n"[..],
            b"GET / HTTP/1.1\r\n",
            b"\x00\xff",
            b"\n",
            b" a",
        ] {
            let more = [bytes, trailing].concat();
            assert_eq!(
                parse_head(&more, limits, &mut head),
                whole,
                "with {trailing:?}"
            );
            if whole.is_ok() {
                assert_eq!(
                    format!("{head:?}"),
                    format!("{parsed:?}"),
                    "with {trailing:?}"
                );
            }
        }
        whole.map(|_| Some(parsed))
    }

    pub(super) fn accept(bytes: &[u8]) -> RequestHead {
        match every_split(bytes, &HeadLimits::default()) {
            Ok(Some(head)) => head,
            other => panic!("{other:?} for {:?}", bytes.escape_ascii().to_string()),
        }
    }

    pub(super) fn verdict(bytes: &[u8]) -> Result<Option<()>, ProtocolError> {
        every_split(bytes, &HeadLimits::default()).map(|head| head.map(|_| ()))
    }

    // RFC 9112 §3: request line

    #[test]
    fn finds_the_parts_of_a_head() {
        let bytes = b"\r\nPOST /a?b=c HTTP/1.1\r\nHost: example.org:80\r\nX-Empty:\r\n\
            x-both: \t a \t b\t \r\nContent-Length:3\r\n\r\n";
        let head = accept(bytes);
        assert_eq!(head.method, Method::Post);
        assert_eq!(head.method_text.of(bytes), b"POST");
        assert_eq!(head.target.of(bytes), b"/a?b=c");
        assert_eq!(head.form, TargetForm::Origin);
        assert_eq!(head.path.of(bytes), b"/a");
        assert_eq!(head.query.map(|query| query.of(bytes)), Some(&b"b=c"[..]));
        assert_eq!(head.authority.of(bytes), b"example.org:80");
        assert_eq!(head.version, Version::Http11);
        assert_eq!(head.framing, Framing::Length(3));
        assert_eq!(head.len, bytes.len());
        let fields: Vec<_> = head
            .fields
            .iter()
            .map(|field| (field.name.of(bytes), field.value.of(bytes)))
            .collect();
        assert_eq!(
            fields,
            [
                (&b"Host"[..], &b"example.org:80"[..]),
                (b"X-Empty", b""),
                (b"x-both", b"a \t b"),
                (b"Content-Length", b"3"),
            ]
        );
    }

    #[test]
    fn a_target_has_one_of_four_forms() {
        for (line, path, query, authority) in [
            ("GET / HTTP/1.1", "/", None, "a"),
            ("GET /x? HTTP/1.1", "/x", Some(""), "a"),
            ("GET http://b:1/x?y HTTP/1.1", "/x", Some("y"), "b:1"),
            ("GET http://b HTTP/1.1", "", None, "b"),
            ("GET http://b?y HTTP/1.1", "", Some("y"), "b"),
            ("OPTIONS * HTTP/1.1", "*", None, "a"),
            ("CONNECT b:80 HTTP/1.1", "", None, "b:80"),
        ] {
            let bytes = format!("{line}\r\nHost: a\r\n\r\n").into_bytes();
            let head = accept(&bytes);
            assert_eq!(head.path.of(&bytes), path.as_bytes(), "{line}");
            assert_eq!(
                head.query.map(|query| query.of(&bytes)),
                query.map(str::as_bytes),
                "{line}"
            );
            assert_eq!(head.authority.of(&bytes), authority.as_bytes(), "{line}");
        }
    }

    #[test]
    fn a_method_is_any_token_in_its_case() {
        for (name, method) in [
            ("GET", Method::Get),
            ("HEAD", Method::Head),
            ("POST", Method::Post),
            ("PUT", Method::Put),
            ("DELETE", Method::Delete),
            ("OPTIONS", Method::Options),
            ("TRACE", Method::Trace),
            ("PATCH", Method::Patch),
            ("get", Method::Other),
            ("GETT", Method::Other),
            ("M-SEARCH", Method::Other),
            ("#!~", Method::Other),
        ] {
            let bytes = format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
            let head = accept(&bytes);
            assert_eq!(head.method, method, "{name}");
            assert_eq!(head.method_text.of(&bytes), name.as_bytes());
            assert_eq!(method.as_str().unwrap_or(name), name);
            assert_eq!(Method::parse(name.as_bytes()), method);
        }
        assert!(Method::Head.is_safe() && !Method::Delete.is_safe() && !Method::Other.is_safe());
    }

    /// RFC 9110 §2.5
    #[test]
    fn later_minor_versions_are_served_as_http11() {
        for (version, expected) in [
            ("1.0", Version::Http10),
            ("1.1", Version::Http11),
            ("1.2", Version::Http11),
            ("1.9", Version::Http11),
        ] {
            let head = accept(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n").as_bytes());
            assert_eq!(head.version, expected, "{version}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn refuses_a_malformed_request_line() {
        use ProtocolError as E;
        for (name, bytes, expected) in [
            ("an empty method", &b" / HTTP/1.1\r\n"[..], E::InvalidMethod),
            ("a colon in the method", b"GE:T / HTTP/1.1\r\n", E::InvalidMethod),
            ("a nul in the method", b"GET\0 / HTTP/1.1\r\n", E::InvalidMethod),
            ("obs-text in the method", b"GET\xc3\x9f / HTTP/1.1\r\n", E::InvalidMethod),
            ("a tab after the method", b"GET\t/ HTTP/1.1\r\n", E::InvalidMethod),
            ("a TLS ClientHello", b"\x16\x03\x01\x02\x00\x01\x00", E::InvalidMethod),
            ("only a method", b"GET\r\n", E::MalformedRequestLine),
            ("two spaces before the target", b"GET  / HTTP/1.1\r\n", E::MalformedRequestLine),
            ("a tab before the target", b"GET \t/ HTTP/1.1\r\n", E::MalformedRequestLine),
            ("a tab after the target", b"GET /\tHTTP/1.1\r\n", E::MalformedRequestLine),
            ("two spaces before the version", b"GET /  HTTP/1.1\r\n", E::MalformedRequestLine),
            ("a space in the target", b"GET /a b HTTP/1.1\r\n", E::MalformedRequestLine),
            ("a space after the version", b"GET / HTTP/1.1 \r\n", E::MalformedRequestLine),
            ("HTTP/0.9", b"GET /\r\n", E::MalformedRequestLine),
            ("HTTP/0.9 with a space", b"GET / \r\n", E::MalformedVersion),
            ("no target", b"GET HTTP/1.1\r\n", E::MalformedRequestLine),
            ("a fragment", b"GET /a#b HTTP/1.1\r\n", E::FragmentInTarget),
            ("a fragment after a query", b"GET /a?b#c HTTP/1.1\r\n", E::FragmentInTarget),
            ("a nul in the target", b"GET /a\0 HTTP/1.1\r\n", E::InvalidTargetOctet),
            ("DEL in the query", b"GET /a?\x7f HTTP/1.1\r\n", E::InvalidTargetOctet),
            ("UTF-8 in the path", b"GET /caf\xc3\xa9 HTTP/1.1\r\n", E::InvalidTargetOctet),
            ("a form of another method", b"GET * HTTP/1.1\r\n", E::InvalidTargetForm),
            ("a path without slash", b"GET a HTTP/1.1\r\n", E::InvalidTargetForm),
            (
                "an empty host",
                b"GET http:///a HTTP/1.1\r\n",
                E::InvalidAuthority,
            ),
            (
                "userinfo",
                b"GET http://u@a/ HTTP/1.1\r\n",
                E::UserinfoInAuthority,
            ),
            ("CONNECT without port", b"CONNECT a HTTP/1.1\r\n", E::InvalidAuthority),
            ("a lower-case protocol name", b"GET / http/1.1\r\n", E::MalformedVersion),
            ("another protocol", b"GET / RTSP/1.0\r\n", E::MalformedVersion),
            ("a prefixed protocol", b"GET / XHTTP/1.1\r\n", E::MalformedVersion),
            ("a long minor version", b"GET / HTTP/1.10\r\n", E::MalformedVersion),
            ("a long major version", b"GET / HTTP/11.1\r\n", E::MalformedVersion),
            ("no minor version", b"GET / HTTP/1.\r\n", E::MalformedVersion),
            ("no dot", b"GET / HTTP/1,1\r\n", E::MalformedVersion),
            ("a nul after the version", b"GET / HTTP/1.1\0\r\n", E::MalformedVersion),
            ("a version without end", b"GET / HTTP/1.1111111111", E::MalformedVersion),
            ("HTTP/2.0", b"GET / HTTP/2.0\r\n", E::UnsupportedVersion),
            ("HTTP/0.9 spelled out", b"GET / HTTP/0.9\r\n", E::UnsupportedVersion),
            ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", E::UnsupportedVersion),
            ("a proxy's preface", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", E::MalformedRequestLine),
            ("LF after the method", b"GET\n/ HTTP/1.1\r\n", E::BareLineFeed),
            ("LF after the target", b"GET /\nHTTP/1.1\r\n", E::BareLineFeed),
            ("LF after the version", b"GET / HTTP/1.1\nHost: a\r\n\r\n", E::BareLineFeed),
            ("CR in the method", b"GE\rT / HTTP/1.1\r\n", E::BareCarriageReturn),
            ("CR in the target", b"GET /\rHTTP/1.1\r\n", E::BareCarriageReturn),
            ("CR after the version", b"GET / HTTP/1.1\rHost: a\r\n", E::BareCarriageReturn),
            ("two CR after the version", b"GET / HTTP/1.1\r\r\n", E::BareCarriageReturn),
        ] {
            assert_eq!(verdict(bytes), Err(expected), "{name}");
        }
    }

    /// RFC 9112 §2.2
    #[test]
    fn ignores_a_few_empty_lines_before_the_request_line() {
        let request = b"GET / HTTP/1.0\r\n\r\n";
        for count in 0..=4 {
            let bytes = [&b"\r\n".repeat(count)[..], request].concat();
            let head = accept(&bytes);
            assert_eq!(
                (head.len, head.method_text.of(&bytes)),
                (bytes.len(), &b"GET"[..])
            );
            assert_eq!(verdict(&b"\r\n".repeat(count)), Ok(None));
        }
        let flood = [&b"\r\n".repeat(5)[..], request].concat();
        assert_eq!(verdict(&flood), Err(ProtocolError::TooManyEmptyLines));
        assert_eq!(
            verdict(b"\nGET / HTTP/1.0\r\n\r\n"),
            Err(ProtocolError::BareLineFeed)
        );
        assert_eq!(verdict(b"\r\n\n"), Err(ProtocolError::BareLineFeed));
        assert_eq!(
            verdict(b"\rGET / HTTP/1.0\r\n"),
            Err(ProtocolError::BareCarriageReturn)
        );
        assert_eq!(verdict(b"\r\r\n"), Err(ProtocolError::BareCarriageReturn));
    }

    // RFC 9112 §5: field lines

    #[test]
    #[rustfmt::skip]
    fn refuses_a_malformed_field_line() {
        use ProtocolError as E;
        for (name, field, expected) in [
            ("no colon", &b"Name\r\n"[..], E::MissingColon),
            ("an empty name", b": a\r\n", E::InvalidFieldName),
            ("a space before the colon", b"Content-Length : 3\r\n", E::WhitespaceBeforeColon),
            ("a tab before the colon", b"Transfer-Encoding\t: chunked\r\n", E::WhitespaceBeforeColon),
            ("a space in the name", b"test line\r\n", E::WhitespaceBeforeColon),
            ("brackets in the name", b"a[]: b\r\n", E::InvalidFieldName),
            ("a nul in the name", b"a\0: b\r\n", E::InvalidFieldName),
            ("obs-text in the name", b"Content-Length\xc3\x9f: 3\r\n", E::InvalidFieldName),
            ("folding with a space", b"X: a\r\n b\r\n", E::LineFolding),
            ("folding with a tab", b"X: a\r\n\tb\r\n", E::LineFolding),
            ("folding into nothing", b"X: a\r\n \r\n", E::LineFolding),
            ("a nul in the value", b"X: a\0b\r\n", E::InvalidFieldValue),
            ("VT before the value", b"Transfer-Encoding: \x0bchunked\r\n", E::InvalidFieldValue),
            ("FF in the value", b"X: a\x0cb\r\n", E::InvalidFieldValue),
            ("FS in the value", b"X: a\x1cb\r\n", E::InvalidFieldValue),
            ("DEL in the value", b"X: a\x7fb\r\n", E::InvalidFieldValue),
            ("ESC in the value", b"X: \x1b[31m\r\n", E::InvalidFieldValue),
            ("LF in the value", b"X: a\nY: b\r\n", E::BareLineFeed),
            ("LF after the colon", b"X:\nTransfer-Encoding: chunked\r\n", E::BareLineFeed),
            ("LF in the name", b"X\n: b\r\n", E::BareLineFeed),
            ("LF as the empty line", b"\nX: b\r\n", E::BareLineFeed),
            ("CR in the value", b"X: a\rY: b\r\n", E::BareCarriageReturn),
            ("CR after the colon", b"X:\rY: b\r\n", E::BareCarriageReturn),
            ("CR in the name", b"Content\rLength: 3\r\n", E::BareCarriageReturn),
            ("CR before CRLF", b"X: a\r\r\n", E::BareCarriageReturn),
            ("CR for the empty line", b"\rX: a\r\n", E::BareCarriageReturn),
            ("CRLF CR and more", b"\r\rX", E::BareCarriageReturn),
        ] {
            // First, in the middle, and after a line of just the length of a block.
            for before in ["", "Host: a\r\n", "Host: a\r\nA: 456\r\n"] {
                let head = [
                    b"GET / HTTP/1.1\r\n",
                    before.as_bytes(),
                    field,
                    b"Z: z\r\n\r\n",
                ]
                .concat();
                assert_eq!(verdict(&head), Err(expected), "{name} after {before:?}");
            }
        }
    }

    #[test]
    fn accepts_what_a_value_may_hold() {
        for value in [
            "",
            "a",
            "a b\tc",
            "\u{20ac}",
            "\u{ff}",
            "\"a, b\";q=0.5",
            ":",
            "::",
            "a: b",
        ] {
            let bytes = format!("GET / HTTP/1.0\r\nX: \t{value} \r\n\r\n").into_bytes();
            assert_eq!(
                accept(&bytes).fields[0].value.of(&bytes),
                value.as_bytes(),
                "{value:?}"
            );
        }
    }

    #[test]
    fn waits_for_what_is_not_in_yet() {
        for bytes in [
            &b""[..],
            b"\r",
            b"\r\n\r",
            b"G",
            b"GET",
            b"GET ",
            b"GET /",
            b"GET /a?b",
            b"GET / ",
            b"GET / HTTP/1.1",
            b"GET / HTTP/1.1\r",
            b"GET / HTTP/5.6",
            b"GET / HTTP/1.1\r\n",
            b"GET / HTTP/1.1\r\n\r",
            b"GET / HTTP/1.1\r\nHost",
            b"GET / HTTP/1.1\r\nHost\r",
            b"GET / HTTP/1.1\r\nHost:",
            b"GET / HTTP/1.1\r\nHost: a\r",
            b"GET / HTTP/1.1\r\nHost: a\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r",
            b"GET / HTTP/1.1\r\n Host: a",
            b"GET / HTTP/1.1\r\nContent-Length: x\r\nContent-Length: y\r\n",
        ] {
            assert_eq!(
                verdict(bytes),
                Ok(None),
                "{:?}",
                bytes.escape_ascii().to_string()
            );
        }
    }

    // Limits

    #[test]
    fn a_request_line_is_as_long_as_its_limit_at_most() {
        let limits = HeadLimits {
            max_request_line: 32,
            ..HeadLimits::default()
        };
        let line =
            |len: usize| format!("GET /{} HTTP/1.1", "a".repeat(len - "GET / HTTP/1.1".len()));
        let longest = format!("\r\n{}\r\nHost: a\r\n\r\n", line(32));
        assert!(every_split(longest.as_bytes(), &limits).unwrap().is_some());
        for bytes in [
            format!("{}\r\nHost: a\r\n\r\n", line(33)),
            line(35),
            "a".repeat(34),
            format!("GET /{}", "a".repeat(40)),
            // What comes after the limit is not looked at.
            format!("GET /{}\0", "a".repeat(40)),
        ] {
            let seen = every_split(bytes.as_bytes(), &limits).map(|_| ());
            assert_eq!(seen, Err(ProtocolError::RequestLineTooLong), "{bytes:?}");
        }
        // Nor does the limit hide what is wrong before it.
        let seen = every_split(format!("GET {}", "b".repeat(30)).as_bytes(), &limits).map(|_| ());
        assert_eq!(seen, Err(ProtocolError::RequestLineTooLong));
        let seen = every_split(b"GET /\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &limits).map(|_| ());
        assert_eq!(seen, Err(ProtocolError::InvalidTargetOctet));
    }

    #[test]
    fn a_header_section_is_as_large_as_its_limit_at_most() {
        let limits = HeadLimits {
            max_head: 64,
            ..HeadLimits::default()
        };
        let head = |len: usize| {
            let fields = "Host: a\r\nX: ";
            format!(
                "GET / HTTP/1.1\r\n{fields}{}\r\n\r\n",
                "x".repeat(len - fields.len() - 4)
            )
        };
        assert!(every_split(head(64).as_bytes(), &limits).unwrap().is_some());
        let cut = |len: usize, cut: usize| {
            let mut bytes = head(len).into_bytes();
            bytes.truncate(bytes.len() - cut);
            bytes
        };
        for bytes in [cut(65, 0), cut(65, 1), cut(100, 2), cut(100, 20)] {
            let seen = every_split(&bytes, &limits).map(|_| ());
            assert_eq!(seen, Err(ProtocolError::HeadTooLarge), "{bytes:?}");
        }
        assert_eq!(
            every_split(&cut(64, 1), &limits).map(|head| head.is_some()),
            Ok(false)
        );
    }

    #[test]
    fn a_header_section_has_as_many_lines_as_its_limit_at_most() {
        let head = |count: usize| {
            format!("GET / HTTP/1.0\r\n{}\r\n", "X: y\r\n".repeat(count)).into_bytes()
        };
        let refused = Err(ProtocolError::TooManyFields);
        for (max_fields, most) in [(0, 0), (1, 1), (100, 100), (256, 256), (1000, 256)] {
            let limits = HeadLimits {
                max_fields,
                ..HeadLimits::default()
            };
            let mut parsed = RequestHead::default();
            assert_eq!(parse_head(&head(most), &limits, &mut parsed), Ok(Some(())));
            assert_eq!(parsed.fields.len(), most);
            assert_eq!(parse_head(&head(most + 1), &limits, &mut parsed), refused);
        }
        let limits = HeadLimits {
            max_fields: 2,
            ..HeadLimits::default()
        };
        assert_eq!(every_split(&head(3), &limits).map(|_| None), refused);
        assert!(every_split(&head(2), &limits).unwrap().is_some());
    }

    #[test]
    fn limits_may_be_absurd() {
        for value in [0, 1, usize::MAX] {
            let limits = HeadLimits {
                max_request_line: value,
                max_head: value,
                max_fields: value,
            };
            for bytes in [
                &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
                b"",
                b"\r\n",
                b"G",
                b"GET / HTTP/1.1\r\n",
            ] {
                let seen = every_split(bytes, &limits);
                assert!(
                    value == usize::MAX || !matches!(seen, Ok(Some(_))),
                    "{value} {bytes:?}"
                );
            }
        }
    }

    #[test]
    fn a_reused_head_does_not_grow() {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\n\r\n";
        let mut head = accept(bytes);
        let (pointer, capacity) = (head.fields.as_ptr(), head.fields.capacity());
        for _ in 0..10 {
            assert_eq!(
                parse_head(bytes, &HeadLimits::default(), &mut head),
                Ok(Some(()))
            );
            assert_eq!(
                (head.fields.as_ptr(), head.fields.capacity()),
                (pointer, capacity)
            );
        }
    }

    #[test]
    fn a_span_of_other_bytes_is_empty() {
        let span = Span { start: 2, end: 5 };
        assert_eq!(
            (span.of(b"abcdef"), span.len(), span.is_empty()),
            (&b"cde"[..], 3, false)
        );
        assert_eq!(span.of(b"abc"), b"");
        let reversed = Span { start: 5, end: 2 };
        assert_eq!(
            (reversed.of(b"abcdef"), reversed.len(), reversed.is_empty()),
            (&b""[..], 0, true)
        );
    }
}
