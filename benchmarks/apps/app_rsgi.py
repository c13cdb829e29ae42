"""No framework: a bare RSGI callback on Granian."""

import asyncio
from urllib.parse import parse_qs

import orjson
import payload

TEXT = [("content-type", "text/plain; charset=utf-8")]
JSON = [("content-type", "application/json")]
CHUNK = b"x" * 1024


async def app(scope, protocol):
    path = scope.path
    if path == "/":
        protocol.response_bytes(200, TEXT, b"Hello, World!")
    elif path == "/json":
        protocol.response_bytes(200, JSON, orjson.dumps({"message": "Hello, World!"}))
    elif path.startswith("/users/"):
        protocol.response_str(200, TEXT, str(int(path[7:])))
    elif path == "/json10k":
        protocol.response_bytes(200, JSON, orjson.dumps(payload.RECORDS))
    elif path.startswith("/items/"):
        query = parse_qs(scope.query_string)
        protocol.response_str(200, TEXT, f"{int(path[7:])} {int(query['limit'][0])} {query['q'][0]}")
    elif path == "/headers":
        protocol.response_str(200, [*TEXT, *payload.HEADERS], scope.headers["x-header-10"])
    elif path == "/chunks":
        transport = protocol.response_stream(200, TEXT)
        for _ in range(payload.CHUNKS):
            await transport.send_bytes(payload.CHUNK)
    elif path == "/events":
        transport = protocol.response_stream(200, TEXT)
        for _ in range(payload.EVENTS):
            await transport.send_bytes(payload.EVENT)
            await asyncio.sleep(0)
    elif path == "/future":
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        loop.call_soon(done.set_result, b"Hello, World!")
        protocol.response_bytes(200, TEXT, await done)
    elif path == "/stream":
        transport = protocol.response_stream(200, TEXT)
        for _ in range(10):
            await transport.send_bytes(CHUNK)
    elif path == "/echo":
        protocol.response_bytes(200, JSON, orjson.dumps(orjson.loads(await protocol())))
    elif path == "/upload":
        size = 0
        async for chunk in protocol:
            size += len(chunk)
        protocol.response_str(200, TEXT, str(size))
    elif path == "/await":
        await asyncio.sleep(0)
        protocol.response_bytes(200, TEXT, b"Hello, World!")
