"""Robyn; its `const` routes, which never reach Python, are not used."""

import asyncio
import os

import orjson
from robyn import Response, Robyn, StreamingResponse

app = Robyn(__file__)
CHUNK = b"x" * 1024


def as_json(data):
    return Response(200, {"content-type": "application/json"}, orjson.dumps(data))


@app.get("/")
async def home():
    return "Hello, World!"


@app.get("/json")
async def json():
    return as_json({"message": "Hello, World!"})


@app.get("/users/:user_id")
async def user(request):
    return str(int(request.path_params["user_id"]))


@app.get("/stream")
async def stream():
    async def chunks():
        for _ in range(10):
            yield CHUNK

    return StreamingResponse(chunks(), media_type="text/plain")


@app.post("/echo")
async def echo(request):
    return as_json(orjson.loads(request.body))


@app.post("/upload")
async def upload(request):
    return str(len(request.body))


@app.get("/await")
async def awaiting():
    await asyncio.sleep(0)
    return "Hello, World!"


@app.get("/def")
def blocking():
    return "Hello, World!"


app.start(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]))
