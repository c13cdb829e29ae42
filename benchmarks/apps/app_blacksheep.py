"""BlackSheep, on uvicorn."""

import asyncio

import orjson
import payload
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


@app.router.get("/json10k")
async def json10k():
    return as_json(payload.RECORDS)


@app.router.get("/items/{item_id}")
async def item(item_id: int, limit: int, q: str):
    return text(f"{item_id} {limit} {q}".encode())


FIELDS = [(name.encode(), value.encode()) for name, value in payload.HEADERS]


@app.router.get("/headers")
async def headers(request: Request):
    value = request.get_first_header(b"x-header-10")
    return Response(200, FIELDS, Content(b"text/plain; charset=utf-8", value))


@app.router.post("/multipart")
async def multipart(request: Request):
    form = await request.form()
    (file,) = form.pop("file")
    data = file.data if isinstance(file.data, bytes) else await file.read()
    return text(f"{len(form)} {len(data)}".encode())


@app.router.get("/chunks")
async def large_chunks():
    async def chunks():
        for _ in range(payload.CHUNKS):
            yield payload.CHUNK

    return Response(200, content=StreamedContent(b"text/plain", chunks))


@app.router.get("/events")
async def events():
    async def chunks():
        for _ in range(payload.EVENTS):
            yield payload.EVENT
            await asyncio.sleep(0)

    return Response(200, content=StreamedContent(b"text/event-stream", chunks))


@app.router.get("/future")
async def future():
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(done.set_result, b"Hello, World!")
    return text(await done)


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
