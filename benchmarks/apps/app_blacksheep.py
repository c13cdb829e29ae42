"""BlackSheep, on uvicorn."""

import asyncio

import orjson
from blacksheep import Application, Content, Request, Response, StreamedContent

app = Application()
CHUNK = b"x" * 1024


def text(body):
    return Response(200, content=Content(b"text/plain; charset=utf-8", body))


def as_json(data):
    return Response(200, content=Content(b"application/json", orjson.dumps(data)))


@app.router.get("/")
async def home():
    return text(b"Hello, World!")


@app.router.get("/json")
async def json():
    return as_json({"message": "Hello, World!"})


@app.router.get("/users/{user_id}")
async def user(user_id: int):
    return text(str(user_id).encode())


@app.router.get("/stream")
async def stream():
    async def chunks():
        for _ in range(10):
            yield CHUNK

    return Response(200, content=StreamedContent(b"text/plain", chunks))


@app.router.post("/echo")
async def echo(request: Request):
    return as_json(orjson.loads(await request.read()))


@app.router.post("/upload")
async def upload(request: Request):
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return text(b"%d" % size)


@app.router.get("/await")
async def awaiting():
    await asyncio.sleep(0)
    return text(b"Hello, World!")
