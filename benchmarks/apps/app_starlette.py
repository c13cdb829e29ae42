"""Starlette, on uvicorn."""

import asyncio

import orjson
import payload
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

CHUNK = b"x" * 1024


class OrjsonResponse(JSONResponse):
    def render(self, content):
        return orjson.dumps(content)


async def home(request):
    return PlainTextResponse(b"Hello, World!")


async def json(request):
    return OrjsonResponse({"message": "Hello, World!"})


async def user(request):
    return PlainTextResponse(str(request.path_params["user_id"]))


async def json10k(request):
    return OrjsonResponse(payload.RECORDS)


async def item(request):
    query = request.query_params
    return PlainTextResponse(f"{request.path_params['item_id']} {int(query['limit'])} {query['q']}")


async def headers(request):
    return PlainTextResponse(request.headers["x-header-10"], headers=dict(payload.HEADERS))


async def multipart(request):
    async with request.form() as form:
        file = form["file"]
        return PlainTextResponse(f"{len(form) - 1} {file.size}")


async def large_chunks(request):
    async def chunks():
        for _ in range(payload.CHUNKS):
            yield payload.CHUNK

    return StreamingResponse(chunks(), media_type="text/plain")


async def events(request):
    async def chunks():
        for _ in range(payload.EVENTS):
            yield payload.EVENT
            await asyncio.sleep(0)

    return StreamingResponse(chunks(), media_type="text/event-stream")


async def future(request):
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(done.set_result, b"Hello, World!")
    return PlainTextResponse(await done)


async def stream(request):
    async def chunks():
        for _ in range(10):
            yield CHUNK

    return StreamingResponse(chunks(), media_type="text/plain")


async def echo(request):
    return OrjsonResponse(orjson.loads(await request.body()))


async def upload(request):
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return PlainTextResponse(str(size))


async def awaiting(request):
    await asyncio.sleep(0)
    return PlainTextResponse(b"Hello, World!")


def blocking(request):
    return PlainTextResponse(b"Hello, World!")


app = Starlette(
    routes=[
        Route("/", home),
        Route("/json", json),
        Route("/users/{user_id:int}", user),
        Route("/json10k", json10k),
        Route("/items/{item_id:int}", item),
        Route("/headers", headers),
        Route("/multipart", multipart, methods=["POST"]),
        Route("/chunks", large_chunks),
        Route("/events", events),
        Route("/future", future),
        Route("/stream", stream),
        Route("/echo", echo, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/await", awaiting),
        Route("/def", blocking),
    ]
)
