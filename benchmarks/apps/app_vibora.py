"""Vibora."""

import asyncio

from vibora import JsonResponse, Request, Response, RouteLimits, StreamingResponse, Vibora

app = Vibora()
CHUNK = b"x" * 1024


@app.get("/")
async def home():
    return Response(b"Hello, World!")


@app.get("/json")
async def json():
    return JsonResponse({"message": "Hello, World!"})


@app.get("/users/<user_id>")
async def user(user_id: int):
    return Response(str(user_id))


@app.get("/stream")
async def stream():
    async def chunks():
        for _ in range(10):
            yield CHUNK

    return StreamingResponse(chunks)


@app.post("/echo")
async def echo(request: Request):
    return JsonResponse(await request.json())


@app.post("/upload", limits=RouteLimits(max_body_size=64 * 1024 * 1024))
async def upload(request: Request):
    size = 0
    async for chunk in request.stream:
        size += len(chunk)
    return Response(str(size))


@app.get("/await")
async def awaiting():
    await asyncio.sleep(0)
    return Response(b"Hello, World!")


@app.get("/def")
def blocking():
    return Response(b"Hello, World!")
