//! Invariants of multipart content, for any octets:
//!
//! - nothing panics, and each call makes progress;
//! - how the octets are cut makes no difference;
//! - the content of all parts is shorter than the octets, and the limits hold;
//! - what a client encodes comes out as it was.
//!
//! `cargo fuzz run multipart fuzz/seeds/multipart -- -dict=fuzz/multipart.dict`

#![no_main]

use libfuzzer_sys::fuzz_target;
use vibora::http::multipart::{
    Event, MultipartError, MultipartLimits, MultipartParser, is_boundary,
};
use vibora::http::parameters::{Text, parse_disposition};

fuzz_target!(|data: &[u8]| {
    let Some((&[knob, cut], bytes)) = data.split_first_chunk::<2>() else {
        return;
    };
    let limits = match knob / 128 {
        0 => MultipartLimits::default(),
        _ => MultipartLimits {
            max_fields: usize::from(knob % 4),
            max_files: usize::from(knob % 3),
            max_part_header: usize::from(knob % 128),
            max_part_header_fields: usize::from(knob % 5),
            max_around: usize::from(knob % 16),
        },
    };
    // A boundary of one octet, or one that is all prefix of what surrounds it.
    let boundary: &[u8] = if knob % 2 == 0 { b"b" } else { b"----b" };

    let whole = parse(boundary, limits, [bytes]);
    assert_eq!(parse(boundary, limits, bytes.chunks(1)), whole);
    let size = usize::from(cut).max(1);
    assert_eq!(parse(boundary, limits, bytes.chunks(size)), whole);
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    assert_eq!(parse(boundary, limits, [first, b"", second]), whole);

    assert!(whole.content.concat().len() <= bytes.len());
    assert!(whole.content.len() <= limits.max_fields + limits.max_files);

    let _ = parse_disposition(bytes);
    let _ = is_boundary(bytes);
    round_trip(bytes, size);
});

/// What came of the octets.
#[derive(Debug, Default, PartialEq)]
struct Parsed {
    names: Vec<(Text, Option<Text>)>,
    content: Vec<Vec<u8>>,
    complete: usize,
    end: Option<Result<(), MultipartError>>,
}

fn parse<'a>(
    boundary: &[u8],
    limits: MultipartLimits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Parsed {
    let Ok(mut parser) = MultipartParser::new(boundary, limits) else {
        panic!("the boundary is one");
    };
    let mut seen = Parsed::default();
    for mut input in pieces {
        // Each octet begins at most a part, its content and its end.
        for _ in 0..4 * input.len() + 4 {
            match parser.parse(&mut input) {
                Ok(Event::NeedMore) => break,
                Ok(Event::Part(head)) => {
                    // A space after each colon may have been added.
                    let most = limits.max_part_header + head.fields.len();
                    assert!(head.fields.wire().len() <= most);
                    seen.names.push((head.name, head.filename));
                    seen.content.push(Vec::new());
                }
                Ok(Event::Data(data)) => {
                    assert!(!data.is_empty());
                    let last = seen.content.last_mut();
                    last.expect("content has a part").extend_from_slice(data);
                }
                Ok(Event::PartEnd) => seen.complete += 1,
                Ok(Event::End) => assert_eq!(seen.complete, seen.content.len()),
                Err(error) => {
                    assert_eq!(parser.parse(&mut &b"--b--"[..]).err(), Some(error));
                    seen.end = Some(Err(error));
                    return seen;
                }
            }
        }
        assert!(input.is_empty(), "the parser makes no progress");
    }
    seen.end = Some(parser.finish());
    seen
}

/// Encodes the octets as three parts, as a browser does, unless they contain the delimiter.
fn round_trip(bytes: &[u8], size: usize) {
    let boundary = b"----ViboraFormBoundary";
    let delimiter = [b"\r\n--", &boundary[..]].concat();
    let framed = [b"\r\n", bytes, b"\r\n"].concat();
    if framed
        .windows(delimiter.len())
        .any(|window| window == delimiter)
    {
        return;
    }
    let mut encoded = Vec::new();
    for number in 0..3 {
        encoded.extend_from_slice(b"--");
        encoded.extend_from_slice(boundary);
        let head = format!(
            "\r\nContent-Disposition: form-data; name=\"a%22{number}\"; filename=\"b\"\r\n\r\n"
        );
        encoded.extend_from_slice(head.as_bytes());
        encoded.extend_from_slice(bytes);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(b"--");
    encoded.extend_from_slice(boundary);
    encoded.extend_from_slice(b"--\r\n");
    let decoded = parse(boundary, MultipartLimits::default(), encoded.chunks(size));
    assert_eq!(decoded.end, Some(Ok(())));
    assert_eq!(decoded.content, vec![bytes.to_vec(); 3]);
    for (number, (name, filename)) in decoded.names.iter().enumerate() {
        assert_eq!(*name, Text::Octets(format!("a\"{number}").into_bytes()));
        assert_eq!(*filename, Some(Text::Octets(b"b".to_vec())));
    }
}
