//! The request-target: its four forms (RFC 9112 §3.2), percent-decoding of paths (RFC 3986 §2.1), and queries.
//!
//! A path is decoded in two steps, so that `%2F` never becomes a separator: [`decode_path`] before routing leaves `%2F`
//! and `%25` as they are, [`decode_segment`] decodes those in what the router captured. Dot segments are not removed and
//! slashes are not merged: what was sent is what is routed.

use core::ops::Range;
use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::grammar;
use super::head::Method;
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
/// `target` holds [target octets](grammar::is_target_octet) only, and `path_end` is where its first `?` is, or its
/// length: the caller has looked.
///
/// # Errors
///
/// The target has none of the four forms, or one that its method may not use (RFC 9110 §7.1), or its authority is
/// invalid.
#[inline]
pub(crate) fn parse_target(
    method: Method,
    target: &[u8],
    path_end: usize,
) -> Result<TargetParts, ProtocolError> {
    match target {
        // RFC 9112 §3.2.3: "authority-form is only used for CONNECT requests", and CONNECT uses nothing else.
        _ if method == Method::Connect => parse_authority_form(target),
        [b'/', ..] => Ok(TargetParts {
            form: TargetForm::Origin,
            authority: 0..0,
            path: 0..path_end,
            query: query(target, path_end),
        }),
        // RFC 9112 §3.2.4: "asterisk-form is only used for a server-wide OPTIONS request".
        b"*" if method == Method::Options => Ok(TargetParts {
            form: TargetForm::Asterisk,
            authority: 0..0,
            path: 0..1,
            query: None,
        }),
        _ => parse_absolute_form(target, path_end),
    }
}

/// Where the query is that begins after the `?` at `path_end`.
#[inline]
fn query(target: &[u8], path_end: usize) -> Option<Range<usize>> {
    (path_end < target.len()).then_some(path_end + 1..target.len())
}

/// RFC 9112 §3.2.3: `authority-form = uri-host ":" port`.
fn parse_authority_form(target: &[u8]) -> Result<TargetParts, ProtocolError> {
    if target.contains(&b'@') {
        return Err(ProtocolError::UserinfoInAuthority);
    }
    if !grammar::is_authority_form(target) {
        return Err(ProtocolError::InvalidAuthority);
    }
    Ok(TargetParts {
        form: TargetForm::Authority,
        authority: 0..target.len(),
        path: target.len()..target.len(),
        query: None,
    })
}

