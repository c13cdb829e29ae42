//! What the header section says about the message and the connection: host, framing, persistence, upgrade, expectation
//! (RFC 9112 §3.2, §6, §9.3; RFC 9110 §7.8, §10.1.1).
//!
//! All of it is judged once, when the whole section is in: a head that arrives octet by octet costs no more than its
//! lines.

use super::{Field, RequestHead, Span, Version};
use crate::error::ProtocolError;
use crate::http::body::Framing;
use crate::http::{grammar, target};

/// What the header section says about framing and connection, before it is known whether it may.
#[derive(Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent observations, made one at a time"
)]
struct Noted {
    host: Option<Span>,
    content_type: Option<Span>,
    content_length: Option<Span>,
    transfer_encoding: Option<Span>,
    several_transfer_encodings: bool,
    /// The first field line that may not be repeated and is.
    duplicate: Option<ProtocolError>,
    close: bool,
    keep_alive: bool,
    connection_upgrade: bool,
    upgrade: bool,
    expect_continue: bool,
    expect_other: bool,
}

impl Noted {
    /// Looks at one field.
    #[inline]
    fn note(&mut self, bytes: &[u8], field: Field) {
        let (name, at) = (field.name.of(bytes), field.value);
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                once(
                    &mut self.host,
                    at,
                    &mut self.duplicate,
                    ProtocolError::DuplicateHost,
                );
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                for expectation in list(at.of(bytes)) {
                    let is_continue = expectation.eq_ignore_ascii_case(b"100-continue");
                    self.expect_continue |= is_continue;
                    self.expect_other |= !is_continue;
                }
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in list(at.of(bytes)) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    self.connection_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                }
            }
            12 if name.eq_ignore_ascii_case(b"content-type") => {
                once(
                    &mut self.content_type,
                    at,
                    &mut self.duplicate,
                    ProtocolError::DuplicateContentType,
                );
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                once(
                    &mut self.content_length,
                    at,
                    &mut self.duplicate,
                    ProtocolError::DuplicateContentLength,
                );
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.several_transfer_encodings = self.transfer_encoding.replace(at).is_some();
            }
            _ => {}
        }
    }
}

/// Notes a field that may not be repeated.
#[inline]
fn once(
    slot: &mut Option<Span>,
    at: Span,
    duplicate: &mut Option<ProtocolError>,
    error: ProtocolError,
) {
    if slot.replace(at).is_some() {
        duplicate.get_or_insert(error);
    }
}

/// The elements of a list (RFC 9110 §5.6.1), without empty ones and without the whitespace around them.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&octet| octet == b',')
        .map(grammar::trim_ows)
        .filter(|element| !element.is_empty())
}

/// Applies the rules that need the whole header section.
#[inline]
pub(super) fn conclude(bytes: &[u8], head: &mut RequestHead) -> Result<(), ProtocolError> {
    let is_http11 = head.version == Version::Http11;
    let mut noted = Noted::default();
    for field in &head.fields {
        noted.note(bytes, *field);
    }

    // RFC 9110 §5.3: lines of a field that is not a list MUST NOT be repeated; which one counts is anyone's guess.
    if let Some(duplicate) = noted.duplicate {
        return Err(duplicate);
    }
    // RFC 9112 §3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that
    // lacks a Host header field and to any request message that contains more than one Host header field line or a Host
    // header field with an invalid field value."
    match noted.host {
        None if is_http11 => return Err(ProtocolError::MissingHost),
        Some(host) if !target::is_host_value(host.of(bytes)) => {
            return Err(ProtocolError::InvalidHost);
        }
        Some(host) if head.authority.is_empty() => head.authority = host,
        _ => {}
    }

    head.framing = match (noted.transfer_encoding, noted.content_length) {
        (None, None) => Framing::None,
        (None, Some(length)) => Framing::Length(parse_content_length(length.of(bytes))?),
        // RFC 9112 §6.1: "A server MAY reject a request that contains both", and an HTTP/1.0 message with
        // Transfer-Encoding MUST be treated "as if the framing is faulty".
        (Some(_), Some(_)) => return Err(ProtocolError::TransferEncodingWithContentLength),
        (Some(_), None) if !is_http11 => return Err(ProtocolError::TransferEncodingInHttp10),
        (Some(coding), None)
            if !noted.several_transfer_encodings
                && coding.of(bytes).eq_ignore_ascii_case(b"chunked") =>
        {
            Framing::Chunked
        }
        (Some(_), None) => return Err(refuse_transfer_encoding(bytes, &head.fields)),
    };

    // RFC 9112 §9.3, in its order.
    head.keep_alive = !noted.close && (is_http11 || noted.keep_alive);
    // RFC 9110 §7.8: "A server MUST ignore an Upgrade header field that is received in an HTTP/1.0 request"; §10.1.1
    // says the same of 100-continue.
    head.upgrade = is_http11 && noted.upgrade && noted.connection_upgrade;
    head.expect_continue = is_http11 && noted.expect_continue;
    if is_http11 && noted.expect_other {
        return Err(ProtocolError::UnsupportedExpectation);
    }
    Ok(())
}

