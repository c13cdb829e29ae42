//! What proxies say about the requests they pass on: `Forwarded` (RFC 7239), and the `X-Forwarded-` fields that came
//! before it and are used everywhere.
//!
//! Anybody can write these fields, and a proxy adds to what the client wrote. So they are read from the right, and only
//! as far as trust goes: the peer of the connection is known; if it is a trusted proxy, the last address in the field is
//! known too, because that proxy has written it; if that is a trusted proxy, the one before it is; and so on. The first
//! address that is not trusted is the client. Nothing to the left of it is looked at, well-formed or not, and an entry
//! that is no address ends the walk.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use super::fields::FieldMap;
use super::grammar::{is_host_and_port, is_token, trim_ows};
use super::network::{Network, NetworkError};

/// The fields that may be believed, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedFields(u8);

impl ForwardedFields {
    /// The names, in lower case, each with its bit at its place.
    pub const NAMES: [&'static str; 5] = [
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
    ];
    /// No field.
    pub const NONE: Self = Self(0);
    /// Every field.
    pub const ALL: Self = Self(0b1_1111);
    /// RFC 7239.
    const FORWARDED: Self = Self(1);
    const FOR: Self = Self(1 << 1);
    const PROTO: Self = Self(1 << 2);
    const HOST: Self = Self(1 << 3);
    const PORT: Self = Self(1 << 4);

    /// The set of one field, by its name in any case; `None` for any other name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .position(|known| known.eq_ignore_ascii_case(name))
            .map(|at| Self(1 << at))
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An address.
    Address(IpAddr),
    /// A process on this machine.
    UnixSocket,
    /// Nobody knows.
    Unknown,
}

/// The scheme of a request (RFC 9110 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// As in a URI.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// RFC 9110 §4.2.1, §4.2.2.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// From what a proxy says; some say `ws` and `wss` of the handshake of a WebSocket.
    fn parse(value: &[u8]) -> Option<Self> {
        let is = |names: [&[u8]; 2]| names.iter().any(|name| value.eq_ignore_ascii_case(name));
        if is([b"https", b"wss"]) {
            Some(Self::Https)
        } else {
            is([b"http", b"ws"]).then_some(Self::Http)
        }
    }
}

/// What the proxies tell about the client's request. `None`: not told, or not by somebody who is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The client's address; the peer's where nothing better is known.
    pub client: Option<IpAddr>,
    /// The scheme that the client used.
    pub scheme: Option<Scheme>,
    /// The host that the client asked for, perhaps with a port: valid as a value of `Host`.
    pub host: Option<Cow<'a, [u8]>>,
    /// The port that the client connected to.
    pub port: Option<u16>,
}

/// Which peers are believed, and about what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    networks: Vec<Network>,
    unix_sockets: bool,
    any_peer: bool,
    fields: ForwardedFields,
}

impl Trust {
    /// Trusts nobody yet.
    #[must_use]
    pub const fn new(fields: ForwardedFields) -> Self {
        Self {
            networks: Vec::new(),
            unix_sockets: false,
            any_peer: false,
            fields,
        }
    }

    /// Trusts one more: an address, a network (`10.0.0.0/8`), `unix` for whoever connects to a unix socket, or `*` for
    /// whoever connects, which is a trust in the peer only, and not in what it names.
    ///
    /// # Errors
    ///
    /// A message that says what is wrong with it.
    pub fn add(&mut self, entry: &str) -> Result<(), String> {
        match entry {
            "unix" => self.unix_sockets = true,
            "*" => self.any_peer = true,
            _ => self.networks.push(parse_network(entry)?),
        }
        Ok(())
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks
            .iter()
            .any(|network| network.contains(address))
    }

    fn trusts_peer(&self, peer: Peer) -> bool {
        self.any_peer
            || match peer {
                Peer::Address(address) => self.trusts(address.to_canonical()),
                Peer::UnixSocket => self.unix_sockets,
                Peer::Unknown => false,
            }
    }

