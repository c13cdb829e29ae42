use super::*;

/// Parses `bytes` whole, every beginning of it, and more than it; checks that cutting changes nothing.
///
/// As the parser keeps no state, the beginnings are all splits there are.
pub(super) fn every_split(
    bytes: &[u8],
    limits: &HeadLimits,
) -> Result<Option<RequestHead>, ProtocolError> {
    // One head for all, as a connection has: nothing of an earlier parse may show.
    let mut head = RequestHead::default();
    let whole = parse_head(bytes, limits, &mut head);
    let parsed = head.clone();
    let mut settled = None;
    for len in 0..bytes.len() {
        let result = parse_head(&bytes[..len], limits, &mut head);
        match result {
            Ok(None) => assert_eq!(settled, None, "unsettled by more octets at {len}"),
            Ok(Some(())) => assert!(head.len <= len, "took {} of {len} octets", head.len),
            Err(_) => {}
        }
        if result != Ok(None) {
            settled.get_or_insert(result);
            assert_eq!(
                result,
                whole,
                "at {len} of {:?}",
                bytes.escape_ascii().to_string()
            );
        }
    }
    if whole == Ok(None) {
        return Ok(None);
    }
    for trailing in [
        &b"\r\n"[..],
        b"GET / HTTP/1.1\r\n",
        b"\x00\xff",
        b"\n",
        b" a",
    ] {
        let more = [bytes, trailing].concat();
        assert_eq!(
            parse_head(&more, limits, &mut head),
            whole,
            "with {trailing:?}"
        );
        if whole.is_ok() {
            assert_eq!(
                format!("{head:?}"),
                format!("{parsed:?}"),
                "with {trailing:?}"
            );
        }
    }
    whole.map(|_| Some(parsed))
}

pub(super) fn accept(bytes: &[u8]) -> RequestHead {
    match every_split(bytes, &HeadLimits::default()) {
        Ok(Some(head)) => head,
        other => panic!("{other:?} for {:?}", bytes.escape_ascii().to_string()),
    }
}

pub(super) fn verdict(bytes: &[u8]) -> Result<Option<()>, ProtocolError> {
    every_split(bytes, &HeadLimits::default()).map(|head| head.map(|_| ()))
}

// RFC 9112 §3: request line

#[test]
fn finds_the_parts_of_a_head() {
    let bytes = b"\r\nPOST /a?b=c HTTP/1.1\r\nHost: example.org:80\r\nX-Empty:\r\n\
        x-both: \t a \t b\t \r\nContent-Length:3\r\n\r\n";
    let head = accept(bytes);
    assert_eq!(head.method, Method::Post);
    assert_eq!(head.method_text.of(bytes), b"POST");
    assert_eq!(head.target.of(bytes), b"/a?b=c");
    assert_eq!(head.form, TargetForm::Origin);
    assert_eq!(head.path.of(bytes), b"/a");
    assert_eq!(head.query.map(|query| query.of(bytes)), Some(&b"b=c"[..]));
    assert_eq!(head.authority.of(bytes), b"example.org:80");
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.framing, Framing::Length(3));
    assert_eq!(head.len, bytes.len());
    let fields: Vec<_> = head
        .fields
        .iter()
        .map(|field| (field.name.of(bytes), field.value.of(bytes)))
        .collect();
    assert_eq!(
        fields,
        [
            (&b"Host"[..], &b"example.org:80"[..]),
            (b"X-Empty", b""),
            (b"x-both", b"a \t b"),
            (b"Content-Length", b"3"),
        ]
    );
}

#[test]
fn a_target_has_one_of_four_forms() {
    for (line, path, query, authority) in [
        ("GET / HTTP/1.1", "/", None, "a"),
        ("GET /x? HTTP/1.1", "/x", Some(""), "a"),
        ("GET http://b:1/x?y HTTP/1.1", "/x", Some("y"), "b:1"),
        ("GET http://b HTTP/1.1", "", None, "b"),
        ("GET http://b?y HTTP/1.1", "", Some("y"), "b"),
        ("OPTIONS * HTTP/1.1", "*", None, "a"),
        ("CONNECT b:80 HTTP/1.1", "", None, "b:80"),
    ] {
        let bytes = format!("{line}\r\nHost: a\r\n\r\n").into_bytes();
        let head = accept(&bytes);
        assert_eq!(head.path.of(&bytes), path.as_bytes(), "{line}");
        assert_eq!(
            head.query.map(|query| query.of(&bytes)),
            query.map(str::as_bytes),
            "{line}"
        );
        assert_eq!(head.authority.of(&bytes), authority.as_bytes(), "{line}");
    }
}

