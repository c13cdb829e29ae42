use super::*;

/// Name, file name, content type and content of a part.
type Seen = (String, Option<String>, Option<String>, String);

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    parts: Vec<Seen>,
    /// The parts that have ended.
    complete: usize,
    end: Option<Result<(), MultipartError>>,
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn name(name: &Text) -> String {
    match name {
        Text::Octets(octets) => text(octets),
        Text::Decoded(text) => text.clone(),
    }
}

fn feed<'a>(parser: &mut MultipartParser, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut ended = false;
    for mut input in pieces {
        loop {
            match parser.parse(&mut input) {
                Ok(Event::NeedMore) => {
                    assert!(input.is_empty());
                    break;
                }
                Ok(Event::Part(head)) => outcome.parts.push((
                    name(&head.name),
                    head.filename.as_ref().map(name),
                    head.fields.get(b"content-type").map(text),
                    String::new(),
                )),
                Ok(Event::Data(data)) => {
                    assert!(!data.is_empty());
                    let last = outcome.parts.last_mut().unwrap();
                    last.3.push_str(&text(data));
                }
                Ok(Event::PartEnd) => {
                    outcome.complete += 1;
                    assert_eq!(outcome.complete, outcome.parts.len());
                }
                Ok(Event::End) => {
                    assert!(!ended);
                    ended = true;
                }
                Err(error) => {
                    assert_eq!(parser.parse(&mut &b"--b--"[..]).err(), Some(error));
                    assert_eq!(parser.finish(), Err(error));
                    outcome.end = Some(Err(error));
                    return outcome;
                }
            }
        }
    }
    let end = parser.finish();
    assert_eq!(end.is_ok(), ended);
    outcome.end = Some(end);
    outcome
}

/// Parses whole, octet by octet, in threes, and cut at each position.
fn every_split_within(bytes: &[u8], limits: MultipartLimits) -> Outcome {
    let parser = || MultipartParser::new(b"b", limits).unwrap();
    let whole = feed(&mut parser(), [bytes]);
    for size in [1, 2, 3, 7] {
        let seen = feed(&mut parser(), bytes.chunks(size));
        assert_eq!(seen, whole, "in pieces of {size}: {}", text(bytes));
    }
    for at in 0..=bytes.len() {
        let (first, second) = bytes.split_at(at);
        let seen = feed(&mut parser(), [first, b"", second]);
        assert_eq!(seen, whole, "cut at {at}: {}", text(bytes));
    }
    whole
}

fn every_split(bytes: &str) -> Outcome {
    every_split_within(bytes.as_bytes(), MultipartLimits::default())
}

const HEAD: &str = "content-disposition: form-data; name=a\r\n\r\n";

fn fields(contents: &[&str]) -> Outcome {
    Outcome {
        parts: contents
            .iter()
            .map(|content| ("a".to_owned(), None, None, (*content).to_owned()))
            .collect(),
        complete: contents.len(),
        end: Some(Ok(())),
    }
}

/// RFC 2046 §5.1.1
#[test]
#[rustfmt::skip]
fn content_is_what_stands_between_delimiters() {
    for (bytes, contents) in [
        ("--b--", &[][..]),
        ("--b--\r\n", &[]),
        ("\r\n--b--\r\n", &[]),
        ("--b\r\n{}--b--", &[""]),
        ("--b\r\n{}\r\n--b--\r\n", &[""]),
        ("--b\r\n{}x\r\n--b--\r\n", &["x"]),
        ("--b\r\n{}\r\n\r\n--b--\r\n", &["\r\n"]),
        ("--b\r\n{}x\r\n\r\n--b--\r\n", &["x\r\n"]),
        ("--b\r\n{}x\r\n--b\r\n{}y\r\n--b\r\n{}\r\n--b--", &["x", "y", ""]),
        ("--b\r\n{}-\r\n-\r\n--\r\n--a\r\n--\r\n--b--", &["-\r\n-\r\n--\r\n--a\r\n--"]),
        ("--b\r\n{}\r\r\n--b--", &["\r"]),
        ("--b\r\n{}\r\r\n\r\n--\r\r\n--b--", &["\r\r\n\r\n--\r"]),
        ("--b\r\n{}-\r\n--b--", &["-"]),
        ("--b\r\n{}--\r\n--b--", &["--"]),
        ("--b\r\n{}--a--b\n--b\r--b\r\n --b\r\n--b--", &["--a--b\n--b\r--b\r\n --b"]),
        ("--b\r\n{}x--b\r\n--b--", &["x--b"]),
        ("--b \t\r\n{}x\r\n--b\t\r\n{}y\r\n--b-- \r\n", &["x", "y"]),
        ("preamble\r\n--b\r\n{}x\r\n--b--\r\nepilogue\r\n--b\r\n", &["x"]),
        ("-\r\n--a\r\n--b\r\n{}x\r\n--b--", &["x"]),
    ] {
        let bytes = bytes.replace("{}", HEAD);
        assert_eq!(every_split(&bytes), fields(contents), "{bytes:?}");
    }
}

