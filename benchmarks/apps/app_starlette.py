"""Starlette, on uvicorn."""

import asyncio

import orjson
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
        Route("/stream", stream),
        Route("/echo", echo, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/await", awaiting),
        Route("/def", blocking),
    ]
)
