//! Parameters of a field value (RFC 9110 §5.6.6), and the two fields whose parameters describe a form: `Content-Type`
//! (§8.3) and `Content-Disposition` (RFC 6266, RFC 7578 §4.2).
//!
//! Nothing here backtracks: a value is read once, from left to right.

use std::borrow::Cow;

use super::grammar::{self, is_token, trim_ows};

/// A field value that is not what its grammar says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The value of a parameter, as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Without quotes: neither whitespace, nor a quote, nor a semicolon is in it.
    Plain(&'a [u8]),
    /// What stands between the quotes, with its backslashes.
    Quoted(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The value, with each quoted pair resolved (RFC 9110 §5.6.4).
    #[must_use]
    pub fn unquoted(self) -> Cow<'a, [u8]> {
        let raw = match self {
            Self::Quoted(raw) if memchr::memchr(b'\\', raw).is_some() => raw,
            Self::Plain(raw) | Self::Quoted(raw) => return Cow::Borrowed(raw),
        };
        let mut octets = Vec::with_capacity(raw.len());
        let mut rest = raw.iter();
        while let Some(&octet) = rest.next() {
            octets.push(match octet {
                b'\\' => *rest.next().unwrap_or(&octet),
                _ => octet,
            });
        }
        Cow::Owned(octets)
    }

    /// The value as browsers and their imitators quote the names in a form.
    ///
    /// The Fetch and HTML standards escape three octets, as `%22`, `%0D` and `%0A`, and nothing else: a backslash is a
    /// backslash. Older clients put one before a quote or a backslash. Before anything else it stands for itself, as
    /// in a path of Windows.
    #[must_use]
    pub fn unescaped(self) -> Cow<'a, [u8]> {
        let (raw, quoted) = match self {
            Self::Plain(raw) => (raw, false),
            Self::Quoted(raw) => (raw, true),
        };
        if memchr::memchr2(b'%', b'\\', raw).is_none() {
            return Cow::Borrowed(raw);
        }
        let mut octets = Vec::with_capacity(raw.len());
        let mut rest = raw;
        loop {
            rest = match rest {
                [] => return Cow::Owned(octets),
                [b'%', b'2', b'2', after @ ..] => {
                    octets.push(b'"');
                    after
                }
                [b'%', b'0', b'D', after @ ..] => {
                    octets.push(b'\r');
                    after
                }
                [b'%', b'0', b'A', after @ ..] => {
                    octets.push(b'\n');
                    after
                }
                [b'\\', octet @ (b'"' | b'\\'), after @ ..] if quoted => {
                    octets.push(*octet);
                    after
                }
                [octet, after @ ..] => {
                    octets.push(*octet);
                    after
                }
            }
        }
    }
}

/// The parameters after the first `;` of a field value; see [`split`].
#[derive(Clone, Debug)]
pub struct Parameters<'a> {
    rest: &'a [u8],
}

/// Splits a field value into what stands before its first `;`, and its parameters.
///
/// RFC 9110 §5.6.6: `parameters = *( OWS ";" OWS [ parameter ] )`. Values without quotes may have octets that are no
/// part of a token, as some clients write boundaries.
#[must_use]
pub fn split(value: &[u8]) -> (&[u8], Parameters<'_>) {
    let at = memchr::memchr(b';', value).unwrap_or(value.len());
    let (first, rest) = value.split_at_checked(at).unwrap_or((value, b""));
    (trim_ows(first), Parameters { rest })
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Result<(&'a [u8], Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.rest = trim_ows(self.rest);
            match self.rest {
                [] => return None,
                // RFC 9110 §5.6.6 admits empty parameters.
                [b';', after @ ..] => self.rest = after,
                _ => {
                    let parsed = self.parameter();
                    if parsed.is_err() {
                        self.rest = b"";
                    }
                    return Some(parsed);
                }
            }
        }
    }
}

