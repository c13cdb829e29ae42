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
    /// Octets of the trailer section without the empty line that ends it. It is kept in memory (CVE-2026-22815).
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

    /// One octet of `chunk-ext`, or the CR after it.
    fn extension(&mut self, state: ExtensionState, octet: u8) -> Result<(), ProtocolError> {
        let next = match state.next(octet) {
            Some(next) => next,
            None if octet == b'\n' => return Err(ProtocolError::BareLineFeed),
            None => return Err(ProtocolError::InvalidChunkExtension),
        };
        self.state = ChunkState::Extension(next);
        // RFC 9112 §7.1.1: "A server ought to limit the total length of chunk extensions received in a request".
        self.extension_len += usize::from(next != ExtensionState::LineFeed);
        if self.extension_len > self.limits.max_chunk_extension {
            return Err(ProtocolError::ChunkExtensionsTooLong);
        }
        Ok(())
    }

    /// Takes one line of the trailer section, or what there is of it.
    fn trailer_line(&mut self, input: &mut &[u8]) -> Result<(), ProtocolError> {
        // The empty line needs no room; no field line is as short as it.
        let room = self
            .limits
            .max_trailers
            .saturating_sub(self.trailers_len)
            .max(b"\r\n".len());
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a decoder gave: the content, and the trailers and the rest of the input or the error.
    type Decoded = (
        Vec<u8>,
        Result<(Vec<(String, String)>, Vec<u8>), ProtocolError>,
    );

    /// Feeds pieces to a decoder; none if the body is not over after the last.
    fn decode(
        framing: Framing,
        limits: BodyLimits,
        pieces: &[&[u8]],
    ) -> (Vec<u8>, Option<Decoded>) {
        let mut decoder = BodyDecoder::new(framing, limits);
        let mut content = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let mut input = *piece;
            loop {
                match decoder.decode(&mut input) {
                    Ok(BodyEvent::Content(piece)) => {
                        assert!(!piece.is_empty());
                        content.extend_from_slice(piece);
                    }
                    Ok(BodyEvent::NeedMore) => {
                        assert_eq!(input, b"", "did not take all");
                        assert!(!decoder.is_done());
                        break;
                    }
                    Ok(BodyEvent::End) => {
                        assert!(decoder.is_done());
                        let left = input;
                        assert_eq!(decoder.decode(&mut input), Ok(BodyEvent::End));
                        assert_eq!(input, left, "took more after the end");
                        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
                        let trailers = decoder.trailers();
                        let trailers = trailers
                            .iter()
                            .map(|(name, value)| (text(name), text(value)));
                        let rest = [left, &pieces[index + 1..].concat()].concat();
                        let end = Ok((trailers.collect(), rest));
                        return (Vec::new(), Some((content, end)));
                    }
                    Err(error) => {
                        for mut more in [&b"\r\n0\r\n\r\n"[..], b""] {
                            assert_eq!(decoder.decode(&mut more), Err(error), "recovered");
                        }
                        assert!(!decoder.is_done());
                        return (Vec::new(), Some((content, Err(error))));
                    }
                }
            }
        }
        (content, None)
    }

    /// Decodes `bytes` whole, octet by octet, cut at each position, and with octets after them.
    fn every_split_within(limits: BodyLimits, framing: Framing, bytes: &[u8]) -> Option<Decoded> {
        let (content, whole) = decode(framing, limits, &[bytes]);
        let octets: Vec<&[u8]> = bytes.chunks(1).chain([&b""[..]]).collect();
        assert_eq!(
            decode(framing, limits, &octets),
            (content.clone(), whole.clone()),
            "octets"
        );
        for at in 0..=bytes.len() {
            let (first, second) = bytes.split_at(at);
            let seen = decode(framing, limits, &[first, b"", second]);
            assert_eq!(seen, (content.clone(), whole.clone()), "cut at {at}");
        }
        if let Some((content, end)) = &whole {
            for trailing in [&b"\r\n"[..], b"0\r\n\r\n", b"\x00", b"GET / HTTP/1.1\r\n"] {
                let end = end
                    .clone()
                    .map(|(trailers, rest)| (trailers, [&rest, trailing].concat()));
                let seen = decode(framing, limits, &[bytes, trailing]).1;
                assert_eq!(
                    seen,
                    Some((content.clone(), end)),
                    "followed by {trailing:?}"
                );
            }
        }
        whole
    }

    fn every_split(framing: Framing, bytes: &[u8]) -> Option<Decoded> {
        every_split_within(BodyLimits::default(), framing, bytes)
    }

    fn chunked(bytes: &str) -> Option<Decoded> {
        every_split(Framing::Chunked, bytes.as_bytes())
    }

    /// RFC 9112 §6.2 and §6.3
    #[test]
    fn a_body_of_known_length_ends_there() {
        for (framing, bytes, content, rest) in [
            (Framing::None, "abc", "", "abc"),
            (Framing::None, "", "", ""),
            (Framing::Length(0), "abc", "", "abc"),
            (Framing::Length(0), "", "", ""),
            (Framing::Length(1), "abc", "a", "bc"),
            (Framing::Length(3), "abc", "abc", ""),
            (Framing::Length(5), "0\r\n\r\nGET /", "0\r\n\r\n", "GET /"),
        ] {
            let end = Ok((Vec::new(), rest.as_bytes().to_vec()));
            let expected = Some((content.as_bytes().to_vec(), end));
            assert_eq!(
                every_split(framing, bytes.as_bytes()),
                expected,
                "{framing:?} {bytes:?}"
            );
        }
        assert_eq!(every_split(Framing::Length(4), b"abc"), None);
        assert_eq!(every_split(Framing::Length(u64::MAX), b"abc"), None);
        assert!(BodyDecoder::new(Framing::None, BodyLimits::default()).is_done());
        assert!(BodyDecoder::new(Framing::Length(0), BodyLimits::default()).is_done());
        assert!(!BodyDecoder::new(Framing::Chunked, BodyLimits::default()).is_done());
    }

    #[test]
    fn content_is_not_copied() {
        let bytes = b"4\r\nwiki\r\n0\r\n\r\n";
        let mut decoder = BodyDecoder::new(Framing::Chunked, BodyLimits::default());
        let mut input = &bytes[..];
        let Ok(BodyEvent::Content(content)) = decoder.decode(&mut input) else {
            panic!()
        };
        assert_eq!(content.as_ptr(), bytes[3..].as_ptr());
    }

    /// RFC 9112 §7.1
    #[test]
    #[rustfmt::skip]
    fn chunks_are_joined() {
        for (name, bytes, content, rest) in [
            ("one chunk", "4\r\nwiki\r\n0\r\n\r\n", "wiki", ""),
            ("two chunks and more", "1\r\na\r\n2\r\nbc\r\n0\r\n\r\nGET", "abc", "GET"),
            ("no chunk", "0\r\n\r\n", "", ""),
            ("CRLF as content", "2\r\n\r\n\r\n0\r\n\r\n", "\r\n", ""),
            ("a last chunk as content", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n", ""),
            ("a size in either case", "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", ""),
            ("leading zeros", "0002\r\nab\r\n000\r\n\r\n", "ab", ""),
            ("sixteen digits", "0000000000000001\r\na\r\n0000000000000000\r\n\r\n", "a", ""),
        ] {
            let end = Ok((Vec::new(), rest.as_bytes().to_vec()));
            let expected = Some((content.as_bytes().to_vec(), end));
            assert_eq!(chunked(bytes), expected, "{name}");
        }
    }

    #[test]
    fn waits_for_the_rest_of_a_chunked_body() {
        for bytes in [
            "",
            "0",
            "1;a",
            "1\r",
            "1\r\n",
            "1\r\na",
            "1\r\na\r",
            "1\r\na\r\n",
            "1;a=\"b",
            "0\r\n",
            "0\r\n\r",
            "0\r\na: b",
            "0\r\na: b\r\n",
            "ffffffffffffffff\r\nabc",
        ] {
            assert_eq!(chunked(bytes), None, "{bytes:?}");
        }
    }

    /// RFC 9112 §7.1 and §7.1.1
    #[test]
    #[rustfmt::skip]
    fn refuses_malformed_chunks() {
        use ProtocolError as E;
        for (name, bytes, content, expected) in [
            ("no size", "\r\n", "", E::InvalidChunkSize),
            ("an extension without size", ";a\r\n", "", E::InvalidChunkSize),
            ("a space before the size", " 1\r\na", "", E::InvalidChunkSize),
            ("a sign", "+1\r\na", "", E::InvalidChunkSize),
            ("a minus", "-1\r\na", "", E::InvalidChunkSize),
            ("0x", "0x1\r\na", "", E::InvalidChunkSize),
            ("an underscore", "1_0\r\na", "", E::InvalidChunkSize),
            ("a letter after f", "1g\r\n", "", E::InvalidChunkSize),
            ("a full-width digit", "\u{ff11}\r\na", "", E::InvalidChunkSize),
            ("seventeen digits", "00000000000000001\r\na", "", E::InvalidChunkSize),
            ("more than 64 bits", "f0000000000000003\r\nabc", "", E::InvalidChunkSize),
            ("an empty chunk line after data", "1\r\na\r\n\r\n", "a", E::InvalidChunkSize),
            ("no CRLF after data", "1\r\nab\r\n", "a", E::MissingChunkEnd),
            ("LF after data", "1\r\na\n0\r\n\r\n", "a", E::MissingChunkEnd),
            ("CR after data", "1\r\na\r0\r\n\r\n", "a", E::MissingChunkEnd),
            ("two octets for CRLF", "1\r\naXX0\r\n\r\n", "a", E::MissingChunkEnd),
            ("LF after the size", "1\na\r\n", "", E::BareLineFeed),
            ("LF after an extension", "1;a\na\r\n", "", E::BareLineFeed),
            ("LF after a semicolon", "2;\nxx\r\n", "", E::BareLineFeed),
            ("LF in a quoted string", "1;a=\"\nb\"\r\na\r\n", "", E::BareLineFeed),
            ("LF in a quoted pair", "1;a=\"\\\nb\"\r\na\r\n", "", E::BareLineFeed),
            ("LF after space", "3 \n \r\nabc\r\n", "", E::BareLineFeed),
            ("CR after the size", "1\ra\r\n", "", E::BareCarriageReturn),
            ("two CR after the size", "1\r\r\n", "", E::BareCarriageReturn),
            ("CR in an extension", "1;a=b\rc\r\n", "", E::BareCarriageReturn),
            ("CRLF in a quoted string", "1;a=\"\r\nb\"\r\na\r\n", "", E::InvalidChunkExtension),
            ("a space after the size", "1 \r\na\r\n", "", E::InvalidChunkExtension),
            ("a tab after the size", "1\t\r\na\r\n", "", E::InvalidChunkExtension),
            ("a name without semicolon", "1 a\r\na\r\n", "", E::InvalidChunkExtension),
            ("a semicolon alone", "1;\r\na\r\n", "", E::InvalidChunkExtension),
            ("two semicolons", "1;;a\r\na\r\n", "", E::InvalidChunkExtension),
            ("a space in a name", "1;a b\r\na\r\n", "", E::InvalidChunkExtension),
            ("a space after the last name", "1;a \r\na\r\n", "", E::InvalidChunkExtension),
            ("a space after the last value", "1;a=b \r\na\r\n", "", E::InvalidChunkExtension),
            ("no value", "1;a=\r\na\r\n", "", E::InvalidChunkExtension),
            ("two values", "1;a=b=c\r\na\r\n", "", E::InvalidChunkExtension),
            ("a quoted name", "1;\"a\"\r\na\r\n", "", E::InvalidChunkExtension),
            ("a quote in a token", "1;a=b\"c\"\r\na\r\n", "", E::InvalidChunkExtension),
            ("text after a quoted string", "1;a=\"b\"c\r\na\r\n", "", E::InvalidChunkExtension),
            ("a nul in a name", "1;a\0\r\na\r\n", "", E::InvalidChunkExtension),
            ("a nul in a quoted string", "1;a=\"\0\"\r\na\r\n", "", E::InvalidChunkExtension),
            ("a control in a quoted pair", "1;a=\"\\\x01\"\r\na\r\n", "", E::InvalidChunkExtension),
            ("UTF-8 in a token", "1;caf\u{e9}\r\na\r\n", "", E::InvalidChunkExtension),
            ("in the last chunk", "0;\r\n\r\n", "", E::InvalidChunkExtension),
        ] {
            let expected = Some((content.as_bytes().to_vec(), Err(expected)));
            assert_eq!(chunked(bytes), expected, "{name}");
        }
    }

    /// RFC 9112 §7.1.1
    #[test]
    fn chunk_extensions_are_ignored() {
        for extension in [
            ";a",
            ";a=b",
            ";a;b=c",
            " ;a",
            "\t; a",
            " ; a = b ; c",
            "; extension...",
            ";a=\"\"",
            ";a=\"b c;d=e\"",
            ";a=\"\\\"\\\\\" ;b",
            ";a=\"\\\t\u{e9}\"",
            ";!#$%&'*+-.^_`|~=1",
        ] {
            let bytes = format!("1{extension}\r\na\r\n0{extension}\r\n\r\n");
            let expected = Some((b"a".to_vec(), Ok((Vec::new(), Vec::new()))));
            assert_eq!(chunked(&bytes), expected, "{extension:?}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn chunk_extensions_are_limited_over_the_whole_message() {
        let limits = BodyLimits {
            max_chunk_extension: 9,
            ..BodyLimits::default()
        };
        let refused = Err(ProtocolError::ChunkExtensionsTooLong);
        for (bytes, content, expected) in [
            ("1;2345678\r\na\r\n0;\r", "a", Err(ProtocolError::InvalidChunkExtension)),
            ("1;23456789\r\na\r\n0\r\n\r\n", "a", Ok((Vec::new(), Vec::new()))),
            ("1;234567890\r\na\r\n", "", refused.clone()),
            ("1;234567890", "", refused.clone()),
            ("1;a\r\na\r\n1;a=b\r\nb\r\n1;abc\r\nc\r\n1", "ab", refused.clone()),
            ("1;a=\"56789\"", "", refused),
        ] {
            let seen = every_split_within(limits, Framing::Chunked, bytes.as_bytes());
            assert_eq!(seen, Some((content.as_bytes().to_vec(), expected)), "{bytes:?}");
        }
    }

    /// RFC 9112 §7.1.2, RFC 9110 §6.5
    #[test]
    #[rustfmt::skip]
    fn trailers_are_kept_apart() {
        for (trailers, expected) in [
            ("a: b\r\n", &[("a", "b")][..]),
            ("A:\r\nb:\t c \t\r\n", &[("A", ""), ("b", "c")]),
            ("a: b\r\na: c\r\n", &[("a", "b"), ("a", "c")]),
            ("Content-Length: 99\r\nHost: b\r\n", &[("Content-Length", "99"), ("Host", "b")]),
            ("Transfer-Encoding: chunked\r\n", &[("Transfer-Encoding", "chunked")]),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            let bytes = format!("1\r\na\r\n0\r\n{trailers}\r\nrest");
            let expected = Some((b"a".to_vec(), Ok((expected, b"rest".to_vec()))));
            assert_eq!(chunked(&bytes), expected, "{trailers:?}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn refuses_malformed_trailers() {
        use ProtocolError as E;
        for (name, trailers, expected) in [
            ("no colon", "a\r\n", E::MissingColon),
            ("an empty name", ": a\r\n", E::InvalidFieldName),
            ("a space before the colon", "a : b\r\n", E::WhitespaceBeforeColon),
            ("a folded line", "a: b\r\n c\r\n", E::LineFolding),
            ("a space in front", " a: b\r\n", E::LineFolding),
            ("a nul in the value", "a: \0\r\n", E::InvalidFieldValue),
            ("LF after the value", "a: b\nc: d\r\n", E::BareLineFeed),
            ("LF as the empty line", "\n", E::BareLineFeed),
            ("CR in the value", "a: b\rc", E::BareCarriageReturn),
            ("CR as the empty line", "\rGET", E::BareCarriageReturn),
            ("a request", "GET / HTTP/1.1\r\n", E::WhitespaceBeforeColon),
        ] {
            let seen = chunked(&format!("0\r\nx: y\r\n{trailers}"));
            assert_eq!(seen, Some((Vec::new(), Err(expected))), "{name}");
        }
    }

    #[test]
    fn a_trailer_section_is_limited() {
        use ProtocolError as E;
        let limits = BodyLimits {
            max_trailers: 14,
            max_trailer_fields: 2,
            ..BodyLimits::default()
        };
        for (trailers, expected) in [
            ("a: b\r\nc: def\r\n\r\n", Some(Ok(2))),
            ("a: 456789012\r\n\r\n", Some(Ok(1))),
            ("a: b\r\nc: defg\r\n\r\n", Some(Err(E::TrailersTooLarge))),
            ("a: 4567890123\r\n\r\n", Some(Err(E::TrailersTooLarge))),
            ("a: 4567890123", None),
            ("a: 45678901234", Some(Err(E::TrailersTooLarge))),
            ("aaaaaaaaaaaaaaaaaaaa", Some(Err(E::TrailersTooLarge))),
            ("a:\r\nb:\r\nc:\r\n", Some(Err(E::TooManyTrailers))),
        ] {
            let bytes = format!("0\r\n{trailers}");
            let seen = every_split_within(limits, Framing::Chunked, bytes.as_bytes());
            let seen = seen.map(|(_, end)| end.map(|(trailers, _)| trailers.len()));
            assert_eq!(seen, expected, "{trailers:?}");
        }
        let none = BodyLimits {
            max_trailers: 0,
            max_trailer_fields: 0,
            max_chunk_extension: 0,
        };
        let seen = every_split_within(none, Framing::Chunked, b"0\r\n\r\n");
        assert_eq!(seen, Some((Vec::new(), Ok((Vec::new(), Vec::new())))));
        let seen = every_split_within(none, Framing::Chunked, b"0\r\na:\r\n\r\n");
        assert_eq!(seen, Some((Vec::new(), Err(E::TrailersTooLarge))));
        let seen = every_split_within(none, Framing::Chunked, b"0;a\r\n\r\n");
        assert_eq!(seen, Some((Vec::new(), Err(E::ChunkExtensionsTooLong))));
    }
}
