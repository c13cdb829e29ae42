//! Session tickets (RFC 8446 §4.6.1, RFC 5077) that every worker of a server can open: their keys are derived from a
//! secret that the workers share, and from the time, so that they change without anything being told to anybody.

use core::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;

/// Seconds for which a key encrypts. It decrypts for as long again.
const EPOCH: u32 = 6 * 60 * 60;
/// Octets of a ticket, at most: a session holds the client's certificates.
const LONGEST: usize = 64 * 1024;

pub(super) struct Tickets {
    secret: Prk,
    random: SystemRandom,
    /// Seconds since 1970.
    clock: fn() -> u64,
}

impl Tickets {
    /// `binding` is what a ticket must have been issued under to be worth anything: who had to be authenticated, and by
    /// whom.
    pub(super) fn new(secret: &[u8], binding: &[u8], clock: fn() -> u64) -> Self {
        Self {
            secret: Salt::new(HKDF_SHA256, binding).extract(secret),
            random: SystemRandom::new(),
            clock,
        }
    }

    fn epoch(&self) -> u64 {
        (self.clock)() / u64::from(EPOCH)
    }

    fn key(&self, epoch: u64) -> Option<LessSafeKey> {
        let epoch = epoch.to_be_bytes();
        let info = [&b"vibora session ticket"[..], &epoch];
        let material = self.secret.expand(&info, &CHACHA20_POLY1305).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(material)))
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        EPOCH
    }

    /// Epoch, nonce, encrypted session, tag.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let epoch = self.epoch();
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let name = epoch.to_be_bytes();
        let mut sealed = plain.to_vec();
        self.key(epoch)?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(name),
                &mut sealed,
            )
            .ok()?;
        Some([&name[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > LONGEST {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<8>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let epoch = u64::from_be_bytes(*name);
        let now = self.epoch();
        if epoch != now && Some(epoch) != now.checked_sub(1) {
            return None;
        }
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self
            .key(epoch)?
            .open_in_place(nonce, Aad::from(*name), &mut sealed)
            .ok()?
            .len();
        sealed.truncate(length);
        Some(sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: u64 = super::EPOCH as u64;

    fn tickets(secret: &[u8], binding: &[u8], clock: fn() -> u64) -> Tickets {
        Tickets::new(secret, binding, clock)
    }

    #[test]
    fn another_worker_opens_a_ticket_in_its_epoch_and_the_next() {
        let ticket = tickets(b"secret", b"", || 10 * EPOCH + 7)
            .encrypt(b"session")
            .unwrap();
        for (clock, opens) in [
            ((|| 10 * EPOCH) as fn() -> u64, true),
            (|| 11 * EPOCH - 1, true),
            (|| 12 * EPOCH - 1, true),
            (|| 12 * EPOCH, false),
            (|| 10 * EPOCH - 1, false),
            (|| 0, false),
        ] {
            let opened = tickets(b"secret", b"", clock).decrypt(&ticket);
            assert_eq!(opened.is_some(), opens);
            assert!(opened.is_none_or(|plain| plain == b"session"));
        }
    }

    #[test]
    fn nobody_else_opens_it_and_no_bit_can_be_changed() {
        let ours = tickets(b"secret", b"a", || 5 * EPOCH);
        let ticket = ours.encrypt(b"session").unwrap();
        assert_eq!(tickets(b"other", b"a", || 5 * EPOCH).decrypt(&ticket), None);
        assert_eq!(
            tickets(b"secret", b"b", || 5 * EPOCH).decrypt(&ticket),
            None
        );
        for at in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[at] ^= 1;
            assert_eq!(ours.decrypt(&forged), None, "octet {at}");
            assert_eq!(ours.decrypt(&ticket[..at]), None, "cut at {at}");
        }
        assert_eq!(ours.decrypt(&vec![0; LONGEST + 1]), None);
        assert_ne!(
            ours.encrypt(b"session"),
            Some(ticket),
            "each has a nonce of its own"
        );
    }
}
