use super::*;

const DATE: &[u8; 29] = b"Sun, 22 Nov 2026 05:06:07 GMT";

/// What a peer sees of a server that answers every request at once with its content, and what the server saw.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    requests: Vec<String>,
    contents: Vec<Vec<u8>>,
    ended: usize,
    error: Option<ProtocolError>,
    out: Vec<u8>,
    closed: bool,
}

/// A server over [`Connection`] as the bridge is one: it keeps what is left over and presents it again.
struct Server {
    connection: Connection,
    limits: Limits,
    kept: Vec<u8>,
    outcome: Outcome,
    max_content: u64,
    /// Answer when the head is complete, without waiting for the content.
    early: bool,
}

impl Server {
    fn new() -> Self {
        Self {
            connection: Connection::new(),
            limits: Limits {
                max_discard: 16,
                ..Limits::default()
            },
            kept: Vec::new(),
            outcome: Outcome::default(),
            max_content: u64::MAX,
            early: false,
        }
    }

    fn respond(&mut self, status: u16, content: &[u8]) {
        let response = Outgoing {
            status,
            fields: None,
            content_type: None,
        };
        let out = &mut self.outcome.out;
        self.connection
            .send_response(out, &response, content, DATE, &self.limits)
            .unwrap();
    }

    fn receive(&mut self, data: &[u8]) {
        self.kept.extend_from_slice(data);
        let bytes = std::mem::take(&mut self.kept);
        let mut input = &bytes[..];
        let mut head = RequestHead::default();
        loop {
            let start = input;
            match self
                .connection
                .next_event(&mut input, &mut head, &self.limits)
            {
                Ok(Event::NeedMore) => break,
                Ok(Event::Request) => {
                    let line = [head.method_text.of(start), b" ", head.path.of(start)].concat();
                    self.outcome.requests.push(String::from_utf8(line).unwrap());
                    self.outcome.contents.push(Vec::new());
                    let limited = self.connection.limit_content(self.max_content);
                    if limited.is_err() {
                        self.respond(413, b"");
                    } else if self.early || !self.connection.expects_content() {
                        self.respond(200, b"ok");
                    } else {
                        self.connection.send_continue(&mut self.outcome.out);
                    }
                }
                Ok(Event::Content(data)) => self
                    .outcome
                    .contents
                    .last_mut()
                    .unwrap()
                    .extend_from_slice(data),
                Ok(Event::End) => {
                    self.outcome.ended += 1;
                    self.respond(200, b"ok");
                }
                Ok(Event::Pipelined) => {
                    assert_eq!(self.connection.receiving(), Receiving::Head);
                }
                Err(error) => {
                    self.outcome.error = Some(error);
                    self.respond(error.status(), b"");
                    input = &[];
                }
            }
        }
        self.kept = input.to_vec();
        self.outcome.closed = self.connection.is_closed();
    }

    fn run(mut self, pieces: &[&[u8]]) -> Outcome {
        for piece in pieces {
            self.receive(piece);
        }
        self.outcome
    }
}

