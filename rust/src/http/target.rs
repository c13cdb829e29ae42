//! The request-target: its four forms (RFC 9112 §3.2), percent-decoding of paths (RFC 3986 §2.1), and queries.
//!
//! A path is decoded in two steps, so that `%2F` never becomes a separator: [`decode_path`] before routing leaves `%2F`
//! and `%25` as they are, [`decode_segment`] decodes those in what the router captured. Dot segments are not removed and
//! slashes are not merged: what was sent is what is routed.

use core::ops::Range;
use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::grammar;
use crate::error::ProtocolError;

/// Which of the four forms a request-target has (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// `/where?q=now`, the form of nearly all requests.
    #[default]
    Origin,
    /// `http://www.example.org/pub/page`, sent to proxies; servers MUST accept it too.
    Absolute,
    /// `www.example.com:80`, for CONNECT only.
    Authority,
    /// `*`, for OPTIONS only.
    Asterisk,
}

/// Where the parts of a request-target are, as offsets in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TargetParts {
    /// Which of the four forms it has.
    pub(crate) form: TargetForm,
    /// The authority, of absolute-form and authority-form; empty otherwise.
    pub(crate) authority: Range<usize>,
    /// Raw path without query; empty for authority-form and for an absolute-form without path.
    pub(crate) path: Range<usize>,
    /// Raw query without `?`.
    pub(crate) query: Option<Range<usize>>,
}

/// Finds the parts of a request-target.
///
/// `target` holds [target octets](grammar::is_target_octet) only: the caller has looked.
///
/// # Errors
///
/// The target has none of the four forms, or one that its method may not use (RFC 9110 §7.1), or its authority is
/// invalid.
pub(crate) fn parse_target(method: &[u8], target: &[u8]) -> Result<TargetParts, ProtocolError> {
    // RFC 9112 §3.2.3: "authority-form is only used for CONNECT requests", and CONNECT uses nothing else.
    if method == b"CONNECT" {
        if target.contains(&b'@') {
            return Err(ProtocolError::UserinfoInAuthority);
        }
        if !grammar::is_authority_form(target) {
            return Err(ProtocolError::InvalidAuthority);
        }
        return Ok(TargetParts {
            form: TargetForm::Authority,
            authority: 0..target.len(),
            path: target.len()..target.len(),
            query: None,
        });
    }
    match target {
        [b'/', ..] => {
            let (path, query) = split_query(target, 0);
            Ok(TargetParts {
                form: TargetForm::Origin,
                authority: 0..0,
                path,
                query,
            })
        }
        // RFC 9112 §3.2.4: "asterisk-form is only used for a server-wide OPTIONS request".
        b"*" if method == b"OPTIONS" => Ok(TargetParts {
            form: TargetForm::Asterisk,
            authority: 0..0,
            path: 0..1,
            query: None,
        }),
        _ => parse_absolute_form(target),
    }
}

