//! The content of a request between its arrival and its reader.

use std::collections::VecDeque;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::errors::vibora_error;
use crate::error::ProtocolError;

/// Why the rest of a request's content will never come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFailure {
    Disconnected,
    TooSlow,
    /// The request is answered with an error; nobody was to read it.
    Refused,
    Protocol(ProtocolError),
}

impl BodyFailure {
    pub(crate) fn error(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Disconnected => vibora_error(
                py,
                "ClientDisconnected",
                ("the client left before its request was complete",),
            ),
            Self::TooSlow => vibora_error(
                py,
                "RequestTimeout",
                ("the request's content came too slowly",),
            ),
            Self::Refused => vibora_error(
                py,
                "StreamAlreadyConsumed",
                ("the content of a request that no handler took is not read",),
            ),
            Self::Protocol(ProtocolError::BodyTooLarge) => vibora_error(
                py,
                "ContentTooLarge",
                ("the request's content is larger than max_body_size",),
            ),
            Self::Protocol(error) => {
                let text = format!("{error} ({})", error.rule());
                match error.status() {
                    400 => vibora_error(py, "BadRequest", (text,)),
                    413 => vibora_error(py, "ContentTooLarge", (text,)),
                    status => vibora_error(py, "HTTPError", (status, text)),
                }
            }
        }
    }
}

/// What a reader of the content wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// All of it, which is then kept.
    Whole,
    /// What has not been read yet, to its end.
    Rest,
    /// Whatever is there next.
    Chunk,
}

/// What a reader gets.
pub(crate) enum Progress {
    Ready(Py<PyBytes>),
    /// There are no more pieces.
    Exhausted,
    Pending,
}

/// A piece of content.
enum Piece {
    /// What one read from the socket brought, when that was content and nothing else: handed on without a copy.
    Shared(Py<PyBytes>),
    /// Small pieces, put together.
    Gathered(Vec<u8>),
}

/// Pieces of at least this many bytes are not gathered.
const SHARED_FROM: usize = 4 * 1024;

impl Piece {
    fn into_bytes(self, py: Python<'_>) -> Py<PyBytes> {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Gathered(octets) => PyBytes::new(py, &octets).unbind(),
        }
    }
}

/// How much has been handed out piece by piece. Then the whole can no longer be collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Streamed {
    #[default]
    Nothing,
    Some,
    /// The end has been told as well.
    All,
}

/// What has arrived and has not been read.
#[derive(Default)]
pub(crate) struct Body {
    pieces: VecDeque<Piece>,
    waiting: usize,
    pub(crate) complete: bool,
    failure: Option<BodyFailure>,
    /// The whole content, once it has been collected.
    pub(crate) collected: Option<Py<PyBytes>>,
    pub(crate) streamed: Streamed,
    /// Whoever waits wants all of it: single pieces are no reason to wake it.
    pub(crate) wants_all: bool,
    /// The future on which the handler waits for more.
    pub(crate) waiter: Option<Py<PyAny>>,
}

impl Body {
    pub(crate) fn new(complete: bool) -> Self {
        Self {
            complete,
            ..Self::default()
        }
    }

    /// Content has arrived: `data`, which is all of `read` if that is given. Returns how many bytes wait to be read.
    pub(crate) fn feed(&mut self, data: &[u8], read: Option<&Bound<'_, PyBytes>>) -> usize {
        self.waiting += data.len();
        match (read, self.pieces.back_mut()) {
            (Some(read), _) if data.len() >= SHARED_FROM => {
                self.pieces.push_back(Piece::Shared(read.clone().unbind()));
            }
            (_, Some(Piece::Gathered(octets))) => octets.extend_from_slice(data),
            (_, Some(Piece::Shared(_)) | None) => {
                self.pieces.push_back(Piece::Gathered(data.to_vec()));
            }
        }
        self.waiting
    }

    /// The rest will not come.
    pub(crate) fn fail(&mut self, failure: BodyFailure) {
        if !self.complete {
            self.failure.get_or_insert(failure);
        }
    }

    /// The next of what `want` asks for, as far as it has arrived.
    pub(crate) fn poll(&mut self, py: Python<'_>, want: Want) -> PyResult<Progress> {
        if want == Want::Whole {
            if let Some(content) = &self.collected {
                return Ok(Progress::Ready(content.clone_ref(py)));
            }
        }
        if want == Want::Whole && self.streamed != Streamed::Nothing
            || want != Want::Whole && self.collected.is_some()
            || want == Want::Chunk && self.streamed == Streamed::All
        {
            return Err(vibora_error(
                py,
                "StreamAlreadyConsumed",
                ("the request's content has been read already",),
            ));
        }
        // What has arrived is handed out before the failure of the rest is told, but never as the whole.
        if let Some(failure) = self.failure {
            if want != Want::Chunk || self.pieces.is_empty() {
                return Err(failure.error(py));
            }
        }
        match want {
            Want::Chunk => match self.pieces.pop_front() {
                Some(piece) => {
                    self.streamed = Streamed::Some;
                    let piece = piece.into_bytes(py);
                    self.waiting -= piece.as_bytes(py).len();
                    Ok(Progress::Ready(piece))
                }
                None if self.complete => {
                    self.streamed = Streamed::All;
                    Ok(Progress::Exhausted)
                }
                None => Ok(Progress::Pending),
            },
            Want::Whole | Want::Rest if !self.complete => Ok(Progress::Pending),
            Want::Whole | Want::Rest => {
                let content = self.join(py)?;
                if want == Want::Whole {
                    self.collected = Some(content.clone_ref(py));
                } else {
                    self.streamed = Streamed::All;
                }
                Ok(Progress::Ready(content))
            }
        }
    }

    fn join(&mut self, py: Python<'_>) -> PyResult<Py<PyBytes>> {
        self.waiting = 0;
        let mut pieces = std::mem::take(&mut self.pieces)
            .into_iter()
            .map(|piece| piece.into_bytes(py));
        let Some(first) = pieces.next() else {
            return Ok(PyBytes::new(py, b"").unbind());
        };
        let rest: Vec<Py<PyBytes>> = pieces.collect();
        if rest.is_empty() {
            return Ok(first);
        }
        let list = PyList::new(py, std::iter::once(first).chain(rest))?;
        let joined = PyBytes::new(py, b"").call_method1(pyo3::intern!(py, "join"), (list,))?;
        Ok(joined.cast_into::<PyBytes>()?.unbind())
    }
}