    /// Where a request comes from.
    #[must_use]
    pub fn origin<'a>(&self, peer: Peer, fields: &'a FieldMap) -> Origin<'a> {
        let mut origin = Origin {
            client: match peer {
                Peer::Address(address) => Some(address.to_canonical()),
                Peer::UnixSocket | Peer::Unknown => None,
            },
            ..Origin::default()
        };
        if !self.trusts_peer(peer) {
            return origin;
        }
        let present =
            |field| self.fields.contains(field) && self.last_line(fields, field).is_some();
        // Proxies that write the X-Forwarded fields mostly pass a `Forwarded` of the client on; so where both came, the
        // client could have written it. A proxy that writes `Forwarded` alone needs the fields that are believed named.
        if [
            ForwardedFields::FOR,
            ForwardedFields::PROTO,
            ForwardedFields::HOST,
            ForwardedFields::PORT,
        ]
        .into_iter()
        .any(present)
        {
            self.read_x_forwarded(fields, &mut origin);
        } else if present(ForwardedFields::FORWARDED) {
            self.read_forwarded(fields, &mut origin);
        }
        origin
    }

    /// The lines of a field from the last to the first.
    fn lines(fields: &FieldMap, field: ForwardedFields) -> impl Iterator<Item = &[u8]> {
        let name = Self::name(field);
        fields
            .iter()
            .rev()
            .filter(move |(candidate, _)| candidate.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    fn name(field: ForwardedFields) -> &'static str {
        ForwardedFields::NAMES
            .get(field.0.trailing_zeros() as usize)
            .copied()
            .unwrap_or_default()
    }

    #[allow(clippy::unused_self, reason = "reads as a question to the trust")]
    fn last_line<'a>(&self, fields: &'a FieldMap, field: ForwardedFields) -> Option<&'a [u8]> {
        Self::lines(fields, field).next()
    }

    /// The last value of a field: what the peer wrote, or left as the proxy before it wrote it. These fields are not
    /// aligned with the addresses, so that the last one is the only one that cannot be the client's own.
    fn last_value<'a>(&self, fields: &'a FieldMap, field: ForwardedFields) -> Option<&'a [u8]> {
        if !self.fields.contains(field) {
            return None;
        }
        let line = self.last_line(fields, field)?;
        line.rsplit(|&octet| octet == b',').next().map(trim_ows)
    }

    fn read_x_forwarded<'a>(&self, fields: &'a FieldMap, origin: &mut Origin<'a>) {
        if self.fields.contains(ForwardedFields::FOR) {
            for entry in Self::lines(fields, ForwardedFields::FOR)
                .flat_map(|line| line.rsplit(|&octet| octet == b','))
            {
                let Some(address) = parse_node(trim_ows(entry)) else {
                    break;
                };
                origin.client = Some(address);
                if !self.trusts(address) {
                    break;
                }
            }
        }
        origin.scheme = self
            .last_value(fields, ForwardedFields::PROTO)
            .and_then(Scheme::parse);
        origin.host = self
            .last_value(fields, ForwardedFields::HOST)
            .filter(|host| is_host_and_port(host))
            .map(Cow::Borrowed);
        origin.port = self
            .last_value(fields, ForwardedFields::PORT)
            .and_then(parse_port);
    }

    fn read_forwarded<'a>(&self, fields: &'a FieldMap, origin: &mut Origin<'a>) {
        for element in
            Self::lines(fields, ForwardedFields::FORWARDED).flat_map(ElementsFromTheEnd::of)
        {
            let Some(element) = Element::parse(element) else {
                return;
            };
            // Each proxy tells how it was reached itself, so the last one that is believed has seen the client's own
            // request. Where it does not say, the one behind it is the next to ask.
            if element.scheme.is_some() {
                origin.scheme = element.scheme;
            }
            if element.host.is_some() {
                origin.host = element.host;
            }
            match element.client {
                Some(address) => {
                    origin.client = Some(address);
                    if !self.trusts(address) {
                        return;
                    }
                }
                // `unknown`, an obfuscated identifier (RFC 7239 §6.3), or none: not an address that could be trusted.
                None => return,
            }
        }
    }
}

