//! Invariants of `parse_head`, for any octets and limits:
//!
//! - it never panics, and every span it returns lies in the octets that the head took;
//! - cutting the input anywhere changes neither the result nor which error is reported, and what follows a head is not
//!   looked at;
//! - memory is bounded: never more field lines than the limit;
//! - what it accepts, httparse (which is more lenient) accepts too, with the same parts;
//! - what it accepts has CRLF, printable octets and spaces in the places where the grammar has them, and no other
//!   control octet than HTAB.
//!
//! `cargo fuzz run head -- -dict=fuzz/http.dict`

#![no_main]

use libfuzzer_sys::fuzz_target;
use vibora::http::head::{HeadLimits, RequestHead, Span, Version, parse_head};

fuzz_target!(|data: &[u8]| {
    let Some((&[knob, cut], bytes)) = data.split_first_chunk::<2>() else {
        return;
    };
    // Sometimes limits that a small input passes.
    let limits = match knob % 4 {
        0 => HeadLimits {
            max_request_line: usize::from(knob),
            max_head: usize::from(cut),
            max_fields: usize::from(knob % 8),
        },
        _ => HeadLimits::default(),
    };

    let mut head = RequestHead::default();
    let result = parse_head(bytes, &limits, &mut head);
    let whole = format!("{head:?}");

    let mut prefix = RequestHead::default();
    for len in cuts(bytes.len(), cut) {
        match parse_head(&bytes[..len], &limits, &mut prefix) {
            Ok(None) => assert!(result.is_err() || result == Ok(None) || head.len > len),
            settled => {
                assert_eq!(settled, result);
                if settled.is_ok() {
                    assert_eq!(format!("{prefix:?}"), whole);
                }
            }
        }
    }

    assert!(prefix.fields.len() <= limits.max_fields && head.fields.len() <= limits.max_fields);
    if result == Ok(Some(())) {
        check(&bytes[..head.len], &head);
    }
});

/// All positions of a small input, and one octet in so many of a large one.
fn cuts(len: usize, step: u8) -> impl Iterator<Item = usize> {
    let step = if len < 300 {
        1
    } else {
        usize::from(step) + len / 100
    };
    (0..=len).step_by(step).chain([len])
}

fn check(bytes: &[u8], head: &RequestHead) {
    let of = |span: Span| {
        assert!(span.start <= span.end && span.end as usize <= bytes.len());
        &bytes[span.start as usize..span.end as usize]
    };

    // Every CR is before LF, every LF after CR, and nothing else below SP but HTAB.
    for (at, octet) in bytes.iter().enumerate() {
        match octet {
            b'\r' => assert_eq!(bytes.get(at + 1), Some(&b'\n')),
            b'\n' => assert_eq!(bytes[at - 1], b'\r'),
            b'\t' => {}
            _ => assert!(*octet >= b' ' && *octet != 0x7f),
        }
    }
    assert!(bytes.ends_with(b"\r\n"));

    // The request line is what its parts make.
    let line = [of(head.method_text), b" ", of(head.target), b" HTTP/1."].concat();
    let start = head.method_text.start as usize;
    assert!(bytes[start..].starts_with(&line));
    assert!(bytes[..start].chunks(2).all(|crlf| crlf == b"\r\n"));
    let (path, target) = (of(head.path), of(head.target));
    match head.query {
        Some(query) => assert!(target.ends_with(&[path, b"?", of(query)].concat())),
        None => assert!(target.ends_with(path)),
    }
    let _ = of(head.authority);

    let minor = bytes[start + line.len()];
    assert_eq!(head.version == Version::Http10, minor == b'0');
    for field in &head.fields {
        assert!(!of(field.name).is_empty());
        let value = of(field.value);
        assert!(!value.first().is_some_and(|octet| b" \t".contains(octet)));
        assert!(!value.last().is_some_and(|octet| b" \t".contains(octet)));
    }
    if minor > b'1' {
        return; // httparse knows 0 and 1 only.
    }

    let mut headers = [httparse::EMPTY_HEADER; 256];
    let mut other = httparse::Request::new(&mut headers);
    assert_eq!(
        other.parse(bytes),
        Ok(httparse::Status::Complete(bytes.len()))
    );
    assert_eq!(other.method.map(str::as_bytes), Some(of(head.method_text)));
    assert_eq!(other.path.map(str::as_bytes), Some(target));
    assert_eq!(other.headers.len(), head.fields.len());
    for (theirs, ours) in other.headers.iter().zip(&head.fields) {
        assert_eq!(theirs.name.as_bytes(), of(ours.name));
        assert_eq!(theirs.value, of(ours.value));
    }
}