#[test]
fn a_method_is_any_token_in_its_case() {
    for (name, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
        ("TRACE", Method::Trace),
        ("PATCH", Method::Patch),
        ("get", Method::Other),
        ("GETT", Method::Other),
        ("M-SEARCH", Method::Other),
        ("#!~", Method::Other),
    ] {
        let bytes = format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        let head = accept(&bytes);
        assert_eq!(head.method, method, "{name}");
        assert_eq!(head.method_text.of(&bytes), name.as_bytes());
        assert_eq!(method.as_str().unwrap_or(name), name);
        assert_eq!(Method::parse(name.as_bytes()), method);
    }
    assert!(Method::Head.is_safe() && !Method::Delete.is_safe() && !Method::Other.is_safe());
}

/// RFC 9110 §2.5
#[test]
fn later_minor_versions_are_served_as_http11() {
    for (version, expected) in [
        ("1.0", Version::Http10),
        ("1.1", Version::Http11),
        ("1.2", Version::Http11),
        ("1.9", Version::Http11),
    ] {
        let head = accept(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(head.version, expected, "{version}");
    }
}

#[test]
#[rustfmt::skip]
fn refuses_a_malformed_request_line() {
    use ProtocolError as E;
    for (name, bytes, expected) in [
        ("an empty method", &b" / HTTP/1.1\r\n"[..], E::InvalidMethod),
        ("a colon in the method", b"GE:T / HTTP/1.1\r\n", E::InvalidMethod),
        ("a nul in the method", b"GET\0 / HTTP/1.1\r\n", E::InvalidMethod),
        ("obs-text in the method", b"GET\xc3\x9f / HTTP/1.1\r\n", E::InvalidMethod),
        ("a tab after the method", b"GET\t/ HTTP/1.1\r\n", E::InvalidMethod),
        ("a TLS ClientHello", b"\x16\x03\x01\x02\x00\x01\x00", E::InvalidMethod),
        ("only a method", b"GET\r\n", E::MalformedRequestLine),
        ("two spaces before the target", b"GET  / HTTP/1.1\r\n", E::MalformedRequestLine),
        ("a tab before the target", b"GET \t/ HTTP/1.1\r\n", E::MalformedRequestLine),
        ("a tab after the target", b"GET /\tHTTP/1.1\r\n", E::MalformedRequestLine),
        ("two spaces before the version", b"GET /  HTTP/1.1\r\n", E::MalformedRequestLine),
        ("a space in the target", b"GET /a b HTTP/1.1\r\n", E::MalformedRequestLine),
        ("a space after the version", b"GET / HTTP/1.1 \r\n", E::MalformedRequestLine),
        ("HTTP/0.9", b"GET /\r\n", E::MalformedRequestLine),
        ("HTTP/0.9 with a space", b"GET / \r\n", E::MalformedVersion),
        ("no target", b"GET HTTP/1.1\r\n", E::MalformedRequestLine),
        ("a fragment", b"GET /a#b HTTP/1.1\r\n", E::FragmentInTarget),
        ("a fragment after a query", b"GET /a?b#c HTTP/1.1\r\n", E::FragmentInTarget),
        ("a nul in the target", b"GET /a\0 HTTP/1.1\r\n", E::InvalidTargetOctet),
        ("DEL in the query", b"GET /a?\x7f HTTP/1.1\r\n", E::InvalidTargetOctet),
        ("UTF-8 in the path", b"GET /caf\xc3\xa9 HTTP/1.1\r\n", E::InvalidTargetOctet),
        ("a form of another method", b"GET * HTTP/1.1\r\n", E::InvalidTargetForm),
        ("a path without slash", b"GET a HTTP/1.1\r\n", E::InvalidTargetForm),
        (
            "an empty host",
            b"GET http:///a HTTP/1.1\r\n",
            E::InvalidAuthority,
        ),
        (
            "userinfo",
            b"GET http://u@a/ HTTP/1.1\r\n",
            E::UserinfoInAuthority,
        ),
        ("CONNECT without port", b"CONNECT a HTTP/1.1\r\n", E::InvalidAuthority),
        ("a lower-case protocol name", b"GET / http/1.1\r\n", E::MalformedVersion),
        ("another protocol", b"GET / RTSP/1.0\r\n", E::MalformedVersion),
        ("a prefixed protocol", b"GET / XHTTP/1.1\r\n", E::MalformedVersion),
        ("a long minor version", b"GET / HTTP/1.10\r\n", E::MalformedVersion),
        ("a long major version", b"GET / HTTP/11.1\r\n", E::MalformedVersion),
        ("no minor version", b"GET / HTTP/1.\r\n", E::MalformedVersion),
        ("no dot", b"GET / HTTP/1,1\r\n", E::MalformedVersion),
        ("a nul after the version", b"GET / HTTP/1.1\0\r\n", E::MalformedVersion),
        ("a version without end", b"GET / HTTP/1.1111111111", E::MalformedVersion),
        ("HTTP/2.0", b"GET / HTTP/2.0\r\n", E::UnsupportedVersion),
        ("HTTP/0.9 spelled out", b"GET / HTTP/0.9\r\n", E::UnsupportedVersion),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", E::UnsupportedVersion),
        ("a proxy's preface", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", E::MalformedRequestLine),
        ("LF after the method", b"GET\n/ HTTP/1.1\r\n", E::BareLineFeed),
        ("LF after the target", b"GET /\nHTTP/1.1\r\n", E::BareLineFeed),
        ("LF after the version", b"GET / HTTP/1.1\nHost: a\r\n\r\n", E::BareLineFeed),
        ("CR in the method", b"GE\rT / HTTP/1.1\r\n", E::BareCarriageReturn),
        ("CR in the target", b"GET /\rHTTP/1.1\r\n", E::BareCarriageReturn),
        ("CR after the version", b"GET / HTTP/1.1\rHost: a\r\n", E::BareCarriageReturn),
        ("two CR after the version", b"GET / HTTP/1.1\r\r\n", E::BareCarriageReturn),
    ] {
        assert_eq!(verdict(bytes), Err(expected), "{name}");
    }
}

/// RFC 9112 §2.2
#[test]
fn ignores_a_few_empty_lines_before_the_request_line() {
    let request = b"GET / HTTP/1.0\r\n\r\n";
    for count in 0..=4 {
        let bytes = [&b"\r\n".repeat(count)[..], request].concat();
        let head = accept(&bytes);
        assert_eq!(
            (head.len, head.method_text.of(&bytes)),
            (bytes.len(), &b"GET"[..])
        );
        assert_eq!(verdict(&b"\r\n".repeat(count)), Ok(None));
    }
    let flood = [&b"\r\n".repeat(5)[..], request].concat();
    assert_eq!(verdict(&flood), Err(ProtocolError::TooManyEmptyLines));
    assert_eq!(
        verdict(b"\nGET / HTTP/1.0\r\n\r\n"),
        Err(ProtocolError::BareLineFeed)
    );
    assert_eq!(verdict(b"\r\n\n"), Err(ProtocolError::BareLineFeed));
    assert_eq!(
        verdict(b"\rGET / HTTP/1.0\r\n"),
        Err(ProtocolError::BareCarriageReturn)
    );
    assert_eq!(verdict(b"\r\r\n"), Err(ProtocolError::BareCarriageReturn));
}

// RFC 9112 §5: field lines

#[test]
#[rustfmt::skip]
fn refuses_a_malformed_field_line() {
    use ProtocolError as E;
    for (name, field, expected) in [
        ("no colon", &b"Name\r\n"[..], E::MissingColon),
        ("an empty name", b": a\r\n", E::InvalidFieldName),
        ("a space before the colon", b"Content-Length : 3\r\n", E::WhitespaceBeforeColon),
        ("a tab before the colon", b"Transfer-Encoding\t: chunked\r\n", E::WhitespaceBeforeColon),
        ("a space in the name", b"test line\r\n", E::WhitespaceBeforeColon),
        ("brackets in the name", b"a[]: b\r\n", E::InvalidFieldName),
        ("a nul in the name", b"a\0: b\r\n", E::InvalidFieldName),
        ("obs-text in the name", b"Content-Length\xc3\x9f: 3\r\n", E::InvalidFieldName),
        ("folding with a space", b"X: a\r\n b\r\n", E::LineFolding),
        ("folding with a tab", b"X: a\r\n\tb\r\n", E::LineFolding),
        ("folding into nothing", b"X: a\r\n \r\n", E::LineFolding),
        ("a nul in the value", b"X: a\0b\r\n", E::InvalidFieldValue),
        ("VT before the value", b"Transfer-Encoding: \x0bchunked\r\n", E::InvalidFieldValue),
        ("FF in the value", b"X: a\x0cb\r\n", E::InvalidFieldValue),
        ("FS in the value", b"X: a\x1cb\r\n", E::InvalidFieldValue),
        ("DEL in the value", b"X: a\x7fb\r\n", E::InvalidFieldValue),
        ("ESC in the value", b"X: \x1b[31m\r\n", E::InvalidFieldValue),
        ("LF in the value", b"X: a\nY: b\r\n", E::BareLineFeed),
        ("LF after the colon", b"X:\nTransfer-Encoding: chunked\r\n", E::BareLineFeed),
        ("LF in the name", b"X\n: b\r\n", E::BareLineFeed),
        ("LF as the empty line", b"\nX: b\r\n", E::BareLineFeed),
        ("CR in the value", b"X: a\rY: b\r\n", E::BareCarriageReturn),
        ("CR after the colon", b"X:\rY: b\r\n", E::BareCarriageReturn),
        ("CR in the name", b"Content\rLength: 3\r\n", E::BareCarriageReturn),
        ("CR before CRLF", b"X: a\r\r\n", E::BareCarriageReturn),
        ("CR for the empty line", b"\rX: a\r\n", E::BareCarriageReturn),
        ("CRLF CR and more", b"\r\rX", E::BareCarriageReturn),
    ] {
        // First, in the middle, and after a line of just the length of a block.
        for before in ["", "Host: a\r\n", "Host: a\r\nA: 456\r\n"] {
            let head = [
                b"GET / HTTP/1.1\r\n",
                before.as_bytes(),
                field,
                b"Z: z\r\n\r\n",
            ]
            .concat();
            assert_eq!(verdict(&head), Err(expected), "{name} after {before:?}");
        }
    }
}

#[test]
fn accepts_what_a_value_may_hold() {
    for value in [
        "",
        "a",
        "a b\tc",
        "\u{20ac}",
        "\u{ff}",
        "\"a, b\";q=0.5",
        ":",
        "::",
        "a: b",
    ] {
        let bytes = format!("GET / HTTP/1.0\r\nX: \t{value} \r\n\r\n").into_bytes();
        assert_eq!(
            accept(&bytes).fields[0].value.of(&bytes),
            value.as_bytes(),
            "{value:?}"
        );
    }
}

#[test]
fn waits_for_what_is_not_in_yet() {
    for bytes in [
        &b""[..],
        b"\r",
        b"\r\n\r",
        b"G",
        b"GET",
        b"GET ",
        b"GET /",
        b"GET /a?b",
        b"GET / ",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r",
        b"GET / HTTP/5.6",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\n\r",
        b"GET / HTTP/1.1\r\nHost",
        b"GET / HTTP/1.1\r\nHost\r",
        b"GET / HTTP/1.1\r\nHost:",
        b"GET / HTTP/1.1\r\nHost: a\r",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r",
        b"GET / HTTP/1.1\r\n Host: a",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\nContent-Length: y\r\n",
    ] {
        assert_eq!(
            verdict(bytes),
            Ok(None),
            "{:?}",
            bytes.escape_ascii().to_string()
        );
    }
}

// Limits

#[test]
fn a_request_line_is_as_long_as_its_limit_at_most() {
    let limits = HeadLimits {
        max_request_line: 32,
        ..HeadLimits::default()
    };
    let line = |len: usize| format!("GET /{} HTTP/1.1", "a".repeat(len - "GET / HTTP/1.1".len()));
    let longest = format!("\r\n{}\r\nHost: a\r\n\r\n", line(32));
    assert!(every_split(longest.as_bytes(), &limits).unwrap().is_some());
    for bytes in [
        format!("{}\r\nHost: a\r\n\r\n", line(33)),
        line(35),
        "a".repeat(34),
        format!("GET /{}", "a".repeat(40)),
        // What comes after the limit is not looked at.
        format!("GET /{}\0", "a".repeat(40)),
    ] {
        let seen = every_split(bytes.as_bytes(), &limits).map(|_| ());
        assert_eq!(seen, Err(ProtocolError::RequestLineTooLong), "{bytes:?}");
    }
    // Nor does the limit hide what is wrong before it.
    let seen = every_split(format!("GET {}", "b".repeat(30)).as_bytes(), &limits).map(|_| ());
    assert_eq!(seen, Err(ProtocolError::RequestLineTooLong));
    let seen = every_split(b"GET /\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &limits).map(|_| ());
    assert_eq!(seen, Err(ProtocolError::InvalidTargetOctet));
}

#[test]
fn a_header_section_is_as_large_as_its_limit_at_most() {
    let limits = HeadLimits {
        max_head: 64,
        ..HeadLimits::default()
    };
    let head = |len: usize| {
        let fields = "Host: a\r\nX: ";
        format!(
            "GET / HTTP/1.1\r\n{fields}{}\r\n\r\n",
            "x".repeat(len - fields.len() - 4)
        )
    };
    assert!(every_split(head(64).as_bytes(), &limits).unwrap().is_some());
    let cut = |len: usize, cut: usize| {
        let mut bytes = head(len).into_bytes();
        bytes.truncate(bytes.len() - cut);
        bytes
    };
    for bytes in [cut(65, 0), cut(65, 1), cut(100, 2), cut(100, 20)] {
        let seen = every_split(&bytes, &limits).map(|_| ());
        assert_eq!(seen, Err(ProtocolError::HeadTooLarge), "{bytes:?}");
    }
    assert_eq!(
        every_split(&cut(64, 1), &limits).map(|head| head.is_some()),
        Ok(false)
    );
}

#[test]
fn a_header_section_has_as_many_lines_as_its_limit_at_most() {
    let head =
        |count: usize| format!("GET / HTTP/1.0\r\n{}\r\n", "X: y\r\n".repeat(count)).into_bytes();
    let refused = Err(ProtocolError::TooManyFields);
    for (max_fields, most) in [(0, 0), (1, 1), (100, 100), (256, 256), (1000, 256)] {
        let limits = HeadLimits {
            max_fields,
            ..HeadLimits::default()
        };
        let mut parsed = RequestHead::default();
        assert_eq!(parse_head(&head(most), &limits, &mut parsed), Ok(Some(())));
        assert_eq!(parsed.fields.len(), most);
        assert_eq!(parse_head(&head(most + 1), &limits, &mut parsed), refused);
    }
    let limits = HeadLimits {
        max_fields: 2,
        ..HeadLimits::default()
    };
    assert_eq!(every_split(&head(3), &limits).map(|_| None), refused);
    assert!(every_split(&head(2), &limits).unwrap().is_some());
}

#[test]
fn limits_may_be_absurd() {
    for value in [0, 1, usize::MAX] {
        let limits = HeadLimits {
            max_request_line: value,
            max_head: value,
            max_fields: value,
        };
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"",
            b"\r\n",
            b"G",
            b"GET / HTTP/1.1\r\n",
        ] {
            let seen = every_split(bytes, &limits);
            assert!(
                value == usize::MAX || !matches!(seen, Ok(Some(_))),
                "{value} {bytes:?}"
            );
        }
    }
}

#[test]
fn a_reused_head_does_not_grow() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\n\r\n";
    let mut head = accept(bytes);
    let (pointer, capacity) = (head.fields.as_ptr(), head.fields.capacity());
    for _ in 0..10 {
        assert_eq!(
            parse_head(bytes, &HeadLimits::default(), &mut head),
            Ok(Some(()))
        );
        assert_eq!(
            (head.fields.as_ptr(), head.fields.capacity()),
            (pointer, capacity)
        );
    }
}

#[test]
fn a_span_of_other_bytes_is_empty() {
    let span = Span { start: 2, end: 5 };
    assert_eq!(
        (span.of(b"abcdef"), span.len(), span.is_empty()),
        (&b"cde"[..], 3, false)
    );
    assert_eq!(span.of(b"abc"), b"");
    let reversed = Span { start: 5, end: 2 };
    assert_eq!(
        (reversed.of(b"abcdef"), reversed.len(), reversed.is_empty()),
        (&b""[..], 0, true)
    );
}
