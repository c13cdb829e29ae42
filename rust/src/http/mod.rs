//! HTTP/1.1 (RFC 9110, RFC 9112) as pure values: parsing, framing, encoding, and the connection's state machine.

#![forbid(unsafe_code)]

pub mod access;
pub mod body;
pub mod connection;
pub mod cookies;
pub mod date;
pub mod deadlines;
pub mod fields;
pub mod forwarded;
pub mod grammar;
pub mod head;
pub mod multipart;
pub mod network;
pub mod parameters;
pub mod proxy;
pub mod response;
pub mod target;
