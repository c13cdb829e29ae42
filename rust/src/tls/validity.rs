//! Until when a certificate is valid (RFC 5280 §4.1.2.5): the one thing about our own certificates that rustls does not
//! tell, read from the DER.

/// One element: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let octets = usize::from(first & 0x7f);
        if octets == 0 || octets > 4 {
            return None;
        }
        let (digits, rest) = rest.split_at_checked(octets)?;
        let length = digits
            .iter()
            .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// The last second in which the certificate is valid, since 1970.
pub(super) fn not_after(certificate: &[u8]) -> Option<u64> {
    let (_, certificate, _) = element(certificate)?;
    let (_, to_be_signed, _) = element(certificate)?;
    let (tag, _, mut rest) = element(to_be_signed)?;
    if tag == 0xa0 {
        // The version, which may be left out, was before the serial number.
        rest = element(rest)?.2;
    }
    let (_, _, rest) = element(rest)?; // the signature's algorithm
    let (_, _, rest) = element(rest)?; // the issuer
    let (_, validity, _) = element(rest)?;
    let (_, _, not_after) = element(validity)?;
    match element(not_after)? {
        (0x17, time, _) => time_of(time, 2),
        (0x18, time, _) => time_of(time, 4),
        _ => None,
    }
}

/// RFC 5280 §4.1.2.5: `YYMMDDHHMMSSZ`, or with four digits of the year.
fn time_of(text: &[u8], year_digits: usize) -> Option<u64> {
    let (digits, zone) = text.split_at_checked(year_digits + 10)?;
    if zone != b"Z" || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| {
        digits
            .iter()
            .fold(0, |sum, d| sum * 10 + u64::from(d - b'0'))
    };
    let (year, rest) = digits.split_at(year_digits);
    let year = match (number(year), year_digits) {
        (year, 4) => year,
        (year @ 0..50, _) => 2000 + year,
        (year, _) => 1900 + year,
    };
    let mut parts = rest.chunks(2).map(number);
    let mut next = || parts.next();
    let (month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some((days(year, month) + day - 1) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Days from 1970 to the first of a month.
fn days(year: u64, month: u64) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let is_leap = leaps(year) > leaps(year - 1);
    let before = usize::try_from(month - 1)
        .ok()
        .and_then(|month| BEFORE.get(month));
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969)
        + before.copied().unwrap_or(0)
        + u64::from(is_leap && month > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_from_1970() {
        for (text, seconds) in [
            ("700101000000Z", 0),
            ("991231235959Z", 946_684_799),
            ("000229120000Z", 951_825_600),
            ("260722010203Z", 1_784_682_123),
            ("491231235959Z", 2_524_607_999),
        ] {
            assert_eq!(time_of(text.as_bytes(), 2), Some(seconds), "{text}");
        }
        assert_eq!(time_of(b"20500101000000Z", 4), Some(2_524_608_000));
        assert_eq!(time_of(b"99991231235959Z", 4), Some(253_402_300_799));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "70010100000Z",
            "7001010000000",
            "70o101000000Z",
            "701301000000Z",
            "700132000000Z",
        ] {
            assert_eq!(time_of(text.as_bytes(), 2), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        for der in [
            &b""[..],
            b"\x30",
            b"\x30\x80",
            b"\x30\x85\xff\xff\xff\xff\xff",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x02\x30\x00",
        ] {
            assert_eq!(not_after(der), None, "{der:?}");
        }
    }
}
