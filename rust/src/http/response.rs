//! Response bytes: status line, header section, interim responses, chunked coding (RFC 9112 §4, §5, §7.1).
//!
//! The caller (the connection) decides how the body is framed and whether the connection persists; nothing an application
//! puts in its header fields can change that. Fields of the application that would are left out, see [`encode_head`].
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
    /// The end of the connection ends the body: HTTP/1.0 clients and a body of unknown length.
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
/// 1xx and 204 never carry a framing field (RFC 9110 §8.6, RFC 9112 §6.1), 1xx no date, and 1xx, 204 and 304 no default
/// content type.
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
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(head.date);
        out.extend_from_slice(b"\r\n");
    }
    push_connection(
        out,
        if interim {
            Persistence::Default
        } else {
            head.persistence
        },
        known,
    );
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
