"""TLS: how a server proves who it is, and whom it asks for proof.

Connections are encrypted by rustls inside of the server, which costs a fraction of what the event loop's own TLS does.
TLS 1.3 and 1.2, ciphers with forward secrecy, session tickets that every worker opens; no early data, no renegotiation.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from vibora import _core
from vibora.exceptions import ConfigurationError

__all__ = ["TLS"]

logger: Final = logging.getLogger("vibora")

#: Seconds before its end from which on a certificate is warned of.
_SOON: Final = 14 * 24 * 3600.0
_PROTOCOLS: Final = ("http/1.1", "http/1.0")

_Source = str | os.PathLike[str] | bytes
_File = tuple[str, bytes]


class TLS:
    """A server's certificates and keys, and what it demands of its clients.

    ```python
    app.run(port=443, tls=TLS("cert.pem", "key.pem"))
    ```

    Files are in the PEM format, and are read when the object is made and when `reload` is called. In place of a path,
    `bytes` are taken as the content of one.

    Args:
        cert: The certificate, followed by those between it and a root that clients know.
        key: Its private key: PKCS#8, PKCS#1 or SEC1; RSA, ECDSA (P-256, P-384) or Ed25519. When None it is in `cert`.
        password: The password of encrypted keys. It takes the package `cryptography`.
        ca: The certificates that those of clients have to be issued by.
        client_auth: Whether clients have to show a certificate: `"required"`, `"optional"` (one that is shown has to be
            valid) or `"none"`. When None, it is required if there is a `ca`.
        minimum_version: `"1.2"` or `"1.3"`. There is nothing older.
        alpn: The protocols that clients may choose from, the best first.
        sni: Other certificates and their keys, by the host that a client asks for. `*.example.com` stands for one
            label. Clients that name none of them get `cert`.

    Raises:
        ConfigurationError: If a file cannot be read or used, or does not belong to the others; the message names it.
    """

    def __init__(
        self,
        cert: _Source,
        key: _Source | None = None,
        *,
        password: str | bytes | None = None,
        ca: _Source | None = None,
        client_auth: Literal["none", "optional", "required"] | None = None,
        minimum_version: Literal["1.2", "1.3"] = "1.2",
        alpn: Sequence[str] = ("http/1.1",),
        sni: Mapping[str, tuple[_Source, _Source | None]] | None = None,
    ) -> None:
        if client_auth not in (None, "none", "optional", "required"):
            raise ConfigurationError(f"client_auth takes 'none', 'optional' or 'required', got {client_auth!r}")
        if minimum_version not in ("1.2", "1.3"):
            raise ConfigurationError(f"minimum_version takes '1.2' or '1.3', got {minimum_version!r}")
        if isinstance(alpn, str) or any(name not in _PROTOCOLS for name in alpn):
            raise ConfigurationError(f"alpn takes a list of protocols that are spoken here {_PROTOCOLS}, got {alpn!r}")
        if client_auth in ("optional", "required") and ca is None:
            raise ConfigurationError(f"client_auth {client_auth!r} needs a ca that issues the certificates of clients")
        self._identity = (cert, key)
        self._sni = dict(sni or {})
        self._password = password.encode() if isinstance(password, str) else password
        self._ca = ca
        self._client_auth = client_auth or ("none" if ca is None else "required")
        self._minimum_version = minimum_version
        self._alpn = list(alpn)
        # All workers have to open the tickets of each: they get the object, and this with it.
        self._secret = os.urandom(32)
        self.context = self._load()

    def reload(self) -> None:
        """Read all files again. New connections get what they say; those that are open keep what they have.

        Raises:
            ConfigurationError: If something is wrong with a file. Then nothing changes.
        """
        self.context.replace(self._load())
        logger.info("the certificates were read again")

    @property
    def not_after(self) -> datetime:
        """When the first of the certificates ends to be valid."""
        return datetime.fromtimestamp(min(end for _, end in self.context.not_after), UTC)

    def _load(self) -> _core.TLSContext:
        context = _core.TLSContext(
            self._read(*self._identity),
            sni=[(host, self._read(*pair)) for host, pair in self._sni.items()],
            ca=None if self._ca is None else _file(self._ca, "ca"),
            client_auth=self._client_auth,
            tls12=self._minimum_version == "1.2",
            alpn=self._alpn,
            ticket_secret=self._secret,
        )
        now = time.time()
        for name, end in context.not_after:
            if end < now + _SOON:
                day = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%d %H:%M UTC")
                what = "has expired on" if end < now else "expires on"
                logger.warning("the certificate in %r %s %s", name, what, day)
        return context

    def _read(self, cert: _Source, key: _Source | None) -> tuple[_File, _File]:
        certificate = _file(cert, "cert")
        name, content = certificate if key is None else _file(key, "key")
        if self._password is not None and b"ENCRYPTED" in content:
            content = _decrypted(name, content, self._password)
        return certificate, (name, content)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "context"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.context = self._load()

    def __repr__(self) -> str:
        cert, _ = self._identity
        name = "..." if isinstance(cert, bytes) else repr(os.fspath(cert))
        return f"TLS({name}, client_auth={self._client_auth!r})"


def context_of(tls: TLS | None) -> _core.TLSContext | None:
    """Return what a server's connections are encrypted with."""
    return None if tls is None else tls.context


def _file(source: _Source, what: str) -> _File:
    if isinstance(source, bytes):
        return f"<{what}>", source
    name = os.fspath(source)
    try:
        return name, Path(name).read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigurationError(f"cannot read {what} {name!r}: {reason}") from None


def _decrypted(name: str, content: bytes, password: bytes) -> bytes:
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  optional
    except ImportError:
        raise ConfigurationError(
            f"to decrypt the private key in {name!r} the package `cryptography` is needed: pip install cryptography, "
            "or decrypt it with `openssl pkey`"
        ) from None
    try:
        key = serialization.load_pem_private_key(content, password)
    except ValueError as error:
        raise ConfigurationError(f"cannot decrypt the private key in {name!r}: {str(error).lower()}") from None
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
