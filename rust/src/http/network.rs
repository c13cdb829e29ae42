//! Networks of IP addresses, as settings write them: `10.0.0.0/8`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network: an address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// What stands before the `/` is no address.
    Address,
    /// What stands behind the `/` is no number of bits, or more than an address has: this many.
    Bits(u8),
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl Network {
    /// An address, or an address and a number of bits: `10.0.0.0/8`.
    ///
    /// # Errors
    /// [`NetworkError`] if it is neither.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, digits) = match text.split_once('/') {
            Some((address, digits)) => (address, Some(digits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let most = width(address);
        let Some(digits) = digits else {
            return Ok(Self {
                address,
                bits: most,
            });
        };
        let is_number = digits.bytes().all(|octet| octet.is_ascii_digit());
        match digits.parse() {
            Ok(bits) if is_number && bits <= most => Ok(Self { address, bits }),
            _ => Err(NetworkError::Bits(most)),
        }
    }

    /// The address, as it was written.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// How many of its leading bits count.
    #[must_use]
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// The address without the bits that do not count.
    #[must_use]
    pub fn first_address(&self) -> IpAddr {
        let unused = u32::from(width(self.address) - self.bits);
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(unused).unwrap_or(0);
                Ipv4Addr::from(u32::from(address) & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(unused).unwrap_or(0);
                Ipv6Addr::from(u128::from(address) & mask).into()
            }
        }
    }

    /// Whether an address belongs to it. An IPv4 address in the form of IPv6, as a socket for both shows it, is an IPv4
    /// address; so it is in a network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (ours, bits) = match (self.address.to_canonical(), self.bits.checked_sub(96)) {
            (IpAddr::V4(mapped), Some(bits)) if self.address.is_ipv6() => (mapped.into(), bits),
            _ => (self.address, self.bits),
        };
        let same = match (ours, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (u32::from(ours) ^ u32::from(theirs)).leading_zeros()
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                (u128::from(ours) ^ u128::from(theirs)).leading_zeros()
            }
            _ => return false,
        };
        same >= u32::from(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        for (network, bits, address, inside) in [
            ("10.0.0.0", 8, "10.255.0.1", true),
            ("10.0.0.0", 8, "11.0.0.1", false),
            ("10.0.0.0", 8, "::ffff:10.1.2.3", true),
            ("192.0.2.1", 32, "192.0.2.1", true),
            ("192.0.2.1", 32, "192.0.2.2", false),
            ("0.0.0.0", 0, "203.0.113.9", true),
            ("0.0.0.0", 0, "::1", false),
            ("fd00::", 8, "fdab::1", true),
            ("fd00::", 8, "fe80::1", false),
            ("::1", 128, "::1", true),
            ("::", 0, "10.0.0.1", false),
            ("::ffff:10.0.0.0", 104, "10.1.2.3", true),
            ("::ffff:10.0.0.0", 104, "11.1.2.3", false),
        ] {
            let found = Network::parse(&format!("{network}/{bits}")).unwrap();
            assert_eq!(
                (found.address().to_string(), found.bits()),
                (network.to_owned(), bits)
            );
            assert_eq!(found.first_address(), found.address());
            assert_eq!(
                found.contains(address.parse().unwrap()),
                inside,
                "{network}/{bits} {address}"
            );
        }
        assert_eq!(Network::parse("10.0.0.1"), Network::parse("10.0.0.1/32"));
        assert_eq!(Network::parse("::1"), Network::parse("::1/128"));
        for text in ["", "/8", "10.0.0/8", "host"] {
            assert_eq!(Network::parse(text), Err(NetworkError::Address), "{text:?}");
        }
        for (text, most) in [
            ("10.0.0.0/", 32),
            ("10.0.0.0/33", 32),
            ("::/129", 128),
            ("10.0.0.0/+8", 32),
            ("10.0.0.0/8/8", 32),
        ] {
            assert_eq!(
                Network::parse(text),
                Err(NetworkError::Bits(most)),
                "{text:?}"
            );
        }
        for (text, first) in [
            ("10.1.2.3/8", "10.0.0.0"),
            ("fd01::1/8", "fd00::"),
            ("1.2.3.4/0", "0.0.0.0"),
        ] {
            let first: IpAddr = first.parse().unwrap();
            assert_eq!(
                Network::parse(text).unwrap().first_address(),
                first,
                "{text:?}"
            );
        }
    }
}
