//! Response bytes: status line, header section, interim responses, chunked coding (RFC 9112 §4, §5, §7.1).
//!
//! The caller (the connection) decides how the body is framed and whether the connection persists; nothing an
//! application puts in its header fields can change that: fields that would are left out, see [`encode_head`].
//! Everything is appended to the caller's buffer: the only allocation is that buffer's growth.

use crate::http::fields::{FieldMap, KnownFields};
use crate::http::grammar::is_field_value;

/// How the end of the body is marked (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// No framing field: 1xx, 204, or an answer to HEAD and 304 whose length is not known.
    Omitted,
    /// `content-length`.
    Known(u64),
    /// `transfer-encoding: chunked`.
    Chunked,
    /// The end of the connection ends the body: HTTP/1.0 clients and a body of unknown length. Always with
    /// `connection: close`, whatever the [`Persistence`].
    UntilClose,
}

/// What is said about the connection after this response (RFC 9112 §9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing is said: the version's default holds.
    Default,
    /// `connection: close`.
    Close,
    /// `connection: keep-alive`, for HTTP/1.0 clients that asked for it.
    KeepAlive,
}

/// All that goes into the head of a final response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// The status code; one that is not three digits is sent as 500.
    pub status: u16,
    /// The application's fields.
    pub fields: Option<&'a FieldMap>,
    /// The content type when `fields` has none. Left out if it is not a field value.
    pub content_type: Option<&'a [u8]>,
    /// How the end of the body is marked.
    pub length: BodyLength,
    /// What is said about the connection.
    pub persistence: Persistence,
    /// The `date` when `fields` has none, from [`DateCache`](crate::http::date::DateCache).
    pub date: &'a [u8; 29],
}

/// Fields only the connection may send: framing and hop-by-hop (RFC 9110 §7.6.1, RFC 9112 §6). `upgrade` is the
/// application's to send; the connection option it needs is added for it.
const NEVER_COPIED: KnownFields = KnownFields::CONTENT_LENGTH
    .union(KnownFields::TRANSFER_ENCODING)
    .union(KnownFields::CONNECTION)
    .union(KnownFields::KEEP_ALIVE)
    .union(KnownFields::PROXY_CONNECTION)
    .union(KnownFields::TE);

/// An upper bound of all we write into a head apart from the application's fields and content type.
const HEAD_ROOM: usize = 256;

const LENGTH_NAME: &[u8] = b"content-length: ";

macro_rules! statuses {
    ($($code:literal $reason:literal)*) => {
        /// The reason phrase of a registered status code (RFC 9110 §15 and the IANA registry), empty for any other.
        #[must_use]
        pub fn reason_phrase(status: u16) -> &'static str {
            match status {
                $($code => $reason,)*
                _ => "",
            }
        }

        /// The status line and `content-length: `, in one piece because that is what most responses begin with.
        fn status_line_and_length(status: u16) -> Option<&'static [u8]> {
            Some(match status {
                $($code => concat!("HTTP/1.1 ", $code, " ", $reason, "\r\ncontent-length: ").as_bytes(),)*
                _ => return None,
            })
        }
    };
}

