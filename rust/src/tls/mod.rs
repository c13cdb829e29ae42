//! TLS 1.3 and 1.2 on the server's side (RFC 8446, RFC 5246), by rustls, sans-io: octets of the connection go in, octets
//! of the application come out, and the other way round.
//!
//! A [`Session`] keeps nothing that it need not: what arrives is decrypted in a buffer that the worker's connections
//! share, and only an incomplete record stays with its connection. An idle session owns no buffer.
//!
//! Left out: early data (RFC 8446 §8: it can be replayed), renegotiation, compression, anything but AEAD ciphers with
//! forward secrecy. rustls bounds the rest: the size of a handshake, empty records, key updates and warnings in a row.

#![forbid(unsafe_code)]

pub mod config;
mod tickets;
mod validity;

use core::fmt;
use std::sync::Arc;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ProtocolVersion, ServerConfig};

/// Octets of records that are not complete, at most: a handshake message (64 KiB) and its records' headers.
const MAX_PARTIAL: usize = 80 * 1024;
/// A larger buffer than this is given back when it has been used.
const KEEP: usize = 256 * 1024;
/// Octets of an alert, encrypted, with room to spare.
const ALERT: usize = 256;

/// Why a session has ended, or cannot do what it is asked.
#[derive(Debug)]
pub enum TlsError {
    /// The peer broke a rule, or does not trust us, or we do not trust it.
    Protocol(rustls::Error),
    /// Records of the peer became too large before they were complete.
    TooLarge,
    /// The keys may encrypt nothing more, or nothing yet.
    CannotSend,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(error) => error.fmt(f),
            Self::TooLarge => f.write_str("records of the peer are too large"),
            Self::CannotSend => f.write_str("nothing can be sent over this session"),
        }
    }
}

impl core::error::Error for TlsError {}

/// What has become of the session with what arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The handshake is complete since this call.
    pub established: bool,
    /// The peer has said that it sends nothing more (`close_notify`, RFC 8446 §6.1). Said once.
    pub closed: bool,
}

/// The server's side of one TLS connection.
pub struct Session {
    connection: UnbufferedServerConnection,
    /// What has arrived and is not a whole record, or not a whole handshake message.
    partial: Vec<u8>,
    /// Records that wait to be sent: of the handshake, tickets, alerts.
    outgoing: Vec<u8>,
    established: bool,
    /// The peer has said that it sends nothing more.
    closed: bool,
}

