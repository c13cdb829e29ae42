//! Sessions against rustls's own client, in memory: whole, and with every octet arriving alone.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, version};

use super::config::{ClientAuth, Config, Identity, Options, Pem};
use super::*;

macro_rules! pem {
    ($name:literal) => {
        Pem {
            name: $name,
            octets: include_bytes!(concat!("testdata/", $name)),
        }
    };
}

const SERVER: Identity<'static> = Identity {
    certificate: pem!("server.pem"),
    key: pem!("server.key"),
};
const OTHER: Identity<'static> = Identity {
    certificate: pem!("other.pem"),
    key: pem!("other.key"),
};

fn options() -> Options<'static> {
    Options {
        identity: SERVER,
        by_host: Vec::new(),
        ca: None,
        client_auth: ClientAuth::None,
        tls12: true,
        alpn: vec![b"http/1.1".to_vec()],
        ticket_secret: b"secret",
        clock: || 1_800_000_000,
    }
}

fn server(options: &Options<'_>) -> Session {
    Session::new(&Config::new(options).unwrap().server).unwrap()
}

/// A client that trusts the test's authority, and may show a certificate.
fn client_config(tls12: bool, shows: bool) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(pem!("ca.pem").octets).unwrap();
    roots.add(ca).unwrap();
    let versions: &[_] = if tls12 {
        &[&version::TLS12]
    } else {
        &[&version::TLS13]
    };
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
    if shows {
        let chain = CertificateDer::from_pem_slice(pem!("client.pem").octets).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pem!("client.key").octets).unwrap();
        builder.with_client_auth_cert(vec![chain], key).unwrap()
    } else {
        builder.with_no_client_auth()
    }
}

fn client(config: &Arc<ClientConfig>, host: &'static str) -> ClientConnection {
    ClientConnection::new(config.clone(), host.try_into().unwrap()).unwrap()
}

/// Client and server, and how the octets between them are cut.
struct Pair {
    server: Session,
    client: ClientConnection,
    piece: usize,
    scratch: Vec<u8>,
    /// What the server has received.
    plain: Vec<u8>,
    received: Received,
}

impl Pair {
    fn new(server: Session, client: ClientConnection, piece: usize) -> Self {
        Self {
            server,
            client,
            piece,
            scratch: Vec::new(),
            plain: Vec::new(),
            received: Received::default(),
        }
    }

    fn send_up(&mut self) -> Result<(), TlsError> {
        let mut wire = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut wire).unwrap();
        }
        self.deliver(&wire)
    }

    fn deliver(&mut self, wire: &[u8]) -> Result<(), TlsError> {
        for piece in wire.chunks(self.piece) {
            let received = self
                .server
                .receive(piece, &mut self.scratch, &mut self.plain)?;
            self.received.established |= received.established;
            self.received.closed |= received.closed;
            assert!(self.scratch.is_empty());
        }
        Ok(())
    }

    fn send_down(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut wire = vec![0; self.server.sealed_size(plain).unwrap()];
        self.server.seal(plain, &mut wire).unwrap();
        let mut text = Vec::new();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).unwrap();
            self.client.process_new_packets().unwrap();
            let mut piece = vec![0; 65536];
            while let Ok(length @ 1..) = self.client.reader().read(&mut piece) {
                text.extend_from_slice(&piece[..length]);
            }
        }
        text
    }

    fn handshake(&mut self) -> Result<(), TlsError> {
        while self.client.is_handshaking() || self.client.wants_write() {
            self.send_up()?;
            self.send_down(b"");
        }
        Ok(())
    }
}

fn established(tls12: bool, piece: usize) -> Pair {
    let client = client(&Arc::new(client_config(tls12, false)), "localhost");
    let mut pair = Pair::new(server(&options()), client, piece);
    assert!(!pair.server.is_established());
    pair.handshake().unwrap();
    assert!(pair.server.is_established() && pair.received.established);
    pair
}

