//! Message bodies (RFC 9112 §6 and §7): where the content of a request ends, and the content itself.
//!
//! [`BodyDecoder`] takes the octets that follow a head, in pieces of any size, and gives back content without copying
//! it. Left out: limits on the content (the connection counts it) and transfer codings other than chunked (refused
//! with the head).

use super::grammar;
use super::head::{self, Line};
use crate::error::ProtocolError;

/// How the length of a message body is known (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Neither `Content-Length` nor `Transfer-Encoding`: a request without body.
    #[default]
    None,
    /// `Content-Length`, which may be 0.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Bounds on the parts of a body that are not content.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Octets of chunk extensions in one message. They are ignored, so a client could send them for ever without
    /// passing any limit on the content (CVE-2024-22019, CVE-2023-39326).
    pub max_chunk_extension: usize,
    /// Octets of the trailer section, which is kept in memory (CVE-2026-22815).
    pub max_trailers: usize,
    /// Field lines of the trailer section: each costs two allocations.
    pub max_trailer_fields: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self {
            max_chunk_extension: 4096,
            max_trailers: 8192,
            max_trailer_fields: 64,
        }
    }
}

/// What [`BodyDecoder::decode`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyEvent<'a> {
    /// All input is consumed and the body is not over.
    NeedMore,
    /// A piece of the content, never empty.
    Content(&'a [u8]),
    /// The body is over; what remains of the input is the next message.
    End,
}

/// Where in a body the next octet belongs.
///
/// ```text
///                    ┌──────────────────── CRLF ──────────────────────┐
///                    ▼                                                │
///  Chunked ────▶  Size ─ CRLF, size > 0 ─▶ Data ─ size octets ─▶ DataEnd
///                 │  ▲ │
///     BWS or ";"  │  │ └─ CRLF, size = 0 ─▶ Trailer ─ empty line ─▶ Done
///                 ▼  │                                              ▲
///            Extension (its CRLF as Size's)                         │
///  Length(n) ────────────────────────▶ Data ─ n octets ─────────────┤
///  None, Length(0) ─────────────────────────────────────────────────┘
///  any violation ─▶ Failed, for ever
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkState {
    /// In `chunk-size = 1*HEXDIG`, after this many digits.
    Size(u8),
    /// In `chunk-ext`, or at the LF that ends the line of the chunk-size.
    Extension(ExtensionState),
    /// In the content.
    Data,
    /// In the CRLF after chunk-data; `true` after its CR.
    DataEnd(bool),
    /// In the trailer section.
    Trailer,
    /// After the body.
    Done,
    /// After a violation: the end of this body will never be known.
    Failed(ProtocolError),
}

/// Where in a chunk's extensions the next octet belongs.
///
/// RFC 9112 §7.1.1: `chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`,
/// `chunk-ext-name = token`, `chunk-ext-val = token / quoted-string`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionState {
    /// In the BWS before `;`.
    BeforeSemicolon,
    /// After `;`, before the name.
    BeforeName,
    /// In the name.
    Name,
    /// In the BWS after a name: `=` or `;` follows.
    AfterName,
    /// After `=`, before the value.
    BeforeValue,
    /// In a value that is a token.
    Token,
    /// In a value that is a quoted-string.
    Quoted,
    /// After the backslash of a quoted-pair.
    QuotedPair,
    /// After the closing quote.
    AfterQuoted,
    /// After CR: LF follows.
    LineFeed,
}

