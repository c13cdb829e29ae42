"""What stands between the network and HTTP."""

import ipaddress
import ssl
from collections.abc import Sequence
from typing import TypedDict, cast

from vibora.exceptions import ConfigurationError
from vibora.tls import TLS


class Ingress(TypedDict, total=False):
    """What stands between the network and HTTP; None and an empty list are the same as leaving it out.

    Attributes:
        tls: What connections are encrypted with. An `ssl.SSLContext` leaves it to the event loop, which is slower.
        proxy_protocol: The networks and addresses of load balancers whose connections begin with a header of the PROXY
            protocol; `"unix"` for those that come over a unix socket. All others are served without one.
    """

    tls: TLS | ssl.SSLContext | None
    proxy_protocol: Sequence[str] | None


def check(ingress: Ingress) -> None:
    """Refuse what makes no sense, before anything is started.

    Raises:
        ConfigurationError: If it does not.
    """
    tls, proxy_protocol = ingress.get("tls"), ingress.get("proxy_protocol")
    if tls is not None and not isinstance(cast("object", tls), TLS | ssl.SSLContext):
        raise ConfigurationError(f"tls takes vibora.tls.TLS(cert, key) or an ssl.SSLContext, got {tls!r}")
    if isinstance(proxy_protocol, str):
        raise ConfigurationError(f"proxy_protocol takes a list of networks, got {proxy_protocol!r}")
    if proxy_protocol and isinstance(tls, ssl.SSLContext):
        raise ConfigurationError("proxy_protocol comes before TLS: use vibora.tls.TLS in place of an ssl.SSLContext")
    for entry in proxy_protocol or ():
        try:
            # A zone (`fe80::1%eth0`) is no part of a network.
            if entry != "unix":
                ipaddress.ip_network(entry.replace("%", "no zone "), strict=False)
        except ValueError:
            raise ConfigurationError(
                f'proxy_protocol takes networks such as "10.0.0.0/8", addresses, and "unix", got {entry!r}'
            ) from None
