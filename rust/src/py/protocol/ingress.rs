//! What stands between the transport and HTTP, on the connections that have it: a header of the PROXY protocol, which
//! comes first and once, and TLS, under which everything goes on.
//!
//! A connection without either has no [`Ingress`], and pays one branch. A large response is encrypted as the client
//! reads it: what waits is the app's own `bytes`, not a copy for each client.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{Caller, Cancelled, Protocol, State};
use crate::http::connection::Outgoing;
use crate::http::deadlines::TimerKind;
use crate::http::proxy::{MAX_V2, parse_proxy};
use crate::py::server::Server;
use crate::tls::{Session, TlsError};

/// How much is encrypted at a time: eight records.
const PIECE: usize = 128 * 1024;
/// Up to this much is encrypted when it is handed over, whether the client reads or not.
pub(super) const SEALED_AT_ONCE: usize = 2 * PIECE;
/// A buffer for decrypted octets that is larger than this is given back.
const KEEP: usize = 256 * 1024;

pub(super) struct Ingress {
    /// What has come of a PROXY header that is awaited.
    header: Option<Vec<u8>>,
    tls: Option<Tls>,
}

struct Tls {
    session: Session,
    /// Something has arrived.
    begun: bool,
    /// Octets to encrypt when the client has read, and where to go on in the first.
    backlog: VecDeque<(Py<PyBytes>, usize)>,
    waiting: usize,
    /// The connection closes when the backlog is sent.
    closes: bool,
}

impl Tls {
    /// Encrypts octets behind the records that wait to be sent.
    fn seal<'py>(&mut self, py: Python<'py>, plain: &[u8]) -> Option<Bound<'py, PyBytes>> {
        let size = self.session.sealed_size(plain).ok()?;
        let mut sealed = Ok(());
        let data = PyBytes::new_with(py, size, |space| {
            sealed = self.session.seal(plain, space);
            Ok(())
        });
        sealed.ok().and(data.ok())
    }
}

/// The buffers that TLS needs while it works, shared by a worker's connections.
#[derive(Default)]
pub(crate) struct Buffers {
    /// Encrypted octets.
    sealed: Vec<u8>,
    /// Decrypted octets.
    plain: Vec<u8>,
}

/// What was made of some octets that had to be written.
enum Sealed<'py> {
    /// Write this.
    Now(Bound<'py, PyBytes>),
    /// It is written when its turn has come.
    Later,
    /// The session is at its end.
    Failed,
}

impl Ingress {
    /// What a new connection needs, if anything.
    pub(super) fn new(
        py: Python<'_>,
        server: &Server,
        caller: &Caller,
    ) -> Result<Option<Box<Self>>, TlsError> {
        let tls = match &server.tls {
            Some(context) => Some(Tls {
                session: Session::new(&context.get().server(py))?,
                begun: false,
                backlog: VecDeque::new(),
                waiting: 0,
                closes: false,
            }),
            None => None,
        };
        let trusted = server.proxied.as_ref();
        let header = trusted
            .filter(|trusted| trusted.contain(caller))
            .map(|_| Vec::new());
        Ok((header.is_some() || tls.is_some()).then(|| Box::new(Self { header, tls })))
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Encrypts what has been encoded.
    fn seal<'py>(&mut self, py: Python<'py>, plain: &[u8]) -> Sealed<'py> {
        let Some(tls) = &mut self.tls else {
            // Nothing is answered before the PROXY header is complete.
            return Sealed::Failed;
        };
        if tls.backlog.is_empty() && plain.len() <= SEALED_AT_ONCE + PIECE {
            return tls.seal(py, plain).map_or(Sealed::Failed, Sealed::Now);
        }
        self.defer(PyBytes::new(py, plain));
        Sealed::Later
    }

    /// Has octets encrypted when their turn has come.
    pub(super) fn defer(&mut self, plain: Bound<'_, PyBytes>) {
        if let Some(tls) = &mut self.tls {
            tls.waiting += plain.as_bytes().len();
            tls.backlog.push_back((plain.unbind(), 0));
        }
    }
}

impl State {
    /// Where everything ends that has been handed over to be written. TLS makes a little more of it; a deadline for less
    /// than all is not one that can be missed by mistake.
    pub(super) fn handed_over(&self) -> u64 {
        self.written + self.unsealed()
    }

    /// Octets that wait to be encrypted.
    pub(super) fn unsealed(&self) -> u64 {
        let tls = self
            .ingress
            .as_ref()
            .and_then(|ingress| ingress.tls.as_ref());
        tls.map_or(0, |tls| tls.waiting as u64)
    }
}

