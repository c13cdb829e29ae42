"""Testing apps: a client in memory, connections that misbehave, and a clock that tests move.

```python
with app.test_client() as client:
    assert client.get("/").json() == {"hello": "world"}
```

The client is [httpx](https://www.python-httpx.org)'s, and what it talks to is the server: the same parser, limits and
timeouts, without sockets. `pip install vibora[testing]` installs what it needs.
"""

import importlib

try:
    importlib.import_module("h11")
    importlib.import_module("httpx")
except ImportError as error:
    raise ImportError(f"vibora.testing needs {error.name}: pip install 'vibora[testing]'", name=error.name) from None

from vibora.testing._client import AsyncClient, Client, Connection, TestClient
from vibora.testing._clock import TestClock
from vibora.testing._memory import AsyncConnection

__all__ = ["AsyncClient", "AsyncConnection", "Client", "Connection", "TestClient", "TestClock"]