impl<'a> Parameters<'a> {
    fn parameter(&mut self) -> Result<(&'a [u8], Value<'a>), Malformed> {
        let (name, rest) = self
            .rest
            .split_at_checked(grammar::token_len(self.rest))
            .ok_or(Malformed)?;
        let [b'=', rest @ ..] = rest else {
            return Err(Malformed);
        };
        if name.is_empty() {
            return Err(Malformed);
        }
        let (value, rest) = if let [b'"', quoted @ ..] = rest {
            let len = quoted_len(quoted).ok_or(Malformed)?;
            let value = quoted.get(..len).ok_or(Malformed)?;
            let after = quoted.get(len + 1..).ok_or(Malformed)?;
            (Value::Quoted(value), after)
        } else {
            let end = memchr::memchr3(b';', b' ', b'\t', rest).unwrap_or(rest.len());
            let (value, after) = rest.split_at_checked(end).ok_or(Malformed)?;
            if value.is_empty() || memchr::memchr(b'"', value).is_some() {
                return Err(Malformed);
            }
            (Value::Plain(value), after)
        };
        self.rest = match trim_ows(rest) {
            [] => b"",
            [b';', after @ ..] => after,
            _ => return Err(Malformed),
        };
        Ok((name, value))
    }
}

/// Where the quote is that ends a quoted string; none if it never ends.
fn quoted_len(quoted: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = quoted.get(at..)?;
        let found = memchr::memchr2(b'"', b'\\', rest)?;
        if rest.get(found) == Some(&b'"') {
            return Some(at + found);
        }
        at += found + 2;
    }
}

/// The value of the one parameter of that name; none if there is none.
///
/// # Errors
///
/// The parameters are malformed, or the name comes twice: two readers could take different ones.
pub fn only<'a>(
    parameters: Parameters<'a>,
    name: &[u8],
) -> Result<Option<Cow<'a, [u8]>>, Malformed> {
    let mut found = None;
    for parameter in parameters {
        let (other, value) = parameter?;
        if other.eq_ignore_ascii_case(name) && found.replace(value.unquoted()).is_some() {
            return Err(Malformed);
        }
    }
    Ok(found)
}

/// A name in a form, or of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// As it was sent: in the charset of the form.
    Octets(Vec<u8>),
    /// From a parameter that says its own charset (`filename*`, RFC 8187).
    Decoded(String),
}

/// What the `Content-Disposition` of a part says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disposition {
    /// The name of the field.
    pub name: Option<Text>,
    /// The name of the file; a part that has one is a file. It may be empty: no file was chosen.
    pub filename: Option<Text>,
}

/// Parses a `Content-Disposition` of the type `form-data` (RFC 7578 §4.2).
///
/// `name*` and `filename*` (RFC 8187) are read, though RFC 7578 §4.2 forbids senders to use them; they win over the
/// plain ones (RFC 6266 §4.3). Other parameters are ignored.
///
/// # Errors
///
/// The type is another, the parameters are malformed, or one of ours comes twice.
pub fn parse_disposition(value: &[u8]) -> Result<Disposition, Malformed> {
    let (kind, parameters) = split(value);
    if !kind.eq_ignore_ascii_case(b"form-data") {
        return Err(Malformed);
    }
    // name, name*, filename, filename*
    let mut found: [Option<Text>; 4] = [const { None }; 4];
    for parameter in parameters {
        let (name, value) = parameter?;
        let names: [&[u8]; 4] = [b"name", b"name*", b"filename", b"filename*"];
        let Some(at) = names
            .iter()
            .position(|ours| name.eq_ignore_ascii_case(ours))
        else {
            continue;
        };
        let text = if at % 2 == 0 {
            Text::Octets(value.unescaped().into_owned())
        } else {
            Text::Decoded(extended(&value.unquoted())?)
        };
        if found
            .get_mut(at)
            .and_then(|slot| slot.replace(text))
            .is_some()
        {
            return Err(Malformed);
        }
    }
    let [name, extended_name, filename, extended_filename] = found;
    Ok(Disposition {
        name: extended_name.or(name),
        filename: extended_filename.or(filename),
    })
}

