//! Invariants of the fields that are read when an app asks, for any value:
//!
//! - nothing panics;
//! - a cookie has a name, and neither it nor an undecoded value has the separator in it;
//! - no client changes who a trusted proxy says it is, by anything that stands to the left of what the proxy wrote,
//!   in the same line or in another; and what it says of scheme and host stays unheard too;
//! - without a trusted peer no field counts.
//!
//! `cargo fuzz run request_fields -- -dict=fuzz/http.dict`

#![no_main]

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use vibora::http::cookies::cookies;
use vibora::http::fields::FieldMap;
use vibora::http::forwarded::{ForwardedFields, Origin, Peer, Trust};

const PROXY: Peer = Peer::Address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fuzz_target!(|data: &[u8]| {
    for (name, value) in cookies(data) {
        assert!(!name.is_empty());
        assert!(!name.contains(&b';') && !name.contains(&b'='));
        assert!(!matches!(value, Cow::Borrowed(octets) if octets.contains(&b';')));
    }
    let mut trust = Trust::new(ForwardedFields::ALL);
    trust.add("10.0.0.0/8").expect("a network");
    for (name, written) in [
        ("Forwarded", "for=192.0.2.1"),
        ("Forwarded", "for=\"192.0.2.1:80\", for=10.0.0.2"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-For", "192.0.2.1, 10.0.0.2"),
    ] {
        let joined = [data, b", ", written.as_bytes()].concat();
        for lines in [vec![data, written.as_bytes()], vec![&joined]] {
            let mut fields = FieldMap::new();
            for line in lines {
                if fields.append(name.as_bytes(), line).is_err() {
                    return;
                }
            }
            let expected = Origin {
                client: Some(CLIENT),
                ..Origin::default()
            };
            assert_eq!(trust.origin(PROXY, &fields), expected);
            assert_eq!(trust.origin(Peer::Address(CLIENT), &fields), expected);
        }
    }
    // The line alone: whatever comes of it is a value that its field may have.
    let mut fields = FieldMap::new();
    if fields.append(b"Forwarded", data).is_ok() && fields.append(b"X-Forwarded-Host", data).is_ok()
    {
        let host = trust.origin(PROXY, &fields).host;
        assert!(
            host.is_none_or(|host| !host.is_empty()
                && !host.contains(&b'/')
                && !host.contains(&b'@'))
        );
    }
});