fn parse_network(entry: &str) -> Result<Network, String> {
    let network = Network::parse(entry).map_err(|error| match error {
        NetworkError::Address => format!(
            "{entry:?} is not an address, a network such as 10.0.0.0/8, 'unix' or '*'; names are not looked up"
        ),
        NetworkError::Bits(most) => {
            let digits = entry.split_once('/').map_or("", |(_, digits)| digits);
            format!("the prefix of {entry:?} must be 0 to {most}, not {digits:?}")
        }
    })?;
    let (first, address) = (network.first_address(), network.address());
    if first != address {
        let bits = network.bits();
        return Err(format!(
            "{entry:?} is an address within a network: the network is {first}/{bits}, the address is {address}"
        ));
    }
    Ok(network)
}

/// RFC 7239 §6: `node = nodename [ ":" node-port ]`, for addresses only. An IPv6 address may stand without brackets, as
/// it does in `X-Forwarded-For`, and then has no port.
fn parse_node(node: &[u8]) -> Option<IpAddr> {
    let node = std::str::from_utf8(node).ok()?;
    let (name, port) = if let Some(rest) = node.strip_prefix('[') {
        let (name, after) = rest.split_once(']')?;
        name.parse::<Ipv6Addr>().ok()?;
        if after.is_empty() {
            (name, None)
        } else {
            (name, Some(after.strip_prefix(':')?))
        }
    } else {
        match node.split_once(':') {
            Some((name, port)) if !port.contains(':') => (name, Some(port)),
            _ => (node, None),
        }
    };
    if let Some(port) = port {
        // RFC 7239 §6.3: `obfport = "_" 1*(ALPHA / DIGIT / "." / "_" / "-")`.
        let valid = match port.as_bytes() {
            [b'_', name @ ..] => is_token(name),
            digits => (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit),
        };
        if !valid {
            return None;
        }
    }
    // A zone (RFC 4007 §11) is of use on the machine that wrote it only.
    let name = name.split_once('%').map_or(name, |(address, _)| address);
    name.parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

fn parse_port(value: &[u8]) -> Option<u16> {
    let digits = std::str::from_utf8(value).ok()?;
    digits
        .bytes()
        .all(|octet| octet.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten()
        .filter(|port| *port != 0)
}

/// The elements of a `Forwarded` line from the last to the first (RFC 7239 §4).
///
/// From the end, because only the end is written by somebody who is believed: a quote that the client has left open
/// then spoils nothing but what it wrote itself.
struct ElementsFromTheEnd<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> ElementsFromTheEnd<'a> {
    const fn of(line: &'a [u8]) -> Self {
        Self { rest: Some(line) }
    }
}

impl<'a> Iterator for ElementsFromTheEnd<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.rest.take()?;
        let mut quoted = false;
        let mut end = line.len();
        while let Some(at) = line
            .get(..end)
            .and_then(|before| memchr::memrchr2(b'"', b',', before))
        {
            end = at;
            let before = line.get(..at).unwrap_or_default();
            if line.get(at) == Some(&b'"') {
                // RFC 9110 §5.6.4: in a quoted string a backslash makes the octet after it a literal one.
                let backslashes = before
                    .iter()
                    .rev()
                    .take_while(|&&octet| octet == b'\\')
                    .count();
                quoted ^= backslashes % 2 == 0;
            } else if !quoted {
                self.rest = Some(before);
                return line.get(at + 1..).map(trim_ows);
            }
        }
        Some(trim_ows(line))
    }
}

