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
const TARGET: Octets = octets(b"?", &[], &[&TARGET_BEFORE_QUERY]);

/// The same without `?`, which begins the query (RFC 3986 §3.4).
const TARGET_BEFORE_QUERY: Octets = octets(b"!\"", &[(b'$', b'>'), (b'@', b'~')], &[]);

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

/// The number of leading octets that are in a table.
#[inline]
fn prefix_len(octets: &[u8], table: &Octets) -> usize {
    let mut rest = octets;
    // Blocks of a known length are checked without a counter: half the instructions of one loop.
    while let Some((block, after)) = rest.split_first_chunk::<8>() {
        if let Some(at) = block.iter().position(|&octet| !table[usize::from(octet)]) {
            return octets.len() - rest.len() + at;
        }
        rest = after;
    }
    let tail = rest.iter().position(|&octet| !table[usize::from(octet)]);
    octets.len() - rest.len() + tail.unwrap_or(rest.len())
}

/// The number of leading `tchar`s.
#[must_use]
#[inline]
pub(crate) fn token_len(octets: &[u8]) -> usize {
    prefix_len(octets, &TCHAR)
}

/// The number of leading octets that may stand in a request-target.
#[must_use]
#[inline]
pub(crate) fn target_len(octets: &[u8]) -> usize {
    prefix_len(octets, &TARGET)
}

/// The number of leading octets that may stand in a request-target before its query.
#[must_use]
#[inline]
pub(crate) fn path_len(octets: &[u8]) -> usize {
    prefix_len(octets, &TARGET_BEFORE_QUERY)
}