statuses! {
    100 "Continue"
    101 "Switching Protocols"
    102 "Processing"
    103 "Early Hints"
    200 "OK"
    201 "Created"
    202 "Accepted"
    203 "Non-Authoritative Information"
    204 "No Content"
    205 "Reset Content"
    206 "Partial Content"
    207 "Multi-Status"
    208 "Already Reported"
    226 "IM Used"
    300 "Multiple Choices"
    301 "Moved Permanently"
    302 "Found"
    303 "See Other"
    304 "Not Modified"
    305 "Use Proxy"
    307 "Temporary Redirect"
    308 "Permanent Redirect"
    400 "Bad Request"
    401 "Unauthorized"
    402 "Payment Required"
    403 "Forbidden"
    404 "Not Found"
    405 "Method Not Allowed"
    406 "Not Acceptable"
    407 "Proxy Authentication Required"
    408 "Request Timeout"
    409 "Conflict"
    410 "Gone"
    411 "Length Required"
    412 "Precondition Failed"
    413 "Content Too Large"
    414 "URI Too Long"
    415 "Unsupported Media Type"
    416 "Range Not Satisfiable"
    417 "Expectation Failed"
    421 "Misdirected Request"
    422 "Unprocessable Content"
    423 "Locked"
    424 "Failed Dependency"
    425 "Too Early"
    426 "Upgrade Required"
    428 "Precondition Required"
    429 "Too Many Requests"
    431 "Request Header Fields Too Large"
    451 "Unavailable For Legal Reasons"
    500 "Internal Server Error"
    501 "Not Implemented"
    502 "Bad Gateway"
    503 "Service Unavailable"
    504 "Gateway Timeout"
    505 "HTTP Version Not Supported"
    506 "Variant Also Negotiates"
    507 "Insufficient Storage"
    508 "Loop Detected"
    510 "Not Extended"
    511 "Network Authentication Required"
}