#[test]
fn both_versions_carry_data_both_ways_however_it_is_cut() {
    for (tls12, name) in [(false, "TLSv1.3"), (true, "TLSv1.2")] {
        for piece in [1, 2, 7, 1000, 1 << 20] {
            let mut pair = established(tls12, piece);
            assert_eq!(pair.server.version(), Some(name));
            assert_eq!(pair.server.peer_certificate(), None);
            pair.client.writer().write_all(b"GET / ").unwrap();
            pair.send_up().unwrap();
            pair.client.writer().write_all(b"HTTP/1.1").unwrap();
            pair.send_up().unwrap();
            assert_eq!(pair.plain, b"GET / HTTP/1.1");
            assert_eq!(pair.send_down(b"HTTP/1.1 200 OK"), b"HTTP/1.1 200 OK");
            assert_eq!(
                pair.server.partial.capacity(),
                0,
                "an idle session has no buffer"
            );
            assert_eq!(pair.server.outgoing.capacity(), 0);
        }
    }
}

#[test]
fn more_than_a_record_is_several_records() {
    for tls12 in [false, true] {
        for size in [1, 16_383, 16_384, 16_385, 70_000] {
            let mut pair = established(tls12, 4096);
            let data: Vec<u8> = (0..=250).cycle().take(size).collect();
            assert!(pair.send_down(&data) == data, "{size} octets to the client");
            let mut sent = 0;
            while sent < size {
                sent += pair.client.writer().write(&data[sent..]).unwrap();
                pair.send_up().unwrap();
            }
            assert!(pair.plain == data, "{size} octets to the server");
        }
    }
}

#[test]
fn the_end_of_the_peer_is_told_once_and_what_follows_is_ignored() {
    for tls12 in [false, true] {
        for piece in [1, 1 << 20] {
            let mut pair = established(tls12, piece);
            pair.client.writer().write_all(b"last words").unwrap();
            pair.client.send_close_notify();
            pair.send_up().unwrap();
            assert_eq!(
                (&pair.plain[..], pair.received.closed),
                (&b"last words"[..], true)
            );
            let again = pair
                .server
                .receive(b"anything", &mut pair.scratch, &mut pair.plain);
            assert_eq!(again.unwrap(), Received::default());
            assert_eq!(
                pair.send_down(b"answer"),
                b"answer",
                "the other half is open"
            );
        }
    }
}

#[test]
fn closing_tells_the_peer_once() {
    for tls12 in [false, true] {
        let mut pair = established(tls12, 1 << 20);
        assert!(!pair.server.wants_to_send());
        pair.server.close();
        assert!(pair.server.wants_to_send());
        pair.send_down(b"");
        assert!(!pair.client.wants_read(), "close_notify has arrived");
        pair.server.close();
        assert!(!pair.server.wants_to_send());
    }
    let mut fresh = server(&options());
    fresh.close();
    assert!(!fresh.wants_to_send(), "there is nothing to end yet");
    assert!(fresh.sealed_size(b"too early").is_err());
}

#[test]
fn a_changed_octet_ends_the_session_with_an_alert() {
    for tls12 in [false, true] {
        for piece in [1, 1 << 20] {
            let mut pair = established(tls12, piece);
            pair.client.writer().write_all(b"GET / HTTP/1.1").unwrap();
            let mut wire = Vec::new();
            pair.client.write_tls(&mut wire).unwrap();
            *wire.last_mut().unwrap() ^= 1;
            assert!(matches!(pair.deliver(&wire), Err(TlsError::Protocol(_))));
            assert!(pair.plain.is_empty());
            assert!(pair.server.wants_to_send());
        }
    }
}

#[test]
fn what_is_not_tls_is_refused_with_an_alert() {
    for octets in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 100],
        &[0x16, 3, 1, 0xff, 0xff, 1],
    ] {
        let mut session = server(&options());
        let refused = session.receive(octets, &mut Vec::new(), &mut Vec::new());
        assert!(refused.is_err(), "{octets:?}");
        assert_eq!(session.outgoing.first(), Some(&0x15), "{octets:?}");
    }
}