/// Decodes `charset "'" [ language ] "'" *( pct-encoded / attr-char )` (RFC 8187 §3.2.1).
fn extended(value: &[u8]) -> Result<String, Malformed> {
    let mut parts = value.splitn(3, |&octet| octet == b'\'');
    let (Some(charset), Some(_language), Some(text)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(Malformed);
    };
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => break,
            [b'%', high, low, after @ ..] => {
                let digits = grammar::hex_value(*high).zip(grammar::hex_value(*low));
                let (high, low) = digits.ok_or(Malformed)?;
                octets.push(high << 4 | low);
                after
            }
            [b'%' | b'\'' | b'*', ..] => return Err(Malformed),
            [octet, after @ ..] if grammar::is_tchar(*octet) => {
                octets.push(*octet);
                after
            }
            _ => return Err(Malformed),
        }
    }
    // A nul is the end of a name for much that names are handed to.
    if octets.contains(&0) {
        return Err(Malformed);
    }
    if charset.eq_ignore_ascii_case(b"utf-8") {
        return String::from_utf8(octets).map_err(|_| Malformed);
    }
    if charset.eq_ignore_ascii_case(b"iso-8859-1") {
        return Ok(octets.into_iter().map(char::from).collect());
    }
    Err(Malformed)
}

/// Is this a media type, `type "/" subtype` (RFC 9110 §8.3.1)?
#[must_use]
pub fn is_media_type(octets: &[u8]) -> bool {
    let at = memchr::memchr(b'/', octets).unwrap_or(octets.len());
    let (kind, subtype) = octets.split_at_checked(at).unwrap_or((octets, b""));
    is_token(kind) && is_token(subtype.get(1..).unwrap_or_default())
}

