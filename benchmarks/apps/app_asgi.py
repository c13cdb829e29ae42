"""No framework: a bare ASGI callback, for uvicorn, Granian and fastpysgi."""

import asyncio

import orjson

TEXT = (b"content-type", b"text/plain; charset=utf-8")
JSON = (b"content-type", b"application/json")
CHUNK = b"x" * 1024


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
