//! What a peer can do wrong on the wire, one variant per violated rule.
//!
//! Each error carries the answer (`status`) and the law (`rule`), so that the connection can respond and log without a
//! table of its own. Misuse by our own code is never a `ProtocolError`.

use core::fmt;

/// A rule of RFC 9110, RFC 9112 or RFC 3986 that the received octets break, or a limit of ours that they pass.
///
/// Whatever the variant, the position of the next message is unknown: respond, close, parse nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// CR that is not followed by LF.
    BareCarriageReturn,
    /// LF that is not preceded by CR.
    BareLineFeed,

    /// More empty lines before the request line than are ignored.
    TooManyEmptyLines,
    /// The first line is not `method SP request-target SP HTTP-version`.
    MalformedRequestLine,
    /// The request line is longer than `HeadLimits::max_request_line`.
    RequestLineTooLong,
    /// The method is empty or not a token.
    InvalidMethod,
    /// An octet that no request-target may have: a control, non-ASCII.
    InvalidTargetOctet,
    /// The request-target has a fragment (`#`).
    FragmentInTarget,
    /// The request-target is none of the four forms, or a form that its method may not use.
    InvalidTargetForm,
    /// The authority of an absolute-form or authority-form is not `host [":" port]`.
    InvalidAuthority,
    /// The authority of an absolute-form has userinfo (`user@`).
    UserinfoInAuthority,
    /// The protocol version is not `HTTP/DIGIT.DIGIT`.
    MalformedVersion,
    /// A well-formed HTTP version whose major version is not 1.
    UnsupportedVersion,

    /// A line starts with whitespace: obsolete line folding, or whitespace before the first field line.
    LineFolding,
    /// A field line without a colon.
    MissingColon,
    /// A field name is empty or not a token.
    InvalidFieldName,
    /// Whitespace between a field name and its colon.
    WhitespaceBeforeColon,
    /// A control octet in a field value.
    InvalidFieldValue,
    /// The header section is larger than `HeadLimits::max_head`.
    HeadTooLarge,
    /// More field lines than `HeadLimits::max_fields`.
    TooManyFields,

    /// An HTTP/1.1 request without `Host`.
    MissingHost,
    /// More than one `Host` field line.
    DuplicateHost,
    /// The value of `Host` is not `uri-host [":" port]`.
    InvalidHost,
    /// More than one `Content-Type` field line.
    DuplicateContentType,
    /// An expectation other than `100-continue`.
    UnsupportedExpectation,

    /// `Content-Length` is not a decimal number up to 2^63-1.
    InvalidContentLength,
    /// More than one `Content-Length`, as lines or as a list, even if all agree.
    DuplicateContentLength,
    /// Both `Transfer-Encoding` and `Content-Length`.
    TransferEncodingWithContentLength,
    /// `Transfer-Encoding` in an HTTP/1.0 request.
    TransferEncodingInHttp10,
    /// `Transfer-Encoding` is malformed, does not end in chunked, or applies it more than once or with parameters.
    InvalidTransferEncoding,
    /// A transfer coding other than chunked, under chunked.
    UnsupportedTransferCoding,

    /// The chunk-size is not 1 to 16 hexadecimal digits.
    InvalidChunkSize,
    /// A chunk extension does not match its grammar.
    InvalidChunkExtension,
    /// The chunk extensions of one message are longer than `BodyLimits::max_chunk_extension`.
    ChunkExtensionsTooLong,
    /// The chunk-data is not followed by CRLF.
    MissingChunkEnd,
    /// The trailer section is larger than `BodyLimits::max_trailers`.
    TrailersTooLarge,
    /// More trailer fields than `BodyLimits::max_trailer_fields`.
    TooManyTrailers,
    /// The content is larger than the route admits.
    BodyTooLarge,
    /// The peer closed the connection in the middle of a message.
    IncompleteMessage,

    /// `%` without two hexadecimal digits in the path.
    BadPercentEncoding,
    /// `%00` in the path.
    NulInPath,
}

impl ProtocolError {
    /// The status code of the response that this error deserves.
    #[must_use]
    pub fn status(self) -> u16 {
        self.facts().0
    }

