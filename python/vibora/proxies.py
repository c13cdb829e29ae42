"""The proxies that an app stands behind, and whose word it takes about its clients.

`Vibora(trusted_proxies=...)` is how an app names them; docs/requests.md says what follows from it.
"""

from vibora._core import TrustedProxies

__all__ = ["TrustedProxies"]
