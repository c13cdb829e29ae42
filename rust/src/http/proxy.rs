//! The PROXY protocol, versions 1 and 2 (`HAProxy`'s `proxy-protocol.txt`): how a load balancer that passes bytes on
//! says whose bytes they are, once, in front of everything else on the connection.
//!
//! A pure function of the octets that have arrived. Whether the peer may be believed is the caller's business: a header
//! from anybody else is not one. Left out: what the TLVs of version 2 say (they are skipped), and datagrams.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str;

/// Octets of a version 1 header, its CRLF included (§2.1).
pub const MAX_V1: usize = 107;
/// Octets of a version 2 header, its TLVs included: what fits into any segment (§2).
pub const MAX_V2: usize = 536;

/// §2.2: chosen so that no other protocol takes it for one of its own.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V1: &[u8; 6] = b"PROXY ";
/// The fixed part of a version 2 header: signature, version and command, family and protocol, length.
const FIXED_V2: usize = 16;

/// A header that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The client; `None` where the header says that there is none to tell of (a health check of the proxy's own, a unix
    /// socket, a protocol it does not know): then the peer of the connection is the client.
    pub client: Option<SocketAddr>,
    /// The header's octets: what follows belongs to the client.
    pub len: usize,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// The first octets are those of neither version.
    Missing,
    /// It is longer than its version allows.
    TooLong,
    /// A line that breaks the grammar of version 1.
    Line,
    /// A version other than 2 behind the signature of version 2.
    Version,
    /// A command other than LOCAL and PROXY.
    Command,
    /// An address family or a transport protocol that does not exist.
    Family,
    /// Fewer octets than the addresses of the family take.
    Addresses,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "a header of the PROXY protocol was expected first",
            Self::TooLong => "the PROXY header is too long",
            Self::Line => "the PROXY line is malformed",
            Self::Version => "the PROXY header has an unknown version",
            Self::Command => "the PROXY header has an unknown command",
            Self::Family => "the PROXY header has an unknown address family or protocol",
            Self::Addresses => "the PROXY header is too short for its addresses",
        })
    }
}

impl core::error::Error for ProxyError {}

/// Parses the header at the beginning of a connection. `None` means that more has to arrive, which is never said of more
/// octets than [`MAX_V1`] or [`MAX_V2`].
///
/// # Errors
/// [`ProxyError`], as soon as the octets cannot become a header any more.
pub fn parse_proxy(input: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    if agrees(input, SIGNATURE) {
        parse_v2(input)
    } else if agrees(input, V1) {
        parse_v1(input)
    } else {
        Err(ProxyError::Missing)
    }
}

/// Whether the input begins with the pattern, as far as it goes.
fn agrees(input: &[u8], pattern: &[u8]) -> bool {
    input.iter().zip(pattern).all(|(a, b)| a == b)
}

/// §2.1: one line of US-ASCII, fields parted by exactly one space.
fn parse_v1(input: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let window = input.get(..MAX_V1).unwrap_or(input);
    let Some(end) = memchr::memchr2(b'\r', b'\n', window) else {
        return if input.len() >= MAX_V1 {
            Err(ProxyError::TooLong)
        } else {
            Ok(None)
        };
    };
    match window.get(end..) {
        Some([b'\r', b'\n', ..]) => {}
        Some([b'\r']) if input.len() < MAX_V1 => return Ok(None),
        Some([b'\r']) => return Err(ProxyError::TooLong),
        _ => return Err(ProxyError::Line),
    }
    let line = window.get(V1.len()..end).unwrap_or_default();
    let line = str::from_utf8(line).map_err(|_| ProxyError::Line)?;
    let len = end + 2;
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // §2.1: the receiver must ignore anything presented before the CRLF.
        return Ok(Some(ProxyHeader { client: None, len }));
    }
    let (Some(source), Some(target), Some(from), Some(to), None) = (
        words.next(),
        words.next(),
        words.next(),
        words.next(),
        words.next(),
    ) else {
        return Err(ProxyError::Line);
    };
    let parse: fn(&str) -> Option<IpAddr> = match family {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return Err(ProxyError::Line),
    };
    let client = match (parse(source), parse(target), number(from), number(to)) {
        (Some(address), Some(_), Some(port), Some(_)) => SocketAddr::new(address, port),
        _ => return Err(ProxyError::Line),
    };
    Ok(Some(ProxyHeader {
        client: Some(client),
        len,
    }))
}

