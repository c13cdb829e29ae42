"""Robyn; its `const` routes, which never reach Python, are not used."""

import asyncio
import os

import orjson
import payload
from robyn import Response, Robyn, StreamingResponse

app = Robyn(__file__)
CHUNK = b"x" * 1024


def as_json(data):
    return Response(200, {"content-type": "application/json"}, orjson.dumps(data))


@app.get("/")
async def home():
    return "Hello, World!"


@app.get("/json")
async def json():
    return as_json({"message": "Hello, World!"})


@app.get("/users/:user_id")
async def user(request):
    return str(int(request.path_params["user_id"]))


@app.get("/json10k")
async def json10k():
    return as_json(payload.RECORDS)


@app.get("/items/:item_id")
async def item(request):
    query = request.query_params
    return f"{int(request.path_params['item_id'])} {int(query.get('limit', None))} {query.get('q', None)}"


@app.get("/headers")
async def headers(request):
    return Response(200, dict(payload.HEADERS), request.headers.get("x-header-10"))


@app.post("/multipart")
async def multipart(request):
    (content,) = request.files.values()
    return f"{len(request.form_data)} {len(content)}"


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


@app.get("/future")
async def future():
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
async def echo(request):
    return as_json(orjson.loads(request.body))


@app.post("/upload")
async def upload(request):
    return str(len(request.body))


@app.get("/await")
async def awaiting():
    await asyncio.sleep(0)
    return "Hello, World!"


@app.get("/def")
def blocking():
    return "Hello, World!"


app.start(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]))
