//! Invariants of `FieldMap` and `encode_head`, for any names, values, statuses and framings:
//!
//! - they never panic, and what is refused changes nothing;
//! - a client reads back the status, and each field that is the application's to set, in order;
//! - whatever the application asks for, a head has one framing at the most and no line that it was not given.
//!
//! `cargo fuzz run encoder -- -dict=fuzz/http.dict`

#![no_main]

use libfuzzer_sys::fuzz_target;
use vibora::http::fields::FieldMap;
use vibora::http::response::{BodyLength, Persistence, ResponseHead, encode_head};

const DATE: &[u8; 29] = b"Sun, 22 Nov 2026 05:06:07 GMT";
/// Those that the connection decides about, or that the encoder adds.
const OURS: [&str; 11] = [
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "upgrade",
    "date",
    "content-type",
    "trailer",
    "http2-settings",
];

fuzz_target!(|data: &[u8]| {
    let Some((&[knob, low, high], rest)) = data.split_first_chunk::<3>() else {
        return;
    };
    let mut fields = FieldMap::new();
    for line in rest.split(|b| *b == 0xfe).take(40) {
        let at = line.iter().position(|b| *b == b'=').unwrap_or(line.len());
        let (name, value) = line.split_at(at);
        let before = fields.len();
        let added = match knob % 3 {
            0 => fields.set(name, value.get(1..).unwrap_or_default()),
            _ => fields.append(name, value.get(1..).unwrap_or_default()),
        };
        assert!(added.is_ok() || fields.len() == before);
    }
    let status = 200 + u16::from_le_bytes([low, high]) % 400;
    let length = match knob / 3 % 4 {
        0 => BodyLength::Omitted,
        1 => BodyLength::Known(u64::from(low)),
        2 => BodyLength::Chunked,
        _ => BodyLength::UntilClose,
    };
    let persistence = match knob / 12 % 3 {
        0 => Persistence::Default,
        1 => Persistence::Close,
        _ => Persistence::KeepAlive,
    };
    let mut out = Vec::new();
    encode_head(
        &mut out,
        &ResponseHead {
            status,
            fields: Some(&fields),
            content_type: Some(b"text/plain"),
            length,
            persistence,
            date: DATE,
        },
    );

    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(&out).expect("a head that a client can read");
    assert_eq!(
        parsed,
        httparse::Status::Complete(out.len()),
        "all of it, and nothing after it"
    );
    assert_eq!(response.code, Some(status));
    let ours = |name: &str| OURS.iter().any(|other| other.eq_ignore_ascii_case(name));
    let read: Vec<(&str, &[u8])> = response
        .headers
        .iter()
        .filter(|header| !ours(header.name))
        .map(|header| (header.name, header.value))
        .collect();
    let given: Vec<(&str, &[u8])> = fields
        .iter()
        .map(|(name, value)| (std::str::from_utf8(name).expect("a token is ASCII"), value))
        .filter(|(name, _)| !ours(name))
        .collect();
    assert_eq!(read, given);
    let framings = response
        .headers
        .iter()
        .filter(|header| {
            header.name.eq_ignore_ascii_case("content-length")
                || header.name.eq_ignore_ascii_case("transfer-encoding")
        })
        .count();
    assert!(framings <= 1);
});
