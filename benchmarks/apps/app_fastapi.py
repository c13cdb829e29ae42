"""FastAPI, on uvicorn."""

import asyncio
from typing import Annotated, Any

import payload
from fastapi import FastAPI, File, Form, Header, Request, Response, UploadFile
from fastapi.responses import PlainTextResponse, StreamingResponse

app = FastAPI(openapi_url=None)
CHUNK = b"x" * 1024


@app.get("/", response_class=PlainTextResponse)
async def home() -> str:
    return "Hello, World!"


@app.get("/json")
async def json() -> dict[str, str]:
    return {"message": "Hello, World!"}


@app.get("/users/{user_id}", response_class=PlainTextResponse)
async def user(user_id: int) -> str:
    return str(user_id)


@app.get("/json10k")
async def json10k() -> list[dict[str, Any]]:
    return payload.RECORDS


@app.get("/items/{item_id}", response_class=PlainTextResponse)
async def item(item_id: int, limit: int, q: str) -> str:
    return f"{item_id} {limit} {q}"


@app.get("/headers", response_class=PlainTextResponse)
async def headers(response: Response, x_header_10: Annotated[str, Header()]) -> str:
    for name, value in payload.HEADERS:
        response.headers[name] = value
    return x_header_10


@app.post("/multipart", response_class=PlainTextResponse)
async def multipart(
    title: Annotated[str, Form()],
    author: Annotated[str, Form()],
    year: Annotated[str, Form()],
    file: Annotated[UploadFile, File()],
) -> str:
    return f"{len([title, author, year])} {file.size}"


@app.get("/chunks")
async def large_chunks():
    async def chunks():
        for _ in range(payload.CHUNKS):
            yield payload.CHUNK

    return StreamingResponse(chunks(), media_type="text/plain")


@app.get("/events")
async def events():
    async def chunks():
        for _ in range(payload.EVENTS):
            yield payload.EVENT
            await asyncio.sleep(0)

    return StreamingResponse(chunks(), media_type="text/event-stream")


@app.get("/future", response_class=PlainTextResponse)
async def future() -> str:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(done.set_result, "Hello, World!")
    return await done


@app.get("/stream")
async def stream():
    async def chunks():
        for _ in range(10):
            yield CHUNK

    return StreamingResponse(chunks(), media_type="text/plain")


@app.post("/echo")
async def echo(data: dict[str, Any]) -> dict[str, Any]:
    return data


@app.post("/upload", response_class=PlainTextResponse)
async def upload(request: Request) -> str:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return str(size)


@app.get("/await", response_class=PlainTextResponse)
async def awaiting() -> str:
    await asyncio.sleep(0)
    return "Hello, World!"


@app.get("/def", response_class=PlainTextResponse)
def blocking() -> str:
    return "Hello, World!"
