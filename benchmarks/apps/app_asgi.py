"""No framework: a bare ASGI callback, for uvicorn, Granian and fastpysgi."""

import asyncio
from urllib.parse import parse_qs

import orjson
import payload

TEXT = (b"content-type", b"text/plain; charset=utf-8")
JSON = (b"content-type", b"application/json")
CHUNK = b"x" * 1024
FIELDS = [(name.encode(), value.encode()) for name, value in payload.HEADERS]


async def answer(send, body, content_type):
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [content_type, length]})
    await send({"type": "http.response.body", "body": body})


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    path = scope["path"]
    if path == "/":
        await answer(send, b"Hello, World!", TEXT)
    elif path == "/json":
        await answer(send, orjson.dumps({"message": "Hello, World!"}), JSON)
    elif path.startswith("/users/"):
        await answer(send, str(int(path[7:])).encode(), TEXT)
    elif path == "/json10k":
        await answer(send, orjson.dumps(payload.RECORDS), JSON)
    elif path.startswith("/items/"):
        query = parse_qs(scope["query_string"].decode())
        await answer(send, f"{int(path[7:])} {int(query['limit'][0])} {query['q'][0]}".encode(), TEXT)
    elif path == "/headers":
        value = next(value for name, value in scope["headers"] if name == b"x-header-10")
        length = (b"content-length", b"%d" % len(value))
        await send({"type": "http.response.start", "status": 200, "headers": [TEXT, length, *FIELDS]})
        await send({"type": "http.response.body", "body": value})
    elif path == "/chunks":
        await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
        for _ in range(payload.CHUNKS):
            await send({"type": "http.response.body", "body": payload.CHUNK, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    elif path == "/events":
        await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
        for _ in range(payload.EVENTS):
            await send({"type": "http.response.body", "body": payload.EVENT, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    elif path == "/future":
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        loop.call_soon(done.set_result, b"Hello, World!")
        await answer(send, await done, TEXT)
    elif path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
        for _ in range(10):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    elif path == "/echo":
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message.get("more_body"):
                break
        await answer(send, orjson.dumps(orjson.loads(body)), JSON)
    elif path == "/upload":
        size = 0
        while True:
            message = await receive()
            size += len(message["body"])
            if not message.get("more_body"):
                break
        await answer(send, b"%d" % size, TEXT)
    elif path == "/await":
        await asyncio.sleep(0)
        await answer(send, b"Hello, World!", TEXT)
