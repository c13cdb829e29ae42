"""socketify, on uWebSockets; handlers that do not wait are `def`, as in its own benchmarks.

Reused request objects, the second argument, are its fast configuration, but handlers that wait crash the process with
them.
"""

import asyncio
import sys

import orjson
import payload
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


def json10k(res, req):
    res.write_header("content-type", "application/json")
    res.end(orjson.dumps(payload.RECORDS))


def item(res, req):
    res.write_header("content-type", "text/plain; charset=utf-8")
    res.end(f"{int(req.get_parameter(0))} {int(req.get_query('limit'))} {req.get_query('q')}")


def headers(res, req):
    value = req.get_header("x-header-10")
    res.write_header("content-type", "text/plain; charset=utf-8")
    for name, content in payload.HEADERS:
        res.write_header(name, content)
    res.end(value)


async def events(res, req):
    res.write_header("content-type", "text/plain")
    for _ in range(payload.EVENTS):
        res.write(payload.EVENT)
        await asyncio.sleep(0)
    res.end(b"")


async def future(res, req):
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(done.set_result, b"Hello, World!")
    data = await done
    res.write_header("content-type", "text/plain; charset=utf-8")
    res.end(data)


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
app.get("/json10k", json10k)
app.get("/items/:item_id", item)
app.get("/headers", headers)
app.get("/events", events)
app.get("/future", future)
app.get("/stream", stream)
app.post("/echo", echo)
app.post("/upload", upload)
app.get("/await", awaiting)
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"))
app.run()
