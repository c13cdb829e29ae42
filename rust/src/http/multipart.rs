//! `multipart/form-data` (RFC 7578) in the framing of RFC 2046 §5.1: parts as they arrive, in any split of the octets.
//!
//! [`MultipartParser`] hands out the content of parts without copying it, and looks at each octet a bounded number of
//! times: a boundary has no CR, so what has turned out not to be a delimiter cannot contain the start of one.
//!
//! Stricter than RFC 2046, because no client of a form needs what is refused and two readers could differ on it: lines
//! end in CRLF and never in a bare LF, header lines are not folded, and a line that begins with the delimiter is one.
//! Left out: charsets and the size of content, which are the caller's, and parts within parts.

use core::fmt;
use core::ops::Range;

use memchr::memmem;

use super::fields::FieldMap;
use super::head::{self, Line};
use super::parameters::{self, Text};
use crate::error::ProtocolError;

/// Bounds on everything that is not content.
#[derive(Clone, Copy, Debug)]
pub struct MultipartLimits {
    /// Parts without a file name. Each costs memory (CVE-2023-25577).
    pub max_fields: usize,
    /// Parts with a file name.
    pub max_files: usize,
    /// Octets of the header section of a part. It is kept in memory (CVE-2026-34516).
    pub max_part_header: usize,
    /// Lines of the header section of a part.
    pub max_part_header_fields: usize,
    /// Octets before the first delimiter, and after the last. They are skipped (CVE-2026-40347).
    pub max_around: usize,
}

impl Default for MultipartLimits {
    fn default() -> Self {
        Self {
            max_fields: 1000,
            max_files: 100,
            max_part_header: 8192,
            max_part_header_fields: 32,
            max_around: 1024,
        }
    }
}

/// What is wrong with multipart content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MultipartError {
    /// The boundary is not 1 to 70 of the characters that RFC 2046 admits.
    InvalidBoundary,
    /// The content does not begin with a delimiter, nor with a short preamble.
    PreambleTooLong,
    /// Too much follows the last delimiter.
    EpilogueTooLong,
    /// The content has no delimiter at all.
    NoDelimiter,
    /// The content ends before its last delimiter.
    Truncated,
    /// A delimiter that is followed by something else than the end of its line.
    InvalidDelimiter,
    /// The header section of a part is malformed.
    Header(ProtocolError),
    /// The header section of a part is longer than `MultipartLimits::max_part_header`.
    HeaderTooLarge,
    /// More lines in the header section of a part than `MultipartLimits::max_part_header_fields`.
    TooManyHeaderFields,
    /// A part without `Content-Disposition`, or with several.
    NoDisposition,
    /// The `Content-Disposition` of a part is not `form-data` with parameters, or says something twice.
    InvalidDisposition,
    /// A part without a name.
    NoName,
    /// More than one `Content-Type` in a part.
    DuplicateContentType,
    /// A `Content-Transfer-Encoding` that would have to be undone.
    UnsupportedEncoding,
    /// More parts without a file name than `MultipartLimits::max_fields`.
    TooManyFields,
    /// More parts with a file name than `MultipartLimits::max_files`.
    TooManyFiles,
}

impl MultipartError {
    /// The status code of the response that this error deserves.
    #[must_use]
    pub fn status(self) -> u16 {
        self.facts().0
    }

