"""Sanic, on its own server."""

import asyncio

import orjson
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
