//! The ABNF of RFC 9110, RFC 9112 and RFC 3986 as tables, one per rule, each beside the rule it encodes.
//!
//! A table answers for one octet; the functions below it answer for a whole string. Nothing here knows what the octets
//! mean. Left out: list syntax and quality values (`fields`), percent-decoding (`target`).

/// The octets of a rule: membership is one load.
type Octets = [bool; 256];

/// Builds a table at compile time.
const fn octets(singles: &[u8], ranges: &[(u8, u8)], others: &[&Octets]) -> Octets {
    let mut table = [false; 256];
    let mut i = 0;
    while i < singles.len() {
        table[singles[i] as usize] = true;
        i += 1;
    }
    let mut i = 0;
    while i < ranges.len() {
        let (mut octet, last) = (ranges[i].0 as usize, ranges[i].1 as usize);
        while octet <= last {
            table[octet] = true;
            octet += 1;
        }
        i += 1;
    }
    let mut i = 0;
    while i < others.len() {
        let mut octet = 0;
        while octet < 256 {
            table[octet] = table[octet] || others[i][octet];
            octet += 1;
        }
        i += 1;
    }
    table
}

/// RFC 5234, appendix B.1: `ALPHA = %x41-5A / %x61-7A`, `DIGIT = %x30-39`.
const ALPHA_DIGIT: Octets = octets(b"", &[(b'A', b'Z'), (b'a', b'z'), (b'0', b'9')], &[]);

/// RFC 9110 §5.6.2:
///
/// ```text
/// token = 1*tchar
/// tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~"
///       / DIGIT / ALPHA
/// ```
const TCHAR: Octets = octets(b"!#$%&'*+-.^_`|~", &[], &[&ALPHA_DIGIT]);

/// RFC 9110 §5.5: `field-content = field-vchar [ 1*( SP / HTAB / field-vchar ) field-vchar ]`,
/// `field-vchar = VCHAR / obs-text`, `obs-text = %x80-FF`.
const FIELD_CONTENT: Octets = octets(b"\t", &[(b' ', b'~'), (0x80, 0xff)], &[]);

/// What may stand in a request-target of any form: VCHAR without `#`.
///
/// RFC 3986 §3.3 and §3.4 admit fewer (`pchar = unreserved / pct-encoded / sub-delims / ":" / "@"`), but browsers send
/// ``" < > [ \ ] ^ ` { | }`` unescaped and a lone `%`; none of them can be mistaken for a delimiter of the request line.
const TARGET: Octets = octets(b"", &[(b'!', b'"'), (b'$', b'~')], &[]);

/// RFC 3986 §2.3: `unreserved = ALPHA / DIGIT / "-" / "." / "_" / "~"`;
/// §2.2: `sub-delims = "!" / "$" / "&" / "'" / "(" / ")" / "*" / "+" / "," / ";" / "="`.
const UNRESERVED_OR_SUB_DELIM: Octets = octets(b"-._~!$&'()*+,;=", &[], &[&ALPHA_DIGIT]);

/// RFC 9110 §5.6.4: `qdtext = HTAB / SP / %x21 / %x23-5B / %x5D-7E / obs-text`.
const QDTEXT: Octets = octets(b"\t !", &[(0x23, 0x5b), (0x5d, 0x7e), (0x80, 0xff)], &[]);

/// RFC 5234, appendix B.1: `HEXDIG = DIGIT / "A" / "B" / "C" / "D" / "E" / "F"`, in either case; 255 is none.
const HEXDIG: [u8; 256] = {
    let mut table = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value as usize] as usize] = value;
        table[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    table
};

/// Is `octet` a `tchar` (RFC 9110 §5.6.2), that is, one of a method's or a field name's?
#[must_use]
#[inline]
pub fn is_tchar(octet: u8) -> bool {
    TCHAR[usize::from(octet)]
}

/// Is this a `token = 1*tchar` (RFC 9110 §5.6.2)?
///
/// ```
/// assert!(vibora::http::grammar::is_token(b"x-request-id"));
/// assert!(!vibora::http::grammar::is_token(b"x request"));
/// ```
#[must_use]
#[inline]
pub fn is_token(octets: &[u8]) -> bool {
    !octets.is_empty() && octets.iter().all(|&octet| is_tchar(octet))
}

/// May `octet` stand in a field value (RFC 9110 §5.5)?
#[must_use]
#[inline]
pub fn is_field_content(octet: u8) -> bool {
    FIELD_CONTENT[usize::from(octet)]
}

/// Is every octet HTAB, SP, VCHAR or obs-text (RFC 9110 §5.5)? No CR, no LF, no NUL, no other control.
///
/// Says nothing about whitespace at the ends, which is not part of a value but harmless in one.
#[must_use]
#[inline]
pub fn is_field_value(octets: &[u8]) -> bool {
    field_value_len(octets) == octets.len()
}

/// May `octet` stand in a request-target of any form (RFC 9112 §3.2)? Printable ASCII without SP and `#`.
#[must_use]
#[inline]
pub fn is_target_octet(octet: u8) -> bool {
    TARGET[usize::from(octet)]
}

/// May `octet` stand in a quoted-string, unescaped (RFC 9110 §5.6.4, `qdtext`)?
#[must_use]
#[inline]
pub fn is_qdtext(octet: u8) -> bool {
    QDTEXT[usize::from(octet)]
}

