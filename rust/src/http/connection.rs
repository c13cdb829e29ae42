//! The state machine of one HTTP/1.1 connection, on the server's side (RFC 9112).
//!
//! A pure value: bytes go in through [`Connection::next_event`], events come out; responses go in through
//! [`Connection::send_response`] and its siblings, bytes come out into the caller's buffer. It owns no socket and
//! reads no clock, and it keeps no copy of what it has parsed: a partial head stays with the caller.
//!
//! Two enums say all there is to say: what may arrive next, and what may be sent next.
//!
//! ```text
//!   receiving                                  sending
//!
//!   Head ──request without content──▶ Done     Idle ──request──▶ Head ──send_response──▶ (end)
//!    │                                 ▲        ▲                 │
//!    └──request with content──▶ Body ──┘        │                 └─send_head─▶ Content ─finish─▶ (end)
//!                                 │             │
//!   any ──error, close──▶ Closed  └(discard)    └── (end): Idle when the connection persists, else Closed
//! ```
//!
//! Laws:
//! - one exchange at a time: a pipelined request is not parsed before its predecessor's response has ended, so
//!   responses leave in the order of the requests (RFC 9112 §9.3.2);
//! - after an error or a close nothing more is parsed (§9.6);
//! - a response that ends before its request's content has arrived leaves the connection usable only when the rest
//!   can be discarded within [`Limits::max_discard`] bytes (§9.3).

use super::body::{BodyDecoder, BodyEvent, BodyLimits, Framing};
use super::fields::{FieldMap, KnownFields};
use super::head::{HeadLimits, Method, RequestHead, Version, parse_head};
use super::response::{
    BodyLength, Persistence, ResponseHead, encode_chunk, encode_chunk_header, encode_head,
    encode_interim, encode_last_chunk,
};
use crate::error::ProtocolError;

/// The bounds of a connection, in bytes unless said otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bounds of the request line and the header section.
    pub head: HeadLimits,
    /// Bounds of chunk extensions and trailers.
    pub body: BodyLimits,
    /// How much unread content is thrown away to keep a connection usable after an early response.
    pub max_discard: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            body: BodyLimits::default(),
            max_discard: 64 * 1024,
        }
    }
}

/// What may arrive next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiving {
    /// A request's head, or its rest.
    Head,
    /// Content of the current request.
    Body,
    /// Nothing before the current response has ended: further bytes are pipelined requests.
    Done,
    /// Nothing: whatever still arrives is thrown away.
    Closed,
}

/// What may be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Nothing: no request waits for a response.
    Idle,
    /// The head of the response.
    Head,
    /// Content, framed as given.
    Content(ContentFraming),
    /// Nothing, ever again.
    Closed,
}

/// How the content of the response being sent is delimited (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentFraming {
    /// By `content-length`; this many bytes are still owed.
    Length(u64),
    /// By the chunked coding.
    Chunked,
    /// By the end of the connection (HTTP/1.0).
    UntilClose,
    /// There is none: HEAD, 204, 205, 304. What is given is counted nowhere and sent nowhere.
    Suppressed,
}

/// Something the peer's bytes mean.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// All input is used up; more must arrive.
    NeedMore,
    /// A request's head is complete and stands in the `head` argument. Content follows if
    /// [`Connection::expects_content`] says so.
    Request,
    /// A piece of the request's content, transfer coding removed.
    Content(&'a [u8]),
    /// The request's content is complete.
    End,
    /// The rest of the input belongs to later requests; it has to wait until the response has ended.
    Pipelined,
}

/// What a caller may do wrong while sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// No request waits for a response, or the head is already out.
    NotNow,
    /// More or fewer bytes than the `content-length` that was announced (RFC 9110 §8.6).
    LengthMismatch {
        /// Bytes still owed when the error occurred (0 when there were too many).
        missing: u64,
    },
}

impl core::fmt::Display for SendError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotNow => f.write_str("no response may be sent now"),
            Self::LengthMismatch { missing: 0 } => {
                f.write_str("the content is longer than its content-length")
            }
            Self::LengthMismatch { missing } => {
                write!(
                    f,
                    "the content is {missing} bytes shorter than its content-length"
                )
            }
        }
    }
}

impl core::error::Error for SendError {}

/// A response's head as the application gives it.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// A final status, 200–599.
    pub status: u16,
    /// The application's fields.
    pub fields: Option<&'a FieldMap>,
    /// The content type when `fields` has none.
    pub content_type: Option<&'a [u8]>,
}