    /// The section that defines the violated rule, as in `"RFC 7578 §4.2"`.
    #[must_use]
    pub fn rule(self) -> &'static str {
        self.facts().1
    }

    /// Status, rule, message: the one table.
    #[rustfmt::skip]
    fn facts(self) -> (u16, &'static str, &'static str) {
        #[allow(clippy::enum_glob_use, reason = "a table with a row for each")]
        use MultipartError::*;
        match self {
            InvalidBoundary => (400, "RFC 2046 §5.1.1", "the boundary is not 1 to 70 characters of those allowed"),
            PreambleTooLong => (400, "RFC 2046 §5.1.1", "the content does not begin with the delimiter"),
            EpilogueTooLong => (400, "RFC 2046 §5.1.1", "more follows the last delimiter than is ignored"),
            NoDelimiter => (400, "RFC 2046 §5.1.1", "the delimiter does not occur in the content"),
            Truncated => (400, "RFC 2046 §5.1.1", "the content ends before its last delimiter"),
            InvalidDelimiter => (400, "RFC 2046 §5.1.1", "a delimiter is not the end of its line"),
            Header(error) => (400, "RFC 2046 §5.1", error.message()),
            HeaderTooLarge => (431, "RFC 7578 §4.8", "the header section of a part is too large"),
            TooManyHeaderFields => (431, "RFC 7578 §4.8", "the header section of a part has too many lines"),
            NoDisposition => (400, "RFC 7578 §4.2", "a part does not have exactly one content-disposition"),
            InvalidDisposition => (400, "RFC 7578 §4.2", "the content-disposition of a part is not form-data with parameters, each once"),
            NoName => (400, "RFC 7578 §4.2", "a part has no name"),
            DuplicateContentType => (400, "RFC 7578 §4.4", "a part has more than one content-type"),
            UnsupportedEncoding => (415, "RFC 7578 §4.7", "a part has a content-transfer-encoding other than 7bit, 8bit and binary"),
            TooManyFields => (413, "RFC 7578 §4.2", "too many fields"),
            TooManyFiles => (413, "RFC 7578 §4.2", "too many files"),
        }
    }
}

impl fmt::Display for MultipartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().2)
    }
}

impl core::error::Error for MultipartError {}

/// The head of a part.
#[derive(Clone, Debug)]
pub struct PartHead {
    /// The name of the field. It need not be unique.
    pub name: Text,
    /// The name that the client gives the file; none if the part is not a file.
    pub filename: Option<Text>,
    /// The header section.
    pub fields: FieldMap,
}

/// What [`MultipartParser::parse`] found.
#[derive(Debug)]
pub enum Event<'a> {
    /// All input is consumed.
    NeedMore,
    /// A part begins.
    Part(Box<PartHead>),
    /// Content of the part, never empty.
    Data(&'a [u8]),
    /// The part is complete.
    PartEnd,
    /// That was the last part. What follows is ignored, within limits.
    End,
}

/// Where the next octet belongs.
///
/// ```text
///  Preamble ─ delimiter ─▶ Delimiter ─ CRLF ─▶ Header ─ empty line ─▶ Data
///                          │  ▲                                        │
///                          │  └─────────────── delimiter ──────────────┘
///                          └─ "--" ─▶ Last ─▶ Epilogue    any violation ─▶ Failed, for ever
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Preamble,
    Delimiter(AfterDelimiter),
    Header,
    Data,
    /// After the last delimiter, which has yet to be told.
    Last,
    Epilogue,
    Failed(MultipartError),
}

/// What has come after a delimiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterDelimiter {
    Nothing,
    /// The first `-` of two.
    Dash,
    /// RFC 2046 §5.1.1: `transport-padding = *LWSP-char`, this many.
    Padding(u8),
    CarriageReturn,
}

/// What a search for the delimiter came to.
enum Scan<'a> {
    /// The input is used up.
    NeedMore,
    /// These octets of the delimiter were not one.
    Held(Range<usize>),
    /// This part of the input is before a delimiter, or has none in it.
    Content(&'a [u8]),
    Delimiter,
}

/// Splits content into parts.
#[derive(Debug)]
pub struct MultipartParser {
    state: State,
    /// `CRLF "--" boundary`. CR is its first octet and nowhere else in it.
    delimiter: Box<[u8]>,
    finder: memmem::Finder<'static>,
    /// How much of the delimiter the input so far ends with.
    held: usize,
    /// The first two of those are not content: they ended the line before, or there was none.
    borrowed: bool,
    /// The beginning of a header line whose end is not in yet.
    line: Vec<u8>,
    header_len: usize,
    fields: FieldMap,
    files_seen: usize,
    fields_seen: usize,
    /// The delimiter that is being read ends a part.
    in_part: bool,
    /// Header sections that have begun.
    begun: usize,
    /// Octets of the preamble, then of the epilogue.
    around: usize,
    limits: MultipartLimits,
}

const CRLF: usize = 2;