impl ExtensionState {
    /// The state after `octet`, or none if it does not belong there. LF is the caller's.
    fn next(self, octet: u8) -> Option<Self> {
        use ExtensionState as S;
        Some(match (self, octet) {
            (S::BeforeSemicolon | S::Token | S::AfterQuoted, b' ' | b'\t') => S::BeforeSemicolon,
            (S::BeforeName, b' ' | b'\t')
            | (S::BeforeSemicolon | S::Name | S::AfterName | S::Token | S::AfterQuoted, b';') => {
                S::BeforeName
            }
            (S::Name | S::AfterName, b' ' | b'\t') => S::AfterName,
            (S::BeforeValue, b' ' | b'\t') | (S::Name | S::AfterName, b'=') => S::BeforeValue,
            (S::BeforeName | S::Name, _) if grammar::is_tchar(octet) => S::Name,
            (S::BeforeValue | S::Token, _) if grammar::is_tchar(octet) => S::Token,
            (S::BeforeValue, b'"') => S::Quoted,
            (S::Quoted, b'"') => S::AfterQuoted,
            (S::Quoted, b'\\') => S::QuotedPair,
            (S::Quoted, _) if grammar::is_qdtext(octet) => S::Quoted,
            (S::QuotedPair, _) if grammar::is_quoted_pair_octet(octet) => S::Quoted,
            (S::Name | S::Token | S::AfterQuoted, b'\r') => S::LineFeed,
            _ => return None,
        })
    }
}

/// Splits the octets after a head into content and the rest.
#[derive(Debug)]
pub struct BodyDecoder {
    state: ChunkState,
    chunked: bool,
    /// Of the chunk, or of the whole body by `Content-Length`: octets to come.
    remaining: u64,
    /// Octets of chunk extensions so far.
    extension_len: usize,
    /// Octets of the trailer section so far, of complete lines.
    trailers_len: usize,
    /// The beginning of a trailer line whose end is not in yet.
    line: Vec<u8>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
    limits: BodyLimits,
}

impl BodyDecoder {
    /// A decoder for one body.
    #[must_use]
    pub fn new(framing: Framing, limits: BodyLimits) -> Self {
        let (state, remaining) = match framing {
            Framing::None | Framing::Length(0) => (ChunkState::Done, 0),
            Framing::Length(len) => (ChunkState::Data, len),
            Framing::Chunked => (ChunkState::Size(0), 0),
        };
        Self {
            state,
            chunked: framing == Framing::Chunked,
            remaining,
            extension_len: 0,
            trailers_len: 0,
            line: Vec::new(),
            trailers: Vec::new(),
            limits,
        }
    }