/// RFC 9112 §3.2.2: `absolute-form = absolute-URI`, here with the schemes http and https only.
fn parse_absolute_form(target: &[u8], path_end: usize) -> Result<TargetParts, ProtocolError> {
    let has_scheme = |scheme: &&[u8]| {
        target
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let start = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(has_scheme)
        .map(<[u8]>::len)
        .ok_or(ProtocolError::InvalidTargetForm)?;
    let rest = target.get(start..path_end).unwrap_or_default();
    let end = start
        + rest
            .iter()
            .position(|&octet| octet == b'/')
            .unwrap_or(rest.len());
    let authority = target.get(start..end).unwrap_or_default();
    // RFC 9110 §4.2.4: "a recipient SHOULD parse for userinfo and treat its presence as an error".
    if authority.contains(&b'@') {
        return Err(ProtocolError::UserinfoInAuthority);
    }
    // RFC 9110 §4.2.1: "A recipient that processes such a URI reference [an empty host] MUST reject it as invalid".
    if !grammar::is_host_and_port(authority) {
        return Err(ProtocolError::InvalidAuthority);
    }
    Ok(TargetParts {
        form: TargetForm::Absolute,
        authority: start..end,
        path: end..path_end,
        query: query(target, path_end),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(
        method: &str,
        target: &str,
    ) -> Result<(TargetForm, String, String, Option<String>), ProtocolError> {
        let path_end = grammar::path_len(target.as_bytes());
        let parts = parse_target(
            Method::parse(method.as_bytes()),
            target.as_bytes(),
            path_end,
        )?;
        Ok((
            parts.form,
            target[parts.authority].to_owned(),
            target[parts.path].to_owned(),
            parts.query.map(|query| target[query].to_owned()),
        ))
    }

    /// RFC 9112 §3.2.1 to §3.2.4
    #[test]
    fn each_form_has_its_parts() {
        use TargetForm::{Absolute, Asterisk, Authority, Origin};
        for (method, target, form, authority, path, query) in [
            ("GET", "/", Origin, "", "/", None),
            ("GET", "/where?q=now", Origin, "", "/where", Some("q=now")),
            ("GET", "/a?", Origin, "", "/a", Some("")),
            ("GET", "/a?b?c", Origin, "", "/a", Some("b?c")),
            ("GET", "//host//a", Origin, "", "//host//a", None),
            ("GET", "/a:b@c", Origin, "", "/a:b@c", None),
            ("GET", "/%zz%", Origin, "", "/%zz%", None),
            ("OPTIONS", "/a", Origin, "", "/a", None),
            ("GET", "http://a/b?c", Absolute, "a", "/b", Some("c")),
            ("GET", "HTTPS://A:1/", Absolute, "A:1", "/", None),
            ("GET", "http://a", Absolute, "a", "", None),
            ("GET", "http://a?b/c@d", Absolute, "a", "", Some("b/c@d")),
            ("GET", "http://[::1]:80/", Absolute, "[::1]:80", "/", None),
            ("GET", "http://a/@", Absolute, "a", "/@", None),
            ("OPTIONS", "http://a", Absolute, "a", "", None),
            ("CONNECT", "a:80", Authority, "a:80", "", None),
            ("CONNECT", "[::1]:80", Authority, "[::1]:80", "", None),
            ("OPTIONS", "*", Asterisk, "", "*", None),
        ] {
            let expected = (
                form,
                authority.to_owned(),
                path.to_owned(),
                query.map(str::to_owned),
            );
            assert_eq!(parts(method, target), Ok(expected), "{method} {target}");
        }
    }

    /// RFC 9112 §3.2, RFC 9110 §4.2 and §7.1
    #[test]
    fn refuses_a_target_in_the_wrong_form() {
        use ProtocolError::{InvalidAuthority, InvalidTargetForm, UserinfoInAuthority};
        for (method, target, expected) in [
            ("GET", "*", InvalidTargetForm),
            ("PRI", "*", InvalidTargetForm),
            ("options", "*", InvalidTargetForm),
            ("OPTIONS", "**", InvalidTargetForm),
            ("OPTIONS", "*?", InvalidTargetForm),
            ("GET", "where", InvalidTargetForm),
            ("GET", "?q", InvalidTargetForm),
            ("GET", "\\a", InvalidTargetForm),
            ("GET", "a:80", InvalidTargetForm),
            ("GET", "http:/a", InvalidTargetForm),
            ("GET", "ftp://a/", InvalidTargetForm),
            ("GET", "file:///etc/passwd", InvalidTargetForm),
            ("GET", "http://", InvalidAuthority),
            ("GET", "http:///a", InvalidAuthority),
            ("GET", "http://?a", InvalidAuthority),
            ("GET", "http://:80/", InvalidAuthority),
            ("GET", "http://a:b/", InvalidAuthority),
            ("GET", "http://[/", InvalidAuthority),
            ("GET", "http://a\\b/", InvalidAuthority),
            ("GET", "http://user@a/", UserinfoInAuthority),
            ("GET", "http://user:secret@a/", UserinfoInAuthority),
            ("GET", "http://@a/", UserinfoInAuthority),
            ("CONNECT", "/", InvalidAuthority),
            ("CONNECT", "*", InvalidAuthority),
            ("CONNECT", "a", InvalidAuthority),
            ("CONNECT", "a:0", InvalidAuthority),
            ("CONNECT", "a:80/", InvalidAuthority),
            ("CONNECT", "a:80?b", InvalidAuthority),
            ("CONNECT", "http://a:80", InvalidAuthority),
            ("CONNECT", "user@a:80", UserinfoInAuthority),
        ] {
            assert_eq!(parts(method, target), Err(expected), "{method} {target}");
        }
    }

    /// RFC 3986 §2.1 and §2.4: "must not percent-encode or decode the same string more than once".
    #[test]
    fn a_path_is_decoded_once_in_two_steps() {
        for (raw, routed, decoded) in [
            ("/", "/", "/"),
            ("", "", ""),
            ("/a-b", "/a-b", "/a-b"),
            ("/caf%C3%A9", "/caf\u{e9}", "/caf\u{e9}"),
            ("/%41%7a%20+", "/Az +", "/Az +"),
            ("/a%2Fb%2fc", "/a%2Fb%2fc", "/a/b/c"),
            ("/100%25", "/100%25", "/100%"),
            ("/%252F", "/%252F", "/%2F"),
            ("/%25%32%46", "/%252F", "/%2F"),
            ("/%2541", "/%2541", "/%41"),
            ("/%2e%2e/%2E", "/../.", "/../."),
            ("/%5C%0d%0a", "/\\\r\n", "/\\\r\n"),
        ] {
            let path = decode_path(raw.as_bytes()).unwrap();
            assert_eq!(path, routed.as_bytes(), "{raw}");
            assert_eq!(decode_segment(&path), decoded.as_bytes(), "{raw}");
        }
        assert_eq!(decode_path(b"/%ff").unwrap(), &b"/\xff"[..]);
    }

    #[test]
    fn a_path_without_escapes_is_not_copied() {
        assert!(matches!(
            decode_path(b"/static/app.css"),
            Ok(Cow::Borrowed(_))
        ));
        assert!(matches!(decode_segment(b"app.css"), Cow::Borrowed(_)));
    }

    #[test]
    fn refuses_a_path_that_cannot_be_decoded() {
        use ProtocolError::{BadPercentEncoding, NulInPath};
        for (raw, expected) in [
            ("/%", BadPercentEncoding),
            ("/%4", BadPercentEncoding),
            ("/%4g", BadPercentEncoding),
            ("/%g4", BadPercentEncoding),
            ("/%%41", BadPercentEncoding),
            ("/% 41", BadPercentEncoding),
            ("/%+1", BadPercentEncoding),
            ("/a%2", BadPercentEncoding),
            ("/a%00b", NulInPath),
            ("/%2F%00", NulInPath),
        ] {
            assert_eq!(decode_path(raw.as_bytes()), Err(expected), "{raw}");
        }
    }

    /// URL standard §5.1
    #[test]
    fn a_query_is_a_list_of_decoded_pairs() {
        for (raw, expected) in [
            ("", &[][..]),
            ("&&", &[]),
            ("a", &[("a", "")]),
            ("a=", &[("a", "")]),
            ("=b", &[("", "b")]),
            ("=", &[("", "")]),
            ("a=b&a=c", &[("a", "b"), ("a", "c")]),
            ("&a=b&&c=d&", &[("a", "b"), ("c", "d")]),
            ("a=b=c", &[("a", "b=c")]),
            ("a+b=c+d%2B", &[("a b", "c d+")]),
            ("a;b=c;d", &[("a;b", "c;d")]),
            ("%26%3d=%26", &[("&=", "&")]),
            ("caf%C3%A9", &[("caf\u{e9}", "")]),
            ("a=%&b=%4&c=%zz", &[("a", "%"), ("b", "%4"), ("c", "%zz")]),
            ("a=%+1", &[("a", "% 1")]),
            ("a?b=/", &[("a?b", "/")]),
        ] {
            let pairs: Vec<_> = query_pairs(raw.as_bytes())
                .map(|(name, value)| {
                    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
                    (text(&name), text(&value))
                })
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            assert_eq!(pairs, expected, "{raw}");
        }
        assert!(matches!(
            query_pairs(b"a=b").next(),
            Some((Cow::Borrowed(b"a"), Cow::Borrowed(b"b")))
        ));
    }
}