#[test]
#[rustfmt::skip]
fn a_part_has_a_head() {
    let part = |name: &str, filename: Option<&str>, kind: Option<&str>| {
        (name.to_owned(), filename.map(str::to_owned), kind.map(str::to_owned), "x".to_owned())
    };
    for (head, expected) in [
        ("Content-Disposition: form-data; name=\"a\"", part("a", None, None)),
        ("CONTENT-DISPOSITION:form-data;name=a \t", part("a", None, None)),
        ("Content-Disposition: form-data; name=\"a\"; filename=\"\"\r\nContent-Type: text/html", part("a", Some(""), Some("text/html"))),
        ("x: y\r\nx: z\r\nContent-Type:\r\nContent-Disposition: form-data; name=a; filename=b", part("a", Some("b"), Some(""))),
        ("Content-Disposition: form-data; name=\"\u{e9}\"; filename=\"\u{1f600}%22\"", part("\u{e9}", Some("\u{1f600}\""), None)),
        ("Content-Disposition: form-data; name=a; filename*=utf-8''%C3%A9", part("a", Some("\u{e9}"), None)),
        ("Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: BINARY", part("a", None, None)),
        ("Content-Disposition: form-data; name=a\r\nContent-Length: 99", part("a", None, None)),
    ] {
        let seen = every_split(&format!("--b\r\n{head}\r\n\r\nx\r\n--b--"));
        assert_eq!(seen, Outcome { parts: vec![expected], complete: 1, end: Some(Ok(())) }, "{head}");
    }
}

