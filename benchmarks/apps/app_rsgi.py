"""No framework: a bare RSGI callback on Granian."""

import asyncio

import orjson

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
