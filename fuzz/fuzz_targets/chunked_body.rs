//! Invariants of `BodyDecoder`, for any octets, framing and limits:
//!
//! - it never panics, and with `NeedMore` it has taken all of its input;
//! - cutting the input anywhere changes neither content, trailers, rest nor which error is reported;
//! - it gives back no octet that it was not given, and never more than a `Content-Length` says;
//! - after the end it takes nothing, after an error it never recovers;
//! - memory is bounded: the trailers are within their limits;
//! - what a chunked encoder writes, it reads back.
//!
//! `cargo fuzz run chunked_body -- -dict=fuzz/http.dict`

#![no_main]

use libfuzzer_sys::fuzz_target;
use vibora::error::ProtocolError;
use vibora::http::body::{BodyDecoder, BodyEvent, BodyLimits, Framing};

fuzz_target!(|data: &[u8]| {
    let Some((&[knob, cut], bytes)) = data.split_first_chunk::<2>() else {
        return;
    };
    let framing = match knob % 8 {
        0 => Framing::Length(u64::from(cut)),
        1 => Framing::None,
        _ => Framing::Chunked,
    };
    let limits = match knob / 128 {
        0 => BodyLimits::default(),
        _ => BodyLimits {
            max_chunk_extension: usize::from(knob % 16),
            max_trailers: usize::from(knob % 64),
            max_trailer_fields: usize::from(knob % 4),
        },
    };

    let whole = decode(framing, limits, [bytes]);
    assert_eq!(
        decode(framing, limits, bytes.chunks(1)),
        whole,
        "octet by octet"
    );
    let size = usize::from(cut).max(1);
    assert_eq!(
        decode(framing, limits, bytes.chunks(size)),
        whole,
        "in pieces of {size}"
    );
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    assert_eq!(
        decode(framing, limits, [first, b"", second]),
        whole,
        "cut at {cut}"
    );

    assert!(whole.content.len() <= bytes.len());
    if let Framing::Length(len) = framing {
        assert!(whole.content.len() as u64 <= len);
    }

    let mut encoded = Vec::new();
    for piece in bytes.chunks(size) {
        encoded
            .extend_from_slice(format!("{:x};a=\"{}\"\r\n", piece.len(), piece.len()).as_bytes());
        encoded.extend_from_slice(piece);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(b"0\r\nx: y\r\n\r\nrest");
    let limits = BodyLimits {
        max_chunk_extension: usize::MAX,
        ..BodyLimits::default()
    };
    let decoded = decode(Framing::Chunked, limits, [&encoded[..]]);
    assert_eq!(decoded.content, bytes);
    assert_eq!(decoded.end, Some(Ok(b"rest".to_vec())));
    assert_eq!(decoded.trailers, [(b"x".to_vec(), b"y".to_vec())]);
});

/// What came of a body.
#[derive(Debug, Default, PartialEq)]
struct Decoded {
    content: Vec<u8>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The octets after it, or what was wrong; none if it was not over.
    end: Option<Result<Vec<u8>, ProtocolError>>,
}

fn decode<'a>(
    framing: Framing,
    limits: BodyLimits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Decoded {
    let mut decoder = BodyDecoder::new(framing, limits);
    let mut seen = Decoded::default();
    // A body may be over before its first octet.
    for mut input in core::iter::once(&b""[..]).chain(pieces) {
        if let Some(Ok(rest)) = &mut seen.end {
            rest.extend_from_slice(input);
            continue;
        }
        while seen.end.is_none() {
            match decoder.decode(&mut input) {
                Ok(BodyEvent::Content(piece)) => {
                    assert!(!piece.is_empty());
                    seen.content.extend_from_slice(piece);
                }
                Ok(BodyEvent::NeedMore) => {
                    assert!(input.is_empty() && !decoder.is_done());
                    break;
                }
                Ok(BodyEvent::End) => {
                    assert!(decoder.is_done());
                    seen.end = Some(Ok(input.to_vec()));
                    assert_eq!(decoder.decode(&mut input), Ok(BodyEvent::End));
                    assert_eq!(seen.end, Some(Ok(input.to_vec())));
                }
                Err(error) => {
                    assert_eq!(decoder.decode(&mut &b"0\r\n\r\n"[..]), Err(error));
                    assert!(!decoder.is_done());
                    seen.end = Some(Err(error));
                }
            }
        }
    }
    let trailers = decoder.trailers();
    assert!(trailers.len() <= limits.max_trailer_fields);
    let len: usize = trailers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    assert!(len <= limits.max_trailers);
    seen.trailers = trailers.to_vec();
    seen
}
