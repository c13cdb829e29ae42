"""socketify, on uWebSockets; handlers that do not wait are `def`, as in its own benchmarks.

Reused request objects, the second argument, are its fast configuration, but handlers that wait crash the process with
them.
"""

import asyncio
import sys

import orjson
from socketify import App, AppListenOptions

app = App(request_response_factory_max_items=int(sys.argv[2]))
CHUNK = b"x" * 1024


def home(res, req):
    res.write_header("content-type", "text/plain; charset=utf-8")
    res.end(b"Hello, World!")


def json(res, req):
    res.write_header("content-type", "application/json")
    res.end(orjson.dumps({"message": "Hello, World!"}))


def user(res, req):
    res.write_header("content-type", "text/plain; charset=utf-8")
    res.end(str(int(req.get_parameter(0))))


def stream(res, req):
    res.write_header("content-type", "text/plain")
    for _ in range(10):
        res.write(CHUNK)
    res.end(b"")


async def echo(res, req):
    data = await res.get_data()
    res.write_header("content-type", "application/json")
    res.end(orjson.dumps(orjson.loads(data.getvalue())))


def upload(res, req):
    size = 0

    def on_data(res, chunk, is_end):
        nonlocal size
        if chunk:
            size += len(chunk)
        if is_end:
            res.write_header("content-type", "text/plain; charset=utf-8")
            res.end(str(size))

    res.on_aborted(lambda res: None)
    res.on_data(on_data)


async def awaiting(res, req):
    await asyncio.sleep(0)
    res.write_header("content-type", "text/plain; charset=utf-8")
    res.end(b"Hello, World!")


app.get("/", home)
app.get("/json", json)
app.get("/users/:user_id", user)
app.get("/stream", stream)
app.post("/echo", echo)
app.post("/upload", upload)
app.get("/await", awaiting)
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"))
app.run()
