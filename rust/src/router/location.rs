//! Where the other spelling of a path is: `/a/` for `/a`, `/a` for `/a/`.

use std::fmt::Write;

/// The value of a `location` field that leads from a path to the one with or without the slash at its end.
///
/// It is made of what the client sent, so that the query and every escape stay as they are. It begins with a single
/// `/` whatever the path is: `//host` would name another server (RFC 3986 §4.2), and so would `/\host` for browsers
/// (the URL standard, "special authority slashes state"). What is not printable ASCII is escaped.
///
/// ```
/// use vibora::router::other_spelling;
///
/// assert_eq!(other_spelling(b"/a/", Some(b"b=c")), "/a?b=c");
/// assert_eq!(other_spelling(b"//host/a", None), "/.//host/a/");
/// ```
#[must_use]
pub fn other_spelling(path: &[u8], query: Option<&[u8]>) -> String {
    let mut location = String::with_capacity(path.len() + query.map_or(0, <[u8]>::len) + 4);
    if !path.starts_with(b"/") {
        location.push('/');
    } else if path.starts_with(b"//") {
        // RFC 3986 §5.2.4 takes the dot away again.
        location.push_str("/.");
    }
    match path {
        b"" => {}
        b"/" => location.push('/'),
        [rest @ .., b'/'] => escape(&mut location, rest),
        _ => {
            escape(&mut location, path);
            location.push('/');
        }
    }
    if let Some(query) = query {
        location.push('?');
        escape(&mut location, query);
    }
    location
}

fn escape(location: &mut String, octets: &[u8]) {
    for &octet in octets {
        if octet.is_ascii_graphic() && octet != b'\\' {
            location.push(char::from(octet));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(location, "%{octet:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leads_to_the_other_spelling_on_this_server() {
        for (path, query, location) in [
            (&b"/a"[..], None, "/a/"),
            (b"/a/", None, "/a"),
            (b"/a%20b/", None, "/a%20b"),
            (b"/a", Some(&b""[..]), "/a/?"),
            (b"/a/", Some(b"b=/&c=?"), "/a?b=/&c=?"),
            (b"//host", None, "/.//host/"),
            (b"//host/", None, "/.//host"),
            (b"///", None, "/.//"),
            (b"/\\host", None, "/%5Chost/"),
            (b"/\\host/", Some(b"\\"), "/%5Chost?%5C"),
            (b"/\\/host", None, "/%5C/host/"),
            (b"/%5Chost/", None, "/%5Chost"),
            (b"/caf\xc3\xa9\r\n", None, "/caf%C3%A9%0D%0A/"),
            (b"/", None, "/"),
            (b"", None, "/"),
            (b"host", None, "/host/"),
        ] {
            assert_eq!(other_spelling(path, query), location, "{path:?}");
        }
    }
}