impl Outgoing<'_> {
    fn known(&self) -> KnownFields {
        self.fields
            .map_or_else(KnownFields::default, FieldMap::known)
    }

    /// The `content-length` that the application gave, if it is one.
    fn declared_length(&self) -> Option<u64> {
        if !self.known().contains(KnownFields::CONTENT_LENGTH) {
            return None;
        }
        let value = self.fields?.get(b"content-length")?;
        core::str::from_utf8(value)
            .ok()
            .filter(|v| v.bytes().all(|b| b.is_ascii_digit()))?
            .parse()
            .ok()
    }

    fn asks_to_close(&self) -> bool {
        self.known().contains(KnownFields::CONNECTION)
            && self.fields.is_some_and(|fields| {
                fields
                    .get_all(b"connection")
                    .flat_map(|value| value.split(|b| *b == b','))
                    .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
            })
    }
}

/// One connection; see the module's description.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about the peer, not states: those are enums"
)]
pub struct Connection {
    receiving: Receiving,
    sending: Sending,
    decoder: Option<BodyDecoder>,
    /// Content bytes received of the current request, its announced length, and the most that is accepted.
    received: u64,
    announced: Option<u64>,
    max_content: u64,
    /// Content bytes thrown away after the response; `None` while content still has a reader.
    discarded: Option<u64>,
    version: Version,
    is_head: bool,
    keep_alive: bool,
    /// The client's last request asked for the close, and is complete.
    peer_is_done: bool,
    /// The client waits for `100 Continue` before it sends content (RFC 9110 §10.1.1).
    continue_pending: bool,
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}