/// Runs `bytes` whole, byte by byte and cut at every position: the outcome must be the same.
fn every_split(bytes: &[u8], server: impl Fn() -> Server) -> Outcome {
    let whole = server().run(&[bytes]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(
        server().run(&single),
        whole,
        "byte by byte: {}",
        bytes.escape_ascii()
    );
    for cut in 1..bytes.len() {
        let (front, back) = bytes.split_at(cut);
        assert_eq!(
            server().run(&[front, back]),
            whole,
            "cut at {cut}: {}",
            bytes.escape_ascii()
        );
    }
    whole
}

fn statuses(out: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(out).into_owned();
    text.split("HTTP/1.1 ")
        .skip(1)
        .map(|response| response[..3].parse().unwrap())
        .collect()
}

#[test]
fn pipelined_requests_are_answered_in_order_rfc_9112_9_3_2() {
    let bytes = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc\
        POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1;x=y\r\nf\r\n0\r\nt: v\r\n\r\n\
        GET /d HTTP/1.1\r\nHost: x\r\n\r\n";
    let outcome = every_split(bytes, Server::new);
    assert_eq!(outcome.requests, ["GET /a", "POST /b", "POST /c", "GET /d"]);
    assert_eq!(outcome.contents, [&b""[..], b"abc", b"def", b""]);
    assert_eq!(outcome.ended, 2);
    assert_eq!(statuses(&outcome.out), [200; 4]);
    assert!(!outcome.closed);
}

#[test]
fn nothing_is_parsed_after_close_rfc_9112_9_6() {
    let bytes = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n";
    let outcome = every_split(bytes, Server::new);
    assert_eq!(outcome.requests, ["GET /a"]);
    assert!(outcome.closed);
    assert!(
        outcome
            .out
            .windows(19)
            .any(|window| window == b"connection: close\r\n")
    );
}

#[test]
fn nothing_is_parsed_after_an_error() {
    let bytes = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost : x\r\n\r\nGET /c HTTP/1.1\r\nHost: x\r\n\r\n";
    let outcome = every_split(bytes, Server::new);
    assert_eq!(outcome.requests, ["GET /a"]);
    assert_eq!(statuses(&outcome.out), [200, 400]);
    assert!(outcome.closed);
}

#[test]
fn an_error_in_the_content_is_answered_and_closes() {
    let bytes = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
    let outcome = every_split(bytes, Server::new);
    assert_eq!(statuses(&outcome.out), [400]);
    assert!(outcome.closed);
}

#[test]
fn http_1_0_closes_unless_it_asks_to_persist_rfc_9112_9_3() {
    let closed = every_split(b"GET / HTTP/1.0\r\n\r\n", Server::new);
    assert!(closed.closed);
    let kept = every_split(
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        Server::new,
    );
    assert!(!kept.closed);
    assert!(
        kept.out
            .windows(24)
            .any(|window| window == b"connection: keep-alive\r\n")
    );
}

#[test]
fn continue_is_sent_once_and_only_to_who_waits_for_it_rfc_9110_10_1_1() {
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let mut server = Server::new();
    server.receive(head);
    assert_eq!(server.outcome.out, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert!(!server.connection.send_continue(&mut server.outcome.out));
    server.receive(b"ab");
    assert_eq!(statuses(&server.outcome.out), [100, 200]);
    assert!(!server.outcome.closed);
}

#[test]
fn a_final_response_instead_of_continue_closes_rfc_9110_10_1_1() {
    let mut server = Server {
        early: true,
        ..Server::new()
    };
    server.receive(
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(statuses(&server.outcome.out), [200]);
    assert!(server.outcome.closed);
    assert!(server.connection.must_linger());
}

#[test]
fn unread_content_within_the_bound_is_discarded_rfc_9112_9_3() {
    let bytes = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n\r\n0123456789abcdefGET /b HTTP/1.1\r\nHost: x\r\n\r\n";
    let outcome = every_split(bytes, || Server {
        early: true,
        ..Server::new()
    });
    assert_eq!(outcome.requests, ["POST /a", "GET /b"]);
    assert_eq!(outcome.contents, [b"", b""]);
    assert_eq!(statuses(&outcome.out), [200, 200]);
    assert!(!outcome.closed);
}

#[test]
fn broken_content_that_nobody_reads_closes_without_a_second_response() {
    let bytes = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
        2\r\n01x\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n";
    let outcome = every_split(bytes, || Server {
        early: true,
        ..Server::new()
    });
    assert_eq!(outcome.requests, ["POST /a"]);
    assert_eq!(statuses(&outcome.out), [200]);
    assert!(outcome.closed);
}

#[test]
fn unread_content_beyond_the_bound_closes() {
    let known = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n0123456789abcdefgGET /b HTTP/1.1\r\nHost: x\r\n\r\n";
    let outcome = every_split(known, || Server {
        early: true,
        ..Server::new()
    });
    assert_eq!(outcome.requests, ["POST /a"]);
    assert!(outcome.closed);
    let chunked = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
        8\r\n01234567\r\n9\r\n012345678\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n";
    let outcome = every_split(chunked, || Server {
        early: true,
        ..Server::new()
    });
    assert_eq!(outcome.requests, ["POST /a"]);
    assert!(outcome.closed);
}

#[test]
fn content_that_announces_too_much_is_refused_before_it_comes() {
    let mut server = Server {
        max_content: 4,
        ..Server::new()
    };
    server.receive(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(statuses(&server.outcome.out), [413]);
    assert!(server.outcome.closed);
    assert!(server.connection.must_linger());
}

#[test]
fn chunked_content_is_refused_when_it_grows_too_large() {
    let fits =
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n";
    let outcome = every_split(fits, || Server {
        max_content: 4,
        ..Server::new()
    });
    assert_eq!(statuses(&outcome.out), [200]);
    let grows = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n1\r\ne\r\n0\r\n\r\n";
    for pieces in [vec![&grows[..]], grows.chunks(1).collect()] {
        let outcome = Server {
            max_content: 4,
            ..Server::new()
        }
        .run(&pieces);
        assert_eq!(outcome.error, Some(ProtocolError::BodyTooLarge));
        assert_eq!(statuses(&outcome.out), [413]);
        assert!(outcome.closed);
    }
}

#[test]
fn an_end_of_input_cuts_only_what_is_incomplete_rfc_9112_8() {
    for (name, bytes, expected) in [
        ("before anything", &b""[..], Ok(())),
        (
            "in a head",
            b"GET / HT",
            Err(ProtocolError::IncompleteMessage),
        ),
        (
            "in content",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na",
            Err(ProtocolError::IncompleteMessage),
        ),
        (
            "between requests",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            Ok(()),
        ),
    ] {
        let mut server = Server::new();
        server.receive(bytes);
        let partial = !server.kept.is_empty();
        assert_eq!(server.connection.receive_eof(partial), expected, "{name}");
    }
}

/// Sends `response` in pieces to `request`; returns the bytes, or the error.
fn send(
    request: &[u8],
    response: Outgoing<'_>,
    length: Option<u64>,
    pieces: &[&[u8]],
) -> Result<(String, bool), SendError> {
    let limits = Limits::default();
    let mut connection = Connection::new();
    let mut input = request;
    let mut head = RequestHead::default();
    assert_eq!(
        connection.next_event(&mut input, &mut head, &limits),
        Ok(Event::Request)
    );
    let mut out = Vec::new();
    connection.send_head(&mut out, &response, length, DATE, &limits)?;
    for piece in pieces {
        connection.send_content(&mut out, piece)?;
    }
    connection.finish(&mut out, None)?;
    Ok((String::from_utf8(out).unwrap(), connection.is_closed()))
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n";
const OLD: &[u8] = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";

fn status(status: u16) -> Outgoing<'static> {
    Outgoing {
        status,
        fields: None,
        content_type: None,
    }
}

#[test]
fn content_of_unknown_length_is_chunked_and_empty_pieces_are_no_chunks_rfc_9112_7_1() {
    let (out, closed) = send(GET, status(200), None, &[b"ab", b"", b"c"]).unwrap();
    assert!(out.contains("transfer-encoding: chunked\r\n"), "{out}");
    assert!(
        out.ends_with("\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        "{out}"
    );
    assert!(!closed);
}

#[test]
fn content_of_unknown_length_ends_with_the_connection_on_http_1_0_rfc_9112_6_3() {
    let (out, closed) = send(OLD, status(200), None, &[b"ab", b"c"]).unwrap();
    assert!(!out.contains("transfer-encoding"), "{out}");
    assert!(out.contains("connection: close\r\n"), "{out}");
    assert!(out.ends_with("\r\n\r\nabc"), "{out}");
    assert!(closed);
}

#[test]
fn responses_without_content_send_none_rfc_9110_6_4_1() {
    for (name, request, code, length, framing) in [
        (
            "HEAD, known",
            HEAD,
            200,
            Some(3),
            Some("content-length: 3\r\n"),
        ),
        ("HEAD, unknown", HEAD, 200, None, None),
        ("204", GET, 204, None, None),
        ("204, known", GET, 204, Some(3), None),
        ("205", GET, 205, Some(3), Some("content-length: 0\r\n")),
        ("304", GET, 304, None, None),
        ("304, known", GET, 304, Some(3), None),
    ] {
        let (out, closed) = send(request, status(code), length, &[b"abc"]).unwrap();
        assert!(out.ends_with("\r\n\r\n"), "{name}: {out}");
        assert!(!out.contains("transfer-encoding"), "{name}: {out}");
        assert_eq!(
            out.find("content-length").is_some(),
            framing.is_some(),
            "{name}: {out}"
        );
        assert!(
            framing.is_none_or(|field| out.contains(field)),
            "{name}: {out}"
        );
        assert!(!closed, "{name}");
    }
}

#[test]
fn a_length_that_does_not_match_is_an_error_rfc_9110_8_6() {
    assert_eq!(
        send(GET, status(200), Some(3), &[b"ab"]),
        Err(SendError::LengthMismatch { missing: 1 })
    );
    assert_eq!(
        send(GET, status(200), Some(3), &[b"abcd"]),
        Err(SendError::LengthMismatch { missing: 0 })
    );
    let mut fields = FieldMap::new();
    fields.append(b"content-length", b"5").unwrap();
    let declared = Outgoing {
        status: 200,
        fields: Some(&fields),
        content_type: None,
    };
    assert_eq!(
        send(GET, declared, Some(3), &[b"abc"]),
        Err(SendError::LengthMismatch { missing: 2 })
    );
    let (out, _) = send(GET, declared, None, &[b"abcde"]).unwrap();
    assert!(
        out.contains("content-length: 5\r\n") && !out.contains("chunked"),
        "{out}"
    );
    let (out, _) = send(HEAD, declared, Some(0), &[]).unwrap();
    assert!(out.contains("content-length: 5\r\n"), "{out}");
}

#[test]
fn the_application_may_close_the_connection() {
    let mut fields = FieldMap::new();
    fields.append(b"Connection", b"x, Close").unwrap();
    let response = Outgoing {
        status: 200,
        fields: Some(&fields),
        content_type: None,
    };
    let (out, closed) = send(GET, response, Some(0), &[]).unwrap();
    assert_eq!(out.matches("connection: close\r\n").count(), 1, "{out}");
    assert!(closed);
}

#[test]
fn nothing_can_be_sent_without_a_request_or_twice() {
    let limits = Limits::default();
    let mut out = Vec::new();
    let mut connection = Connection::new();
    let send = |connection: &mut Connection, out: &mut Vec<u8>| {
        connection.send_response(out, &status(200), b"", DATE, &limits)
    };
    assert_eq!(send(&mut connection, &mut out), Err(SendError::NotNow));
    assert_eq!(
        connection.send_content(&mut out, b"x"),
        Err(SendError::NotNow)
    );
    assert_eq!(connection.finish(&mut out, None), Err(SendError::NotNow));
    assert!(out.is_empty());
    let mut input = GET;
    let mut head = RequestHead::default();
    connection
        .next_event(&mut input, &mut head, &limits)
        .unwrap();
    assert_eq!(send(&mut connection, &mut out), Ok(()));
    let length = out.len();
    assert_eq!(send(&mut connection, &mut out), Err(SendError::NotNow));
    assert_eq!(out.len(), length);
}

#[test]
fn a_close_that_was_asked_for_between_requests_ends_with_the_next() {
    let mut server = Server::new();
    server.connection.close_after_response();
    server.receive(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(statuses(&server.outcome.out), [200]);
    assert!(server.outcome.closed);
}

#[test]
fn a_refused_peer_gets_one_answer() {
    let mut server = Server::new();
    server.receive(b"GET / HT");
    server.connection.refuse();
    server.respond(408, b"");
    server.receive(b"TP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(statuses(&server.outcome.out), [408]);
    assert!(server.outcome.requests.is_empty());
}