    /// The section that defines the violated rule, as in `"RFC 9112 §6.3"`.
    #[must_use]
    pub fn rule(self) -> &'static str {
        self.facts().1
    }

    /// What is wrong, without the place.
    pub(crate) fn message(self) -> &'static str {
        self.facts().2
    }

    /// Status, rule, message: the one table.
    #[rustfmt::skip]
    fn facts(self) -> (u16, &'static str, &'static str) {
        #[allow(clippy::enum_glob_use, reason = "a table with a row for each")]
        use ProtocolError::*;
        match self {
            BareCarriageReturn => (400, "RFC 9112 §2.2", "a carriage return without a line feed"),
            BareLineFeed => (400, "RFC 9112 §2.2", "a line feed without a carriage return"),

            TooManyEmptyLines => (400, "RFC 9112 §2.2", "too many empty lines before the request line"),
            MalformedRequestLine => (400, "RFC 9112 §3", "the request line is not method, target and version"),
            RequestLineTooLong => (414, "RFC 9112 §3", "the request line is too long"),
            InvalidMethod => (400, "RFC 9110 §9.1", "the method is not a token"),
            InvalidTargetOctet => (400, "RFC 9112 §3.2", "an octet that may not be in a request target"),
            FragmentInTarget => (400, "RFC 9112 §3.2", "a fragment in the request target"),
            InvalidTargetForm => (400, "RFC 9112 §3.2", "the request target has no form that its method may use"),
            InvalidAuthority => (400, "RFC 9110 §4.2", "the authority of the request target is not a host and port"),
            UserinfoInAuthority => (400, "RFC 9110 §4.2.4", "the authority of the request target has userinfo"),
            MalformedVersion => (400, "RFC 9112 §2.3", "the protocol version is malformed"),
            UnsupportedVersion => (505, "RFC 9110 §15.6.6", "the major version of the protocol is not supported"),

            LineFolding => (400, "RFC 9112 §5.2", "a field line that starts with whitespace"),
            MissingColon => (400, "RFC 9112 §5", "a field line without a colon"),
            InvalidFieldName => (400, "RFC 9110 §5.1", "a field name that is not a token"),
            WhitespaceBeforeColon => (400, "RFC 9112 §5.1", "whitespace between a field name and its colon"),
            InvalidFieldValue => (400, "RFC 9110 §5.5", "a control character in a field value"),
            HeadTooLarge => (431, "RFC 6585 §5", "the header section is too large"),
            TooManyFields => (431, "RFC 6585 §5", "the header section has too many field lines"),

            MissingHost => (400, "RFC 9112 §3.2", "the host field is missing"),
            DuplicateHost => (400, "RFC 9112 §3.2", "more than one host field"),
            InvalidHost => (400, "RFC 9112 §3.2", "the host field is not a host and port"),
            DuplicateContentType => (400, "RFC 9110 §5.3", "more than one content-type field"),
            UnsupportedExpectation => (417, "RFC 9110 §10.1.1", "an expectation other than 100-continue"),

            InvalidContentLength => (400, "RFC 9112 §6.3", "the content-length is not a decimal number below 2^63"),
            DuplicateContentLength => (400, "RFC 9112 §6.3", "more than one content-length"),
            TransferEncodingWithContentLength => (400, "RFC 9112 §6.1", "both transfer-encoding and content-length"),
            TransferEncodingInHttp10 => (400, "RFC 9112 §6.1", "transfer-encoding in an http/1.0 request"),
            InvalidTransferEncoding => (400, "RFC 9112 §6.3", "chunked is not the final transfer coding, or is malformed"),
            UnsupportedTransferCoding => (501, "RFC 9112 §6.1", "a transfer coding other than chunked"),

            InvalidChunkSize => (400, "RFC 9112 §7.1", "the chunk size is not 1 to 16 hexadecimal digits"),
            InvalidChunkExtension => (400, "RFC 9112 §7.1.1", "a malformed chunk extension"),
            ChunkExtensionsTooLong => (413, "RFC 9112 §7.1.1", "the chunk extensions are too long"),
            MissingChunkEnd => (400, "RFC 9112 §7.1", "chunk data that does not end where its size says"),
            TrailersTooLarge => (431, "RFC 9112 §7.1.2", "the trailer section is too large"),
            TooManyTrailers => (431, "RFC 9112 §7.1.2", "the trailer section has too many field lines"),
            BodyTooLarge => (413, "RFC 9110 §15.5.14", "the content is too large"),
            IncompleteMessage => (400, "RFC 9112 §8", "the connection was closed in the middle of a message"),

            BadPercentEncoding => (400, "RFC 3986 §2.1", "a percent sign without two hexadecimal digits in the path"),
            NulInPath => (400, "RFC 3986 §7.3", "a percent-encoded nul in the path"),
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().2)
    }
}

impl core::error::Error for ProtocolError {}

#[cfg(test)]
mod tests {
    use super::ProtocolError::{
        BareLineFeed, BodyTooLarge, HeadTooLarge, IncompleteMessage, RequestLineTooLong,
        UnsupportedExpectation, UnsupportedTransferCoding, UnsupportedVersion,
    };

    #[test]
    fn each_kind_of_violation_has_its_status() {
        for (error, status) in [
            (BareLineFeed, 400),
            (IncompleteMessage, 400),
            (BodyTooLarge, 413),
            (RequestLineTooLong, 414),
            (UnsupportedExpectation, 417),
            (HeadTooLarge, 431),
            (UnsupportedTransferCoding, 501),
            (UnsupportedVersion, 505),
        ] {
            assert_eq!(error.status(), status, "{error:?}");
            assert!(error.rule().starts_with("RFC "), "{error:?}");
            let message = error.to_string();
            assert!(
                message.starts_with(|first: char| first.is_ascii_lowercase()),
                "{message}"
            );
            assert!(!message.ends_with('.'), "{message}");
        }
    }
}
