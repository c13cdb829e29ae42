//! How a server proves who it is, and whom it asks for proof: certificates, keys and options become a configuration that
//! sessions share. Messages name the file that is wrong.

use core::fmt;
use std::collections::HashMap;
use std::sync::Arc;

use ring::digest;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer, ServerName};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore, ServerConfig, version};

use super::tickets::Tickets;
use super::validity;

/// The content of a file in the PEM format (RFC 7468), and what to call it.
#[derive(Clone, Copy, Debug)]
pub struct Pem<'a> {
    /// The file's name, for messages.
    pub name: &'a str,
    /// Its content.
    pub octets: &'a [u8],
}

/// A certificate, with those between it and a root that clients know, and its private key.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The certificate first, then those that vouch for it.
    pub certificate: Pem<'a>,
    /// Its key: PKCS#8, PKCS#1 (RSA) or SEC1 (elliptic curves), not encrypted.
    pub key: Pem<'a>,
}

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked for one.
    None,
    /// They may; one that is not valid ends the handshake all the same.
    Optional,
    /// They must.
    Required,
}

/// Everything there is to decide.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// For clients that name no host, or none of the others.
    pub identity: Identity<'a>,
    /// By host name, as clients give it (RFC 6066 §3). `*.example.com` stands for one label.
    pub by_host: Vec<(&'a str, Identity<'a>)>,
    /// Whom clients' certificates have to be issued by.
    pub ca: Option<Pem<'a>>,
    /// Whether they have to show one.
    pub client_auth: ClientAuth,
    /// Whether TLS 1.2 is spoken too.
    pub tls12: bool,
    /// The protocols to choose from (RFC 7301), the best first.
    pub alpn: Vec<Vec<u8>>,
    /// What the keys of session tickets are derived from: the same for all workers, and known to nobody else.
    pub ticket_secret: &'a [u8],
    /// Seconds since 1970.
    pub clock: fn() -> u64,
}

/// What makes a configuration impossible; the message says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for ConfigError {}

/// What sessions are made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// For [`super::Session::new`].
    pub server: Arc<ServerConfig>,
    /// The certificates' files, and the last second in which each is valid, since 1970.
    pub not_after: Vec<(String, u64)>,
}