#[test]
fn a_hello_that_never_ends_is_bounded() {
    let mut session = server(&options());
    let (mut scratch, mut plain) = (Vec::new(), Vec::new());
    // A handshake message of 16 MB, in records of 16 KB.
    let mut first = vec![0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    first.resize(5 + 0x4000, 0);
    let mut next = vec![0x16, 3, 1, 0x40, 0];
    next.resize(5 + 0x4000, 0);
    let mut given = first.len();
    let mut result = session.receive(&first, &mut scratch, &mut plain);
    while result.is_ok() {
        assert!(given < 200_000, "{session:?}");
        given += next.len();
        result = session.receive(&next, &mut scratch, &mut plain);
    }
}

#[test]
fn a_session_is_resumed_by_any_worker() {
    for tls12 in [false, true] {
        let config = Arc::new(client_config(tls12, false));
        let mut kinds = Vec::new();
        for _ in 0..2 {
            // Each time a configuration of its own, as each worker has.
            let mut pair = Pair::new(server(&options()), client(&config, "localhost"), 1 << 20);
            pair.handshake().unwrap();
            pair.send_down(b"x");
            kinds.push(pair.client.handshake_kind());
        }
        assert_eq!(
            kinds,
            [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]
        );
    }
}

#[test]
fn a_session_without_a_certificate_is_no_way_around_one() {
    let config = Arc::new(client_config(false, true));
    let asked = |client_auth, ca| Options {
        ca,
        client_auth,
        ..options()
    };
    let mut pair = Pair::new(server(&options()), client(&config, "localhost"), 1 << 20);
    pair.handshake().unwrap();
    pair.send_down(b"x");
    let options = asked(ClientAuth::Required, Some(pem!("ca.pem")));
    let mut pair = Pair::new(server(&options), client(&config, "localhost"), 1 << 20);
    pair.handshake().unwrap();
    assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Full));
    assert!(pair.server.peer_certificate().is_some());
}

#[test]
fn clients_show_a_certificate_where_they_are_asked() {
    use ClientAuth::{Optional, Required};
    for tls12 in [false, true] {
        for (client_auth, shows, passes) in [
            (Optional, true, true),
            (Optional, false, true),
            (Required, true, true),
            (Required, false, false),
        ] {
            let options = Options {
                client_auth,
                ca: Some(pem!("ca.pem")),
                ..options()
            };
            let mut config = client_config(tls12, shows);
            config.resumption = Resumption::disabled();
            let client = client(&Arc::new(config), "localhost");
            let mut pair = Pair::new(server(&options), client, 1 << 20);
            let passed = pair.handshake().is_ok();
            assert_eq!(passed, passes, "{client_auth:?} {shows}");
            assert_eq!(pair.server.is_established(), passes);
            assert_eq!(pair.server.peer_certificate().is_some(), shows);
            assert_eq!(pair.server.wants_to_send(), !passes, "an alert says why");
        }
    }
}

#[test]
fn the_host_chooses_the_certificate() {
    let wildcard = ("*.example.test", SERVER);
    let options = Options {
        identity: OTHER,
        by_host: vec![("localhost", SERVER), wildcard],
        ..options()
    };
    for (host, passes) in [
        ("localhost", true),
        ("LOCALHOST", true),
        ("a.example.test", true),
        ("A.Example.Test", true),
        ("a.b.example.test", false),
        ("example.test", false),
        ("other.test", true),
        ("unknown.test", false),
    ] {
        let client = client(&Arc::new(client_config(false, false)), host);
        let mut pair = Pair::new(server(&options), client, 1 << 20);
        pair.send_up().unwrap();
        let mut wire = vec![0; pair.server.sealed_size(b"").unwrap()];
        pair.server.seal(b"", &mut wire).unwrap();
        pair.client.read_tls(&mut &wire[..]).unwrap();
        assert_eq!(pair.client.process_new_packets().is_ok(), passes, "{host}");
    }
}

