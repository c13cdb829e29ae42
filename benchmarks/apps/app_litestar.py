"""Litestar, on uvicorn."""

import asyncio
from typing import Annotated, Any

import payload
from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.enums import RequestEncodingType
from litestar.params import Body
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


@get("/json10k")
async def json10k() -> list[dict[str, Any]]:
    return payload.RECORDS


@get("/items/{item_id:int}", media_type=MediaType.TEXT)
async def item(item_id: int, limit: int, q: str) -> str:
    return f"{item_id} {limit} {q}"


@get("/headers", media_type=MediaType.TEXT)
async def headers(request: Request) -> Response[str]:
    return Response(request.headers["x-header-10"], media_type=MediaType.TEXT, headers=dict(payload.HEADERS))


@post("/multipart", status_code=200, media_type=MediaType.TEXT)
async def multipart(data: Annotated[dict[str, Any], Body(media_type=RequestEncodingType.MULTI_PART)]) -> str:
    content = await data["file"].read()
    return f"{len(data) - 1} {len(content)}"


@get("/chunks")
async def large_chunks() -> Stream:
    async def chunks():
        for _ in range(payload.CHUNKS):
            yield payload.CHUNK

    return Stream(chunks(), media_type=MediaType.TEXT)


@get("/events")
async def events() -> Stream:
    async def chunks():
        for _ in range(payload.EVENTS):
            yield payload.EVENT
            await asyncio.sleep(0)

    return Stream(chunks(), media_type="text/event-stream")


@get("/future", media_type=MediaType.TEXT)
async def future() -> bytes:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(done.set_result, b"Hello, World!")
    return await done


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


routes = [home, json, json10k, user, item, headers, multipart, large_chunks, events, future, stream]
routes += [echo, upload, awaiting, blocking]
app = Litestar(routes, openapi_config=None, logging_config=None)
