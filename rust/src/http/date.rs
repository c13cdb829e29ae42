//! The `date` field's value, IMF-fixdate (RFC 9110 §5.6.7), formatted once per second.

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

/// The last second of the year 9999: the format has four digits for the year.
const LAST_SECOND: u64 = 253_402_300_799;

/// The formatted current time, kept until the second changes. Time is an argument.
///
/// ```
/// let mut date = vibora::http::date::DateCache::new();
/// assert_eq!(date.at(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
/// ```
#[derive(Clone, Debug)]
pub struct DateCache {
    second: u64,
    text: [u8; 29],
}

impl DateCache {
    /// Returns a cache that holds the epoch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            second: 0,
            text: *b"Thu, 01 Jan 1970 00:00:00 GMT",
        }
    }

    /// The date at `unix_seconds`, at most the end of the year 9999.
    #[inline]
    pub fn at(&mut self, unix_seconds: u64) -> &[u8; 29] {
        if unix_seconds != self.second {
            self.format(unix_seconds);
        }
        &self.text
    }

    #[cold]
    fn format(&mut self, unix_seconds: u64) {
        let time = UNIX_EPOCH + Duration::from_secs(unix_seconds.min(LAST_SECOND));
        // Always exactly 29 bytes, so the write cannot run short.
        let written = write!(&mut self.text[..], "{}", httpdate::HttpDate::from(time));
        debug_assert!(written.is_ok());
        self.second = unix_seconds;
    }
}

impl Default for DateCache {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_the_imf_fixdate() {
        let mut cache = DateCache::new();
        for (second, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (LAST_SECOND + 1, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(cache.at(second), expected.as_bytes());
            assert_eq!(cache.at(second), expected.as_bytes());
        }
    }

    #[test]
    fn every_date_reads_back_as_the_same_second() {
        let mut cache = DateCache::new();
        for second in (0..=LAST_SECOND).step_by(86_400 * 97 + 12_345) {
            let text = std::str::from_utf8(cache.at(second)).unwrap();
            let parsed = httpdate::parse_http_date(text).unwrap();
            assert_eq!(parsed.duration_since(UNIX_EPOCH).unwrap().as_secs(), second);
        }
    }
}
