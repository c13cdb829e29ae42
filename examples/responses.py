"""The responses of Vibora: JSON, a stream, raw bytes, and a greeting.

curl -i http://127.0.0.1:5000/
curl -N http://127.0.0.1:5000/stream
curl -i http://127.0.0.1:5000/raw
curl http://127.0.0.1:5000/hello/world
"""

import asyncio
from collections.abc import AsyncIterator

from vibora import JsonResponse, Response, StreamingResponse, TextResponse, Vibora

app = Vibora()


@app.get("/")
async def home() -> Response:
    return JsonResponse({"hello": "world"})


@app.get("/stream")
async def stream() -> Response:
    async def numbers() -> AsyncIterator[bytes]:
        for number in range(5):
            yield str(number).encode()
            await asyncio.sleep(1)

    return StreamingResponse(numbers, chunk_timeout=10, complete_timeout=30)


@app.get("/raw")
async def raw() -> Response:
    return Response(b"Hello World", headers={"content-type": "html"})


@app.get("/hello/<name>")
async def hello(name: str) -> Response:
    return TextResponse(f"Hello, {name}!\n")


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=5000)