/// RFC 9110 §8.6: `Content-Length = 1*DIGIT`, here up to 2^63-1.
fn parse_content_length(value: &[u8]) -> Result<u64, ProtocolError> {
    if value.is_empty() {
        return Err(ProtocolError::InvalidContentLength);
    }
    // RFC 9112 §6.3: a list of identical values MAY be accepted; it is what a smuggler sends.
    if value.contains(&b',') {
        return Err(ProtocolError::DuplicateContentLength);
    }
    // RFC 9110 §8.6: "a recipient MUST anticipate potentially large decimal numerals and prevent parsing errors due to
    // integer conversion overflows".
    value
        .iter()
        .try_fold(0_u64, |length, &octet| {
            let digit = octet.is_ascii_digit().then(|| u64::from(octet - b'0'))?;
            length.checked_mul(10)?.checked_add(digit)
        })
        .filter(|&length| i64::try_from(length).is_ok())
        .ok_or(ProtocolError::InvalidContentLength)
}

/// Why the transfer codings of a message are not exactly chunked.
#[cold]
fn refuse_transfer_encoding(bytes: &[u8], fields: &[Field]) -> ProtocolError {
    let mut chunked = 0;
    let mut chunked_is_final = false;
    for field in fields {
        if !field
            .name
            .of(bytes)
            .eq_ignore_ascii_case(b"transfer-encoding")
        {
            continue;
        }
        for coding in field
            .value
            .of(bytes)
            .split(|&octet| octet == b',')
            .map(grammar::trim_ows)
        {
            let name = coding.get(..grammar::token_len(coding)).unwrap_or_default();
            let after = grammar::trim_ows(coding.get(name.len()..).unwrap_or_default());
            chunked_is_final = name.eq_ignore_ascii_case(b"chunked");
            match (chunked_is_final, after) {
                (true, []) => chunked += 1,
                (false, [] | [b';', ..]) if !name.is_empty() => {}
                _ => return ProtocolError::InvalidTransferEncoding,
            }
        }
    }
    // RFC 9112 §6.3: "If a Transfer-Encoding header field is present in a request and the chunked transfer coding is not
    // the final encoding [...] the server MUST respond with the 400 (Bad Request) status code"; §6.1: "A sender MUST NOT
    // apply the chunked transfer coding more than once to a message body", and "A server that receives a request message
    // with a transfer coding it does not understand SHOULD respond with 501".
    if chunked_is_final && chunked == 1 {
        ProtocolError::UnsupportedTransferCoding
    } else {
        ProtocolError::InvalidTransferEncoding
    }
}

#[cfg(test)]
mod tests {
    use super::super::HeadLimits;
    use super::super::tests::{accept, every_split, verdict};
    use super::*;