impl Protocol {
    /// What has arrived on a connection with an [`Ingress`].
    pub(super) fn admit(slf: &Bound<'_, Self>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let joined;
        let mut octets = data.as_bytes();
        let header = {
            let mut state = this.state.borrow(py);
            if state.transport.is_none() || state.closing && state.core.is_closed() {
                return Ok(());
            }
            let header = state
                .ingress
                .as_mut()
                .and_then(|ingress| ingress.header.take());
            header.map(|mut header| {
                header.extend_from_slice(octets);
                header
            })
        };
        if let Some(header) = header {
            joined = header;
            match parse_proxy(&joined) {
                Ok(Some(proxied)) => {
                    octets = joined.get(proxied.len..).unwrap_or_default();
                    let mut state = this.state.borrow(py);
                    let secure = state
                        .ingress
                        .as_ref()
                        .is_some_and(|ingress| ingress.is_tls());
                    if let Some(client) = proxied.client {
                        state.caller = Some(Arc::new(Caller {
                            address: Some((client.ip().to_canonical().to_string(), client.port())),
                            unix_socket: false,
                            secure,
                        }));
                    }
                    if !secure {
                        state.ingress = None;
                    }
                }
                Ok(None) => {
                    let mut state = this.state.borrow(py);
                    if let Some(ingress) = &mut state.ingress {
                        debug_assert!(joined.len() < MAX_V2);
                        ingress.header = Some(joined);
                    }
                    return Ok(());
                }
                Err(error) => return Self::turn_away(slf, &format!("proxy protocol: {error}")),
            }
            if octets.is_empty() {
                return Ok(());
            }
            if this.state.borrow(py).ingress.is_none() {
                return Self::pump(slf, octets, None);
            }
        }
        Self::decrypt(slf, octets)
    }

    fn decrypt(slf: &Bound<'_, Self>, octets: &[u8]) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let server = this.server.get();
        let mut plain = mem::take(&mut server.buffers.borrow(py).plain);
        let received = {
            let mut state = this.state.borrow(py);
            let tls = state
                .ingress
                .as_mut()
                .and_then(|ingress| ingress.tls.as_mut());
            let Some(tls) = tls else {
                return Ok(());
            };
            if !mem::replace(&mut tls.begun, true)
                && octets.first().is_some_and(u8::is_ascii_uppercase)
            {
                None
            } else {
                let mut buffers = server.buffers.borrow(py);
                let received = tls.session.receive(octets, &mut buffers.sealed, &mut plain);
                if received.as_ref().is_ok_and(|received| received.established) {
                    let certificate = tls.session.peer_certificate();
                    let certificate = certificate.map(|der| PyBytes::new(py, der).unbind());
                    state.certificate = certificate;
                }
                Some(received)
            }
        };
        let received = match received {
            Some(Ok(received)) => received,
            Some(Err(error)) => return Self::turn_away(slf, &format!("tls: {error}")),
            None => return Self::refuse_plain_http(slf),
        };
        if plain.is_empty() {
            this.send_records(py)?;
        } else {
            Self::pump(slf, &plain, None)?;
            plain.clear();
            plain.shrink_to(KEEP);
        }
        server.buffers.borrow(py).plain = plain;
        // What belongs to no response, such as tickets, has left with one, or leaves now.
        this.send_records(py)?;
        if received.closed {
            return Self::finished(slf);
        }
        Ok(())
    }

    /// The peer does not get as far as HTTP, or breaks the encryption: it is told so if TLS knows how, and the
    /// connection ends.
    fn turn_away(slf: &Bound<'_, Self>, why: &str) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let caller = this.caller(py)?;
        let client = caller
            .address
            .as_ref()
            .map_or_else(|| "-".to_owned(), |(host, port)| format!("{host}:{port}"));
        let message = format!("{why}; client {client}: connection closed");
        this.server.get().log(py, "debug", &message, None);
        this.send_records(py)?;
        {
            let mut state = this.state.borrow(py);
            state.core.close();
            state.ingress = None;
        }
        this.cancel(py, Cancelled::Disconnected)?;
        this.disconnected(py)?;
        this.close(py)?;
        this.arm(py)
    }

    /// Somebody speaks HTTP where TLS is spoken: they learn it in words that they understand.
    fn refuse_plain_http(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let server = this.server.get();
        let date = server.date(py);
        {
            let mut state = this.state.borrow(py);
            state.ingress = None;
            state.core.refuse();
            let response = Outgoing {
                status: 400,
                fields: None,
                content_type: Some(b"text/plain; charset=utf-8"),
            };
            // It cannot fail: nothing has been answered here before.
            let _ = state.core.send_response(
                &mut server.out.borrow(py),
                &response,
                b"This port speaks TLS: the URL begins with https://\n",
                &date,
                &server.http,
            );
        }
        Self::settle(slf)
    }