impl Connection {
    /// A connection on which nothing has happened yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            receiving: Receiving::Head,
            sending: Sending::Idle,
            decoder: None,
            received: 0,
            announced: None,
            max_content: u64::MAX,
            discarded: None,
            version: Version::Http11,
            is_head: false,
            keep_alive: true,
            peer_is_done: false,
            continue_pending: false,
        }
    }

    /// What may arrive next.
    #[must_use]
    pub fn receiving(&self) -> Receiving {
        self.receiving
    }

    /// What may be sent next.
    #[must_use]
    pub fn sending(&self) -> Sending {
        self.sending
    }

    /// Whether content of the current request is still to come.
    #[must_use]
    pub fn expects_content(&self) -> bool {
        self.receiving == Receiving::Body && self.discarded.is_none()
    }

    /// Whether the connection is over once what has been encoded is sent.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sending == Sending::Closed
    }

    /// Whether the peer may still be sending when the connection is over: a close must then linger, lest the reset
    /// that unread bytes provoke destroys the response on its way (RFC 9112 §9.6). A client that asked for the close,
    /// and has sent all of its request, sends nothing more.
    #[must_use]
    pub fn must_linger(&self) -> bool {
        self.is_closed() && !self.peer_is_done
    }

    /// Whether the peer speaks HTTP/1.0.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The number of content bytes announced by the current request's `content-length`.
    #[must_use]
    pub fn announced_length(&self) -> Option<u64> {
        self.announced
    }

    /// Content bytes of the current request that have arrived.
    #[must_use]
    pub fn received_length(&self) -> u64 {
        self.received
    }

    /// Bounds the content of the current request.
    ///
    /// # Errors
    /// [`ProtocolError::BodyTooLarge`] if the announced length is larger already.
    pub fn limit_content(&mut self, max: u64) -> Result<(), ProtocolError> {
        self.max_content = max;
        if self.announced.is_some_and(|length| length > max) {
            self.keep_alive = false;
            return Err(ProtocolError::BodyTooLarge);
        }
        Ok(())
    }

    /// Ends persistence: the current response, or the next, is the last.
    pub fn close_after_response(&mut self) {
        self.keep_alive = false;
    }

    /// Nothing more is parsed: the peer was too slow, or is refused. An answer may still be sent, and is the last.
    pub fn refuse(&mut self) {
        self.keep_alive = false;
        if self.receiving != Receiving::Done {
            self.receiving = Receiving::Closed;
        }
        if self.sending == Sending::Idle {
            self.sending = Sending::Head;
            self.is_head = false;
        }
    }

    /// Whether a response with this status to the current request goes without content (RFC 9110 §6.4.1).
    #[must_use]
    pub fn suppresses_content(&self, status: u16) -> bool {
        self.is_head || matches!(status, 204 | 205 | 304)
    }

    /// Whether a response is owed, or has begun and not ended.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        matches!(self.sending, Sending::Head | Sending::Content(_))
    }

    /// Nothing more is parsed and nothing more is sent.
    pub fn close(&mut self) {
        self.peer_is_done &= self.receiving == Receiving::Done;
        self.receiving = Receiving::Closed;
        self.sending = Sending::Closed;
    }

    /// Takes the next event from the front of `input` and advances it past what was used. `head` receives a request's
    /// head, its spans relative to the start of `input` as it was given. With [`Event::NeedMore`] the caller keeps
    /// what is left of `input` and presents it again in front of what arrives next.
    ///
    /// # Errors
    /// The rule that the peer broke. Nothing more is parsed; the error's response may still be sent.
    pub fn next_event<'a>(
        &mut self,
        input: &mut &'a [u8],
        head: &mut RequestHead,
        limits: &Limits,
    ) -> Result<Event<'a>, ProtocolError> {
        let event = match self.receiving {
            Receiving::Head | Receiving::Done if input.is_empty() => Ok(Event::NeedMore),
            Receiving::Head => self.receive_head(input, head, limits),
            Receiving::Body => self.receive_content(input, limits),
            Receiving::Done => Ok(Event::Pipelined),
            Receiving::Closed => {
                *input = &[];
                Ok(Event::NeedMore)
            }
        };
        if event.is_err() {
            self.refuse();
        }
        event
    }

    fn receive_head<'a>(
        &mut self,
        input: &mut &'a [u8],
        head: &mut RequestHead,
        limits: &Limits,
    ) -> Result<Event<'a>, ProtocolError> {
        if parse_head(input, &limits.head, head)?.is_none() {
            return Ok(Event::NeedMore);
        }
        *input = input.get(head.len..).unwrap_or_default();
        self.version = head.version;
        self.is_head = head.method == Method::Head;
        // A close that was asked for before the request came stays asked for.
        self.keep_alive &= head.keep_alive;
        self.peer_is_done = !head.keep_alive;
        self.received = 0;
        self.discarded = None;
        self.max_content = u64::MAX;
        self.sending = Sending::Head;
        self.announced = match head.framing {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        };
        if self.announced == Some(0) {
            self.receiving = Receiving::Done;
            self.continue_pending = false;
        } else {
            self.receiving = Receiving::Body;
            self.continue_pending = head.expect_continue;
            self.decoder = Some(BodyDecoder::new(head.framing, limits.body));
        }
        Ok(Event::Request)
    }

    fn receive_content<'a>(
        &mut self,
        input: &mut &'a [u8],
        limits: &Limits,
    ) -> Result<Event<'a>, ProtocolError> {
        loop {
            let Some(decoder) = self.decoder.as_mut() else {
                self.receiving = Receiving::Done;
                return Ok(Event::End);
            };
            let event = match decoder.decode(input) {
                Ok(event) => event,
                Err(_) if self.discarded.is_some() => {
                    // The request has its response; another would be taken for the next one's (RFC 9112 §9.2).
                    self.close();
                    *input = &[];
                    return Ok(Event::NeedMore);
                }
                Err(error) => return Err(error),
            };
            match event {
                BodyEvent::NeedMore => return Ok(Event::NeedMore),
                BodyEvent::Content(data) => {
                    // Content has come unasked: the client no longer waits for a 100.
                    self.continue_pending = false;
                    self.received = self.received.saturating_add(data.len() as u64);
                    if let Some(discarded) = self.discarded.as_mut() {
                        *discarded = discarded.saturating_add(data.len() as u64);
                        if *discarded > limits.max_discard {
                            self.close();
                            *input = &[];
                            return Ok(Event::NeedMore);
                        }
                    } else if self.received > self.max_content {
                        return Err(ProtocolError::BodyTooLarge);
                    } else {
                        return Ok(Event::Content(data));
                    }
                }
                BodyEvent::End => {
                    self.decoder = None;
                    self.continue_pending = false;
                    self.receiving = Receiving::Done;
                    if self.discarded.take().is_none() {
                        return Ok(Event::End);
                    }
                    // The response ended before the request did: now both have.
                    self.receiving = Receiving::Head;
                    return Ok(if input.is_empty() {
                        Event::NeedMore
                    } else {
                        Event::Pipelined
                    });
                }
            }
        }
    }

    /// The peer has sent its last byte. `partial` says whether an incomplete head is left over.
    ///
    /// # Errors
    /// [`ProtocolError::IncompleteMessage`] if a request was cut (RFC 9112 §8): its content must not pass for complete.
    pub fn receive_eof(&mut self, partial: bool) -> Result<(), ProtocolError> {
        self.keep_alive = false;
        match self.receiving {
            Receiving::Head => {
                self.close();
                if partial {
                    Err(ProtocolError::IncompleteMessage)
                } else {
                    Ok(())
                }
            }
            Receiving::Body => {
                self.receiving = Receiving::Closed;
                if self.discarded.is_some() {
                    Ok(())
                } else {
                    Err(ProtocolError::IncompleteMessage)
                }
            }
            Receiving::Done | Receiving::Closed => Ok(()),
        }
    }

    /// Encodes `100 Continue` if the client waits for it (RFC 9110 §10.1.1). Says whether it did.
    pub fn send_continue(&mut self, out: &mut Vec<u8>) -> bool {
        if !self.continue_pending || self.sending != Sending::Head {
            return false;
        }
        self.continue_pending = false;
        encode_interim(out, 100, None);
        true
    }

    /// Encodes a whole response and ends it.
    ///
    /// # Errors
    /// [`SendError`]; nothing has been encoded then.
    #[inline]
    pub fn send_response(
        &mut self,
        out: &mut Vec<u8>,
        response: &Outgoing<'_>,
        content: &[u8],
        date: &[u8; 29],
        limits: &Limits,
    ) -> Result<(), SendError> {
        let framing = self.send_head(out, response, Some(content.len() as u64), date, limits)?;
        if matches!(framing, ContentFraming::Length(_)) {
            out.extend_from_slice(content);
        }
        self.end_response();
        Ok(())
    }

    /// Encodes the head of a response whose content follows. `length` is the content's length if it is known; without
    /// one the content is chunked, or ends with the connection for an HTTP/1.0 client.
    ///
    /// # Errors
    /// [`SendError::LengthMismatch`] if the application's own `content-length` differs from `length`;
    /// [`SendError::NotNow`] if no response is due.
    pub fn send_head(
        &mut self,
        out: &mut Vec<u8>,
        response: &Outgoing<'_>,
        length: Option<u64>,
        date: &[u8; 29],
        limits: &Limits,
    ) -> Result<ContentFraming, SendError> {
        if self.sending != Sending::Head {
            return Err(SendError::NotNow);
        }
        let declared = response.declared_length();
        // RFC 9110 §15.3.5, §15.4.5, §9.3.2: no content in 204 and 304, nor in answers to HEAD; §15.3.6: none in 205.
        let bodiless = self.suppresses_content(response.status);
        if let (Some(declared), Some(length), false) = (declared, length, bodiless) {
            if declared != length {
                return Err(SendError::LengthMismatch {
                    missing: declared.saturating_sub(length),
                });
            }
        }
        let known = declared.or(length);
        let (framing, body_length) = match (response.status, known) {
            // RFC 9110 §8.6: no content-length in 204; in 304 and HEAD only the length that GET would have had.
            (204, _) => (ContentFraming::Suppressed, BodyLength::Omitted),
            (205, _) => (ContentFraming::Suppressed, BodyLength::Known(0)),
            (304, _) => (
                ContentFraming::Suppressed,
                declared.map_or(BodyLength::Omitted, BodyLength::Known),
            ),
            (_, Some(length)) if self.is_head => {
                (ContentFraming::Suppressed, BodyLength::Known(length))
            }
            (_, None) if self.is_head => (ContentFraming::Suppressed, BodyLength::Omitted),
            (_, Some(length)) => (ContentFraming::Length(length), BodyLength::Known(length)),
            (_, None) if self.version == Version::Http11 => {
                (ContentFraming::Chunked, BodyLength::Chunked)
            }
            (_, None) => (ContentFraming::UntilClose, BodyLength::UntilClose),
        };
        if framing == ContentFraming::UntilClose
            || response.asks_to_close()
            || !self.can_discard_rest(limits)
        {
            self.keep_alive = false;
        }
        let persistence = match (self.keep_alive, self.version) {
            (true, Version::Http11) => Persistence::Default,
            (true, Version::Http10) => Persistence::KeepAlive,
            (false, _) => Persistence::Close,
        };
        encode_head(
            out,
            &ResponseHead {
                status: response.status,
                fields: response.fields,
                content_type: if framing == ContentFraming::Suppressed && !self.is_head {
                    None
                } else {
                    response.content_type
                },
                length: body_length,
                persistence,
                date,
            },
        );
        self.sending = Sending::Content(framing);
        Ok(framing)
    }

    /// Whether what is still to come of the request can be thrown away, so that the connection stays usable.
    fn can_discard_rest(&self, limits: &Limits) -> bool {
        match self.receiving {
            Receiving::Head | Receiving::Done => true,
            // The client may or may not send content after a final response to `Expect: 100-continue`.
            Receiving::Body if self.continue_pending => false,
            Receiving::Body => self
                .announced
                .is_none_or(|length| length.saturating_sub(self.received) <= limits.max_discard),
            Receiving::Closed => false,
        }
    }

    /// Encodes a piece of content. An empty piece encodes nothing: as a chunk it would end the content.
    ///
    /// # Errors
    /// [`SendError::LengthMismatch`] if it is more than was announced; [`SendError::NotNow`] without a head.
    pub fn send_content(&mut self, out: &mut Vec<u8>, data: &[u8]) -> Result<(), SendError> {
        match &mut self.sending {
            Sending::Content(ContentFraming::Length(owed)) => {
                let Some(rest) = owed.checked_sub(data.len() as u64) else {
                    return Err(SendError::LengthMismatch { missing: 0 });
                };
                *owed = rest;
                out.extend_from_slice(data);
            }
            Sending::Content(ContentFraming::Chunked) => encode_chunk(out, data),
            Sending::Content(ContentFraming::UntilClose) => out.extend_from_slice(data),
            Sending::Content(ContentFraming::Suppressed) => {}
            Sending::Idle | Sending::Head | Sending::Closed => return Err(SendError::NotNow),
        }
        Ok(())
    }

    /// Announces a piece of content that the caller sends itself, without a copy: encodes what comes before it, and
    /// returns what has to come right after it. `None`: nothing of it is to be sent.
    ///
    /// # Errors
    /// As [`Connection::send_content`].
    pub fn announce_content(
        &mut self,
        out: &mut Vec<u8>,
        length: usize,
    ) -> Result<Option<&'static [u8]>, SendError> {
        match &mut self.sending {
            Sending::Content(ContentFraming::Length(owed)) => {
                *owed = owed
                    .checked_sub(length as u64)
                    .ok_or(SendError::LengthMismatch { missing: 0 })?;
                Ok(Some(b""))
            }
            Sending::Content(ContentFraming::Chunked) if length == 0 => Ok(None),
            Sending::Content(ContentFraming::Chunked) => {
                encode_chunk_header(out, length);
                Ok(Some(b"\r\n"))
            }
            Sending::Content(ContentFraming::UntilClose) => Ok(Some(b"")),
            Sending::Content(ContentFraming::Suppressed) => Ok(None),
            Sending::Idle | Sending::Head | Sending::Closed => Err(SendError::NotNow),
        }
    }

    /// Ends the content of the current response.
    ///
    /// # Errors
    /// [`SendError::LengthMismatch`] if bytes are still owed: the connection cannot be used any more, abort it.
    pub fn finish(
        &mut self,
        out: &mut Vec<u8>,
        trailers: Option<&FieldMap>,
    ) -> Result<(), SendError> {
        match self.sending {
            Sending::Content(ContentFraming::Length(missing)) if missing > 0 => {
                return Err(SendError::LengthMismatch { missing });
            }
            Sending::Content(ContentFraming::Chunked) => encode_last_chunk(out, trailers),
            Sending::Content(
                ContentFraming::Length(_) | ContentFraming::UntilClose | ContentFraming::Suppressed,
            ) => {}
            Sending::Idle | Sending::Head | Sending::Closed => return Err(SendError::NotNow),
        }
        self.end_response();
        Ok(())
    }

    fn end_response(&mut self) {
        if !self.keep_alive {
            self.close();
            return;
        }
        self.sending = Sending::Idle;
        match self.receiving {
            Receiving::Done => self.receiving = Receiving::Head,
            Receiving::Body => self.discarded = Some(0),
            Receiving::Head | Receiving::Closed => {}
        }
    }
}

#[cfg(test)]
mod tests;