    /// A head with these field lines after a valid `Host`.
    fn with_fields(version: &str, fields: &str) -> Vec<u8> {
        format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n").into_bytes()
    }

    /// RFC 9112 §3.2 and §3.2.2
    #[test]
    #[rustfmt::skip]
    fn requires_one_valid_host() {
        use ProtocolError as E;
        for (name, bytes, expected) in [
            ("none on 1.1", "GET / HTTP/1.1\r\n\r\n", Err(E::MissingHost)),
            ("none on 1.2", "GET / HTTP/1.2\r\n\r\n", Err(E::MissingHost)),
            (
                "none beside absolute-form",
                "GET http://a/ HTTP/1.1\r\n\r\n",
                Err(E::MissingHost),
            ),
            ("none on 1.0", "GET / HTTP/1.0\r\n\r\n", Ok("")),
            (
                "absolute-form on 1.0",
                "GET http://a/ HTTP/1.0\r\n\r\n",
                Ok("a"),
            ),
            ("an empty one", "GET / HTTP/1.1\r\nHost: \r\n\r\n", Ok("")),
            (
                "another than the target's",
                "GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n",
                Ok("a"),
            ),
            ("two", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Err(E::DuplicateHost)),
            ("two alike", "GET / HTTP/1.1\r\nHost: a\r\nhOST: a\r\n\r\n", Err(E::DuplicateHost)),
            ("two on 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Err(E::DuplicateHost)),
            ("two empty", "GET / HTTP/1.1\r\nHost:\r\nHost:\r\n\r\n", Err(E::DuplicateHost)),
            ("a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Err(E::InvalidHost)),
            ("a query", "GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", Err(E::InvalidHost)),
            ("userinfo", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Err(E::InvalidHost)),
            ("a list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Err(E::InvalidHost)),
            ("no closing bracket", "GET / HTTP/1.1\r\nHost: [::\r\n\r\n", Err(E::InvalidHost)),
            ("on 1.0 too", "GET / HTTP/1.0\r\nHost: a b\r\n\r\n", Err(E::InvalidHost)),
            (
                "beside absolute-form",
                "GET http://a/ HTTP/1.1\r\nHost: /\r\n\r\n",
                Err(E::InvalidHost),
            ),
        ] {
            let seen = every_split(bytes.as_bytes(), &HeadLimits::default());
            match (seen, expected) {
                (Ok(Some(head)), Ok(authority)) => {
                    assert_eq!(
                        head.authority.of(bytes.as_bytes()),
                        authority.as_bytes(),
                        "{name}"
                    );
                }
                (seen, expected) => {
                    assert_eq!(seen.map(|_| ()), expected.map(|_| ()), "{name}");
                }
            }
        }
    }

    // RFC 9112 §6: message body length

    #[test]
    #[rustfmt::skip]
    fn knows_where_the_body_ends_or_refuses() {
        use Framing::{Chunked, Length};
        use ProtocolError as E;
        for (fields, expected) in [
            ("", Ok(Framing::None)),
            ("Content-Length: 0\r\n", Ok(Length(0))),
            ("cONTENT-lENGTH:\t 5 \r\n", Ok(Length(5))),
            ("Content-Length: 003\r\n", Ok(Length(3))),
            ("Content-Length: 9223372036854775807\r\n", Ok(Length(0x7fff_ffff_ffff_ffff))),
            ("Content_Length: 5\r\n", Ok(Framing::None)),
            ("Content-Length: 9223372036854775808\r\n", Err(E::InvalidContentLength)),
            ("Content-Length: 18446744073709551616\r\n", Err(E::InvalidContentLength)),
            ("Content-Length: 99999999999999999999999999\r\n", Err(E::InvalidContentLength)),
            ("Content-Length:\r\n", Err(E::InvalidContentLength)),
            ("Content-Length: -1\r\n", Err(E::InvalidContentLength)),
            ("Content-Length: -0\r\n", Err(E::InvalidContentLength)),
            ("Content-Length: +1\r\n", Err(E::InvalidContentLength)),
            ("Content-Length: 0x1\r\n", Err(E::InvalidContentLength)),
            ("Content-Length: 1_0\r\n", Err(E::InvalidContentLength)),
            ("Content-Length: 1e1\r\n", Err(E::InvalidContentLength)),
            ("Content-Length: 1.0\r\n", Err(E::InvalidContentLength)),
            ("Content-Length: 4 2\r\n", Err(E::InvalidContentLength)),
            ("Content-Length: \"4\"\r\n", Err(E::InvalidContentLength)),
            ("Content-Length: \u{ff11}\r\n", Err(E::InvalidContentLength)),
            ("Content-Length: \u{661}\r\n", Err(E::InvalidContentLength)),
            ("Content-Length: \u{a0}1\r\n", Err(E::InvalidContentLength)),
            ("Content-Length: 5, 5\r\n", Err(E::DuplicateContentLength)),
            ("Content-Length: 5,\r\n", Err(E::DuplicateContentLength)),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(E::DuplicateContentLength)),
            ("Content-Length: 5\r\nX: y\r\ncontent-length: 6\r\n", Err(E::DuplicateContentLength)),
            ("Transfer-Encoding: chunked\r\n", Ok(Chunked)),
            ("transfer-encoding:\tCHUNKED \t\r\n", Ok(Chunked)),
            ("Transfer_Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Ok(Chunked)),
            ("Transfer-Encoding:\r\n", Err(E::InvalidTransferEncoding)),
            ("Transfer-Encoding: ,\r\n", Err(E::InvalidTransferEncoding)),
            ("Transfer-Encoding: chunked,\r\n", Err(E::InvalidTransferEncoding)),
            ("Transfer-Encoding: , chunked\r\n", Err(E::InvalidTransferEncoding)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(E::InvalidTransferEncoding)),
            ("Transfer-Encoding: chunked;q=1\r\n", Err(E::InvalidTransferEncoding)),
            ("Transfer-Encoding: \"chunked\"\r\n", Err(E::InvalidTransferEncoding)),
            ("Transfer-Encoding: chun ked\r\n", Err(E::InvalidTransferEncoding)),
            ("Transfer-Encoding: chunked\u{a0}\r\n", Err(E::InvalidTransferEncoding)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(E::InvalidTransferEncoding)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", Err(E::InvalidTransferEncoding)),
            ("Transfer-Encoding: chunked, gzip, chunked\r\n", Err(E::InvalidTransferEncoding)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(E::UnsupportedTransferCoding)),
            ("Transfer-Encoding: chunked, gzip\r\n", Err(E::InvalidTransferEncoding)),
            ("Transfer-Encoding: identity\r\n", Err(E::InvalidTransferEncoding)),
            ("Transfer-Encoding: xchunked\r\n", Err(E::InvalidTransferEncoding)),
            ("Transfer-Encoding: gzip;a=b\r\n", Err(E::InvalidTransferEncoding)),
            ("Transfer-Encoding: gzip;a=b, chunked\r\n", Err(E::UnsupportedTransferCoding)),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Err(E::UnsupportedTransferCoding)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", Err(E::InvalidTransferEncoding)),
            ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", Err(E::TransferEncodingWithContentLength)),
            ("Transfer-Encoding: identity\r\nContent-Length: 3\r\n", Err(E::TransferEncodingWithContentLength)),
            ("Transfer-Encoding:\r\nContent-Length: x\r\n", Err(E::TransferEncodingWithContentLength)),
        ] {
            let seen = every_split(&with_fields("1.1", fields), &HeadLimits::default());
            assert_eq!(
                seen.map(|head| head.map(|head| head.framing)),
                expected.map(Some),
                "{fields:?}"
            );
        }
    }

    /// RFC 9112 §6.1
    #[test]
    fn http10_has_no_transfer_encoding() {
        let refused = Err(ProtocolError::TransferEncodingInHttp10);
        assert_eq!(
            verdict(&with_fields("1.0", "Transfer-Encoding: chunked\r\n")),
            refused
        );
        assert_eq!(
            verdict(&with_fields("1.0", "Transfer-Encoding: identity\r\n")),
            refused
        );
        let head = accept(&with_fields("1.0", "Content-Length: 7\r\n"));
        assert_eq!(head.framing, Framing::Length(7));
    }

    #[test]
    fn refuses_two_content_types() {
        let refused = Err(ProtocolError::DuplicateContentType);
        assert_eq!(
            verdict(&with_fields(
                "1.1",
                "Content-Type: a/b\r\ncontent-type: a/b\r\n"
            )),
            refused
        );
        assert_eq!(
            verdict(&with_fields(
                "1.0",
                "Content-Type:\r\nContent-Type: a/b\r\n"
            )),
            refused
        );
        accept(&with_fields(
            "1.1",
            "Content-Type: a/b\r\nX-Content-Type: c/d\r\n",
        ));
    }

    // RFC 9112 §9.3: persistence; RFC 9110 §7.8: upgrade; §10.1.1: expectations

    #[test]
    #[rustfmt::skip]
    fn persistence_follows_version_and_connection_options() {
        for (version, fields, expected) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection:\tCLOSE\t\r\n", false),
            ("1.1", "Connection: keep-alive, close\r\n", false),
            ("1.1", "Connection: close\r\nConnection: keep-alive\r\n", false),
            ("1.1", "Connection: keep-alive\r\nConnection: x,close ,y\r\n", false),
            ("1.1", "Connection: ,, \t,close\r\n", false),
            ("1.1", "Connection: closed\r\n", true),
            ("1.1", "Connection: \"close\"\r\n", true),
            ("1.1", "Connection: \u{e9}\r\n", true),
            ("1.1", "Proxy-Connection: close\r\n", true),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: x\r\nConnection: y, keep-alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
            ("1.0", "Keep-Alive: timeout=5\r\n", false),
        ] {
            let head = accept(&with_fields(version, fields));
            assert_eq!(head.keep_alive, expected, "HTTP/{version} {fields:?}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn an_upgrade_needs_its_field_its_option_and_http11() {
        for (version, fields, expected) in [
            ("1.1", "Upgrade: websocket\r\nConnection: Upgrade\r\n", true),
            ("1.1", "Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\n", true),
            ("1.1", "Upgrade: websocket\r\n", false),
            ("1.1", "Connection: upgrade\r\n", false),
            ("1.1", "Upgrade: websocket\r\nConnection: upgraded\r\n", false),
            ("1.0", "Upgrade: websocket\r\nConnection: upgrade\r\n", false),
        ] {
            let head = accept(&with_fields(version, fields));
            assert_eq!(head.upgrade, expected, "HTTP/{version} {fields:?}");
        }
    }

    #[test]
    fn the_only_expectation_is_100_continue() {
        let refused = Err(ProtocolError::UnsupportedExpectation);
        for (version, fields, expected) in [
            ("1.1", "", Ok(false)),
            ("1.1", "Expect: 100-continue\r\n", Ok(true)),
            ("1.1", "expect: 100-CONTINUE \r\n", Ok(true)),
            ("1.1", "Expect:\r\n", Ok(false)),
            ("1.1", "Expect: 100-continue, 100-continue\r\n", Ok(true)),
            ("1.1", "Expect: 200-ok\r\n", refused),
            ("1.1", "Expect: 100-continue, x=y\r\n", refused),
            ("1.1", "Expect: 100-continue\r\nExpect: x\r\n", refused),
            ("1.0", "Expect: 100-continue\r\n", Ok(false)),
            ("1.0", "Expect: 200-ok\r\n", Ok(false)),
        ] {
            let seen = every_split(&with_fields(version, fields), &HeadLimits::default());
            let seen = seen.map(|head| head.is_some_and(|head| head.expect_continue));
            assert_eq!(seen, expected, "HTTP/{version} {fields:?}");
        }
    }
}