/// Is this a boundary?
///
/// RFC 2046 §5.1.1: `boundary := 0*69<bchars> bcharsnospace`, `bcharsnospace := DIGIT / ALPHA / "'" / "(" / ")" / "+" /
/// "_" / "," / "-" / "." / "/" / ":" / "=" / "?"`.
#[must_use]
pub fn is_boundary(octets: &[u8]) -> bool {
    (1..=70).contains(&octets.len())
        && !octets.ends_with(b" ")
        && octets
            .iter()
            .all(|octet| octet.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(octet))
}

impl MultipartParser {
    /// A parser of content whose parts are delimited by `boundary`.
    ///
    /// # Errors
    ///
    /// The boundary is none (RFC 2046 §5.1.1).
    pub fn new(boundary: &[u8], limits: MultipartLimits) -> Result<Self, MultipartError> {
        if !is_boundary(boundary) {
            return Err(MultipartError::InvalidBoundary);
        }
        let delimiter: Box<[u8]> = [b"\r\n--", boundary].concat().into();
        Ok(Self {
            state: State::Preamble,
            finder: memmem::Finder::new(&delimiter).into_owned(),
            delimiter,
            // RFC 2046 §5.1.1: the delimiter may be the very beginning, without the line before it.
            held: CRLF,
            borrowed: true,
            line: Vec::new(),
            header_len: 0,
            fields: FieldMap::new(),
            files_seen: 0,
            fields_seen: 0,
            in_part: false,
            begun: 0,
            around: 0,
            limits,
        })
    }

    /// Which part is being parsed, from 1; 0 before the first.
    #[must_use]
    pub fn part(&self) -> usize {
        self.begun
    }