/// RFC 7239 §4: `forwarded-element = [ forwarded-pair ] *( ";" [ forwarded-pair ] )`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Element<'a> {
    client: Option<IpAddr>,
    scheme: Option<Scheme>,
    host: Option<Cow<'a, [u8]>>,
}

impl<'a> Element<'a> {
    /// `None`: it is malformed, or empty.
    fn parse(element: &'a [u8]) -> Option<Self> {
        let mut parsed = Self::default();
        let mut seen = ForwardedFields::NONE;
        let mut rest = element;
        while !rest.is_empty() {
            let (name, after) = rest.split_at_checked(memchr::memchr(b'=', rest)?)?;
            let name = trim_ows(name);
            if !is_token(name) {
                return None;
            }
            let (value, after) = split_value(trim_ows(after.get(1..)?))?;
            rest = match trim_ows(after) {
                [] => b"",
                [b';', rest @ ..] => trim_ows(rest),
                _ => return None,
            };
            let parameter = if name.eq_ignore_ascii_case(b"for") {
                parsed.client = parse_node(&value);
                ForwardedFields::FOR
            } else if name.eq_ignore_ascii_case(b"proto") {
                parsed.scheme = Scheme::parse(&value);
                ForwardedFields::PROTO
            } else if name.eq_ignore_ascii_case(b"host") {
                parsed.host = Some(value).filter(|host| is_host_and_port(host));
                ForwardedFields::HOST
            } else {
                continue;
            };
            // RFC 7239 §4: "Each parameter MUST NOT occur more than once per field-value" (that is, per element).
            if seen.contains(parameter) {
                return None;
            }
            seen = seen.union(parameter);
        }
        (!element.is_empty()).then_some(parsed)
    }
}