/// §2.1: a decimal number in the range 0 to 65535, without leading zeroes.
fn number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// §2.2: the binary format.
fn parse_v2(input: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let command = match input.get(SIGNATURE.len()) {
        None => return Ok(None),
        Some(byte) if byte >> 4 != 2 => return Err(ProxyError::Version),
        Some(byte) => byte & 0x0f,
    };
    // §2.2: receivers must drop connections with other commands, families and protocols.
    if command > 1 {
        return Err(ProxyError::Command);
    }
    let family = match input.get(13) {
        None => return Ok(None),
        Some(byte) if byte >> 4 > 3 || byte & 0x0f > 2 => return Err(ProxyError::Family),
        Some(byte) => *byte,
    };
    let Some(&[high, low]) = input.get(14..FIXED_V2) else {
        return Ok(None);
    };
    let len = FIXED_V2 + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_V2 {
        return Err(ProxyError::TooLong);
    }
    let addresses = match family >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    };
    // A LOCAL connection has no addresses to speak of, and may leave them out.
    if command == 1 && len - FIXED_V2 < addresses {
        return Err(ProxyError::Addresses);
    }
    let Some(rest) = input.get(FIXED_V2..len) else {
        return Ok(None);
    };
    let client = match (command, family) {
        (1, 0x11) => v4(rest),
        (1, 0x21) => v6(rest),
        _ => None,
    };
    Ok(Some(ProxyHeader { client, len }))
}

/// Source address, destination address, source port, destination port.
fn v4(block: &[u8]) -> Option<SocketAddr> {
    let (address, rest) = block.split_first_chunk::<4>()?;
    let (port, _) = rest.get(4..)?.split_first_chunk::<2>()?;
    Some(SocketAddr::new(
        Ipv4Addr::from(*address).into(),
        u16::from_be_bytes(*port),
    ))
}