    /// Is the body over?
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == ChunkState::Done
    }

    /// Where in the body the next octet belongs.
    #[must_use]
    pub fn state(&self) -> ChunkState {
        self.state
    }

    /// The trailer fields, names as sent, values without surrounding whitespace; complete once the body is over.
    ///
    /// RFC 9110 §6.5.1: they are not fields of the head, whatever their names say, and must not be merged into it.
    #[must_use]
    pub fn trailers(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.trailers
    }

    /// Takes what it can from `input` and moves `input` past that.
    ///
    /// With [`BodyEvent::NeedMore`], `input` is empty: incomplete lines are kept here. After [`BodyEvent::End`] nothing
    /// more is consumed.
    ///
    /// # Errors
    ///
    /// The chunked coding is violated or a limit is passed. The same error is returned for ever after: a broken body
    /// has no end.
    #[inline]
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<BodyEvent<'a>, ProtocolError> {
        loop {
            match self.state {
                ChunkState::Done => return Ok(BodyEvent::End),
                ChunkState::Failed(error) => return Err(error),
                _ if input.is_empty() => return Ok(BodyEvent::NeedMore),
                ChunkState::Data => return Ok(BodyEvent::Content(self.content(input))),
                ChunkState::Size(_)
                | ChunkState::Extension(_)
                | ChunkState::DataEnd(_)
                | ChunkState::Trailer => {
                    if let Err(error) = self.framing(input) {
                        self.state = ChunkState::Failed(error);
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Takes content from an input that is not empty.
    fn content<'a>(&mut self, input: &mut &'a [u8]) -> &'a [u8] {
        let len = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(input.len());
        let (content, rest) = input.split_at_checked(len).unwrap_or((input, b""));
        *input = rest;
        self.remaining -= content.len() as u64;
        if self.remaining == 0 {
            self.state = if self.chunked {
                ChunkState::DataEnd(false)
            } else {
                ChunkState::Done
            };
        }
        content
    }

    /// Takes the octets between two pieces of content.
    fn framing(&mut self, input: &mut &[u8]) -> Result<(), ProtocolError> {
        while let [octet, rest @ ..] = *input {
            let octet = *octet;
            match self.state {
                ChunkState::Size(digits) => self.size(digits, octet)?,
                ChunkState::Extension(ExtensionState::LineFeed) => match octet {
                    // RFC 9112 §7.1: "last-chunk = 1*("0") [ chunk-ext ] CRLF".
                    b'\n' if self.remaining == 0 => self.state = ChunkState::Trailer,
                    b'\n' => self.state = ChunkState::Data,
                    _ => return Err(ProtocolError::BareCarriageReturn),
                },
                ChunkState::Extension(state) => self.extension(state, octet)?,
                // RFC 9112 §7.1: "chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF", nothing in between.
                ChunkState::DataEnd(false) if octet == b'\r' => {
                    self.state = ChunkState::DataEnd(true);
                }
                ChunkState::DataEnd(true) if octet == b'\n' => self.state = ChunkState::Size(0),
                ChunkState::DataEnd(_) => return Err(ProtocolError::MissingChunkEnd),
                ChunkState::Trailer => {
                    self.trailer_line(input)?;
                    continue;
                }
                ChunkState::Data | ChunkState::Done | ChunkState::Failed(_) => return Ok(()),
            }
            *input = rest;
        }
        Ok(())
    }

    /// One octet of `chunk-size`, or the first after it.
    fn size(&mut self, digits: u8, octet: u8) -> Result<(), ProtocolError> {
        if let Some(value) = grammar::hex_value(octet) {
            // RFC 9112 §7.1: "recipients MUST anticipate potentially large hexadecimal numerals and prevent parsing
            // errors due to integer conversion overflows": 16 digits are 64 bits.
            if digits == 16 {
                return Err(ProtocolError::InvalidChunkSize);
            }
            self.remaining = self.remaining << 4 | u64::from(value);
            self.state = ChunkState::Size(digits + 1);
            return Ok(());
        }
        self.state = match octet {
            _ if digits == 0 => return Err(ProtocolError::InvalidChunkSize),
            b'\r' => ChunkState::Extension(ExtensionState::LineFeed),
            b'\n' => return Err(ProtocolError::BareLineFeed),
            b';' | b' ' | b'\t' => return self.extension(ExtensionState::BeforeSemicolon, octet),
            _ => return Err(ProtocolError::InvalidChunkSize),
        };
        Ok(())
    }

    /// One octet of `chunk-ext`.
    fn extension(&mut self, state: ExtensionState, octet: u8) -> Result<(), ProtocolError> {
        self.state = ChunkState::Extension(match state.next(octet) {
            Some(next) => next,
            None if octet == b'\n' => return Err(ProtocolError::BareLineFeed),
            None => return Err(ProtocolError::InvalidChunkExtension),
        });
        // RFC 9112 §7.1.1: "A server ought to limit the total length of chunk extensions received in a request".
        self.extension_len += 1;
        if self.extension_len > self.limits.max_chunk_extension {
            return Err(ProtocolError::ChunkExtensionsTooLong);
        }
        Ok(())
    }

    /// Takes one line of the trailer section, or what there is of it.
    fn trailer_line(&mut self, input: &mut &[u8]) -> Result<(), ProtocolError> {
        let room = self.limits.max_trailers.saturating_sub(self.trailers_len);
        let len = memchr::memchr(b'\n', input).map_or(input.len(), |at| at + 1);
        let (piece, rest) = input
            .split_at_checked(len.min(room.saturating_sub(self.line.len())))
            .unwrap_or((input, b""));
        self.line.extend_from_slice(piece);
        *input = rest;
        match head::parse_line(&self.line)? {
            None if self.line.len() >= room => return Err(ProtocolError::TrailersTooLarge),
            None => return Ok(()),
            Some(Line::Empty) => self.state = ChunkState::Done,
            Some(Line::Field(field)) => {
                if self.trailers.len() >= self.limits.max_trailer_fields {
                    return Err(ProtocolError::TooManyTrailers);
                }
                self.trailers.push((
                    field.name(&self.line).to_vec(),
                    field.value(&self.line).to_vec(),
                ));
            }
        }
        self.trailers_len += self.line.len();
        self.line.clear();
        Ok(())
    }
}
