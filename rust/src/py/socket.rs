//! What the loop's transport does not tell about its socket, asked of the system: how much the peer has acknowledged,
//! how much the kernel may hold back, and how to leave without a farewell.

use pyo3::prelude::*;

/// The socket's descriptor, if the transport has one.
pub(crate) fn descriptor(transport: &Bound<'_, PyAny>) -> Option<i32> {
    let py = transport.py();
    let socket = transport
        .call_method1(
            pyo3::intern!(py, "get_extra_info"),
            (pyo3::intern!(py, "socket"),),
        )
        .ok()?;
    if socket.is_none() {
        return None;
    }
    socket
        .call_method0(pyo3::intern!(py, "fileno"))
        .ok()?
        .extract()
        .ok()
        .filter(|fd| *fd >= 0)
}

/// Whether the transport is one of the loops' own over a stream socket, with nothing between its bytes and the wire:
/// when it holds nothing back, what is sent past it goes where its next write would.
#[cfg(unix)]
pub(crate) fn is_plain(transport: &Bound<'_, PyAny>) -> bool {
    let class = transport.get_type();
    class.module().is_ok_and(|module| {
        let module = module.to_string_lossy();
        module == "uvloop.loop" || module == "asyncio.selector_events"
    }) && class.name().is_ok_and(|name| {
        matches!(
            &*name.to_string_lossy(),
            "TCPTransport" | "UnixTransport" | "_SelectorSocketTransport"
        )
    })
}

#[cfg(not(unix))]
pub(crate) fn is_plain(_transport: &Bound<'_, PyAny>) -> bool {
    false
}

/// Sends as much of the pieces as the system takes at once, and returns how much that was: 0 as well if it failed, which
/// the transport will find out by itself.
///
/// `more`: more follows at once, so the system may keep the end back that does not fill a packet, until it comes or
/// until [`push`] says that it does not come yet.
#[cfg(unix)]
pub(crate) fn send<const N: usize>(fd: i32, pieces: [&[u8]; N], more: bool) -> usize {
    let mut vectors = pieces.map(|piece| libc::iovec {
        iov_base: piece.as_ptr().cast_mut().cast(),
        iov_len: piece.len(),
    });
    // SAFETY: all zeros is a message without an address, pieces and control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = N as _;
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let flags = libc::MSG_DONTWAIT;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let flags = if more { flags | libc::MSG_MORE } else { flags };
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = more;
    // SAFETY: the message, its vectors and the pieces outlive the call, which only reads from them.
    let sent = unsafe { libc::sendmsg(fd, &raw const message, flags) };
    usize::try_from(sent).unwrap_or(0)
}

#[cfg(not(unix))]
pub(crate) fn send<const N: usize>(_fd: i32, _pieces: [&[u8]; N], _more: bool) -> usize {
    0
}

/// Has the system send what it keeps back since the last [`send`].
#[cfg(unix)]
pub(crate) fn push(fd: i32) {
    // The loops set it on every connection; setting it anew sends what waits (tcp(7)).
    set_option::<libc::c_int>(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &1);
}

#[cfg(not(unix))]
pub(crate) fn push(_fd: i32) {}

/// What the system knows of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Here,
    /// It has sent its last byte.
    Silent,
    /// The connection was reset, or has timed out.
    Gone,
}

/// Whether the peer is still there, as far as the system has heard.
#[cfg(target_os = "linux")]
pub(crate) fn presence(fd: i32) -> Presence {
    let mut asked = libc::pollfd {
        fd,
        events: libc::POLLRDHUP,
        revents: 0,
    };
    // SAFETY: the pointer is to one entry, and is not kept; a timeout of 0 does not wait.
    if unsafe { libc::poll(&raw mut asked, 1, 0) } <= 0 {
        Presence::Here
    } else if asked.revents & (libc::POLLERR | libc::POLLHUP) != 0 {
        Presence::Gone
    } else if asked.revents & libc::POLLRDHUP != 0 {
        Presence::Silent
    } else {
        Presence::Here
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn presence(_fd: i32) -> Presence {
    Presence::Here
}

/// Whether the peer is still there, where the transport has no socket: it may tell under `peer_presence`, as the one
/// of `vibora.testing` does.
pub(crate) fn presence_told(transport: &Bound<'_, PyAny>) -> Presence {
    let told = transport.call_method1("get_extra_info", ("peer_presence",));
    match told.and_then(|told| told.extract::<String>()).as_deref() {
        Ok("gone") => Presence::Gone,
        Ok("silent") => Presence::Silent,
        Ok(_) | Err(_) => Presence::Here,
    }
}

/// Bytes that the kernel has accepted and the peer's TCP has not acknowledged. Elsewhere than on Linux this is not
/// known, and what the kernel has accepted counts as consumed.
#[cfg(target_os = "linux")]
pub(crate) fn unacknowledged(fd: i32) -> u64 {
    let mut queued: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the same number as TIOCOUTQ) writes one int; a wrong descriptor is an error, not undefined.
    let result = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut queued) };
    if result == 0 {
        u64::try_from(queued).unwrap_or(0)
    } else {
        0
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn unacknowledged(_fd: i32) -> u64 {
    0
}

/// Whether the peer has sent something that nobody has read yet.
#[cfg(unix)]
pub(crate) fn has_unread(fd: i32) -> bool {
    let mut waiting: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int; a wrong descriptor is an error, not undefined.
    unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut waiting) == 0 && waiting > 0 }
}

#[cfg(not(unix))]
pub(crate) fn has_unread(_fd: i32) -> bool {
    false
}

#[cfg(unix)]
fn set_option<T>(fd: i32, level: libc::c_int, name: libc::c_int, value: &T) {
    // The socket works without the option: a refusal (a unix socket has no TCP options) needs no answer.
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    let _ = unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
}

/// Bounds what the kernel holds of a stream before it is sent, so that a stalled reader shows within its timeout.
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) fn bound_unsent(fd: i32, bytes: u32) {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, &bytes);
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) fn bound_unsent(_fd: i32, _bytes: u32) {}

/// Makes the coming close a reset: what is unsent is dropped, the socket is gone at once (RFC 9293 §3.10.5).
#[cfg(unix)]
pub(crate) fn reset_on_close(fd: i32) {
    set_option(
        fd,
        libc::SOL_SOCKET,
        libc::SO_LINGER,
        &libc::linger {
            l_onoff: 1,
            l_linger: 0,
        },
    );
}

#[cfg(not(unix))]
pub(crate) fn reset_on_close(_fd: i32) {}
