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
mod tests;