#[test]
fn a_protocol_that_is_not_spoken_is_refused() {
    for (alpn, passes) in [
        (&[][..], true),
        (&["h2", "http/1.1"], true),
        (&["h2"], false),
    ] {
        let mut config = client_config(false, false);
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let client = client(&Arc::new(config), "localhost");
        let mut pair = Pair::new(server(&options()), client, 1 << 20);
        assert_eq!(pair.send_up().is_ok(), passes, "{alpn:?}");
    }
}

#[test]
fn tls_1_2_can_be_switched_off() {
    let client = client(&Arc::new(client_config(true, false)), "localhost");
    let mut pair = Pair::new(
        server(&Options {
            tls12: false,
            ..options()
        }),
        client,
        1 << 20,
    );
    assert!(pair.send_up().is_err());
    assert!(pair.server.wants_to_send());
}

#[test]
fn keys_come_in_three_formats() {
    let sec1 = Identity {
        key: pem!("server.sec1.key"),
        ..SERVER
    };
    assert!(
        Config::new(&Options {
            identity: sec1,
            ..options()
        })
        .is_ok()
    );
    let rsa = Identity {
        key: pem!("rsa.pkcs1.key"),
        ..SERVER
    };
    let error = Config::new(&Options {
        identity: rsa,
        ..options()
    })
    .unwrap_err();
    assert!(error.to_string().contains("does not belong"), "{error}");
}

#[test]
fn messages_name_the_file_and_what_is_wrong_with_it() {
    let empty = Pem {
        name: "empty.pem",
        octets: b"",
    };
    let binary = Pem {
        name: "a.der",
        octets: &[0x30, 0x82, 0, 1],
    };
    let cut = Pem {
        name: "cut.pem",
        octets: b"-----BEGIN CERTIFICATE-----\nMIIB\n",
    };
    let odd = Pem {
        name: "odd.pem",
        octets: b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    };
    let nonsense = Pem {
        name: "odd.key",
        octets: b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n",
    };
    let ours = |certificate, key| Options {
        identity: Identity { certificate, key },
        ..options()
    };
    let (certificate, key) = (SERVER.certificate, SERVER.key);
    let sni = |host| Options {
        by_host: vec![(host, SERVER)],
        ..options()
    };
    let auth = |ca| Options {
        client_auth: ClientAuth::Required,
        ca,
        ..options()
    };
    for (options, parts) in [
        (ours(empty, key), ["\"empty.pem\"", "no certificate"]),
        (ours(binary, key), ["\"a.der\"", "BEGIN CERTIFICATE"]),
        (ours(cut, key), ["\"cut.pem\"", "PEM"]),
        (ours(odd, key), ["\"odd.pem\"", "cannot be used"]),
        (ours(key, certificate), ["\"server.key\"", "swapped"]),
        (
            ours(certificate, certificate),
            ["\"server.pem\"", "swapped"],
        ),
        (
            ours(certificate, empty),
            ["\"empty.pem\"", "no private key"],
        ),
        (
            ours(certificate, nonsense),
            ["\"odd.key\"", "cannot be used"],
        ),
        (
            ours(certificate, OTHER.key),
            ["\"other.key\"", "\"server.pem\""],
        ),
        (
            ours(certificate, pem!("server.encrypted.key")),
            ["\"server.encrypted.key\"", "password"],
        ),
        (sni("other.test"), ["\"server.pem\"", "\"other.test\""]),
        (sni("not a host"), ["host names", "\"not a host\""]),
        (sni("*.*.test"), ["host names", "\"*.*.test\""]),
        (auth(None), ["ca", "verified"]),
        (auth(Some(key)), ["\"server.key\"", "no certificate"]),
    ] {
        let message = Config::new(&options).unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "{message:?} has no {part:?}");
        }
    }
}

#[test]
fn it_is_known_until_when_certificates_are_valid() {
    let options = Options {
        by_host: vec![("other.test", OTHER)],
        ..options()
    };
    let ends = Config::new(&options).unwrap().not_after;
    let files: Vec<&str> = ends.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(files, ["server.pem", "other.pem"]);
    // The hundred years that the test's certificates have.
    assert!(
        ends.iter()
            .all(|(_, end)| (4_940_000_000..4_960_000_000).contains(end)),
        "{ends:?}"
    );
}
