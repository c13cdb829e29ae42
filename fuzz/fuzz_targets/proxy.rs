//! Invariants of headers of the PROXY protocol, for any octets, as they are, behind the signature of version 2, and
//! behind the beginning of version 1:
//!
//! - nothing panics;
//! - what every beginning says is what the whole says, or that more has to come; what follows a header changes nothing;
//! - more is never awaited of as many octets as a header may have;
//! - a client of version 1 reads as it is printed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vibora::http::proxy::{MAX_V1, MAX_V2, parse_proxy};

fuzz_target!(|data: &[u8]| {
    for start in [&b""[..], b"\r\n\r\n\0\r\nQUIT\n", b"PROXY ", b"PROXY TCP4 "] {
        let input = [start, data].concat();
        let whole = parse_proxy(&input);
        let most = if input.starts_with(b"P") {
            MAX_V1
        } else {
            MAX_V2
        };
        match whole {
            Ok(None) => assert!(input.len() < most),
            Ok(Some(header)) => {
                assert!(header.len <= most && header.len <= input.len());
                if let (Some(client), b'P') = (header.client, input[0]) {
                    let line = String::from_utf8_lossy(&input[..header.len]);
                    assert!(line.split(' ').nth(2).unwrap().parse() == Ok(client.ip()));
                }
                assert_eq!(parse_proxy(&input[..header.len]), whole);
            }
            Err(_) => {}
        }
        for cut in 0..input.len().min(MAX_V2 + 1) {
            let part = parse_proxy(&input[..cut]);
            assert!(
                part == Ok(None) || part == whole,
                "{cut}: {part:?}, {whole:?}"
            );
        }
    }
});