fn v6(block: &[u8]) -> Option<SocketAddr> {
    let (address, rest) = block.split_first_chunk::<16>()?;
    let (port, _) = rest.get(16..)?.split_first_chunk::<2>()?;
    Some(SocketAddr::new(
        Ipv6Addr::from(*address).into(),
        u16::from_be_bytes(*port),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
        header.extend(block);
        header
    }

    fn block4() -> Vec<u8> {
        [&[192, 0, 2, 1, 198, 51, 100, 7][..], &[0xdd, 0xd5, 1, 187]].concat()
    }

    fn block6() -> Vec<u8> {
        let mut block = vec![0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        block.extend([0; 16]);
        block.extend([0, 80, 1, 187]);
        block
    }

    /// In every split: a beginning says nothing, the whole says it, and what follows makes no difference.
    fn in_every_split(name: &str, header: &[u8], client: Option<&str>) {
        for cut in 0..header.len() {
            assert_eq!(
                parse_proxy(&header[..cut]),
                Ok(None),
                "{name}, cut at {cut}"
            );
        }
        let expected = ProxyHeader {
            client: client.map(|client| client.parse().unwrap()),
            len: header.len(),
        };
        for behind in [&b""[..], b"G", b"GET / HTTP/1.1\r\n\r\n", &[0; 1000]] {
            let input = [header, behind].concat();
            assert_eq!(parse_proxy(&input), Ok(Some(expected)), "{name}");
        }
    }

    #[test]
    fn a_line_tells_the_client() {
        let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        for (line, client) in [
            (
                "PROXY TCP4 192.0.2.1 198.51.100.7 56789 443\r\n",
                Some("192.0.2.1:56789"),
            ),
            (
                "PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
                Some("0.0.0.0:0"),
            ),
            (
                "PROXY TCP6 2001:db8::1 ::1 80 443\r\n",
                Some("[2001:db8::1]:80"),
            ),
            (
                longest,
                Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            ),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN whatever it says \x01 here\r\n", None),
        ] {
            in_every_split(line, line.as_bytes(), client);
        }
    }

    #[test]
    fn a_line_that_breaks_the_grammar_is_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.7 56789 443\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 56789 443\rX",
            "PROXY TCP4 192.0.2.1 198.51.100.7 56789 443 \r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.7 56789 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 56789\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 56789 443 1\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.7 56789 443\r\n",
            "PROXY TCP4 192.0.2.256 198.51.100.7 56789 443\r\n",
            "PROXY TCP4 2001:db8::1 198.51.100.7 56789 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.7 56789 443\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 +1 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 056 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7  443\r\n",
            "PROXY tcp4 192.0.2.1 198.51.100.7 1 443\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.7 1 443\r\n",
            "PROXY \r\n",
            "PROXY UNKNOWN\n",
            "PROXY TCP4 \u{e4}\r\n",
        ] {
            assert_eq!(
                parse_proxy(line.as_bytes()),
                Err(ProxyError::Line),
                "{line:?}"
            );
        }
    }

    #[test]
    fn what_begins_otherwise_is_refused_at_the_first_octet_that_cannot_be() {
        for input in [
            &b"G"[..],
            b"GET / HTTP/1.1\r\n",
            b"proxy TCP4",
            b"PROXY\t",
            b"\r\nG",
            b"\r\n\r\n\0\r\nQUIT\r",
            b"\x16\x03\x01",
            b"\0",
        ] {
            assert_eq!(parse_proxy(input), Err(ProxyError::Missing), "{input:?}");
        }
    }

    #[test]
    fn a_line_is_never_awaited_beyond_its_bound() {
        let line = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
        for length in 0..MAX_V1 {
            assert_eq!(parse_proxy(&line[..length]), Ok(None));
        }
        assert_eq!(parse_proxy(&line[..MAX_V1]), Err(ProxyError::TooLong));
        assert_eq!(parse_proxy(&line), Err(ProxyError::TooLong));
        let late = [&b"PROXY UNKNOWN "[..], &[b'x'; 92], b"\r\n"].concat();
        assert_eq!(late.len(), MAX_V1 + 1);
        assert_eq!(parse_proxy(&late[..MAX_V1]), Err(ProxyError::TooLong));
        assert_eq!(parse_proxy(&late), Err(ProxyError::TooLong));
    }

    #[test]
    fn the_binary_header_tells_the_client() {
        let tlvs = [&block4()[..], &[3, 0, 4, 1, 2, 3, 4, 4, 0, 1, 0]].concat();
        let full = [&block4()[..], &vec![0; MAX_V2 - FIXED_V2 - 12]].concat();
        for (name, header, client) in [
            ("tcp4", v2(0x21, 0x11, &block4()), Some("192.0.2.1:56789")),
            ("tcp6", v2(0x21, 0x21, &block6()), Some("[2001:db8::1]:80")),
            ("tlvs", v2(0x21, 0x11, &tlvs), Some("192.0.2.1:56789")),
            (
                "the longest",
                v2(0x21, 0x11, &full),
                Some("192.0.2.1:56789"),
            ),
            ("local", v2(0x20, 0x00, b""), None),
            ("local with addresses", v2(0x20, 0x11, &block4()), None),
            ("local that says little", v2(0x20, 0x11, b"\x01"), None),
            ("unspecified", v2(0x21, 0x00, b""), None),
            ("udp4", v2(0x21, 0x12, &block4()), None),
            ("unix", v2(0x21, 0x31, &[b'/'; 216]), None),
        ] {
            in_every_split(name, &header, client);
        }
    }

    #[test]
    fn a_binary_header_that_makes_no_sense_is_refused() {
        for (name, header, error) in [
            ("version 1", v2(0x11, 0x11, &block4()), ProxyError::Version),
            ("version 3", v2(0x31, 0x11, &block4()), ProxyError::Version),
            ("command 2", v2(0x22, 0x11, &block4()), ProxyError::Command),
            ("family 4", v2(0x21, 0x41, &block4()), ProxyError::Family),
            ("protocol 3", v2(0x21, 0x13, &block4()), ProxyError::Family),
            (
                "short 4",
                v2(0x21, 0x11, &block4()[..11]),
                ProxyError::Addresses,
            ),
            (
                "short 6",
                v2(0x21, 0x21, &block6()[..35]),
                ProxyError::Addresses,
            ),
            (
                "short unix",
                v2(0x21, 0x31, &[0; 215]),
                ProxyError::Addresses,
            ),
            (
                "too long",
                v2(0x21, 0x11, &[0; MAX_V2 - FIXED_V2 + 1]),
                ProxyError::TooLong,
            ),
            (
                "far too long",
                v2(0x20, 0x00, &vec![0; 65535]),
                ProxyError::TooLong,
            ),
        ] {
            assert_eq!(parse_proxy(&header), Err(error), "{name}");
            // Nothing is waited for that cannot make it right.
            assert_eq!(parse_proxy(&header[..FIXED_V2]), Err(error), "{name}");
        }
    }
}
