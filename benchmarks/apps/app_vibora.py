"""Vibora."""

import asyncio

import payload

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


@app.get("/json10k")
async def json10k():
    return JsonResponse(payload.RECORDS)


@app.get("/items/<item_id>")
async def item(request: Request, item_id: int):
    args = request.args
    return Response(f"{item_id} {int(args['limit'])} {args['q']}")


@app.get("/headers")
async def headers(request: Request):
    return Response(request.headers["x-header-10"], headers=payload.HEADERS)


@app.post("/multipart")
async def multipart(request: Request):
    form = await request.form()
    (file,) = await request.files()
    return Response(f"{len(form)} {file.size}")


@app.get("/chunks")
async def large_chunks():
    async def chunks():
        for _ in range(payload.CHUNKS):
            yield payload.CHUNK

    return StreamingResponse(chunks)


@app.get("/events")
async def events():
    async def chunks():
        for _ in range(payload.EVENTS):
            yield payload.EVENT
            await asyncio.sleep(0)

    return StreamingResponse(chunks)


@app.get("/future")
async def future():
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(done.set_result, b"Hello, World!")
    return Response(await done)


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