#[test]
#[rustfmt::skip]
fn refuses_what_is_malformed() {
    use MultipartError as E;
    let disposition = "Content-Disposition: form-data; name=a";
    for (bytes, expected) in [
        ("", E::NoDelimiter),
        ("--a\r\n", E::NoDelimiter),
        ("-", E::NoDelimiter),
        ("\n--b--", E::NoDelimiter),
        ("x--b--", E::NoDelimiter),
        ("--b", E::Truncated),
        ("--b-", E::Truncated),
        ("--b\r\n", E::Truncated),
        ("--b\r\nx: y", E::Truncated),
        ("--b\r\n{}", E::Truncated),
        ("--b\r\n{}x", E::Truncated),
        ("--b\r\n{}x\r\n--", E::Truncated),
        ("--b\r\n{}x\r\n--b", E::Truncated),
        ("--b\r\n{}x\r\n--b\r\n", E::Truncated),
        ("--b\n", E::Header(ProtocolError::BareLineFeed)),
        ("--b\r\n{}x\r\n--b\n", E::Header(ProtocolError::BareLineFeed)),
        ("--bb\r\n", E::InvalidDelimiter),
        ("--b\r\r\n", E::InvalidDelimiter),
        ("--b\rx", E::InvalidDelimiter),
        ("--b -", E::InvalidDelimiter),
        ("--b-\r\n", E::InvalidDelimiter),
        ("--b\r\n{}x\r\n--bc\r\n--b--", E::InvalidDelimiter),
        ("--b\r\n\r\n", E::NoDisposition),
        ("--b\r\nContent-Type: a/b\r\n\r\n", E::NoDisposition),
        ("--b\r\n{d}\r\n{d}\r\n\r\n", E::NoDisposition),
        ("--b\r\nContent-Disposition: attachment; name=a\r\n\r\n", E::InvalidDisposition),
        ("--b\r\nContent-Disposition: form-data; name=\"a\r\n\r\n", E::InvalidDisposition),
        ("--b\r\nContent-Disposition: form-data\r\n\r\n", E::NoName),
        ("--b\r\nContent-Disposition: form-data; filename=a\r\n\r\n", E::NoName),
        ("--b\r\n{d}\r\nContent-Type: a/b\r\ncontent-type: a/b\r\n\r\n", E::DuplicateContentType),
        ("--b\r\n{d}\r\nContent-Transfer-Encoding: base64\r\n\r\n", E::UnsupportedEncoding),
        ("--b\r\nx\r\n", E::Header(ProtocolError::MissingColon)),
        ("--b\r\n: y\r\n", E::Header(ProtocolError::InvalidFieldName)),
        ("--b\r\nx : y\r\n", E::Header(ProtocolError::WhitespaceBeforeColon)),
        ("--b\r\nx: \0\r\n", E::Header(ProtocolError::InvalidFieldValue)),
        ("--b\r\nx: y\rz\r\n", E::Header(ProtocolError::BareCarriageReturn)),
        ("--b\r\nx: y\n", E::Header(ProtocolError::BareLineFeed)),
        ("--b\r\n{d}\r\n\n", E::Header(ProtocolError::BareLineFeed)),
        ("--b\r\n{d};\r\n filename=x\r\n\r\n", E::Header(ProtocolError::LineFolding)),
    ] {
        let bytes = bytes.replace("{}", HEAD).replace("{d}", disposition);
        let seen = every_split(&bytes);
        assert_eq!(seen.end, Some(Err(expected)), "{bytes:?}");
    }
    let padding = format!("--b{}\r\n", " ".repeat(129));
    assert_eq!(every_split(&padding).end, Some(Err(E::InvalidDelimiter)));
}

#[test]
fn each_limit_has_its_edge() {
    use MultipartError as E;
    let limits = MultipartLimits {
        max_fields: 2,
        max_files: 1,
        max_part_header: 46,
        max_part_header_fields: 2,
        max_around: 5,
    };
    let field = format!("{HEAD}x\r\n--b");
    let file = "content-disposition: form-data; name=a; filename=b\r\n\r\n";
    for (bytes, expected) in [
        (format!("--b\r\n{field}\r\n{field}--"), Ok(())),
        (
            format!("--b\r\n{field}\r\n{field}\r\n{field}--"),
            Err(E::TooManyFields),
        ),
        (
            format!("--b\r\n{}\r\n\r\n", "x".repeat(44)),
            Err(E::Header(ProtocolError::MissingColon)),
        ),
        (
            format!("--b\r\nx:{}\r\n\r\n", "x".repeat(42)),
            Err(E::NoDisposition),
        ),
        (
            format!("--b\r\nx:{}\r\n\r\n", "x".repeat(43)),
            Err(E::HeaderTooLarge),
        ),
        (
            format!("--b\r\nx:{}", "x".repeat(47)),
            Err(E::HeaderTooLarge),
        ),
        (format!("--b\r\n{file}"), Err(E::HeaderTooLarge)),
        (
            "--b\r\nx:y\r\nx:y\r\nx:y\r\n".to_owned(),
            Err(E::TooManyHeaderFields),
        ),
        ("12345\r\n--b--\r\n123".to_owned(), Ok(())),
        ("123456\r\n--b--".to_owned(), Err(E::PreambleTooLong)),
        ("123456".to_owned(), Err(E::PreambleTooLong)),
        ("--b--123456".to_owned(), Err(E::EpilogueTooLong)),
    ] {
        let seen = every_split_within(bytes.as_bytes(), limits);
        assert_eq!(seen.end, Some(expected), "{bytes:?}");
    }
    let limits = MultipartLimits {
        max_files: 1,
        ..MultipartLimits::default()
    };
    let files = format!("--b\r\n{file}x\r\n--b\r\n{file}");
    let seen = every_split_within(files.as_bytes(), limits);
    assert_eq!(seen.end, Some(Err(E::TooManyFiles)));
    assert_eq!(seen.complete, 1);
}

