"""The sockets that a server listens on."""

import errno
import os
import socket
import sys

from vibora.exceptions import CannotListen


def bind(
    host: str, port: int, *, backlog: int | None = None, reuse_port: bool = False, spelling: str = "{}="
) -> list[socket.socket]:
    """Return sockets bound to each address of a host.

    Args:
        host: A host name or an address, IPv4 or IPv6. `::` takes IPv4 connections too.
        port: A port; 0 lets the system choose one, the same for each address.
        backlog: Listen already, with so many connections waiting. A socket that does not listen reserves its port.
        reuse_port: Share the port with other sockets that say so too; the kernel spreads connections over them.
        spelling: How an option is written where the caller has it, for the messages.

    Raises:
        CannotListen: If it cannot be done; the message says what to do.
    """
    where = url_of((host, port)).removeprefix("http://")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        advice = f"choose another host with {spelling.format('host')}"
        raise CannotListen(errno.EADDRNOTAVAIL, f"cannot listen on {where}: {reason}; {advice}") from None
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            chosen = address_of(sockets[0])[1] if sockets else port
            try:
                sock = _bound(family, kind, protocol, (address[0], chosen, *address[2:]), reuse_port=reuse_port)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                absent = error  # as ::1, which localhost may stand for, on a machine without IPv6
                continue
            sockets.append(sock)
            if backlog is not None:
                sock.listen(backlog)
        if absent and not sockets:
            raise absent
    except OSError as error:
        for sock in sockets:
            sock.close()
        advice = {
            errno.EADDRINUSE: f"stop the other server or choose another port with {spelling.format('port')}",
            errno.EACCES: f"choose a port above 1023 with {spelling.format('port')}",
        }.get(error.errno or 0, f"choose another host with {spelling.format('host')}")
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise CannotListen(error.errno, f"cannot listen on {where}: {reason}; {advice}") from None
    return sockets


def _bound(family: int, kind: int, protocol: int, address: tuple[object, ...], *, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # where it means to take the port from its owner
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        _find_vanished_peers(sock)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _find_vanished_peers(sock: socket.socket) -> None:
    """Have the kernel probe peers that are silent for a minute, and give up on those that do not answer for half one.

    A connection that waits for its handler, such as a stream of rare events, has no other way to learn that its client
    lost its power or its network. Connections inherit this from the socket that accepts them.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        option: int | None = getattr(socket, name, None)  # not every system has them
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def bind_again(sock: socket.socket) -> socket.socket:
    """Return another socket on the port of one that shares it.

    Args:
        sock: A socket bound with `reuse_port`. It is closed.

    Raises:
        OSError: If it cannot be done.
    """
    address = sock.getsockname()
    sock.close()
    return _bound(sock.family, sock.type, sock.proto, address, reuse_port=True)


def address_of(sock: socket.socket) -> tuple[str, int]:
    """Return the address and the port that a socket is bound to."""
    host, port = sock.getsockname()[:2]
    return host, port


def url_of(address: tuple[str, int]) -> str:
    """Return the URL of an address."""
    host, port = address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