impl Config {
    /// Reads certificates and keys, and checks that they belong together.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn new(options: &Options<'_>) -> Result<Self, ConfigError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut not_after = Vec::new();
        let mut hosts = Hosts {
            default: load(&options.identity, &provider, &mut not_after)?,
            exact: HashMap::new(),
            wildcards: HashMap::new(),
        };
        for (host, identity) in &options.by_host {
            let loaded = load(identity, &provider, &mut not_after)?;
            hosts.add(host, loaded, identity.certificate.name)?;
        }
        let versions: &[_] = if options.tls12 {
            &[&version::TLS13, &version::TLS12]
        } else {
            &[&version::TLS13]
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| ConfigError(error.to_string()))?;
        let mut binding = digest::Context::new(&digest::SHA256);
        let builder = match (options.client_auth, options.ca) {
            (ClientAuth::None, _) => builder.with_no_client_auth(),
            (_, None) => {
                return Err(ConfigError(
                    "clients' certificates cannot be verified without the ca that issued them"
                        .into(),
                ));
            }
            (auth, Some(ca)) => {
                binding.update(if auth == ClientAuth::Required {
                    b"required"
                } else {
                    b"optional"
                });
                let mut roots = RootCertStore::empty();
                for certificate in certificates(ca)? {
                    binding.update(digest::digest(&digest::SHA256, &certificate).as_ref());
                    roots.add(certificate).map_err(|error| {
                        ConfigError(format!(
                            "{:?} is not a usable ca certificate: {error}",
                            ca.name
                        ))
                    })?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = if auth == ClientAuth::Optional {
                    verifier.allow_unauthenticated()
                } else {
                    verifier
                };
                let verifier = verifier
                    .build()
                    .map_err(|error| ConfigError(format!("{:?}: {error}", ca.name)))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut server = builder.with_cert_resolver(Arc::new(hosts));
        server.alpn_protocols.clone_from(&options.alpn);
        // Sessions are resumed by tickets alone: nothing is kept here for clients that may never come back.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        let binding = binding.finish();
        server.ticketer = Arc::new(Tickets::new(
            options.ticket_secret,
            binding.as_ref(),
            options.clock,
        ));
        Ok(Self {
            server: Arc::new(server),
            not_after,
        })
    }
}

/// The certificates, by host.
#[derive(Debug)]
struct Hosts {
    default: Arc<CertifiedKey>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows the first label.
    wildcards: HashMap<String, Arc<CertifiedKey>>,
}

impl Hosts {
    fn add(&mut self, host: &str, key: Arc<CertifiedKey>, file: &str) -> Result<(), ConfigError> {
        let parent = host.strip_prefix("*.");
        // A wildcard is checked with a host that it stands for.
        let example = parent.map_or_else(|| host.to_owned(), |parent| format!("any.{parent}"));
        let name = DnsName::try_from(example)
            .map_err(|_| ConfigError(format!("sni takes host names, got {host:?}")))?
            .to_lowercase_owned();
        let lowered = name.as_ref().to_owned();
        let valid = key
            .end_entity_cert()
            .and_then(ParsedCertificate::try_from)
            .and_then(|parsed| {
                rustls::client::verify_server_name(&parsed, &ServerName::DnsName(name))
            });
        if valid.is_err() {
            return Err(ConfigError(format!(
                "the certificate in {file:?} is not valid for host {host:?}"
            )));
        }
        let (table, name) = match (parent, lowered.split_once('.')) {
            (Some(_), Some((_, parent))) => (&mut self.wildcards, parent.to_owned()),
            _ => (&mut self.exact, lowered),
        };
        table.insert(name, key);
        Ok(())
    }

    fn find(&self, host: &str) -> &Arc<CertifiedKey> {
        let wildcard = || self.wildcards.get(host.split_once('.')?.1);
        self.exact
            .get(host)
            .or_else(wildcard)
            .unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Hosts {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls hands over the name in lower case.
        Some(
            hello
                .server_name()
                .map_or(&self.default, |host| self.find(host))
                .clone(),
        )
    }
}

fn load(
    identity: &Identity<'_>,
    provider: &CryptoProvider,
    not_after: &mut Vec<(String, u64)>,
) -> Result<Arc<CertifiedKey>, ConfigError> {
    let file = identity.certificate.name;
    let chain = certificates(identity.certificate)?;
    let leaf = chain
        .first()
        .ok_or_else(|| ConfigError(format!("{file:?} has no certificate")))?;
    ParsedCertificate::try_from(leaf).map_err(|error| {
        ConfigError(format!(
            "{file:?} has a certificate that cannot be used: {error}"
        ))
    })?;
    let end = validity::not_after(leaf);
    let loaded = CertifiedKey::from_der(chain, private_key(identity.key)?, provider);
    let loaded = loaded.map_err(|error| {
        ConfigError(match error {
            Error::InconsistentKeys(_) => format!(
                "the private key in {:?} does not belong to the certificate in {file:?}",
                identity.key.name
            ),
            _ => format!(
                "the private key in {:?} cannot be used: it has to be RSA (2048 to 8192 bits), ECDSA (P-256, P-384) or \
                 Ed25519",
                identity.key.name
            ),
        })
    })?;
    if let Some(end) = end {
        not_after.push((file.to_owned(), end));
    }
    Ok(Arc::new(loaded))
}

/// All sections of a file that are known.
fn sections(pem: Pem<'_>) -> Result<Vec<(SectionKind, Vec<u8>)>, ConfigError> {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.octets)
        .collect::<Result<_, _>>()
        .map_err(|error| ConfigError(format!("{:?} is not in the PEM format: {error}", pem.name)))
}

fn certificates(pem: Pem<'_>) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Vec<_> = sections(pem)?
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der))
        .collect();
    if found.is_empty() {
        let hint = if contains(pem.octets, b"PRIVATE KEY-----") {
            "; it has a private key: are certificate and key swapped?"
        } else {
            ": `-----BEGIN CERTIFICATE-----` was expected"
        };
        return Err(ConfigError(format!(
            "{:?} has no certificate{hint}",
            pem.name
        )));
    }
    Ok(found)
}

fn private_key(pem: Pem<'_>) -> Result<PrivateKeyDer<'static>, ConfigError> {
    if is_encrypted(pem.octets) {
        return Err(ConfigError(format!(
            "the private key in {:?} is encrypted: give its password",
            pem.name
        )));
    }
    sections(pem)?
        .into_iter()
        .find_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der))
        .ok_or_else(|| {
            let hint = if contains(pem.octets, b"BEGIN CERTIFICATE-----") {
                "; it has a certificate: are certificate and key swapped?"
            } else {
                ": `-----BEGIN PRIVATE KEY-----` was expected"
            };
            ConfigError(format!("{:?} has no private key{hint}", pem.name))
        })
}

/// Whether a file's private key is encrypted, in the format of PKCS#8 or in that of OpenSSL before it.
#[must_use]
pub fn is_encrypted(pem: &[u8]) -> bool {
    contains(pem, b"BEGIN ENCRYPTED PRIVATE KEY-----") || contains(pem, b"Proc-Type: 4,ENCRYPTED")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}
