//! Invariants of request-targets, paths and queries, for any octets:
//!
//! - nothing panics;
//! - a target has one of the four forms, in a request that may use it, and its parts make it up; an authority has a
//!   host and no userinfo;
//! - decoding a path in its two steps is decoding it once, never adds a `/` before routing, and never yields NUL;
//! - the pairs of a query are those of the `form_urlencoded` crate.
//!
//! `cargo fuzz run target -- -dict=fuzz/http.dict`

#![no_main]

use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode;
use vibora::http::head::{HeadLimits, RequestHead, parse_head};
use vibora::http::target::{TargetForm, decode_path, decode_segment, query_pairs};

fuzz_target!(|data: &[u8]| {
    for method in ["GET", "OPTIONS", "CONNECT"] {
        let start = [method.as_bytes(), b" "].concat();
        let bytes = [&start, data, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let mut head = RequestHead::default();
        if parse_head(&bytes, &HeadLimits::default(), &mut head) == Ok(Some(())) {
            // The target may not have been all of it: a whole head fits in the data.
            if head.len == bytes.len() && head.target.of(&bytes) == data {
                check_form(method, data, &bytes, &head);
            }
        }
    }
    check_path(data);
    check_query(data);
});

fn check_form(method: &str, target: &[u8], bytes: &[u8], head: &RequestHead) {
    let (path, authority) = (head.path.of(bytes), head.authority.of(bytes));
    let query = head.query.map(|query| [b"?", query.of(bytes)].concat());
    let rest = [path, &query.unwrap_or_default()].concat();
    assert!(
        target
            .iter()
            .all(|octet| octet.is_ascii_graphic() && *octet != b'#')
    );
    match head.form {
        TargetForm::Origin => {
            assert!(method != "CONNECT" && path.starts_with(b"/"));
            assert_eq!((&rest[..], authority), (target, &b"a"[..]));
        }
        TargetForm::Absolute => {
            assert!(method != "CONNECT" && (path.is_empty() || path.starts_with(b"/")));
            let scheme = target.len() - rest.len() - authority.len();
            let lower = target[..scheme].to_ascii_lowercase();
            assert!(lower == b"http://" || lower == b"https://");
            assert_eq!([&target[..scheme], authority, &rest].concat(), target);
        }
        TargetForm::Authority => {
            assert_eq!(
                (method, authority, &rest[..]),
                ("CONNECT", target, &b""[..])
            );
        }
        TargetForm::Asterisk => {
            assert_eq!((method, target, path), ("OPTIONS", &b"*"[..], &b"*"[..]));
        }
    }
    assert!(!authority.is_empty() && !authority.starts_with(b":"));
    assert!(!authority.iter().any(|octet| b"@/?#\\ ".contains(octet)));
}

fn check_path(raw: &[u8]) {
    let Ok(routed) = decode_path(raw) else { return };
    let segments = |path: &[u8]| path.split(|&octet| octet == b'/').count();
    assert_eq!(segments(raw), segments(&routed));
    assert!(routed.len() <= raw.len());
    assert_eq!(
        decode_segment(&routed),
        percent_decode(raw).collect::<Vec<u8>>()
    );
    assert_eq!(routed.contains(&0), raw.contains(&0));
}

fn check_query(raw: &[u8]) {
    let ours = query_pairs(raw).map(|(name, value)| {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        (text(&name), text(&value))
    });
    assert!(ours.eq(form_urlencoded::parse(raw).into_owned()));
}