/// Appends the head of a response: status line, our fields, the application's fields, the empty line.
///
/// Ours are in lower case: `content-length` or `transfer-encoding`, `content-type`, `date`, `connection`. A `date` or
/// `content-type` of the application replaces ours. Its `content-length`, `transfer-encoding`, `connection`,
/// `keep-alive`, `proxy-connection` and `te` are never copied: framing and persistence are the connection's to decide.
/// With an `upgrade` field the `upgrade` connection option is sent (RFC 9110 §7.8).
///
/// 1xx and 204 never carry a framing field (RFC 9110 §8.6, RFC 9112 §6.1), 1xx no date, and 1xx, 204 and 304 no
/// default content type.
pub fn encode_head(out: &mut Vec<u8>, head: &ResponseHead<'_>) {
    let status = status_code(head.status);
    let interim = status < 200;
    let known = head.fields.map_or(KnownFields::NONE, FieldMap::known);
    let content_type = head.content_type.filter(|value| {
        !known.contains(KnownFields::CONTENT_TYPE)
            && !interim
            && !matches!(status, 204 | 304)
            && is_field_value(value)
    });
    out.reserve(
        HEAD_ROOM
            + content_type.map_or(0, <[u8]>::len)
            + head.fields.map_or(0, |fields| fields.wire().len()),
    );

    match head.length {
        BodyLength::Known(length) if !interim && status != 204 => {
            push_status_line_and_length(out, status);
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        BodyLength::Chunked if !interim && status != 204 => {
            push_status_line(out, status);
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        BodyLength::Known(_)
        | BodyLength::Chunked
        | BodyLength::Omitted
        | BodyLength::UntilClose => {
            push_status_line(out, status);
        }
    }
    if let Some(content_type) = content_type {
        out.extend_from_slice(b"content-type: ");
        out.extend_from_slice(content_type);
        out.extend_from_slice(b"\r\n");
    }
    if !interim && !known.contains(KnownFields::DATE) {
        // One line of a fixed size, in registers, instead of three copies.
        let mut line = *b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
        line[6..35].copy_from_slice(head.date);
        out.extend_from_slice(&line);
    }
    let persistence = match head.length {
        _ if interim => Persistence::Default,
        BodyLength::UntilClose => Persistence::Close,
        BodyLength::Omitted | BodyLength::Known(_) | BodyLength::Chunked => head.persistence,
    };
    push_connection(out, persistence, known);
    if let Some(fields) = head.fields {
        push_fields(out, fields);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends an interim response (RFC 9110 §15.2): status line, the application's fields, the empty line.
///
/// Fields that [`encode_head`] leaves out are left out here too.
pub fn encode_interim(out: &mut Vec<u8>, status: u16, fields: Option<&FieldMap>) {
    debug_assert!(
        (100..200).contains(&status),
        "an interim response has a 1xx status"
    );
    push_status_line(out, status_code(status));
    if let Some(fields) = fields {
        push_connection(out, Persistence::Default, fields.known());
        push_fields(out, fields);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends one chunk (RFC 9112 §7.1): size, data. Nothing for empty data, because a chunk of size 0 ends the body.
pub fn encode_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    out.reserve(data.len() + 20);
    encode_chunk_header(out, data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the line before `len` bytes of chunk-data. After the data, the caller owes a CRLF. Nothing for 0.
pub fn encode_chunk_header(out: &mut Vec<u8>, len: usize) {
    if len == 0 {
        return;
    }
    let mut line = [0; 2 * size_of::<usize>() + 2];
    let mut rest = len;
    let mut digits = 0;
    for place in line[..2 * size_of::<usize>()].iter_mut().rev() {
        *place = b"0123456789abcdef"[rest & 0xf];
        rest >>= 4;
        digits += 1;
        if rest == 0 {
            break;
        }
    }
    let end = line.len() - 2;
    line[end..].copy_from_slice(b"\r\n");
    out.extend_from_slice(&line[end - digits..]);
}

/// Appends the last chunk, the trailer section and the empty line that end a chunked body (RFC 9112 §7.1.2).
///
/// Trailer fields a recipient could mistake for framing, routing, authentication or content metadata are left out (RFC
/// 9110 §6.5.1).
pub fn encode_last_chunk(out: &mut Vec<u8>, trailers: Option<&FieldMap>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        for (name, value) in trailers.iter() {
            if !is_forbidden_trailer(name) {
                push_field(out, name, value);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Names that never make sense, or do harm, after the content (RFC 9110 §6.5.1).
const FORBIDDEN_TRAILERS: &[&[u8]] = &[
    b"age",
    b"authorization",
    b"cache-control",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"date",
    b"expires",
    b"host",
    b"keep-alive",
    b"location",
    b"proxy-authenticate",
    b"proxy-connection",
    b"retry-after",
    b"set-cookie",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"vary",
    b"warning",
    b"www-authenticate",
];

fn is_forbidden_trailer(name: &[u8]) -> bool {
    FORBIDDEN_TRAILERS
        .iter()
        .any(|forbidden| forbidden.eq_ignore_ascii_case(name))
}

/// RFC 9112 §4: `status-code = 3DIGIT`. Anything else is a mistake of the application.
fn status_code(status: u16) -> u16 {
    if (100..1000).contains(&status) {
        status
    } else {
        500
    }
}

fn push_status_line_and_length(out: &mut Vec<u8>, status: u16) {
    if let Some(line) = status_line_and_length(status) {
        out.extend_from_slice(line);
    } else {
        push_status_line(out, status);
        out.extend_from_slice(LENGTH_NAME);
    }
}

fn push_status_line(out: &mut Vec<u8>, status: u16) {
    if let Some(line) = status_line_and_length(status) {
        out.extend_from_slice(line.strip_suffix(LENGTH_NAME).unwrap_or(line));
    } else {
        // RFC 9112 §4: the space is sent even when the reason phrase is absent.
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
        out.extend_from_slice(b" \r\n");
    }
}

/// The connection options: persistence, and `upgrade` when the application sends that field (RFC 9110 §7.8).
fn push_connection(out: &mut Vec<u8>, persistence: Persistence, known: KnownFields) {
    let upgrade = known.contains(KnownFields::UPGRADE);
    out.extend_from_slice(match (persistence, upgrade) {
        (Persistence::Default, false) => b"",
        (Persistence::Default, true) => b"connection: upgrade\r\n",
        (Persistence::Close, false) => b"connection: close\r\n",
        (Persistence::Close, true) => b"connection: close, upgrade\r\n",
        (Persistence::KeepAlive, false) => b"connection: keep-alive\r\n",
        (Persistence::KeepAlive, true) => b"connection: keep-alive, upgrade\r\n",
    });
}

/// The application's fields, without those that are the connection's.
fn push_fields(out: &mut Vec<u8>, fields: &FieldMap) {
    if !fields.known().intersects(NEVER_COPIED) {
        out.extend_from_slice(fields.wire());
        return;
    }
    for (name, value) in fields.iter() {
        if !KnownFields::of(name).intersects(NEVER_COPIED) {
            push_field(out, name, value);
        }
    }
}

fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const PLAIN: ResponseHead<'static> = ResponseHead {
        status: 200,
        fields: None,
        content_type: None,
        length: BodyLength::Known(13),
        persistence: Persistence::Default,
        date: DATE,
    };

    fn encoded(head: &ResponseHead<'_>) -> String {
        let mut out = Vec::new();
        encode_head(&mut out, head);
        String::from_utf8(out).unwrap()
    }

    fn fields(lines: &[(&str, &str)]) -> FieldMap {
        let mut fields = FieldMap::new();
        for (name, value) in lines {
            fields.append(name.as_bytes(), value.as_bytes()).unwrap();
        }
        fields
    }

    #[test]
    fn frames_each_body_length_with_each_persistence() {
        let lengths = [
            (BodyLength::Omitted, ""),
            (BodyLength::Known(0), "content-length: 0\r\n"),
            (
                BodyLength::Known(u64::MAX),
                "content-length: 18446744073709551615\r\n",
            ),
            (BodyLength::Chunked, "transfer-encoding: chunked\r\n"),
        ];
        let persistences = [
            (Persistence::Default, ""),
            (Persistence::Close, "connection: close\r\n"),
            (Persistence::KeepAlive, "connection: keep-alive\r\n"),
        ];
        for (length, framing) in lengths {
            for (persistence, connection) in persistences {
                let head = ResponseHead {
                    content_type: Some(b"text/plain"),
                    length,
                    persistence,
                    ..PLAIN
                };
                let expected = format!(
                    "HTTP/1.1 200 OK\r\n{framing}content-type: text/plain\r\n\
                     date: Sun, 06 Nov 1994 08:49:37 GMT\r\n{connection}\r\n"
                );
                assert_eq!(encoded(&head), expected);
            }
        }
    }

    #[test]
    fn a_body_that_ends_with_the_connection_always_says_close() {
        for persistence in [
            Persistence::Default,
            Persistence::Close,
            Persistence::KeepAlive,
        ] {
            let head = ResponseHead {
                length: BodyLength::UntilClose,
                persistence,
                ..PLAIN
            };
            assert_eq!(
                encoded(&head),
                "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nconnection: close\r\n\r\n"
            );
        }
    }

    #[test]
    fn statuses_without_content_have_no_framing_and_no_default_content_type() {
        for length in [
            BodyLength::Omitted,
            BodyLength::Known(5),
            BodyLength::Chunked,
        ] {
            let head = ResponseHead {
                content_type: Some(b"text/plain"),
                length,
                ..PLAIN
            };
            assert_eq!(
                encoded(&ResponseHead {
                    status: 204,
                    ..head
                }),
                "HTTP/1.1 204 No Content\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
            );
            let close = Persistence::Close;
            assert_eq!(
                encoded(&ResponseHead {
                    status: 103,
                    persistence: close,
                    ..head
                }),
                "HTTP/1.1 103 Early Hints\r\n\r\n"
            );
        }
        // RFC 9110 §8.6: 304 may say how long the content would have been.
        assert_eq!(
            encoded(&ResponseHead {
                status: 304,
                content_type: Some(b"text/plain"),
                ..PLAIN
            }),
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 13\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
        );
    }

    #[test]
    fn copies_the_fields_of_the_application_in_order_and_case() {
        let fields = fields(&[
            ("X-First", "1"),
            ("set-cookie", "a=1"),
            ("Set-Cookie", "b=2"),
        ]);
        let head = ResponseHead {
            fields: Some(&fields),
            ..PLAIN
        };
        assert_eq!(
            encoded(&head),
            "HTTP/1.1 200 OK\r\ncontent-length: 13\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             X-First: 1\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n"
        );
    }

    #[test]
    fn the_date_and_content_type_of_the_application_replace_ours() {
        let fields = fields(&[
            ("DATE", "Mon, 01 Jan 2024 00:00:00 GMT"),
            ("Content-Type", "image/png"),
        ]);
        let head = ResponseHead {
            fields: Some(&fields),
            content_type: Some(b"text/plain"),
            ..PLAIN
        };
        assert_eq!(
            encoded(&head),
            "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\
             DATE: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: image/png\r\n\r\n"
        );
    }

    #[test]
    fn the_application_cannot_change_framing_or_persistence() {
        let fields = fields(&[
            ("Content-Length", "1"),
            ("x-kept", "yes"),
            ("TRANSFER-ENCODING", "chunked"),
            ("transfer-encoding", "gzip"),
            ("Connection", "keep-alive, x-kept"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("TE", "trailers"),
            ("content-length", "2"),
            ("trailer", "x-checksum"),
        ]);
        for (length, framing) in [
            (BodyLength::Known(13), "content-length: 13\r\n"),
            (BodyLength::Chunked, "transfer-encoding: chunked\r\n"),
            (BodyLength::Omitted, ""),
        ] {
            let head = ResponseHead {
                fields: Some(&fields),
                length,
                persistence: Persistence::Close,
                ..PLAIN
            };
            let expected = format!(
                "HTTP/1.1 200 OK\r\n{framing}date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                 connection: close\r\nx-kept: yes\r\ntrailer: x-checksum\r\n\r\n"
            );
            assert_eq!(encoded(&head), expected);
        }
    }

    #[test]
    fn an_upgrade_field_brings_its_connection_option() {
        let fields = fields(&[("Upgrade", "websocket"), ("connection", "keep-alive")]);
        let head = ResponseHead {
            fields: Some(&fields),
            ..PLAIN
        };
        assert_eq!(
            encoded(&ResponseHead {
                status: 101,
                ..head
            }),
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        );
        for (persistence, connection) in [
            (Persistence::Default, "upgrade"),
            (Persistence::Close, "close, upgrade"),
            (Persistence::KeepAlive, "keep-alive, upgrade"),
        ] {
            let text = encoded(&ResponseHead {
                status: 426,
                persistence,
                ..head
            });
            assert!(
                text.contains(&format!(
                    "\r\nconnection: {connection}\r\nUpgrade: websocket\r\n\r\n"
                )),
                "{text}"
            );
        }
    }

    #[test]
    fn a_default_content_type_that_is_not_a_field_value_is_left_out() {
        for bad in [
            &b"text/plain\r\nx-injected: 1"[..],
            b"a\nb",
            b"a\rb",
            b"a\0b",
        ] {
            let head = ResponseHead {
                content_type: Some(bad),
                ..PLAIN
            };
            assert_eq!(encoded(&head), encoded(&PLAIN));
        }
    }

    #[test]
    fn every_status_gives_a_line_of_three_digits_and_a_space() {
        for status in 0..=u16::MAX {
            let text = encoded(&ResponseHead { status, ..PLAIN });
            let line = text.split("\r\n").next().unwrap();
            let sent = if (100..1000).contains(&status) {
                status
            } else {
                500
            };
            assert_eq!(line, format!("HTTP/1.1 {sent} {}", reason_phrase(sent)));
        }
        assert_eq!(reason_phrase(200), "OK");
        assert_eq!(reason_phrase(299), "");
        assert_eq!(
            encoded(&ResponseHead {
                status: 299,
                ..PLAIN
            }),
            "HTTP/1.1 299 \r\ncontent-length: 13\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
        );
    }

    #[test]
    fn a_client_parses_what_is_sent() {
        let fields = fields(&[("a", ""), ("b", "x\ty"), ("c", "caf\u{e9}")]);
        for status in 200..1000 {
            for length in [
                BodyLength::Omitted,
                BodyLength::Known(7),
                BodyLength::Chunked,
                BodyLength::UntilClose,
            ] {
                let mut out = b"before".to_vec();
                encode_head(
                    &mut out,
                    &ResponseHead {
                        status,
                        fields: Some(&fields),
                        length,
                        ..PLAIN
                    },
                );
                let head = out.strip_prefix(b"before").unwrap();
                let mut parsed = [httparse::EMPTY_HEADER; 16];
                let mut response = httparse::Response::new(&mut parsed);
                assert_eq!(
                    response.parse(head),
                    Ok(httparse::Status::Complete(head.len()))
                );
                assert_eq!((response.version, response.code), (Some(1), Some(status)));
                let sent: Vec<_> = response
                    .headers
                    .iter()
                    .rev()
                    .take(3)
                    .rev()
                    .map(|field| (field.name, field.value))
                    .collect();
                assert_eq!(
                    sent,
                    [
                        ("a", &b""[..]),
                        ("b", b"x\ty"),
                        ("c", "caf\u{e9}".as_bytes())
                    ]
                );
            }
        }
    }

    #[test]
    fn interim_responses_have_no_date_and_no_framing() {
        let early = fields(&[
            ("link", "</a.css>; rel=preload"),
            ("content-length", "5"),
            ("connection", "close"),
        ]);
        for (status, fields, expected) in [
            (100, None, "HTTP/1.1 100 Continue\r\n\r\n"),
            (
                103,
                Some(&early),
                "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n",
            ),
            (199, None, "HTTP/1.1 199 \r\n\r\n"),
        ] {
            let mut out = Vec::new();
            encode_interim(&mut out, status, fields);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn chunks_have_their_size_in_hexadecimal() {
        for (len, size) in [
            (1, "1"),
            (9, "9"),
            (10, "a"),
            (15, "f"),
            (16, "10"),
            (255, "ff"),
            (256, "100"),
            (65_535, "ffff"),
            (65_536, "10000"),
        ] {
            let data = vec![b'x'; len];
            let mut out = b"before".to_vec();
            encode_chunk(&mut out, &data);
            let expected = [b"before", size.as_bytes(), b"\r\n", &data, b"\r\n"].concat();
            assert_eq!(out, expected);

            out.clear();
            encode_chunk_header(&mut out, len);
            assert_eq!(out, format!("{size}\r\n").as_bytes());
        }
        let mut out = Vec::new();
        encode_chunk_header(&mut out, usize::MAX);
        assert_eq!(out, format!("{:x}\r\n", usize::MAX).as_bytes());
    }

    #[test]
    fn an_empty_chunk_does_not_end_the_body() {
        let mut out = Vec::new();
        encode_chunk(&mut out, b"");
        encode_chunk_header(&mut out, 0);
        assert_eq!(out, b"");
    }

    #[test]
    fn the_last_chunk_carries_only_trailers_that_may_come_late() {
        let mut out = Vec::new();
        encode_last_chunk(&mut out, None);
        assert_eq!(out, b"0\r\n\r\n");

        let mut trailers = fields(&[("X-Checksum", "abc"), ("server-timing", "db;dur=5")]);
        for name in FORBIDDEN_TRAILERS {
            trailers.append(&name.to_ascii_uppercase(), b"1").unwrap();
        }
        out.clear();
        encode_last_chunk(&mut out, Some(&trailers));
        assert_eq!(
            out,
            b"0\r\nX-Checksum: abc\r\nserver-timing: db;dur=5\r\n\r\n"
        );
    }
}
