"""Litestar, on uvicorn."""

import asyncio
from typing import Any

from litestar import Litestar, MediaType, Request, get, post
from litestar.response import Stream

CHUNK = b"x" * 1024


@get("/", media_type=MediaType.TEXT)
async def home() -> bytes:
    return b"Hello, World!"


@get("/json")
async def json() -> dict[str, str]:
    return {"message": "Hello, World!"}


@get("/users/{user_id:int}", media_type=MediaType.TEXT)
async def user(user_id: int) -> str:
    return str(user_id)


@get("/stream")
async def stream() -> Stream:
    async def chunks():
        for _ in range(10):
            yield CHUNK

    return Stream(chunks(), media_type=MediaType.TEXT)


@post("/echo", status_code=200)
async def echo(data: dict[str, Any]) -> dict[str, Any]:
    return data


@post("/upload", status_code=200, media_type=MediaType.TEXT, request_max_body_size=None)
async def upload(request: Request) -> str:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return str(size)


@get("/await", media_type=MediaType.TEXT)
async def awaiting() -> bytes:
    await asyncio.sleep(0)
    return b"Hello, World!"


@get("/def", media_type=MediaType.TEXT, sync_to_thread=True)
def blocking() -> bytes:
    return b"Hello, World!"


app = Litestar([home, json, user, stream, echo, upload, awaiting, blocking], openapi_config=None, logging_config=None)
