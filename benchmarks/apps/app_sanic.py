"""Sanic, on its own server."""

import asyncio

import orjson
import payload
from sanic import Sanic
from sanic.response import json as as_json
from sanic.response import text

app = Sanic("benchmark", dumps=orjson.dumps, loads=orjson.loads)
app.config.ACCESS_LOG = False
CHUNK = b"x" * 1024


@app.get("/")
async def home(request):
    return text("Hello, World!")


@app.get("/json")
async def json(request):
    return as_json({"message": "Hello, World!"})


@app.get("/users/<user_id:int>")
async def user(request, user_id):
    return text(str(user_id))


@app.get("/json10k")
async def json10k(request):
    return as_json(payload.RECORDS)


@app.get("/items/<item_id:int>")
async def item(request, item_id):
    return text(f"{item_id} {int(request.args.get('limit'))} {request.args.get('q')}")


@app.get("/headers")
async def headers(request):
    return text(request.headers["x-header-10"], headers=dict(payload.HEADERS))


@app.post("/multipart")
async def multipart(request):
    return text(f"{len(request.form)} {len(request.files.get('file').body)}")


@app.get("/chunks")
async def large_chunks(request):
    response = await request.respond(content_type="text/plain")
    for _ in range(payload.CHUNKS):
        await response.send(payload.CHUNK)
    await response.eof()


@app.get("/events")
async def events(request):
    response = await request.respond(content_type="text/event-stream")
    for _ in range(payload.EVENTS):
        await response.send(payload.EVENT)
        await asyncio.sleep(0)
    await response.eof()


@app.get("/future")
async def future(request):
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(done.set_result, "Hello, World!")
    return text(await done)


@app.get("/stream")
async def stream(request):
    response = await request.respond(content_type="text/plain")
    for _ in range(10):
        await response.send(CHUNK)
    await response.eof()


@app.post("/echo")
async def echo(request):
    return as_json(request.json)


@app.post("/upload", stream=True)
async def upload(request):
    size = 0
    async for chunk in request.stream:
        size += len(chunk)
    return text(str(size))


@app.get("/await")
async def awaiting(request):
    await asyncio.sleep(0)
    return text("Hello, World!")
