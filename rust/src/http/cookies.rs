//! The `Cookie` field of requests (RFC 6265bis §4.2): read as browsers write it, without ever failing.
//!
//! Pairs are separated by `;` and by nothing else, also inside of quotes: a value cannot swallow the cookies behind it.
//! Names are taken as they are. Were they decoded, `%5F_Host-a` could pass for `__Host-a`, whose prefix is a promise of
//! the browser. What has no name is left out for the same reason: `=__Host-a=b` is a cookie that has none.

use std::borrow::Cow;

use super::grammar::{hex_value, trim_ows};

/// Iterates over the cookies of a field value, in order; a name may come several times.
pub fn cookies(value: &[u8]) -> impl Iterator<Item = (&[u8], Cow<'_, [u8]>)> {
    value.split(|&octet| octet == b';').filter_map(|pair| {
        let at = memchr::memchr(b'=', pair)?;
        let (name, value) = pair.split_at_checked(at)?;
        let name = trim_ows(name);
        let value = trim_ows(value.get(1..)?);
        (!name.is_empty()).then(|| (name, decode_value(value)))
    })
}

/// Undoes what `vibora.Cookie`, and `encodeURIComponent` in browsers, do to a value: percent-encoding of UTF-8.
///
/// A value in quotes is taken out of them. One that is not such an encoding is left as it is.
fn decode_value(value: &[u8]) -> Cow<'_, [u8]> {
    let value = match value {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    };
    if memchr::memchr(b'%', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value;
    loop {
        rest = match rest {
            [] => break,
            [b'%', after @ ..] => {
                let [high, low, after @ ..] = after else {
                    return Cow::Borrowed(value);
                };
                let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low)) else {
                    return Cow::Borrowed(value);
                };
                decoded.push(high << 4 | low);
                after
            }
            [octet, after @ ..] => {
                decoded.push(*octet);
                after
            }
        }
    }
    if std::str::from_utf8(&decoded).is_ok() {
        Cow::Owned(decoded)
    } else {
        Cow::Borrowed(value)
    }
}

#[cfg(test)]
mod tests {
    use super::cookies;

    fn read(value: &str) -> Vec<(String, String)> {
        cookies(value.as_bytes())
            .map(|(name, value)| {
                let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
                (text(name), text(&value))
            })
            .collect()
    }

    #[test]
    fn cookies_are_read_as_browsers_write_them() {
        for (value, expected) in [
            ("", &[][..]),
            ("a=1", &[("a", "1")]),
            ("a=1; b=2", &[("a", "1"), ("b", "2")]),
            ("a=1;b=2;;\t c = 3 ;", &[("a", "1"), ("b", "2"), ("c", "3")]),
            ("a=1; a=2", &[("a", "1"), ("a", "2")]),
            ("a=", &[("a", "")]),
            ("a=b=c==", &[("a", "b=c==")]),
            ("a=1,b=2", &[("a", "1,b=2")]),
            ("a b=1", &[("a b", "1")]),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(read(value), expected, "{value:?}");
        }
    }

    #[test]
    fn a_cookie_without_a_name_is_none() {
        for value in ["a", "=a", "=__Host-a=b", " =b", ";;=;"] {
            assert_eq!(read(value), [], "{value:?}");
        }
    }

    #[test]
    fn names_are_not_decoded() {
        assert_eq!(
            read("%5F_Host-a=1"),
            [("%5F_Host-a".to_owned(), "1".to_owned())]
        );
    }

    #[test]
    fn quotes_do_not_hold_cookies_together() {
        assert_eq!(
            read("a=\"b; c=d\"; e=\"f\""),
            [("a", "\"b"), ("c", "d\""), ("e", "f")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn values_are_decoded_where_they_are_encoded() {
        for (value, expected) in [
            ("caf%C3%A9", "café"),
            ("%41%25%3b", "A%;"),
            ("a+b", "a+b"),
            ("café", "café"),
            ("100%", "100%"),
            ("%4", "%4"),
            ("%zz%41", "%zz%41"),
            ("%ff%41", "%ff%41"),
            ("\"%41\"", "A"),
            ("\"", "\""),
            ("\"\"", ""),
        ] {
            assert_eq!(
                read(&format!("a={value}")),
                [("a".to_owned(), expected.to_owned())]
            );
        }
    }

    #[test]
    fn a_long_value_takes_linear_time() {
        for unit in ["\\\"", "%", "%4", ";", "=", "a=\";", "%ff"] {
            let value = unit.repeat(1 << 16);
            assert!(cookies(value.as_bytes()).count() <= 1 << 16);
        }
    }
}