/// Splits a value from what follows it: a quoted string, or what goes up to the next `;`. Colons and brackets should be
/// quoted (RFC 7239 §6), and are taken without.
fn split_value(input: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let [b'"', quoted @ ..] = input else {
        let end = memchr::memchr(b';', input).unwrap_or(input.len());
        let (value, rest) = input.split_at_checked(end)?;
        let value = trim_ows(value);
        let plain = |octet: &u8| octet.is_ascii_graphic() && !b"\"\\,".contains(octet);
        return (!value.is_empty() && value.iter().all(plain))
            .then_some((Cow::Borrowed(value), rest));
    };
    let mut unescaped = Vec::new();
    let mut rest = quoted;
    loop {
        let at = memchr::memchr2(b'"', b'\\', rest)?;
        let (text, after) = rest.split_at_checked(at)?;
        match after {
            [b'"', after @ ..] if unescaped.is_empty() => {
                return Some((Cow::Borrowed(text), after));
            }
            [b'"', after @ ..] => {
                unescaped.extend_from_slice(text);
                return Some((Cow::Owned(unescaped), after));
            }
            [_, literal, after @ ..] => {
                unescaped.extend_from_slice(text);
                unescaped.push(*literal);
                rest = after;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ElementsFromTheEnd, ForwardedFields, Origin, Peer, Scheme, Trust, parse_node};
    use crate::http::fields::FieldMap;
    use std::net::IpAddr;

    fn trust(entries: &[&str]) -> Trust {
        let mut trust = Trust::new(ForwardedFields::ALL);
        for entry in entries {
            trust.add(entry).unwrap();
        }
        trust
    }

    fn fields(lines: &[(&str, &str)]) -> FieldMap {
        let mut fields = FieldMap::new();
        for (name, value) in lines {
            fields.append(name.as_bytes(), value.as_bytes()).unwrap();
        }
        fields
    }

    fn address(text: &str) -> Peer {
        Peer::Address(text.parse().unwrap())
    }

    fn client(trust: &Trust, peer: &str, lines: &[(&str, &str)]) -> String {
        trust
            .origin(address(peer), &fields(lines))
            .client
            .unwrap()
            .to_string()
    }

    #[test]
    fn networks_are_told_apart() {
        for (entry, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("192.168.4.0/23", "192.168.5.255", "192.168.6.0"),
            ("::1", "::1", "::2"),
            ("::/0", "ffff::", "127.0.0.1"),
            ("2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"),
            ("::ffff:10.0.0.0/104", "::ffff:10.9.9.9", "::ffff:11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.9.9.9", "::10.9.9.9"),
        ] {
            let trust = trust(&[entry]);
            assert!(trust.trusts_peer(address(inside)), "{entry} {inside}");
            assert!(!trust.trusts_peer(address(outside)), "{entry} {outside}");
        }
    }

    #[test]
    fn entries_that_are_none_are_refused() {
        for entry in [
            "",
            "localhost",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.1/8",
            "::1/129",
            "10.0.0",
            "010.0.0.1",
            "10.0.0.0/8/8",
            " 10.0.0.1",
            "UNIX",
            "fe80::1%eth0",
            "10.0.0.1:80",
            "[::1]",
            "10.0.0.0/-1",
            "::/256",
        ] {
            assert!(
                Trust::new(ForwardedFields::ALL).add(entry).is_err(),
                "{entry:?}"
            );
        }
    }

    #[test]
    fn nodes_are_read_with_and_without_a_port() {
        for (node, expected) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:80", Some("192.0.2.1")),
            ("192.0.2.1:_x", Some("192.0.2.1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:4711", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("", None),
            ("unknown", None),
            ("_hidden", None),
            ("_hidden:80", None),
            ("192.0.2.1:", None),
            ("192.0.2.1:x", None),
            ("192.0.2.1:123456", None),
            ("192.0.2.1 ", None),
            ("192.0.2.256", None),
            ("192.0.2", None),
            ("0300.0.2.1", None),
            ("[192.0.2.1]", None),
            ("[::1", None),
            ("[::1]80", None),
            ("[::1]:", None),
            ("::1]", None),
            ("unix:", None),
            ("\u{661}.2.3.4", None),
        ] {
            assert_eq!(
                parse_node(node.as_bytes()),
                expected.map(|text| text.parse::<IpAddr>().unwrap()),
                "{node:?}"
            );
        }
    }

    #[test]
    fn the_client_is_the_last_that_is_not_trusted() {
        let proxies = trust(&["10.0.0.0/8", "::1"]);
        for (peer, lines, expected) in [
            ("192.0.2.9", &["1.1.1.1"][..], "192.0.2.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            ("::ffff:10.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", &["1.1.1.1, 192.0.2.1"], "192.0.2.1"),
            (
                "10.0.0.1",
                &["1.1.1.1, 192.0.2.1 , 10.0.0.2:80,[::1]:5"],
                "192.0.2.1",
            ),
            (
                "10.0.0.1",
                &["1.1.1.1", "192.0.2.1", "10.0.0.2"],
                "192.0.2.1",
            ),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // What is no address ends the walk at the hop that is known.
            ("10.0.0.1", &["1.1.1.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1, "], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["nonsense, 192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
        ] {
            let lines: Vec<_> = lines
                .iter()
                .map(|line| ("X-Forwarded-For", *line))
                .collect();
            assert_eq!(client(&proxies, peer, &lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn forwarded_elements_are_read_from_the_end() {
        for (line, expected) in [
            ("", &[""][..]),
            ("a", &["a"]),
            ("a, b ,c", &["c", "b", "a"]),
            ("a=\"x,y\", b", &["b", "a=\"x,y\""]),
            ("a=\"x\\\",y\", b", &["b", "a=\"x\\\",y\""]),
            ("a=\"x\\\\\", b", &["b", "a=\"x\\\\\""]),
            ("a=\"open, b", &["b", "a=\"open"]),
            ("a,,", &["", "", "a"]),
        ] {
            let elements: Vec<_> = ElementsFromTheEnd::of(line.as_bytes())
                .map(|element| std::str::from_utf8(element).unwrap())
                .collect();
            assert_eq!(elements, expected, "{line:?}");
        }
    }

    #[test]
    fn forwarded_tells_client_scheme_and_host() {
        let proxies = trust(&["10.0.0.0/8"]);
        let origin = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
            let fields = fields(&lines);
            let Origin {
                client,
                scheme,
                host,
                port,
            } = proxies.origin(address("10.0.0.1"), &fields);
            assert_eq!(port, None);
            format!(
                "{} {} {}",
                client.unwrap(),
                scheme.map_or("-", Scheme::as_str),
                host.map_or("-".to_owned(), |host| String::from_utf8_lossy(&host)
                    .into_owned()),
            )
        };
        for (lines, expected) in [
            (
                &["for=192.0.2.60;proto=https;by=203.0.113.43"][..],
                "192.0.2.60 https -",
            ),
            (
                &["For=\"[2001:db8:cafe::17]:4711\""],
                "2001:db8:cafe::17 - -",
            ),
            (
                &["for=[2001:db8::1];HOST=a.example:80"],
                "2001:db8::1 - a.example:80",
            ),
            (&["for=192.0.2.43, for=198.51.100.17"], "198.51.100.17 - -"),
            (
                &["for=192.0.2.43", "for=198.51.100.17"],
                "198.51.100.17 - -",
            ),
            (
                &["for=192.0.2.43;proto=https, for=10.0.0.2;proto=http"],
                "192.0.2.43 https -",
            ),
            (
                &["for=192.0.2.43, for=10.0.0.2;proto=https;host=a"],
                "192.0.2.43 https a",
            ),
            (&["proto=https"], "10.0.0.1 https -"),
            (
                &["for=1.1.1.1, for=unknown;proto=https"],
                "10.0.0.1 https -",
            ),
            (&["for=1.1.1.1;host=evil, for=_hidden"], "10.0.0.1 - -"),
            (
                &["for = \"192.0.2.43\" ; proto = \"HTTPS\" ;"],
                "192.0.2.43 https -",
            ),
            (
                &["for=\"192\\.0.2.43\";ext=\"a;b,c\\\"\""],
                "192.0.2.43 - -",
            ),
            (
                &["for=192.0.2.43;proto=gopher;host=\"a b\""],
                "192.0.2.43 - -",
            ),
            // A quote that the client leaves open is its own affair.
            (&["for=\"1.1.1.1, for=192.0.2.43"], "192.0.2.43 - -"),
            (&["for=\"1.1.1.1", "for=192.0.2.43"], "192.0.2.43 - -"),
            (&["\\\", for=192.0.2.43;host=\"b\""], "192.0.2.43 - b"),
            // Malformed where it counts.
            (&["for=192.0.2.43;for=1.1.1.1"], "10.0.0.1 - -"),
            (&["for=192.0.2.43 x"], "10.0.0.1 - -"),
            (&["for=\"192.0.2.43"], "10.0.0.1 - -"),
            (&["192.0.2.43"], "10.0.0.1 - -"),
            (&["for="], "10.0.0.1 - -"),
            (&["=192.0.2.43"], "10.0.0.1 - -"),
            (&[""], "10.0.0.1 - -"),
        ] {
            assert_eq!(origin(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn the_last_scheme_host_and_port_count() {
        let proxies = trust(&["10.0.0.0/8"]);
        let lines = [
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Proto", "http, HTTPS"),
            ("X-Forwarded-Host", "evil, a.example"),
            ("X-Forwarded-Port", "1, 8443"),
        ];
        let fields = fields(&lines);
        let origin = proxies.origin(address("10.0.0.1"), &fields);
        assert_eq!(origin.scheme, Some(Scheme::Https));
        assert_eq!(origin.host.as_deref(), Some(&b"a.example"[..]));
        assert_eq!(origin.port, Some(8443));
        let believed = proxies.origin(address("11.0.0.1"), &fields);
        assert_eq!(
            (believed.scheme, believed.host, believed.port),
            (None, None, None)
        );
    }

    #[test]
    fn what_makes_no_sense_is_not_believed() {
        let proxies = trust(&["10.0.0.0/8"]);
        for (name, value) in [
            ("X-Forwarded-Proto", "gopher"),
            ("X-Forwarded-Proto", ""),
            ("X-Forwarded-Proto", "https, "),
            ("X-Forwarded-Host", "a b"),
            ("X-Forwarded-Host", "user@a"),
            ("X-Forwarded-Host", "a/b"),
            ("X-Forwarded-Host", "a:99999"),
            ("X-Forwarded-Host", ""),
            ("X-Forwarded-Port", "0"),
            ("X-Forwarded-Port", "+80"),
            ("X-Forwarded-Port", "65536"),
            ("X-Forwarded-Port", ""),
        ] {
            let fields = fields(&[(name, value)]);
            let origin = proxies.origin(address("10.0.0.1"), &fields);
            assert_eq!(
                (origin.scheme, origin.host, origin.port),
                (None, None, None),
                "{name} {value:?}"
            );
        }
    }

    #[test]
    fn the_fields_that_are_believed_can_be_chosen() {
        let lines = [
            ("Forwarded", "for=192.0.2.1"),
            ("X-Forwarded-For", "192.0.2.2"),
        ];
        for (names, expected) in [
            (&["forwarded"][..], "192.0.2.1"),
            (&["X-Forwarded-For"], "192.0.2.2"),
            (&["forwarded", "x-forwarded-for"], "192.0.2.2"),
            (&["forwarded", "x-forwarded-proto"], "192.0.2.1"),
            (&["x-forwarded-proto"], "10.0.0.1"),
        ] {
            let fields = names
                .iter()
                .map(|name| ForwardedFields::of(name).unwrap())
                .fold(ForwardedFields::NONE, ForwardedFields::union);
            let mut trust = Trust::new(fields);
            trust.add("10.0.0.1").unwrap();
            assert_eq!(client(&trust, "10.0.0.1", &lines), expected, "{names:?}");
        }
        assert_eq!(ForwardedFields::of("x-real-ip"), None);
    }

    #[test]
    fn unix_sockets_and_unknown_peers() {
        let fields = fields(&[("X-Forwarded-For", "1.1.1.1, 192.0.2.1")]);
        let expected = "192.0.2.1".parse().ok();
        for (entries, peer, client) in [
            (&["unix"][..], Peer::UnixSocket, expected),
            (&["unix"], Peer::Unknown, None),
            (&["10.0.0.0/8"], Peer::UnixSocket, None),
            (&["*"], Peer::UnixSocket, expected),
            (&["*"], Peer::Unknown, expected),
            (&["*"], address("192.0.2.7"), expected),
            (&["*", "192.0.2.1"], Peer::Unknown, "1.1.1.1".parse().ok()),
            (&[], address("127.0.0.1"), "127.0.0.1".parse().ok()),
        ] {
            assert_eq!(
                trust(entries).origin(peer, &fields).client,
                client,
                "{entries:?} {peer:?}"
            );
        }
    }

    #[test]
    fn long_fields_take_linear_time() {
        let proxies = trust(&["10.0.0.0/8"]);
        for unit in [
            "\\\"",
            "\"",
            ",",
            "\\",
            "for=\"\\\"\",",
            "for=10.0.0.1,",
            "a=b;",
        ] {
            let value = unit.repeat(1 << 14);
            let fields = fields(&[("Forwarded", &value)]);
            assert!(
                proxies
                    .origin(address("10.0.0.1"), &fields)
                    .client
                    .is_some()
            );
        }
        let chain = "10.0.0.2,".repeat(1 << 14) + "10.0.0.3";
        assert_eq!(
            client(&proxies, "10.0.0.1", &[("X-Forwarded-For", &chain)]),
            "10.0.0.2"
        );
    }
}