    /// Encrypts and writes what has been encoded. Returns how many bytes that were.
    pub(super) fn flush_sealed(&self, py: Python<'_>) -> PyResult<usize> {
        let (write, sealed, length) = {
            let mut out = self.server.get().out.borrow(py);
            let length = out.len();
            let mut state = self.state.borrow(py);
            let write = state.write.as_ref().map(|write| write.clone_ref(py));
            let sealed = match &mut state.ingress {
                Some(ingress) if write.is_some() => ingress.seal(py, &out),
                _ => Sealed::Later,
            };
            if let Sealed::Now(data) = &sealed {
                state.written += data.as_bytes().len() as u64;
            }
            out.clear();
            if out.capacity() > KEEP {
                out.shrink_to(KEEP / 4);
            }
            (write, sealed, length)
        };
        let Some(write) = write else {
            return Ok(length);
        };
        match sealed {
            Sealed::Now(data) => write.call1(py, (data,)).map(drop)?,
            Sealed::Later => self.send_backlog(py)?,
            Sealed::Failed => self.abort(py),
        }
        Ok(length)
    }

    /// Writes what TLS itself has to say, if anything.
    pub(super) fn send_records(&self, py: Python<'_>) -> PyResult<()> {
        let (write, data) = {
            let mut state = self.state.borrow(py);
            let State {
                ingress,
                write,
                written,
                ..
            } = &mut *state;
            let tls = ingress.as_mut().and_then(|ingress| ingress.tls.as_mut());
            let (Some(tls), Some(write)) = (tls, write.as_ref()) else {
                return Ok(());
            };
            if !tls.session.wants_to_send() {
                return Ok(());
            }
            let Some(data) = tls.seal(py, b"") else {
                return Ok(());
            };
            *written += data.as_bytes().len() as u64;
            (write.clone_ref(py), data)
        };
        write.call1(py, (data,)).map(drop)
    }

    /// Encrypts and writes what waits for it, as far as the client reads.
    pub(super) fn send_backlog(&self, py: Python<'_>) -> PyResult<()> {
        loop {
            let (write, data) = {
                let mut state = self.state.borrow(py);
                let State {
                    ingress,
                    write,
                    written,
                    writing_paused,
                    ..
                } = &mut *state;
                let tls = ingress.as_mut().and_then(|ingress| ingress.tls.as_mut());
                let (Some(tls), Some(write), false) = (tls, write.as_ref(), *writing_paused) else {
                    return Ok(());
                };
                let Some((content, start)) = tls.backlog.pop_front() else {
                    let closes = mem::take(&mut tls.closes);
                    drop(state);
                    return if closes { self.close(py) } else { Ok(()) };
                };
                let rest = content.as_bytes(py).get(start..).unwrap_or_default();
                let piece = rest.get(..PIECE).unwrap_or(rest);
                let data = tls.seal(py, piece);
                tls.waiting -= piece.len();
                if piece.len() < rest.len() {
                    let start = start + piece.len();
                    tls.backlog.push_front((content, start));
                }
                if let Some(data) = &data {
                    *written += data.as_bytes().len() as u64;
                }
                (write.clone_ref(py), data)
            };
            let Some(data) = data else {
                self.abort(py);
                return Ok(());
            };
            write.call1(py, (data,))?;
        }
    }

    /// Whether the connection has to wait with its close for octets that are not encrypted yet; then it closes by itself.
    pub(super) fn closes_later(&self, py: Python<'_>) -> bool {
        let mut state = self.state.borrow(py);
        let waits = state.unsealed() > 0;
        if waits {
            if let Some(tls) = state
                .ingress
                .as_mut()
                .and_then(|ingress| ingress.tls.as_mut())
            {
                tls.closes = true;
            }
            state.deadlines.clear(TimerKind::Head);
            state.deadlines.clear(TimerKind::KeepAlive);
        }
        waits
    }

    /// Tells the peer that nothing more follows (RFC 9112 §9.8), where TLS is spoken.
    pub(super) fn farewell(&self, py: Python<'_>) -> PyResult<()> {
        {
            let mut state = self.state.borrow(py);
            match state
                .ingress
                .as_mut()
                .and_then(|ingress| ingress.tls.as_mut())
            {
                Some(tls) => tls.session.close(),
                None => return Ok(()),
            }
        }
        self.send_records(py)
    }

    /// Whether the connection is encrypted by us.
    pub(crate) fn is_tls(&self, py: Python<'_>) -> bool {
        self.state
            .borrow(py)
            .ingress
            .as_ref()
            .is_some_and(|ingress| ingress.is_tls())
    }

    /// The certificate that the client has shown, in DER.
    pub(crate) fn client_certificate(&self, py: Python<'_>) -> PyResult<Option<Py<PyBytes>>> {
        let known = self
            .state
            .borrow(py)
            .certificate
            .as_ref()
            .map(|der| der.clone_ref(py));
        if known.is_some() || self.is_tls(py) {
            return Ok(known);
        }
        // Or the loop encrypts, with a context of the user's.
        let Some(transport) = self.transport(py) else {
            return Ok(None);
        };
        let session = transport
            .bind(py)
            .call_method1("get_extra_info", ("ssl_object",))?;
        if session.is_none() {
            return Ok(None);
        }
        let der = session.call_method1("getpeercert", (true,))?;
        Ok(der.extract()?)
    }
}
