"""FastAPI, on uvicorn."""

import asyncio
from typing import Any

from fastapi import FastAPI, Request
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
