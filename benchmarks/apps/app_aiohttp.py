"""aiohttp, on its own server and uvloop."""

import asyncio
import sys

import orjson
import payload
import uvloop
from aiohttp import web

CHUNK = b"x" * 1024
routes = web.RouteTableDef()


def as_json(data):
    return web.Response(body=orjson.dumps(data), content_type="application/json")


@routes.get("/")
async def home(request):
    return web.Response(body=b"Hello, World!", content_type="text/plain")


@routes.get("/json")
async def json(request):
    return as_json({"message": "Hello, World!"})


@routes.get(r"/users/{user_id:\d+}")
async def user(request):
    return web.Response(text=str(int(request.match_info["user_id"])))


@routes.get("/json10k")
async def json10k(request):
    return as_json(payload.RECORDS)


@routes.get(r"/items/{item_id:\d+}")
async def item(request):
    query = request.query
    return web.Response(text=f"{int(request.match_info['item_id'])} {int(query['limit'])} {query['q']}")


@routes.get("/headers")
async def headers(request):
    return web.Response(text=request.headers["x-header-10"], headers=payload.HEADERS)


@routes.post("/multipart")
async def multipart(request):
    form = await request.post()
    return web.Response(text=f"{len(form) - 1} {len(form['file'].file.read())}")


@routes.get("/chunks")
async def large_chunks(request):
    response = web.StreamResponse(headers={"content-type": "text/plain"})
    await response.prepare(request)
    for _ in range(payload.CHUNKS):
        await response.write(payload.CHUNK)
    await response.write_eof()
    return response


@routes.get("/events")
async def events(request):
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(payload.EVENTS):
        await response.write(payload.EVENT)
        await asyncio.sleep(0)
    await response.write_eof()
    return response


@routes.get("/future")
async def future(request):
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(done.set_result, b"Hello, World!")
    return web.Response(body=await done, content_type="text/plain")


@routes.get("/stream")
async def stream(request):
    response = web.StreamResponse(headers={"content-type": "text/plain"})
    await response.prepare(request)
    for _ in range(10):
        await response.write(CHUNK)
    await response.write_eof()
    return response


@routes.post("/echo")
async def echo(request):
    return as_json(orjson.loads(await request.read()))


@routes.post("/upload")
async def upload(request):
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
    return web.Response(text=str(size))


@routes.get("/await")
async def awaiting(request):
    await asyncio.sleep(0)
    return web.Response(body=b"Hello, World!", content_type="text/plain")


app = web.Application()
app.add_routes(routes)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=uvloop.new_event_loop())