    /// Takes what it can from `input` and moves `input` past that.
    ///
    /// With [`Event::NeedMore`], `input` is empty.
    ///
    /// # Errors
    ///
    /// The content is malformed or a limit is passed. The same error is returned for ever after.
    #[inline]
    pub fn parse<'p, 'a: 'p>(
        &'p mut self,
        input: &mut &'a [u8],
    ) -> Result<Event<'p>, MultipartError> {
        match self.step(input) {
            Ok(Step::NeedMore) => Ok(Event::NeedMore),
            Ok(Step::Part(head)) => Ok(Event::Part(head)),
            Ok(Step::Held(range)) => Ok(Event::Data(self.delimiter.get(range).unwrap_or_default())),
            Ok(Step::Data(data)) => Ok(Event::Data(data)),
            Ok(Step::PartEnd) => Ok(Event::PartEnd),
            Ok(Step::End) => Ok(Event::End),
            Err(error) => {
                self.state = State::Failed(error);
                Err(error)
            }
        }
    }

    /// Says whether the content may end here.
    ///
    /// # Errors
    ///
    /// The last delimiter has not come, or an error was returned before.
    pub fn finish(&self) -> Result<(), MultipartError> {
        match self.state {
            State::Last | State::Epilogue => Ok(()),
            State::Failed(error) => Err(error),
            State::Preamble => Err(MultipartError::NoDelimiter),
            State::Delimiter(_) | State::Header | State::Data => Err(MultipartError::Truncated),
        }
    }

    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, MultipartError> {
        loop {
            match self.state {
                State::Failed(error) => return Err(error),
                State::Preamble => match self.scan(input) {
                    Scan::NeedMore => return Ok(Step::NeedMore),
                    Scan::Held(range) => {
                        self.skip(range.len(), MultipartError::PreambleTooLong)?;
                    }
                    Scan::Content(skipped) => {
                        self.skip(skipped.len(), MultipartError::PreambleTooLong)?;
                    }
                    Scan::Delimiter => {
                        self.around = 0;
                        self.state = State::Delimiter(AfterDelimiter::Nothing);
                    }
                },
                State::Data => match self.scan(input) {
                    Scan::NeedMore => return Ok(Step::NeedMore),
                    Scan::Held(range) => return Ok(Step::Held(range)),
                    Scan::Content(data) => return Ok(Step::Data(data)),
                    Scan::Delimiter => {
                        self.in_part = true;
                        self.state = State::Delimiter(AfterDelimiter::Nothing);
                    }
                },
                State::Last => {
                    self.state = State::Epilogue;
                    return Ok(Step::End);
                }
                _ if input.is_empty() => return Ok(Step::NeedMore),
                State::Delimiter(after) => {
                    self.after_delimiter(after, input)?;
                    // The part is over when its delimiter has turned out to be one.
                    if !matches!(self.state, State::Delimiter(_)) && self.in_part {
                        self.in_part = false;
                        return Ok(Step::PartEnd);
                    }
                }
                State::Header => {
                    if let Some(head) = self.header_line(input)? {
                        return Ok(Step::Part(head));
                    }
                }
                State::Epilogue => {
                    self.skip(input.len(), MultipartError::EpilogueTooLong)?;
                    *input = &[];
                }
            }
        }
    }

    /// Counts octets that nobody wants.
    fn skip(&mut self, len: usize, error: MultipartError) -> Result<(), MultipartError> {
        self.around = self.around.saturating_add(len);
        if self.around > self.limits.max_around {
            return Err(error);
        }
        Ok(())
    }

    /// Looks for the next delimiter, and takes it if it is what comes next.
    #[inline]
    fn scan<'a>(&mut self, input: &mut &'a [u8]) -> Scan<'a> {
        if self.held > 0 {
            let rest = self.delimiter.get(self.held..).unwrap_or_default();
            let same = rest
                .iter()
                .zip(input.iter())
                .take_while(|(expected, octet)| expected == octet)
                .count();
            *input = input.get(same..).unwrap_or_default();
            if same == rest.len() {
                self.held = 0;
                self.borrowed = false;
                return Scan::Delimiter;
            }
            let end = self.held + same;
            if input.is_empty() {
                self.held = end;
                return Scan::NeedMore;
            }
            let start = if self.borrowed { CRLF } else { 0 };
            self.held = 0;
            self.borrowed = false;
            if end > start {
                return Scan::Held(start..end);
            }
        }
        if input.is_empty() {
            return Scan::NeedMore;
        }
        if let Some(at) = self.finder.find(input) {
            if at == 0 {
                *input = input.get(self.delimiter.len()..).unwrap_or_default();
                return Scan::Delimiter;
            }
            let (content, rest) = input.split_at_checked(at).unwrap_or((input, b""));
            *input = rest;
            return Scan::Content(content);
        }
        // The end of the input may be the beginning of a delimiter: from the last CR on, or not at all.
        let from = input.len().saturating_sub(self.delimiter.len() - 1);
        let tail = input.get(from..).unwrap_or_default();
        let mut len = input.len();
        if let Some(at) = memchr::memrchr(b'\r', tail) {
            let candidate = tail.get(at..).unwrap_or_default();
            if self.delimiter.starts_with(candidate) {
                self.held = candidate.len();
                len = from + at;
            }
        }
        let content = input.get(..len).unwrap_or_default();
        *input = &[];
        if content.is_empty() {
            return Scan::NeedMore;
        }
        Scan::Content(content)
    }

    /// Takes one octet after a delimiter.
    fn after_delimiter(
        &mut self,
        after: AfterDelimiter,
        input: &mut &[u8],
    ) -> Result<(), MultipartError> {
        use AfterDelimiter as After;
        let [octet, rest @ ..] = *input else {
            return Ok(());
        };
        *input = rest;
        let next = match (after, octet) {
            (After::Nothing, b'-') => After::Dash,
            (After::Dash, b'-') => {
                self.state = State::Last;
                return Ok(());
            }
            // RFC 2046 §5.1.1: "receivers MUST be able to handle padding added by message transports".
            (After::Nothing, b' ' | b'\t') => After::Padding(1),
            (After::Padding(len), b' ' | b'\t') if len < 128 => After::Padding(len + 1),
            (After::Nothing | After::Padding(_), b'\r') => After::CarriageReturn,
            (After::CarriageReturn, b'\n') => {
                self.state = State::Header;
                self.begun += 1;
                self.header_len = 0;
                self.fields = FieldMap::new();
                return Ok(());
            }
            (After::Nothing | After::Padding(_), b'\n') => {
                return Err(MultipartError::Header(ProtocolError::BareLineFeed));
            }
            _ => return Err(MultipartError::InvalidDelimiter),
        };
        self.state = State::Delimiter(next);
        Ok(())
    }

    /// Takes one line of a header section, or what there is of it. Returns the head when that was its end.
    fn header_line(&mut self, input: &mut &[u8]) -> Result<Option<Box<PartHead>>, MultipartError> {
        let end = memchr::memchr(b'\n', input);
        let len = end.map_or(input.len(), |at| at + 1);
        self.header_len = self.header_len.saturating_add(len);
        // The empty line that ends the section is not counted, nor what may become it.
        if self.header_len > self.limits.max_part_header.saturating_add(CRLF) {
            return Err(MultipartError::HeaderTooLarge);
        }
        let (piece, rest) = input.split_at_checked(len).unwrap_or((input, b""));
        *input = rest;
        if end.is_none() {
            self.line.extend_from_slice(piece);
            return Ok(None);
        }
        let mut line = core::mem::take(&mut self.line);
        let whole = if line.is_empty() {
            piece
        } else {
            line.extend_from_slice(piece);
            &line
        };
        let parsed = head::parse_line(whole).map_err(MultipartError::Header)?;
        match parsed {
            Some(Line::Field(field)) => {
                if self.fields.len() >= self.limits.max_part_header_fields {
                    return Err(MultipartError::TooManyHeaderFields);
                }
                self.fields
                    .append(field.name(whole), field.value(whole))
                    .map_err(|_| MultipartError::Header(ProtocolError::InvalidFieldValue))?;
                line.clear();
                self.line = line;
                Ok(None)
            }
            Some(Line::Empty) => self.head().map(Some),
            // A line that ends in LF is complete.
            None => Err(MultipartError::Header(ProtocolError::BareLineFeed)),
        }
    }

    /// The header section is complete.
    fn head(&mut self) -> Result<Box<PartHead>, MultipartError> {
        let fields = core::mem::take(&mut self.fields);
        let disposition = only(&fields, b"content-disposition")
            .ok()
            .flatten()
            .ok_or(MultipartError::NoDisposition)?;
        let disposition = parameters::parse_disposition(disposition)
            .map_err(|_| MultipartError::InvalidDisposition)?;
        let name = disposition.name.ok_or(MultipartError::NoName)?;
        only(&fields, b"content-type").map_err(|()| MultipartError::DuplicateContentType)?;
        // RFC 7578 §4.7: deprecated, and sent by nobody who would mean it.
        let encodings: [&[u8]; 3] = [b"7bit", b"8bit", b"binary"];
        if !fields.get_all(b"content-transfer-encoding").all(|value| {
            encodings
                .iter()
                .any(|encoding| value.eq_ignore_ascii_case(encoding))
        }) {
            return Err(MultipartError::UnsupportedEncoding);
        }
        if disposition.filename.is_some() {
            if self.files_seen >= self.limits.max_files {
                return Err(MultipartError::TooManyFiles);
            }
            self.files_seen += 1;
        } else {
            if self.fields_seen >= self.limits.max_fields {
                return Err(MultipartError::TooManyFields);
            }
            self.fields_seen += 1;
        }
        self.state = State::Data;
        // RFC 2046 §5.1.1 makes content optional: the CRLF of the empty line may be that of the next delimiter.
        self.held = CRLF;
        self.borrowed = true;
        Ok(Box::new(PartHead {
            name,
            filename: disposition.filename,
            fields,
        }))
    }
}

/// [`Event`], before what it borrows from the parser is looked up.
enum Step<'a> {
    NeedMore,
    Part(Box<PartHead>),
    Held(Range<usize>),
    Data(&'a [u8]),
    PartEnd,
    End,
}

/// The value of the one line of that name; none if there is none, an error if there are several.
fn only<'a>(fields: &'a FieldMap, name: &[u8]) -> Result<Option<&'a [u8]>, ()> {
    let mut values = fields.get_all(name);
    let first = values.next();
    if values.next().is_some() {
        return Err(());
    }
    Ok(first)
}

#[cfg(test)]
mod tests;