/// The number of leading octets that may stand in a field value.
///
/// Eight octets at a time: most of a head is field values.
#[must_use]
#[inline]
pub(crate) fn field_value_len(octets: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    let mut rest = octets;
    while let Some((block, after)) = rest.split_first_chunk::<8>() {
        let block = u64::from_le_bytes(*block);
        // Each octet without its high bit: no sum below carries into the next octet.
        let low = block & !HIGH_BITS;
        // The high bit of each octet that is SP or more, and not DEL: VCHAR, SP. With it set already: obs-text.
        let valid = (low + 0x60 * ONES) & !(low + ONES) | block;
        let mut stops = !valid & HIGH_BITS;
        if stops != 0 {
            let first = block >> (stops.trailing_zeros() - 7) & 0xff;
            if first == u64::from(b'\t') {
                // Rare, but a value may be full of it: the high bit of each octet that is not HTAB.
                let other = block ^ (u64::from(b'\t') * ONES);
                stops &= ((other & !HIGH_BITS) + 0x7f * ONES) | other;
            }
            if stops != 0 {
                return octets.len() - rest.len() + stops.trailing_zeros() as usize / 8;
            }
        }
        rest = after;
    }
    octets.len() - rest.len() + prefix_len(rest, &FIELD_CONTENT)
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
        let len = reg_name_len(octets);
        (len > 0, octets.get(len..).unwrap_or_default())
    };
    host_is_valid
        && match port {
            [] | [b':'] => true,
            [b':', digits @ ..] => is_port(digits),
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

/// The number of leading octets of a `reg-name = *( unreserved / pct-encoded / sub-delims )` (RFC 3986 §3.2.2).
fn reg_name_len(octets: &[u8]) -> usize {
    let mut len = prefix_len(octets, &UNRESERVED_OR_SUB_DELIM);
    while let Some([b'%', high, low, rest @ ..]) = octets.get(len..) {
        if !(high.is_ascii_hexdigit() && low.is_ascii_hexdigit()) {
            break;
        }
        len += 3 + prefix_len(rest, &UNRESERVED_OR_SUB_DELIM);
    }
    len
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_hold_what_the_rules_say() {
        for octet in 0..=u8::MAX {
            let is_vchar = (0x21..=0x7e).contains(&octet);
            // RFC 9110 §5.6.2: "any VCHAR, except delimiters".
            let is_delimiter = b"\"(),/:;<=>?@[\\]{}".contains(&octet);
            assert_eq!(
                is_tchar(octet),
                is_vchar && !is_delimiter,
                "tchar {octet:#04x}"
            );
            let is_content = is_vchar || octet >= 0x80 || octet == b' ' || octet == b'\t';
            assert_eq!(
                is_field_content(octet),
                is_content,
                "field-content {octet:#04x}"
            );
            assert_eq!(
                is_quoted_pair_octet(octet),
                is_content,
                "quoted-pair {octet:#04x}"
            );
            let is_text = is_content && octet != b'"' && octet != b'\\';
            assert_eq!(is_qdtext(octet), is_text, "qdtext {octet:#04x}");
            assert_eq!(
                is_target_octet(octet),
                is_vchar && octet != b'#',
                "target {octet:#04x}"
            );
            let digit = char::from(octet)
                .to_digit(16)
                .map(|digit| u8::try_from(digit).unwrap());
            assert_eq!(hex_value(octet), digit, "hex {octet:#04x}");
        }
    }

    #[test]
    fn runs_end_at_the_first_octet_outside_of_their_rule() {
        type Run = fn(&[u8]) -> usize;
        type Rule = fn(u8) -> bool;
        let runs: [(&str, Run, Rule); 4] = [
            ("field value", field_value_len, is_field_content),
            ("token", token_len, is_tchar),
            ("target", target_len, is_target_octet),
            ("path", path_len, |octet| {
                is_target_octet(octet) && octet != b'?'
            }),
        ];
        for (name, run, rule) in runs {
            // Every octet, at every place in and around the blocks of eight.
            for len in 0..20 {
                for at in 0..len {
                    for octet in 0..=u8::MAX {
                        let mut octets = vec![b'a'; len];
                        octets[at] = octet;
                        let expected = octets.iter().take_while(|&&octet| rule(octet)).count();
                        assert_eq!(run(&octets), expected, "{name}: {octets:?}");
                    }
                }
            }
            // Two in one block: the first counts, whatever the second does to the sums.
            for (first, second) in [(0x7f, b'\t'), (b'\t', 0x7f), (0x1f, 0x20), (0xff, 0x00)] {
                let octets = [b'a', first, second, b'a', b'a', b'a', b'a', b'a', 0];
                let expected = octets.iter().take_while(|&&octet| rule(octet)).count();
                assert_eq!(run(&octets), expected, "{name}: {octets:?}");
            }
        }
    }

    #[test]
    fn a_token_is_not_empty_and_a_field_value_may_be() {
        assert!(!is_token(b""));
        assert!(is_token(b"!#$%&'*+-.^_`|~09azAZ"));
        assert!(!is_token(b"a b"));
        assert!(is_field_value(b""));
        assert!(is_field_value(b"caf\xc3\xa9\t(x)"));
        for octet in [b'\r', b'\n', 0, 0x0b, 0x1c, 0x7f] {
            assert!(!is_field_value(&[b'a', octet, b'b']), "{octet:#04x}");
        }
    }

    #[test]
    fn whitespace_is_trimmed_at_both_ends_only() {
        for (value, trimmed) in [
            ("", ""),
            (" \t ", ""),
            ("a", "a"),
            ("\ta b\t", "a b"),
            ("\x0ba", "\x0ba"),
        ] {
            assert_eq!(trim_ows(value.as_bytes()), trimmed.as_bytes(), "{value:?}");
        }
    }

    /// RFC 3986 §3.2.2, RFC 9110 §4.2.1 and §7.2
    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for (host, expected) in [
            ("example.org", true),
            ("EXAMPLE.org:8000", true),
            ("localhost:", true),
            ("a_b.~c!$&'()*+,;=", true),
            ("0.0.0.0=5000", true),
            ("caf%C3%a9", true),
            ("%41b%42", true),
            ("127.0.0.1:65535", true),
            ("127.0.0.1:00080", true),
            ("[::1]", true),
            ("[::1]:80", true),
            ("[2001:db8::1.9.1.1]", true),
            ("[1:2::3:4]:67", true),
            ("[v1.fe80::a+en1]", true),
            ("", false),
            (":80", false),
            ("a:65536", false),
            ("a:99999999999999999999", false),
            ("a:8o", false),
            ("a:+8", false),
            ("a:-1", false),
            ("a:80:80", false),
            ("a b", false),
            ("a/b", false),
            ("a?b", false),
            ("a#b", false),
            ("user@a", false),
            ("a,b", true), // a comma is a sub-delim
            ("a\\b", false),
            ("caf\u{e9}", false),
            ("a%4", false),
            ("a%4g", false),
            ("%", false),
            ("::1", false),
            ("[::1", false),
            ("[::1]80", false),
            ("[::1]x:80", false),
            ("[]", false),
            ("[:::1]", false),
            ("[127.0.0.1]", false),
            ("[fe80::1%25eth0]", false),
            ("[fe80::1%eth0]", false),
            ("[v.a]", false),
            ("[v1.]", false),
            ("[vz.a]", false),
            ("[v1]", false),
            ("[\u{e9}]", false),
        ] {
            assert_eq!(is_host_and_port(host.as_bytes()), expected, "{host:?}");
        }
    }

    /// RFC 9112 §3.2.3, RFC 9110 §9.3.6
    #[test]
    fn an_authority_form_has_a_port_to_connect_to() {
        for (authority, expected) in [
            ("example.org:443", true),
            ("[::1]:443", true),
            ("example.org", false),
            ("example.org:", false),
            ("example.org:0", false),
            ("example.org:000", false),
            ("example.org:65536", false),
            ("[::1]", false),
            (":443", false),
        ] {
            assert_eq!(
                is_authority_form(authority.as_bytes()),
                expected,
                "{authority:?}"
            );
        }
    }
}
