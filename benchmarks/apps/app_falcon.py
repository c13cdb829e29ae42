"""Falcon, on uvicorn."""

import asyncio

import falcon
import falcon.asgi
import falcon.media
import orjson
import payload

CHUNK = b"x" * 1024


def text(response, content):
    response.content_type = falcon.MEDIA_TEXT
    response.data = content


class Home:
    async def on_get(self, request, response):
        text(response, b"Hello, World!")


class Json:
    async def on_get(self, request, response):
        response.media = {"message": "Hello, World!"}


class Json10k:
    async def on_get(self, request, response):
        response.media = payload.RECORDS


class User:
    async def on_get(self, request, response, user_id):
        text(response, str(user_id).encode())


class Item:
    async def on_get(self, request, response, item_id):
        text(response, f"{item_id} {request.get_param_as_int('limit')} {request.get_param('q')}".encode())


class Headers:
    async def on_get(self, request, response):
        response.set_headers(payload.HEADERS)
        text(response, request.get_header("x-header-10").encode())


class Multipart:
    async def on_post(self, request, response):
        fields, size = 0, 0
        async for part in await request.get_media():
            if part.filename:
                size = len(await part.stream.read())
            else:
                await part.text
                fields += 1
        text(response, f"{fields} {size}".encode())


class Stream:
    def __init__(self, chunk, count, *, waits):
        self.chunk, self.count, self.waits = chunk, count, waits

    async def on_get(self, request, response):
        response.content_type = falcon.MEDIA_TEXT
        response.stream = self.chunks()

    async def chunks(self):
        for _ in range(self.count):
            yield self.chunk
            if self.waits:
                await asyncio.sleep(0)


class Echo:
    async def on_post(self, request, response):
        response.media = await request.get_media()


class Upload:
    async def on_post(self, request, response):
        size = 0
        async for chunk in request.stream:
            size += len(chunk)
        text(response, str(size).encode())


class Await:
    async def on_get(self, request, response):
        await asyncio.sleep(0)
        text(response, b"Hello, World!")


class Future:
    async def on_get(self, request, response):
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        loop.call_soon(done.set_result, b"Hello, World!")
        text(response, await done)


app = falcon.asgi.App()
json = falcon.media.JSONHandler(dumps=orjson.dumps, loads=orjson.loads)
app.req_options.media_handlers[falcon.MEDIA_JSON] = json
app.resp_options.media_handlers[falcon.MEDIA_JSON] = json
app.req_options.media_handlers[falcon.MEDIA_MULTIPART] = falcon.media.MultipartFormHandler()
app.add_route("/", Home())
app.add_route("/json", Json())
app.add_route("/json10k", Json10k())
app.add_route("/users/{user_id:int}", User())
app.add_route("/items/{item_id:int}", Item())
app.add_route("/headers", Headers())
app.add_route("/multipart", Multipart())
app.add_route("/stream", Stream(CHUNK, 10, waits=False))
app.add_route("/chunks", Stream(payload.CHUNK, payload.CHUNKS, waits=False))
app.add_route("/events", Stream(payload.EVENT, payload.EVENTS, waits=True))
app.add_route("/echo", Echo())
app.add_route("/upload", Upload())
app.add_route("/await", Await())
app.add_route("/future", Future())