impl Session {
    /// A session on which nothing has happened yet.
    ///
    /// # Errors
    /// [`TlsError::Protocol`] if the configuration makes no sense.
    pub fn new(config: &Arc<ServerConfig>) -> Result<Self, TlsError> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config.clone())
                .map_err(TlsError::Protocol)?,
            partial: Vec::new(),
            outgoing: Vec::new(),
            established: false,
            closed: false,
        })
    }

    /// Whether application data may be sent and received.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Whether records wait to be sent; [`Session::seal`] puts them in front.
    #[must_use]
    pub fn wants_to_send(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// The certificate that the peer has shown and that was verified, in DER.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        let certificates = self.connection.peer_certificates()?;
        certificates.first().map(AsRef::as_ref)
    }

    /// The version that was negotiated, such as `TLSv1.3`.
    #[must_use]
    pub fn version(&self) -> Option<&'static str> {
        match self.connection.protocol_version()? {
            ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
            ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
            _ => None,
        }
    }

    /// Takes what has arrived, and appends the application's octets to `plain`. `scratch` is a buffer that may be shared
    /// with other sessions; it is empty before and afterwards.
    ///
    /// # Errors
    /// [`TlsError`]; the session is over then, an alert for the peer may wait to be sent, and what was appended to
    /// `plain` was authentic.
    pub fn receive(
        &mut self,
        octets: &[u8],
        scratch: &mut Vec<u8>,
        plain: &mut Vec<u8>,
    ) -> Result<Received, TlsError> {
        if self.closed {
            // RFC 8446 §6.1: data after a closure alert must be ignored.
            return Ok(Received::default());
        }
        let shared = self.partial.is_empty();
        let mut buffer = core::mem::take(if shared { scratch } else { &mut self.partial });
        buffer.extend_from_slice(octets);
        let mut used = 0;
        let result = self.process(&mut buffer, &mut used, plain);
        let rest = buffer.get(used..).unwrap_or_default();
        if rest.len() > MAX_PARTIAL {
            return Err(TlsError::TooLarge);
        }
        if shared {
            self.partial.extend_from_slice(rest);
            buffer.clear();
            if buffer.capacity() > KEEP {
                buffer.shrink_to(KEEP);
            }
            *scratch = buffer;
        } else if rest.is_empty() || buffer.capacity() > KEEP {
            self.partial = rest.to_vec();
        } else {
            buffer.drain(..used);
            self.partial = buffer;
        }
        result
    }

    fn process(
        &mut self,
        buffer: &mut [u8],
        used: &mut usize,
        plain: &mut Vec<u8>,
    ) -> Result<Received, TlsError> {
        let mut received = Received::default();
        loop {
            let input = buffer.get_mut(*used..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(input);
            let mut blocked = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut records)) => {
                    while let Some(record) = records.next_record() {
                        let record = record.map_err(TlsError::Protocol)?;
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut self.outgoing, |space| data.encode(space));
                }
                // What has been encoded is sent when `receive` has returned.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.closed = true,
                // BlockedHandshake, WriteTraffic, Closed; early data is not accepted.
                Ok(_) => blocked = true,
                Err(error) => {
                    *used += discard;
                    self.take_alerts(buffer.get_mut(*used..).unwrap_or_default());
                    *used = buffer.len();
                    return Err(TlsError::Protocol(error));
                }
            }
            *used += discard;
            if blocked {
                break;
            }
        }
        if self.closed {
            received.closed = true;
            *used = buffer.len();
        }
        if !self.established && !self.connection.is_handshaking() {
            self.established = true;
            received.established = true;
        }
        Ok(received)
    }

    /// After an error: what rustls has to say to the peer, and nothing else of it.
    fn take_alerts(&mut self, input: &mut [u8]) {
        while self.connection.wants_write() {
            match self.connection.process_tls_records(input).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut self.outgoing, |space| data.encode(space));
                }
                _ => return,
            }
        }
    }

    /// Lets `work` write application data, if the session is at a point where it may.
    fn write<T>(
        &mut self,
        work: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>) -> T,
    ) -> Result<T, TlsError> {
        // Each turn takes a step of a few that lie between a complete handshake and writing.
        for _ in 0..8 {
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut self.partial);
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => return Ok(work(&mut traffic)),
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut self.outgoing, |space| data.encode(space));
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => {}
                _ => return Err(TlsError::CannotSend),
            }
            if discard > 0 {
                self.partial.drain(..discard.min(self.partial.len()));
            }
        }
        Err(TlsError::CannotSend)
    }

    /// How many octets [`Session::seal`] will make of these.
    ///
    /// # Errors
    /// [`TlsError::CannotSend`] before the handshake is complete, and when the keys are used up.
    pub fn sealed_size(&mut self, plain: &[u8]) -> Result<usize, TlsError> {
        if plain.is_empty() {
            return Ok(self.outgoing.len());
        }
        let size = match self.write(|traffic| traffic.encrypt(plain, &mut []))? {
            Ok(size) => size,
            Err(EncryptError::InsufficientSize(error)) => error.required_size,
            Err(EncryptError::EncryptExhausted) => return Err(TlsError::CannotSend),
        };
        Ok(self.outgoing.len() + size)
    }

    /// Encrypts application data into `out`, behind the records that wait to be sent. `out` is as long as
    /// [`Session::sealed_size`] has said.
    ///
    /// # Errors
    /// [`TlsError::CannotSend`] as there, and if `out` has another length.
    pub fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<(), TlsError> {
        let outgoing = core::mem::take(&mut self.outgoing);
        let (front, back) = out
            .split_at_mut_checked(outgoing.len())
            .ok_or(TlsError::CannotSend)?;
        front.copy_from_slice(&outgoing);
        let written = if plain.is_empty() {
            0
        } else {
            self.write(|traffic| traffic.encrypt(plain, back))?
                .map_err(|_| TlsError::CannotSend)?
        };
        if written == back.len() && self.outgoing.is_empty() {
            Ok(())
        } else {
            Err(TlsError::CannotSend)
        }
    }

    /// Tells the peer that nothing more will be sent (RFC 8446 §6.1, RFC 9112 §9.8): a record that waits to be sent.
    /// Does nothing before the handshake is complete, after an error, and the second time.
    pub fn close(&mut self) {
        if !self.established {
            return;
        }
        let mut alert = [0; ALERT];
        if let Ok(Ok(length)) = self.write(|traffic| traffic.queue_close_notify(&mut alert)) {
            let alert = alert.get(..length).unwrap_or_default();
            self.outgoing.extend_from_slice(alert);
        }
    }
}

/// Appends a record that rustls encodes into a slice: it says how long that must be.
fn encode(out: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let start = out.len();
    let Err(EncodeError::InsufficientSize(error)) = encode(&mut []) else {
        return;
    };
    out.resize(start + error.required_size, 0);
    let written = encode(out.get_mut(start..).unwrap_or_default()).unwrap_or(0);
    out.truncate(start + written);
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("established", &self.established)
            .field("partial", &self.partial.len())
            .field("outgoing", &self.outgoing.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
