//! Lines of the access log, as text or JSON. What a client has sent is escaped: it cannot end a line or a value.

use std::time::Duration;

/// The most bytes that one value of a client may have in a line, escaped.
const LONGEST: usize = 2_000;
/// The most bytes of an `X-Request-ID` that is taken over.
const LONGEST_ID: usize = 128;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `TIME CLIENT METHOD PATH STATUS BYTES DURATION`, then names with values. For people.
    Text,
    /// One object per line.
    Json,
}

/// What is known of an exchange when it is over. Empty: not known.
#[derive(Clone, Debug, Default)]
pub struct Record<'a> {
    /// The client's address.
    pub client: &'a [u8],
    /// The request's method.
    pub method: &'a [u8],
    /// The path of its target, as it was sent.
    pub path: &'a [u8],
    /// The pattern of the route that answered.
    pub route: &'a [u8],
    /// The status of the response, if there was one.
    pub status: Option<u16>,
    /// Bytes of the response that were handed to the connection.
    pub bytes: u64,
    /// From the request's header section to the response's first byte.
    pub first: Option<Duration>,
    /// From the request's header section until the response was out.
    pub duration: Duration,
    /// What the request is called.
    pub id: &'a [u8],
    /// How it ended.
    pub reason: &'a str,
}

/// Encodes records; remembers the second it has last spelled.
#[derive(Debug)]
pub struct Encoder {
    format: Format,
    second: u64,
    spelled: Vec<u8>,
}

impl Encoder {
    /// An encoder of a format.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            second: u64::MAX,
            spelled: Vec::new(),
        }
    }

    /// Appends the line of a record.
    ///
    /// `unix_ms`: the time, in milliseconds since 1970.
    pub fn encode(&mut self, out: &mut Vec<u8>, record: &Record<'_>, unix_ms: u64) {
        if unix_ms / 1_000 != self.second {
            self.second = unix_ms / 1_000;
            self.spelled = spell(self.second);
        }
        match self.format {
            Format::Text => self.text(out, record, unix_ms % 1_000),
            Format::Json => self.json(out, record, unix_ms % 1_000),
        }
    }

    fn time(&self, out: &mut Vec<u8>, ms: u64) {
        out.extend_from_slice(&self.spelled);
        out.push(b'.');
        digits(out, ms, 3);
        out.push(b'Z');
    }

    fn text(&self, out: &mut Vec<u8>, record: &Record<'_>, ms: u64) {
        self.time(out, ms);
        for value in [record.client, record.method, record.path] {
            out.push(b' ');
            if value.is_empty() {
                out.push(b'-');
            } else {
                escape(out, value, Format::Text);
            }
        }
        out.push(b' ');
        match record.status {
            Some(status) => number(out, status.into()),
            None => out.push(b'-'),
        }
        out.push(b' ');
        number(out, record.bytes);
        out.push(b' ');
        milliseconds(out, record.duration);
        out.extend_from_slice(b"ms");
        if let Some(first) = record.first {
            out.extend_from_slice(b" ttfb=");
            milliseconds(out, first);
            out.extend_from_slice(b"ms");
        }
        for (name, value) in [(&b" route="[..], record.route), (b" id=", record.id)] {
            if !value.is_empty() {
                out.extend_from_slice(name);
                escape(out, value, Format::Text);
            }
        }
        if record.reason != "complete" {
            out.extend_from_slice(b" reason=\"");
            out.extend_from_slice(record.reason.as_bytes());
            out.push(b'"');
        }
        out.push(b'\n');
    }

    fn json(&self, out: &mut Vec<u8>, record: &Record<'_>, ms: u64) {
        out.extend_from_slice(b"{\"time\":\"");
        self.time(out, ms);
        out.push(b'"');
        for (name, value) in [
            (&b",\"client\":"[..], record.client),
            (b",\"method\":", record.method),
            (b",\"path\":", record.path),
            (b",\"route\":", record.route),
        ] {
            out.extend_from_slice(name);
            string(out, value);
        }
        out.extend_from_slice(b",\"status\":");
        match record.status {
            Some(status) => number(out, status.into()),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"bytes\":");
        number(out, record.bytes);
        out.extend_from_slice(b",\"ttfb_ms\":");
        match record.first {
            Some(first) => milliseconds(out, first),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"duration_ms\":");
        milliseconds(out, record.duration);
        out.extend_from_slice(b",\"request_id\":");
        string(out, record.id);
        out.extend_from_slice(b",\"reason\":\"");
        out.extend_from_slice(record.reason.as_bytes());
        out.extend_from_slice(b"\"}\n");
    }
}

