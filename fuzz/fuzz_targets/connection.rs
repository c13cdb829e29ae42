//! Invariants of `Connection`, for any octets and any server's manners:
//!
//! - it never panics, and cutting the input anywhere changes neither requests, contents, responses nor the end;
//! - there is at most one response to a request, and one more for an error, which is the last;
//! - after a close nothing is parsed: the requests seen before it are all there are;
//! - no more content than the limit reaches the server, and no octet of content twice.
//!
//! `cargo fuzz run connection -- -dict=fuzz/http.dict`

#![no_main]

use libfuzzer_sys::fuzz_target;
use vibora::error::ProtocolError;
use vibora::http::connection::{Connection, Event, Limits, Outgoing, Receiving};
use vibora::http::head::RequestHead;

const DATE: &[u8; 29] = b"Sun, 22 Nov 2026 05:06:07 GMT";

#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    requests: Vec<Vec<u8>>,
    contents: Vec<Vec<u8>>,
    responses: usize,
    error: Option<ProtocolError>,
    closed: bool,
}

/// Serves `pieces` as the bridge does: what is left over is presented again in front of what comes next.
fn serve<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    early: bool,
    max_content: u64,
    max_discard: u64,
) -> Outcome {
    let limits = Limits {
        max_discard,
        ..Limits::default()
    };
    let mut connection = Connection::new();
    let mut head = RequestHead::default();
    let mut kept: Vec<u8> = Vec::new();
    let mut outcome = Outcome::default();
    let mut out = Vec::new();
    let mut respond = |connection: &mut Connection, outcome: &mut Outcome, status: u16| {
        let response = Outgoing {
            status,
            fields: None,
            content_type: None,
        };
        connection
            .send_response(&mut out, &response, b"content", DATE, &limits)
            .expect("a response is due");
        outcome.responses += 1;
    };
    for piece in pieces {
        kept.extend_from_slice(piece);
        let bytes = std::mem::take(&mut kept);
        let mut input = &bytes[..];
        loop {
            let start = input;
            match connection.next_event(&mut input, &mut head, &limits) {
                Ok(Event::NeedMore) => break,
                Ok(Event::Request) => {
                    assert!(!outcome.closed, "a request after the close");
                    let line = [head.method_text.of(start), b" ", head.target.of(start)].concat();
                    outcome.requests.push(line);
                    outcome.contents.push(Vec::new());
                    if connection.limit_content(max_content).is_err() {
                        respond(&mut connection, &mut outcome, 413);
                    } else if early || !connection.expects_content() {
                        respond(&mut connection, &mut outcome, 200);
                    }
                }
                Ok(Event::Content(data)) => {
                    let content = outcome.contents.last_mut().expect("content of a request");
                    content.extend_from_slice(data);
                    assert!(content.len() as u64 <= max_content);
                }
                Ok(Event::End) => respond(&mut connection, &mut outcome, 200),
                Ok(Event::Pipelined) => {
                    assert_eq!(connection.receiving(), Receiving::Head, "nothing may block");
                }
                Err(error) => {
                    assert_eq!(outcome.error, None, "one error is the end");
                    outcome.error = Some(error);
                    respond(&mut connection, &mut outcome, error.status());
                    assert!(connection.is_closed());
                    input = &[];
                }
            }
            assert!(input.len() <= start.len());
        }
        kept = input.to_vec();
        outcome.closed |= connection.is_closed();
    }
    assert!(outcome.responses <= outcome.requests.len() + usize::from(outcome.error.is_some()));
    outcome
}

fuzz_target!(|data: &[u8]| {
    let Some((&[manners, cut], bytes)) = data.split_first_chunk::<2>() else {
        return;
    };
    let early = manners % 2 == 1;
    let max_content = if manners & 2 == 0 {
        u64::MAX
    } else {
        u64::from(manners / 4)
    };
    let max_discard = u64::from(manners / 8);
    let mut whole = serve([bytes], early, max_content, max_discard);
    for outcome in [
        serve(bytes.chunks(1), early, max_content, max_discard),
        serve(
            bytes.chunks(usize::from(cut).max(1)),
            early,
            max_content,
            max_discard,
        ),
    ] {
        // A body that is refused may have been handed over up to its last piece, and pieces depend on the cuts.
        if whole.error == Some(ProtocolError::BodyTooLarge) || whole.error != outcome.error {
            assert_eq!(whole.error, outcome.error);
            assert_eq!(whole.requests, outcome.requests);
            whole.contents.clone_from(&outcome.contents);
        }
        assert_eq!(whole, outcome);
    }
});
