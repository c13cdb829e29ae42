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
mod tests {
    use super::*;

    /// Name, file name, content type and content of a part.
    type Seen = (String, Option<String>, Option<String>, String);

    #[derive(Debug, Default, PartialEq)]
    struct Outcome {
        parts: Vec<Seen>,
        /// The parts that have ended.
        complete: usize,
        end: Option<Result<(), MultipartError>>,
    }

    fn text(octets: &[u8]) -> String {
        String::from_utf8_lossy(octets).into_owned()
    }

    fn name(name: &Text) -> String {
        match name {
            Text::Octets(octets) => text(octets),
            Text::Decoded(text) => text.clone(),
        }
    }

    fn feed<'a>(
        parser: &mut MultipartParser,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let mut ended = false;
        for mut input in pieces {
            loop {
                match parser.parse(&mut input) {
                    Ok(Event::NeedMore) => {
                        assert!(input.is_empty());
                        break;
                    }
                    Ok(Event::Part(head)) => outcome.parts.push((
                        name(&head.name),
                        head.filename.as_ref().map(name),
                        head.fields.get(b"content-type").map(text),
                        String::new(),
                    )),
                    Ok(Event::Data(data)) => {
                        assert!(!data.is_empty());
                        let last = outcome.parts.last_mut().unwrap();
                        last.3.push_str(&text(data));
                    }
                    Ok(Event::PartEnd) => {
                        outcome.complete += 1;
                        assert_eq!(outcome.complete, outcome.parts.len());
                    }
                    Ok(Event::End) => {
                        assert!(!ended);
                        ended = true;
                    }
                    Err(error) => {
                        assert_eq!(parser.parse(&mut &b"--b--"[..]).err(), Some(error));
                        assert_eq!(parser.finish(), Err(error));
                        outcome.end = Some(Err(error));
                        return outcome;
                    }
                }
            }
        }
        let end = parser.finish();
        assert_eq!(end.is_ok(), ended);
        outcome.end = Some(end);
        outcome
    }

    /// Parses whole, octet by octet, in threes, and cut at each position.
    fn every_split_within(bytes: &[u8], limits: MultipartLimits) -> Outcome {
        let parser = || MultipartParser::new(b"b", limits).unwrap();
        let whole = feed(&mut parser(), [bytes]);
        for size in [1, 2, 3, 7] {
            let seen = feed(&mut parser(), bytes.chunks(size));
            assert_eq!(seen, whole, "in pieces of {size}: {}", text(bytes));
        }
        for at in 0..=bytes.len() {
            let (first, second) = bytes.split_at(at);
            let seen = feed(&mut parser(), [first, b"", second]);
            assert_eq!(seen, whole, "cut at {at}: {}", text(bytes));
        }
        whole
    }

    fn every_split(bytes: &str) -> Outcome {
        every_split_within(bytes.as_bytes(), MultipartLimits::default())
    }

    const HEAD: &str = "content-disposition: form-data; name=a\r\n\r\n";

    fn fields(contents: &[&str]) -> Outcome {
        Outcome {
            parts: contents
                .iter()
                .map(|content| ("a".to_owned(), None, None, (*content).to_owned()))
                .collect(),
            complete: contents.len(),
            end: Some(Ok(())),
        }
    }

    /// RFC 2046 §5.1.1
    #[test]
    #[rustfmt::skip]
    fn content_is_what_stands_between_delimiters() {
        for (bytes, contents) in [
            ("--b--", &[][..]),
            ("--b--\r\n", &[]),
            ("\r\n--b--\r\n", &[]),
            ("--b\r\n{}--b--", &[""]),
            ("--b\r\n{}\r\n--b--\r\n", &[""]),
            ("--b\r\n{}x\r\n--b--\r\n", &["x"]),
            ("--b\r\n{}\r\n\r\n--b--\r\n", &["\r\n"]),
            ("--b\r\n{}x\r\n\r\n--b--\r\n", &["x\r\n"]),
            ("--b\r\n{}x\r\n--b\r\n{}y\r\n--b\r\n{}\r\n--b--", &["x", "y", ""]),
            ("--b\r\n{}-\r\n-\r\n--\r\n--a\r\n--\r\n--b--", &["-\r\n-\r\n--\r\n--a\r\n--"]),
            ("--b\r\n{}\r\r\n--b--", &["\r"]),
            ("--b\r\n{}\r\r\n\r\n--\r\r\n--b--", &["\r\r\n\r\n--\r"]),
            ("--b\r\n{}-\r\n--b--", &["-"]),
            ("--b\r\n{}--\r\n--b--", &["--"]),
            ("--b\r\n{}--a--b\n--b\r--b\r\n --b\r\n--b--", &["--a--b\n--b\r--b\r\n --b"]),
            ("--b\r\n{}x--b\r\n--b--", &["x--b"]),
            ("--b \t\r\n{}x\r\n--b\t\r\n{}y\r\n--b-- \r\n", &["x", "y"]),
            ("preamble\r\n--b\r\n{}x\r\n--b--\r\nepilogue\r\n--b\r\n", &["x"]),
            ("-\r\n--a\r\n--b\r\n{}x\r\n--b--", &["x"]),
        ] {
            let bytes = bytes.replace("{}", HEAD);
            assert_eq!(every_split(&bytes), fields(contents), "{bytes:?}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_part_has_a_head() {
        let part = |name: &str, filename: Option<&str>, kind: Option<&str>| {
            (name.to_owned(), filename.map(str::to_owned), kind.map(str::to_owned), "x".to_owned())
        };
        for (head, expected) in [
            ("Content-Disposition: form-data; name=\"a\"", part("a", None, None)),
            ("CONTENT-DISPOSITION:form-data;name=a \t", part("a", None, None)),
            ("Content-Disposition: form-data; name=\"a\"; filename=\"\"\r\nContent-Type: text/html", part("a", Some(""), Some("text/html"))),
            ("x: y\r\nx: z\r\nContent-Type:\r\nContent-Disposition: form-data; name=a; filename=b", part("a", Some("b"), Some(""))),
            ("Content-Disposition: form-data; name=\"\u{e9}\"; filename=\"\u{1f600}%22\"", part("\u{e9}", Some("\u{1f600}\""), None)),
            ("Content-Disposition: form-data; name=a; filename*=utf-8''%C3%A9", part("a", Some("\u{e9}"), None)),
            ("Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: BINARY", part("a", None, None)),
            ("Content-Disposition: form-data; name=a\r\nContent-Length: 99", part("a", None, None)),
        ] {
            let seen = every_split(&format!("--b\r\n{head}\r\n\r\nx\r\n--b--"));
            assert_eq!(seen, Outcome { parts: vec![expected], complete: 1, end: Some(Ok(())) }, "{head}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn refuses_what_is_malformed() {
        use MultipartError as E;
        let disposition = "Content-Disposition: form-data; name=a";
        for (bytes, expected) in [
            ("", E::NoDelimiter),
            ("--a\r\n", E::NoDelimiter),
            ("-", E::NoDelimiter),
            ("\n--b--", E::NoDelimiter),
            ("x--b--", E::NoDelimiter),
            ("--b", E::Truncated),
            ("--b-", E::Truncated),
            ("--b\r\n", E::Truncated),
            ("--b\r\nx: y", E::Truncated),
            ("--b\r\n{}", E::Truncated),
            ("--b\r\n{}x", E::Truncated),
            ("--b\r\n{}x\r\n--", E::Truncated),
            ("--b\r\n{}x\r\n--b", E::Truncated),
            ("--b\r\n{}x\r\n--b\r\n", E::Truncated),
            ("--b\n", E::Header(ProtocolError::BareLineFeed)),
            ("--b\r\n{}x\r\n--b\n", E::Header(ProtocolError::BareLineFeed)),
            ("--bb\r\n", E::InvalidDelimiter),
            ("--b\r\r\n", E::InvalidDelimiter),
            ("--b\rx", E::InvalidDelimiter),
            ("--b -", E::InvalidDelimiter),
            ("--b-\r\n", E::InvalidDelimiter),
            ("--b\r\n{}x\r\n--bc\r\n--b--", E::InvalidDelimiter),
            ("--b\r\n\r\n", E::NoDisposition),
            ("--b\r\nContent-Type: a/b\r\n\r\n", E::NoDisposition),
            ("--b\r\n{d}\r\n{d}\r\n\r\n", E::NoDisposition),
            ("--b\r\nContent-Disposition: attachment; name=a\r\n\r\n", E::InvalidDisposition),
            ("--b\r\nContent-Disposition: form-data; name=\"a\r\n\r\n", E::InvalidDisposition),
            ("--b\r\nContent-Disposition: form-data\r\n\r\n", E::NoName),
            ("--b\r\nContent-Disposition: form-data; filename=a\r\n\r\n", E::NoName),
            ("--b\r\n{d}\r\nContent-Type: a/b\r\ncontent-type: a/b\r\n\r\n", E::DuplicateContentType),
            ("--b\r\n{d}\r\nContent-Transfer-Encoding: base64\r\n\r\n", E::UnsupportedEncoding),
            ("--b\r\nx\r\n", E::Header(ProtocolError::MissingColon)),
            ("--b\r\n: y\r\n", E::Header(ProtocolError::InvalidFieldName)),
            ("--b\r\nx : y\r\n", E::Header(ProtocolError::WhitespaceBeforeColon)),
            ("--b\r\nx: \0\r\n", E::Header(ProtocolError::InvalidFieldValue)),
            ("--b\r\nx: y\rz\r\n", E::Header(ProtocolError::BareCarriageReturn)),
            ("--b\r\nx: y\n", E::Header(ProtocolError::BareLineFeed)),
            ("--b\r\n{d}\r\n\n", E::Header(ProtocolError::BareLineFeed)),
            ("--b\r\n{d};\r\n filename=x\r\n\r\n", E::Header(ProtocolError::LineFolding)),
        ] {
            let bytes = bytes.replace("{}", HEAD).replace("{d}", disposition);
            let seen = every_split(&bytes);
            assert_eq!(seen.end, Some(Err(expected)), "{bytes:?}");
        }
        let padding = format!("--b{}\r\n", " ".repeat(129));
        assert_eq!(every_split(&padding).end, Some(Err(E::InvalidDelimiter)));
    }

    #[test]
    fn each_limit_has_its_edge() {
        use MultipartError as E;
        let limits = MultipartLimits {
            max_fields: 2,
            max_files: 1,
            max_part_header: 46,
            max_part_header_fields: 2,
            max_around: 5,
        };
        let field = format!("{HEAD}x\r\n--b");
        let file = "content-disposition: form-data; name=a; filename=b\r\n\r\n";
        for (bytes, expected) in [
            (format!("--b\r\n{field}\r\n{field}--"), Ok(())),
            (
                format!("--b\r\n{field}\r\n{field}\r\n{field}--"),
                Err(E::TooManyFields),
            ),
            (
                format!("--b\r\n{}\r\n\r\n", "x".repeat(44)),
                Err(E::Header(ProtocolError::MissingColon)),
            ),
            (
                format!("--b\r\nx:{}\r\n\r\n", "x".repeat(42)),
                Err(E::NoDisposition),
            ),
            (
                format!("--b\r\nx:{}\r\n\r\n", "x".repeat(43)),
                Err(E::HeaderTooLarge),
            ),
            (
                format!("--b\r\nx:{}", "x".repeat(47)),
                Err(E::HeaderTooLarge),
            ),
            (format!("--b\r\n{file}"), Err(E::HeaderTooLarge)),
            (
                "--b\r\nx:y\r\nx:y\r\nx:y\r\n".to_owned(),
                Err(E::TooManyHeaderFields),
            ),
            ("12345\r\n--b--\r\n123".to_owned(), Ok(())),
            ("123456\r\n--b--".to_owned(), Err(E::PreambleTooLong)),
            ("123456".to_owned(), Err(E::PreambleTooLong)),
            ("--b--123456".to_owned(), Err(E::EpilogueTooLong)),
        ] {
            let seen = every_split_within(bytes.as_bytes(), limits);
            assert_eq!(seen.end, Some(expected), "{bytes:?}");
        }
        let limits = MultipartLimits {
            max_files: 1,
            ..MultipartLimits::default()
        };
        let files = format!("--b\r\n{file}x\r\n--b\r\n{file}");
        let seen = every_split_within(files.as_bytes(), limits);
        assert_eq!(seen.end, Some(Err(E::TooManyFiles)));
        assert_eq!(seen.complete, 1);
    }

    #[test]
    fn a_boundary_has_its_grammar() {
        for boundary in [
            "a",
            "----WebKitFormBoundary7MA4YWxkTrZu0gW",
            "a b'()+_,-./:=?9",
            &"x".repeat(70),
        ] {
            assert!(is_boundary(boundary.as_bytes()), "{boundary}");
        }
        for boundary in [
            "",
            " ",
            "a ",
            "a\r\n",
            "a\"",
            "a;b",
            "\u{e9}",
            &"x".repeat(71),
        ] {
            assert!(!is_boundary(boundary.as_bytes()), "{boundary}");
            let parser = MultipartParser::new(boundary.as_bytes(), MultipartLimits::default());
            assert_eq!(parser.err(), Some(MultipartError::InvalidBoundary));
        }
    }

    #[test]
    fn content_is_not_copied() {
        let mut parser = MultipartParser::new(b"b", MultipartLimits::default()).unwrap();
        let mut head = format!("--b\r\n{HEAD}").into_bytes();
        head.extend_from_slice(b"x");
        assert_eq!(feed(&mut parser, [&head[..]]).complete, 0);
        let content = vec![b'\r'; 70_000];
        let mut input = &content[..];
        let Ok(Event::Data(data)) = parser.parse(&mut input) else {
            panic!("no data");
        };
        // All but the last CR, which a delimiter may begin with.
        assert!(core::ptr::eq(data, &raw const content[..69_999]));
    }

    /// CVE-2023-46136, CVE-2024-53981: what looks like the beginning of a delimiter again and again.
    #[test]
    fn floods_take_linear_time() {
        let boundary = [b"-".repeat(60), b"x".to_vec()].concat();
        for pattern in [
            &b"\r\n--"[..],
            b"\r\n",
            b"\r",
            b"-",
            b"\n",
            b"\r\n------------------------------------------------------------",
            b"\r\n--------------------------------------------------------------",
            b"\r\n--------------------------------------------------------------y",
        ] {
            let mut bytes = [b"--", &boundary[..], b"\r\n", HEAD.as_bytes()].concat();
            while bytes.len() < 200_000 {
                bytes.extend_from_slice(pattern);
            }
            for size in [1, 61, 4096, 1_000_000] {
                let mut parser =
                    MultipartParser::new(&boundary, MultipartLimits::default()).unwrap();
                let start = std::time::Instant::now();
                let mut len = 0;
                for mut input in bytes.chunks(size) {
                    while let Event::Data(_) | Event::Part(_) = parser
                        .parse(&mut input)
                        .inspect(|event| {
                            if let Event::Data(data) = event {
                                len += data.len();
                            }
                        })
                        .unwrap()
                    {}
                }
                assert!(start.elapsed().as_secs() < 2, "{} by {size}", text(pattern));
                assert!(bytes.len() - len < 300, "{} by {size}", text(pattern));
            }
        }
    }

    #[test]
    fn every_error_says_what_is_wrong() {
        use MultipartError as E;
        for (error, status) in [
            (E::InvalidBoundary, 400),
            (E::Header(ProtocolError::LineFolding), 400),
            (E::HeaderTooLarge, 431),
            (E::TooManyHeaderFields, 431),
            (E::TooManyFields, 413),
            (E::TooManyFiles, 413),
            (E::UnsupportedEncoding, 415),
        ] {
            assert_eq!(error.status(), status, "{error:?}");
            assert!(error.rule().starts_with("RFC "), "{error:?}");
            let message = error.to_string();
            assert!(message.starts_with(|first: char| first.is_ascii_lowercase()));
            assert!(!message.ends_with('.'));
        }
    }
}
