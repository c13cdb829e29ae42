"""A form with files of any size, which go to the disk as they arrive. The page shows what the browser has sent, and
what the server has received.

    vibora run examples/upload/app.py:app

The files go to the folder named by UPLOADS, else to one beside the system's temporary files.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import orjson

from vibora import HtmlResponse, JsonResponse, NotFound, Request, Response, RouteLimits, StreamingResponse, Vibora
from vibora.forms import safe_filename

PAGE = Path(__file__).with_name("page.html").read_text()
FOLDER = Path(os.environ.get("UPLOADS") or Path(tempfile.gettempdir()) / "vibora-uploads")
FOLDER.mkdir(exist_ok=True)

# An upload takes as long as it takes: who stalls is cut off by `body_timeout`, who crawls by `min_body_rate`.
LARGE = RouteLimits(max_body_size=4 * 1024**3, timeout=None)

app = Vibora()
running: dict[UUID, "Upload"] = {}


class Upload:
    """What is known of an upload while it runs."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.received = 0
        self.changed = asyncio.Event()

    def advance(self, size: int) -> None:
        self.received += size
        self.changed.set()


@app.get("/")
async def home() -> Response:
    return HtmlResponse(PAGE.replace("{{action}}", f"/uploads/{uuid4()}"))


@app.post("/uploads/<number>", limits=LARGE)
async def receive(request: Request, number: UUID) -> Response:
    upload = running[number] = Upload(request.content_length)
    note = ""
    saved: list[dict[str, str | int]] = []
    try:
        async for part in request.multipart():
            if part.filename:
                # What the client calls it is only a hint.
                name = f"{number}-{len(saved)}-{safe_filename(part.filename)}"
                size = await part.save(FOLDER / name, progress=upload.advance)
                saved.append({"name": part.filename, "stored": name, "size": size})
            elif part.name == "note":
                note = await part.text(limit=1000)
    finally:
        del running[number]
        upload.changed.set()
    return JsonResponse({"note": note, "files": saved, "next": f"/uploads/{uuid4()}"})


@app.get("/uploads/<number>/progress")
async def progress(number: UUID) -> Response:
    """Server-sent events: the bytes received so far, a few times a second, until the upload is over."""
    for _ in range(50):
        if number in running:
            break
        await asyncio.sleep(0.1)
    else:
        raise NotFound("no such upload runs")
    upload = running[number]

    async def events() -> AsyncIterator[bytes]:
        while running.get(number) is upload:
            yield event("progress", {"received": upload.received, "total": upload.total})
            upload.changed.clear()
            await upload.changed.wait()
            await asyncio.sleep(0.1)
        yield event("end", {"received": upload.received, "total": upload.total})

    return StreamingResponse(
        events, headers={"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}
    )


def event(name: str, data: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data))