/// RFC 9112 §3.2.2: `absolute-form = absolute-URI`, here with the schemes http and https only.
fn parse_absolute_form(target: &[u8]) -> Result<TargetParts, ProtocolError> {
    let start = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| {
            target
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
        .map(<[u8]>::len)
        .ok_or(ProtocolError::InvalidTargetForm)?;
    let rest = target.get(start..).unwrap_or_default();
    let len = rest
        .iter()
        .position(|octet| matches!(octet, b'/' | b'?'))
        .unwrap_or(rest.len());
    let authority = rest.get(..len).unwrap_or_default();
    // RFC 9110 §4.2.4: "a recipient SHOULD parse for userinfo and treat its presence as an error".
    if authority.contains(&b'@') {
        return Err(ProtocolError::UserinfoInAuthority);
    }
    // RFC 9110 §4.2.1: "A recipient that processes such a URI reference [with an empty host] MUST reject it as invalid".
    if !grammar::is_host_and_port(authority) {
        return Err(ProtocolError::InvalidAuthority);
    }
    let (path, query) = split_query(target, start + len);
    Ok(TargetParts {
        form: TargetForm::Absolute,
        authority: start..start + len,
        path,
        query,
    })
}

/// Splits what begins at `start` at the first `?`.
fn split_query(target: &[u8], start: usize) -> (Range<usize>, Option<Range<usize>>) {
    let end = target.len();
    match memchr::memchr(b'?', target.get(start..).unwrap_or_default()) {
        Some(len) => (start..start + len, Some(start + len + 1..end)),
        None => (start..end, None),
    }
}

/// Is this a valid value of `Host` (RFC 9110 §7.2: `Host = uri-host [ ":" port ]`)?
///
/// An empty value is valid: it is what a client sends when the target has no authority.
#[must_use]
pub(crate) fn is_host_value(value: &[u8]) -> bool {
    value.is_empty() || grammar::is_host_and_port(value)
}

/// Decodes a raw path for routing: every `%XX` except `%2F` and `%25`, which stay as they were sent.
///
/// The router then sees separators that were sent as separators, and [`decode_segment`] can still tell `%252F` from
/// `%2F`.
///
/// ```
/// use vibora::http::target::decode_path;
///
/// assert_eq!(decode_path(b"/caf%C3%A9/a%2Fb").unwrap(), "/café/a%2Fb".as_bytes());
/// ```
///
/// # Errors
///
/// `%` without two hexadecimal digits, or `%00` (RFC 3986 §7.3: an octet that the file systems and C libraries behind a
/// handler take for the end).
pub fn decode_path(raw: &[u8]) -> Result<Cow<'_, [u8]>, ProtocolError> {
    let Some(first) = memchr::memchr(b'%', raw) else {
        return Ok(Cow::Borrowed(raw));
    };
    let (literal, mut rest) = raw.split_at_checked(first).unwrap_or((raw, b""));
    let mut decoded = Vec::with_capacity(raw.len());
    decoded.extend_from_slice(literal);
    loop {
        rest = match rest {
            [] => return Ok(Cow::Owned(decoded)),
            [b'%', high, low, after @ ..] => {
                match (grammar::hex_value(*high), grammar::hex_value(*low)) {
                    (Some(0), Some(0)) => return Err(ProtocolError::NulInPath),
                    (Some(2), Some(0xf | 0x5)) => decoded.extend_from_slice(&[b'%', *high, *low]),
                    (Some(high), Some(low)) => decoded.push(high << 4 | low),
                    _ => return Err(ProtocolError::BadPercentEncoding),
                }
                after
            }
            [b'%', ..] => return Err(ProtocolError::BadPercentEncoding),
            [octet, after @ ..] => {
                decoded.push(*octet);
                after
            }
        }
    }
}

/// Decodes the escapes that [`decode_path`] left, `%2F` and `%25`, and any other.
#[must_use]
pub fn decode_segment(routed: &[u8]) -> Cow<'_, [u8]> {
    percent_decode(routed).into()
}

/// The pairs of a query; see [`query_pairs`].
#[derive(Clone, Debug)]
pub struct QueryPairs<'a> {
    rest: &'a [u8],
}

/// Iterates over the pairs of a raw query or form, decoded (`application/x-www-form-urlencoded`, the URL standard §5.1).
///
/// `+` is a space, pieces are separated by `&` only (`;` is data: two parsers that disagree on it poison caches), empty
/// pieces are skipped, a piece without `=` has an empty value, and a `%` without two digits stands for itself.
///
/// ```
/// use vibora::http::target::query_pairs;
///
/// let pairs: Vec<_> = query_pairs(b"q=a+b&page=%32").collect();
/// assert_eq!(pairs, [(b"q"[..].into(), b"a b"[..].into()), (b"page"[..].into(), b"2"[..].into())]);
/// ```
#[must_use]
pub fn query_pairs(raw: &[u8]) -> QueryPairs<'_> {
    QueryPairs { rest: raw }
}

impl<'a> Iterator for QueryPairs<'a> {
    type Item = (Cow<'a, [u8]>, Cow<'a, [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (piece, rest) = split_once(self.rest, b'&');
            self.rest = rest;
            if !piece.is_empty() {
                let (name, value) = split_once(piece, b'=');
                return Some((decode_form(name), decode_form(value)));
            }
        }
        None
    }
}

/// What stands before and after the first `separator`; everything and nothing if there is none.
fn split_once(octets: &[u8], separator: u8) -> (&[u8], &[u8]) {
    let at = memchr::memchr(separator, octets).unwrap_or(octets.len());
    let (before, after) = octets.split_at_checked(at).unwrap_or((octets, b""));
    (before, after.split_first().map_or(&[], |(_, after)| after))
}

/// Decodes one name or value of a query.
fn decode_form(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'+', raw).is_none() {
        return percent_decode(raw).into();
    }
    let spaced: Vec<u8> = raw
        .iter()
        .map(|&octet| if octet == b'+' { b' ' } else { octet })
        .collect();
    Cow::Owned(percent_decode(&spaced).collect())
}