/// Whether the value of an `X-Request-ID` is taken over: a token (RFC 9110 §5.6.2) of at most 128 bytes, with what the
/// usual encodings of ids have besides.
#[must_use]
pub fn is_id(value: &[u8]) -> bool {
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/=@".contains(byte);
    !value.is_empty() && value.len() <= LONGEST_ID && value.iter().all(known)
}

fn string(out: &mut Vec<u8>, value: &[u8]) {
    if value.is_empty() {
        out.extend_from_slice(b"null");
        return;
    }
    out.push(b'"');
    escape(out, value, Format::Json);
    out.push(b'"');
}

const fn plain(space: u8) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = space as usize;
    while byte < 0x7f {
        table[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    table
}

static PLAIN_TEXT: [bool; 256] = plain(b'!');
static PLAIN_JSON: [bool; 256] = plain(b' ');

/// Appends a value: printable ASCII as it is, other octets escaped. Cuts what is too long.
fn escape(out: &mut Vec<u8>, value: &[u8], format: Format) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let (table, prefix) = match format {
        Format::Text => (&PLAIN_TEXT, &b"\\x"[..]),
        Format::Json => (&PLAIN_JSON, &b"\\u00"[..]),
    };
    let is_plain = |byte: u8| table.get(usize::from(byte)).copied().unwrap_or_default();
    if value.len() <= LONGEST && value.iter().all(|byte| is_plain(*byte)) {
        out.extend_from_slice(value);
        return;
    }
    let end = out.len() + LONGEST;
    for byte in value {
        if out.len() >= end {
            out.extend_from_slice(b"...");
            return;
        }
        if is_plain(*byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(prefix);
            for nibble in [byte >> 4, byte & 15] {
                out.push(HEX.get(usize::from(nibble)).copied().unwrap_or_default());
            }
        }
    }
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a number with leading zeros.
fn digits(out: &mut Vec<u8>, value: u64, count: u32) {
    for place in (0..count).rev() {
        let digit = value / 10_u64.pow(place) % 10;
        out.push(b'0' + u8::try_from(digit).unwrap_or_default());
    }
}

fn milliseconds(out: &mut Vec<u8>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    number(out, micros / 1_000);
    out.push(b'.');
    digits(out, micros % 1_000, 3);
}

/// A second since 1970 as RFC 3339 has it, without what follows the second.
fn spell(second: u64) -> Vec<u8> {
    let (days, rest) = (second / 86_400, second % 86_400);
    // Howard Hinnant's `civil_from_days`, for days since 1970 only: years begin in March, eras have 400 of them.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let mut out = Vec::with_capacity(19);
    for (value, count, after) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (rest / 3_600, 2, b':'),
        (rest / 60 % 60, 2, b':'),
        (rest % 60, 2, b' '),
    ] {
        digits(&mut out, value, count);
        out.push(after);
    }
    out.pop();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: Format, record: &Record<'_>) -> String {
        let mut out = Vec::new();
        Encoder::new(format).encode(&mut out, record, 1_795_346_057_042);
        String::from_utf8(out).unwrap_or_default()
    }

    fn record() -> Record<'static> {
        Record {
            client: b"127.0.0.1",
            method: b"GET",
            path: b"/users/7",
            route: b"/users/<id>",
            status: Some(200),
            bytes: 131,
            first: Some(Duration::from_micros(312)),
            duration: Duration::from_micros(12_034),
            id: b"5f3a9c1e0000002a",
            reason: "complete",
        }
    }

    #[test]
    fn writes_text() {
        assert_eq!(
            line(Format::Text, &record()),
            "2026-11-22T11:14:17.042Z 127.0.0.1 GET /users/7 200 131 12.034ms ttfb=0.312ms route=/users/<id> \
             id=5f3a9c1e0000002a\n"
        );
        assert_eq!(
            line(
                Format::Text,
                &Record {
                    reason: "timed out",
                    ..Record::default()
                }
            ),
            "2026-11-22T11:14:17.042Z - - - - 0 0.000ms reason=\"timed out\"\n"
        );
    }

    #[test]
    fn writes_json() {
        assert_eq!(
            line(Format::Json, &record()),
            "{\"time\":\"2026-11-22T11:14:17.042Z\",\"client\":\"127.0.0.1\",\"method\":\"GET\",\
             \"path\":\"/users/7\",\"route\":\"/users/<id>\",\"status\":200,\"bytes\":131,\"ttfb_ms\":0.312,\
             \"duration_ms\":12.034,\"request_id\":\"5f3a9c1e0000002a\",\"reason\":\"complete\"}\n"
        );
        assert_eq!(
            line(
                Format::Json,
                &Record {
                    reason: "disconnected",
                    ..Record::default()
                }
            ),
            "{\"time\":\"2026-11-22T11:14:17.042Z\",\"client\":null,\"method\":null,\"path\":null,\"route\":null,\
             \"status\":null,\"bytes\":0,\"ttfb_ms\":null,\"duration_ms\":0.000,\"request_id\":null,\
             \"reason\":\"disconnected\"}\n"
        );
    }

    #[test]
    fn no_octet_of_a_client_ends_a_line_or_a_value() {
        for byte in 0..=255_u8 {
            let path = [b'/', byte, b'x'];
            let record = Record {
                path: &path,
                ..record()
            };
            let text = line(Format::Text, &record);
            assert_eq!(text.matches('\n').count(), 1, "{byte}");
            assert_eq!(text.split(' ').count(), 10, "{byte}");
            assert!(text.is_ascii());
            let json = line(Format::Json, &record);
            assert_eq!(json.matches('\n').count(), 1, "{byte}");
            assert_eq!(json.matches('"').count(), 36, "{byte}");
            assert!(
                json.bytes()
                    .all(|byte| byte == b'\n' || (b' '..0x7f).contains(&byte))
            );
        }
        let record = Record {
            path: b"/\"\\\n\xe9",
            ..record()
        };
        assert!(line(Format::Text, &record).contains(" /\\x22\\x5c\\x0a\\xe9 "));
        assert!(line(Format::Json, &record).contains("\"/\\u0022\\u005c\\u000a\\u00e9\""));
    }

    #[test]
    fn a_line_has_a_longest_length() {
        let path = vec![1; 100_000];
        for format in [Format::Text, Format::Json] {
            let line = line(
                format,
                &Record {
                    path: &path,
                    ..record()
                },
            );
            assert!(line.len() < 2_400, "{}", line.len());
            assert!(line.contains("..."));
        }
    }

    #[test]
    fn spells_the_time() {
        for (second, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(String::from_utf8_lossy(&spell(second)), expected);
        }
    }

    #[test]
    fn takes_over_ids_that_are_harmless() {
        for (value, expected) in [
            (&b"4bf92f3577b34da6-a3ce"[..], true),
            (b"", false),
            (b"a b", false),
            (b"a\nb", false),
            (b"a\"b", false),
            (b"caf\xe9", false),
            (&[b'a'; 128], true),
            (&[b'a'; 129], false),
        ] {
            assert_eq!(is_id(value), expected, "{value:?}");
        }
    }
}