/// Is this the media type of JSON, or of something that is written as JSON (RFC 8259 §11, RFC 6839 §3.1)?
#[must_use]
pub fn is_json(media_type: &[u8]) -> bool {
    let lower = media_type.to_ascii_lowercase();
    lower == b"application/json" || is_media_type(&lower) && lower.ends_with(b"+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs = Result<Vec<(String, String)>, Malformed>;

    fn pairs(value: &str) -> Pairs {
        let (_, parameters) = split(value.as_bytes());
        parameters
            .map(|parameter| {
                let (name, value) = parameter?;
                let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
                Ok((text(name), text(&value.unquoted())))
            })
            .collect()
    }

    /// RFC 9110 §5.6.6
    #[test]
    fn parameters_are_read_from_left_to_right() {
        for (value, expected) in [
            ("a/b", &[][..]),
            ("a/b;", &[]),
            ("a/b ; ;; ", &[]),
            ("a/b;c=d", &[("c", "d")]),
            ("a/b ;\tC=d ; e=\"f;g\" ", &[("C", "d"), ("e", "f;g")]),
            ("a/b; c=\"\"", &[("c", "")]),
            ("a/b; c=\"d\\\"e\\\\\"", &[("c", "d\"e\\")]),
            ("a/b; c=d/e:f=g", &[("c", "d/e:f=g")]),
            ("a/b; c=d; c=e", &[("c", "d"), ("c", "e")]),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(pairs(value), Ok(expected), "{value}");
        }
        for value in [
            "a; b",
            "a; =b",
            "a; b=",
            "a; b=;c=d",
            "a; b =c",
            "a; b= c",
            "a; b=\"c",
            "a; b=\"c\\\"",
            "a; b=\"c\"d",
            "a; b=c d=e",
            "a; b=c\"d\"",
            "a; b\u{e9}=c",
        ] {
            assert_eq!(pairs(value), Err(Malformed), "{value}");
        }
    }

    #[test]
    fn the_only_one_of_a_name_is_found_in_any_case() {
        let find = |value: &'static str| {
            let found = only(split(value.as_bytes()).1, b"charset")?;
            Ok(found.map(|found| String::from_utf8_lossy(&found).into_owned()))
        };
        assert_eq!(find("a"), Ok(None));
        assert_eq!(find("a; CharSet=\"b\""), Ok(Some("b".to_owned())));
        assert_eq!(find("a; charset=b; charset=b"), Err(Malformed));
        assert_eq!(find("a; charset=b; c"), Err(Malformed));
    }

    fn read(value: &str) -> Result<(Option<String>, Option<String>), Malformed> {
        let text = |text: Text| match text {
            Text::Octets(octets) => String::from_utf8_lossy(&octets).into_owned(),
            Text::Decoded(text) => format!("*{text}"),
        };
        parse_disposition(value.as_bytes())
            .map(|disposition| (disposition.name.map(text), disposition.filename.map(text)))
    }

    /// RFC 7578 §4.2, and what browsers and others make of it.
    #[test]
    #[rustfmt::skip]
    fn a_disposition_has_a_name_and_perhaps_a_filename() {
        for (value, name, filename) in [
            ("form-data", None, None),
            ("Form-Data ; NAME=\"a\"", Some("a"), None),
            ("form-data; name=a", Some("a"), None),
            ("form-data; name=\"\"; filename=\"\"", Some(""), Some("")),
            ("form-data; name=\"a\"; filename=\"b.txt\"; x=y", Some("a"), Some("b.txt")),
            ("form-data; name=\"caf\u{e9}\"; filename=\"\u{1f600}\"", Some("caf\u{e9}"), Some("\u{1f600}")),
            // Chrome, Firefox, Safari, curl and httpx
            ("form-data; name=\"a%22b%0D%0Ac%20d%\"", Some("a\"b\r\nc%20d%"), None),
            ("form-data; name=a; filename=\"b;c=d,e\"", Some("a"), Some("b;c=d,e")),
            // curl --form-escape, older clients
            ("form-data; name=\"a\\\"b\"; filename=\"c\\\\d\\\\\"", Some("a\"b"), Some("c\\d\\")),
            // Internet Explorer
            ("form-data; name=\"a\"; filename=\"C:\\dir\\file.txt\"", Some("a"), Some("C:\\dir\\file.txt")),
            // aiohttp, .NET
            ("form-data; name*=utf-8''caf%C3%A9", Some("*caf\u{e9}"), None),
            ("form-data; name=a; filename=\"=?utf-8?B?w6k=?=\"; filename*=utf-8''%c3%a9.txt", Some("a"), Some("*\u{e9}.txt")),
            ("form-data; name=a; filename*=\"UTF-8'en'b.txt\"; filename=c", Some("a"), Some("*b.txt")),
            ("form-data; name=a; filename*=ISO-8859-1''%e9", Some("a"), Some("*\u{e9}")),
        ] {
            let expected = (name.map(str::to_owned), filename.map(str::to_owned));
            assert_eq!(read(value), Ok(expected), "{value}");
        }
    }

    #[test]
    fn refuses_a_disposition_that_can_be_read_in_two_ways() {
        for value in [
            "",
            "attachment; name=a",
            "form-data name=a",
            "form-data; name=a; name=a",
            "form-data; name=a; NAME=b",
            "form-data; name=a; filename=b; filename=c",
            "form-data; name=a; filename*=utf-8''b; filename*=utf-8''b",
            "form-data; name=\"a",
            "form-data; name=\"a\"b\"",
            "form-data; name=a b",
            "form-data; name",
            "form-data; name=",
            "form-data; name=a; filename*=b",
            "form-data; name=a; filename*=utf-8'b",
            "form-data; name=a; filename*=utf-8''%",
            "form-data; name=a; filename*=utf-8''%4",
            "form-data; name=a; filename*=utf-8''%zz",
            "form-data; name=a; filename*=utf-8''%ff",
            "form-data; name=a; filename*=utf-8''a%00b",
            "form-data; name=a; filename*=\"utf-8''a b\"",
            "form-data; name=a; filename*=utf-7''a",
            "form-data; name=a; filename*=''a",
        ] {
            assert_eq!(read(value), Err(Malformed), "{value}");
        }
    }

    /// CVE-2025-67726, CVE-2026-28356: each doubling may take about twice as long, not four times.
    #[test]
    fn a_long_value_is_read_once() {
        for piece in [
            "\\\"",
            "\\",
            "; a=\"b\"",
            ";",
            "%22",
            "a=",
            "\"",
            "; x=\"\\\\\"",
        ] {
            let value = format!("form-data; name=\"{}", piece.repeat(300_000));
            let start = std::time::Instant::now();
            let _ = parse_disposition(value.as_bytes());
            assert!(start.elapsed().as_secs() < 2, "{piece}");
        }
    }

    #[test]
    fn media_types_are_told_from_other_text() {
        for (text, media_type, json) in [
            ("application/json", true, true),
            ("Application/Problem+JSON", true, true),
            ("text/plain", true, false),
            ("application/jsonp", true, false),
            ("json", false, false),
            ("+json", false, false),
            ("a/b/c+json", false, false),
            ("/", false, false),
            ("a/", false, false),
            ("", false, false),
        ] {
            assert_eq!(is_media_type(text.as_bytes()), media_type, "{text}");
            assert_eq!(is_json(text.as_bytes()), json, "{text}");
        }
    }
}