#[test]
fn a_boundary_has_its_grammar() {
    for boundary in [
        "a",
        "----WebKitFormBoundary7MA4YWxkTrZu0gW",
        "a b'()+_,-./:=?9",
        &"x".repeat(70),
    ] {
        assert!(is_boundary(boundary.as_bytes()), "{boundary}");
    }
    for boundary in [
        "",
        " ",
        "a ",
        "a\r\n",
        "a\"",
        "a;b",
        "\u{e9}",
        &"x".repeat(71),
    ] {
        assert!(!is_boundary(boundary.as_bytes()), "{boundary}");
        let parser = MultipartParser::new(boundary.as_bytes(), MultipartLimits::default());
        assert_eq!(parser.err(), Some(MultipartError::InvalidBoundary));
    }
}

#[test]
fn content_is_not_copied() {
    let mut parser = MultipartParser::new(b"b", MultipartLimits::default()).unwrap();
    let mut head = format!("--b\r\n{HEAD}").into_bytes();
    head.extend_from_slice(b"x");
    assert_eq!(feed(&mut parser, [&head[..]]).complete, 0);
    let content = vec![b'\r'; 70_000];
    let mut input = &content[..];
    let Ok(Event::Data(data)) = parser.parse(&mut input) else {
        panic!("no data");
    };
    // All but the last CR, which a delimiter may begin with.
    assert!(core::ptr::eq(data, &raw const content[..69_999]));
}

/// CVE-2023-46136, CVE-2024-53981: what looks like the beginning of a delimiter again and again.
#[test]
fn floods_take_linear_time() {
    let boundary = [b"-".repeat(60), b"x".to_vec()].concat();
    for pattern in [
        &b"\r\n--"[..],
        b"\r\n",
        b"\r",
        b"-",
        b"\n",
        b"\r\n------------------------------------------------------------",
        b"\r\n--------------------------------------------------------------",
        b"\r\n--------------------------------------------------------------y",
    ] {
        let mut bytes = [b"--", &boundary[..], b"\r\n", HEAD.as_bytes()].concat();
        while bytes.len() < 200_000 {
            bytes.extend_from_slice(pattern);
        }
        for size in [1, 61, 4096, 1_000_000] {
            let mut parser = MultipartParser::new(&boundary, MultipartLimits::default()).unwrap();
            let start = std::time::Instant::now();
            let mut len = 0;
            for mut input in bytes.chunks(size) {
                while let Event::Data(_) | Event::Part(_) = parser
                    .parse(&mut input)
                    .inspect(|event| {
                        if let Event::Data(data) = event {
                            len += data.len();
                        }
                    })
                    .unwrap()
                {}
            }
            assert!(start.elapsed().as_secs() < 2, "{} by {size}", text(pattern));
            assert!(bytes.len() - len < 300, "{} by {size}", text(pattern));
        }
    }
}

#[test]
fn every_error_says_what_is_wrong() {
    use MultipartError as E;
    for (error, status) in [
        (E::InvalidBoundary, 400),
        (E::Header(ProtocolError::LineFolding), 400),
        (E::HeaderTooLarge, 431),
        (E::TooManyHeaderFields, 431),
        (E::TooManyFields, 413),
        (E::TooManyFiles, 413),
        (E::UnsupportedEncoding, 415),
    ] {
        assert_eq!(error.status(), status, "{error:?}");
        assert!(error.rule().starts_with("RFC "), "{error:?}");
        let message = error.to_string();
        assert!(message.starts_with(|first: char| first.is_ascii_lowercase()));
        assert!(!message.ends_with('.'));
    }
}