/// May `octet` stand in a quoted-string after a backslash?
///
/// RFC 9110 §5.6.4: `quoted-pair = "\" ( HTAB / SP / VCHAR / obs-text )`.
#[must_use]
#[inline]
pub fn is_quoted_pair_octet(octet: u8) -> bool {
    FIELD_CONTENT[usize::from(octet)]
}

/// Is `octet` SP or HTAB (RFC 9110 §5.6.3: `OWS = *( SP / HTAB )`)?
#[must_use]
#[inline]
pub fn is_ows(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// The value of a hexadecimal digit in either case.
#[must_use]
#[inline]
pub fn hex_value(octet: u8) -> Option<u8> {
    let value = HEXDIG[usize::from(octet)];
    (value < 16).then_some(value)
}

/// Removes SP and HTAB at both ends (RFC 9110 §5.5: OWS around a field value is not part of it).
#[must_use]
#[inline]
pub fn trim_ows(mut octets: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = octets {
        octets = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = octets {
        octets = rest;
    }
    octets
}

/// The number of leading `tchar`s.
#[must_use]
#[inline]
pub(crate) fn token_len(octets: &[u8]) -> usize {
    octets
        .iter()
        .position(|&octet| !is_tchar(octet))
        .unwrap_or(octets.len())
}

/// The number of leading octets that may stand in a request-target.
#[must_use]
#[inline]
pub(crate) fn target_len(octets: &[u8]) -> usize {
    octets
        .iter()
        .position(|&octet| !is_target_octet(octet))
        .unwrap_or(octets.len())
}

/// The number of leading octets that may stand in a field value.
#[must_use]
#[inline]
pub(crate) fn field_value_len(octets: &[u8]) -> usize {
    octets
        .iter()
        .position(|&octet| !is_field_content(octet))
        .unwrap_or(octets.len())
}

/// Is this `uri-host [ ":" port ]` with a host that is not empty?
///
/// RFC 9110 §7.2 and RFC 3986 §3.2.2: `host = IP-literal / IPv4address / reg-name`,
/// `reg-name = *( unreserved / pct-encoded / sub-delims )` (which matches every `IPv4address`), `port = *DIGIT`.
/// RFC 9110 §4.2.1: an empty host is invalid. A port above 65535 is refused: it can be connected to by no one, and URL
/// parsers raise on it.
#[must_use]
pub fn is_host_and_port(octets: &[u8]) -> bool {
    let (host_is_valid, port) = if let [b'[', rest @ ..] = octets {
        let Some((literal, port)) = split_at_octet(rest, b']') else {
            return false;
        };
        (is_ip_literal(literal), port)
    } else {
        let end = octets
            .iter()
            .position(|&octet| octet == b':')
            .unwrap_or(octets.len());
        let (host, port) = octets.split_at_checked(end).unwrap_or((octets, b""));
        (!host.is_empty() && is_reg_name(host), port)
    };
    host_is_valid
        && match port {
            [] => true,
            [b':', digits @ ..] => digits.is_empty() || is_port(digits),
            _ => false,
        }
}

/// Is this `uri-host ":" port` with a port from 1 to 65535 (RFC 9112 §3.2.3, authority-form)?
#[must_use]
pub(crate) fn is_authority_form(octets: &[u8]) -> bool {
    let Some(colon) = octets.iter().rposition(|&octet| octet == b':') else {
        return false;
    };
    // RFC 9110 §9.3.6: "A server MUST reject a CONNECT request that targets an empty or invalid port number".
    let port = octets.get(colon + 1..).unwrap_or_default();
    is_host_and_port(octets) && is_port(port) && port.iter().any(|&digit| digit != b'0')
}

/// Is this `1*DIGIT`, up to 65535?
fn is_port(digits: &[u8]) -> bool {
    !digits.is_empty()
        && digits
            .iter()
            .try_fold(0_u32, |port, &digit| {
                let port = port * 10 + u32::from(digit.wrapping_sub(b'0'));
                (digit.is_ascii_digit() && port <= 65_535).then_some(port)
            })
            .is_some()
}

/// Is this `reg-name = *( unreserved / pct-encoded / sub-delims )` (RFC 3986 §3.2.2)?
fn is_reg_name(mut octets: &[u8]) -> bool {
    loop {
        octets = match octets {
            [] => return true,
            [octet, rest @ ..] if UNRESERVED_OR_SUB_DELIM[usize::from(*octet)] => rest,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest
            }
            _ => return false,
        }
    }
}

/// Is this what may stand between `[` and `]`?
///
/// RFC 3986 §3.2.2: `IP-literal = "[" ( IPv6address / IPvFuture ) "]"`,
/// `IPvFuture = "v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )`. Zone identifiers (RFC 6874, obsoleted by
/// RFC 9844) mean nothing outside of the host that wrote them and are refused.
fn is_ip_literal(octets: &[u8]) -> bool {
    if let [b'v' | b'V', rest @ ..] = octets {
        let Some((version, address)) = split_at_octet(rest, b'.') else {
            return false;
        };
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address
                .iter()
                .all(|&octet| octet == b':' || UNRESERVED_OR_SUB_DELIM[usize::from(octet)]);
    }
    core::str::from_utf8(octets).is_ok_and(|text| text.parse::<core::net::Ipv6Addr>().is_ok())
}

/// What stands before and after the first `octet`.
fn split_at_octet(octets: &[u8], octet: u8) -> Option<(&[u8], &[u8])> {
    let at = octets.iter().position(|&other| other == octet)?;
    Some((octets.get(..at)?, octets.get(at + 1..)?))
}
