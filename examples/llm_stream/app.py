"""A language model whose answer is sent token by token, as server-sent events; the page shows it as it is written.

    vibora run examples/llm_stream/app.py

    curl -N --json '{"prompt": "why is the sky blue?"}' http://127.0.0.1:5000/v1/answers

Press Stop, close the page, or interrupt curl: the model stops writing at once, and the log says so.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import orjson

from vibora import (
    BadRequest,
    Blueprint,
    CachedResponse,
    Events,
    JsonResponse,
    Outcome,
    Request,
    Response,
    StreamingResponse,
    Vibora,
)

logger = logging.getLogger("llm")

PAGE = CachedResponse(
    Path(__file__).with_name("page.html").read_bytes(), headers={"content-type": "text/html; charset=utf-8"}
)

# --- the model --------------------------------------------------------------------------------------------------------

WORDS = ["the", "light", "air", "blue", "red", "long", "short", "waves", "scatter", "meet", "your", "eyes", "so", "and"]


class Busy(Exception):
    """The model writes as many answers as it can."""


class Model:
    """A model that makes its answers up, about twenty tokens a second.

    `slots` is how many it writes at a time, `patience` how many seconds it may take for a token.
    """

    def __init__(self, *, slots: int = 4, pace: float = 0.05, patience: float = 5) -> None:
        self.slots = asyncio.Semaphore(slots)
        self.pace = pace
        self.patience = patience

    async def write(self, prompt: str) -> AsyncGenerator[str, None]:
        choice = random.Random(prompt)  # the same prompt, the same answer
        for number in range(choice.randint(60, 120)):
            await asyncio.sleep(self.pace * choice.uniform(0.2, 1.8))
            word = choice.choice(WORDS)
            yield f" {word}" if number else word.capitalize()
        yield "."


# --- components: what handlers ask for by type ------------------------------------------------------------------------

app = Vibora()


@app.component("app")
def model() -> Model:
    """Load the model, once for each worker."""
    return Model()


@dataclass(frozen=True, slots=True)
class Writer:
    """One of the answers that the model writes at a time."""

    model: Model

    async def write(self, prompt: str) -> AsyncGenerator[str, None]:
        """Yield tokens; raise `TimeoutError` if the model is stuck."""
        async with aclosing(self.model.write(prompt)) as tokens:
            while True:
                async with asyncio.timeout(self.model.patience):
                    token = await anext(tokens, None)
                if token is None:
                    return
                yield token


@app.component("request")
async def writer(model: Model) -> AsyncIterator[Writer]:
    """Hold a slot until the last token has been sent, or the reader has gone."""
    if model.slots.locked():
        raise Busy
    async with model.slots:
        yield Writer(model)


@dataclass(frozen=True, slots=True)
class Question:
    prompt: str


@app.component("request")
async def question(request: Request) -> Question:
    data: object = await request.json(strict=True)
    match data:
        case {"prompt": str(prompt)} if 1 <= len(prompt.strip()) <= 2000:
            return Question(prompt.strip())
        case _:
            raise BadRequest("'prompt' is a text of 1 to 2000 characters")


# --- the API ----------------------------------------------------------------------------------------------------------

api = Blueprint()


# A POST goes on when its client has left, unless it is told otherwise: it may have something to finish. This has not.
@api.post("/answers", on_disconnect="cancel")
async def answer(question: Question, writer: Writer) -> Response:
    async def events() -> AsyncIterator[bytes]:
        written = 0
        try:
            async with aclosing(writer.write(question.prompt)) as tokens:
                async for token in tokens:
                    written += 1
                    yield event("token", token)
            yield event("done", {"tokens": written})
        except TimeoutError:
            logger.warning("gave up after %d tokens: the model is stuck", written)
            yield event("error", "the model is stuck")
        except (GeneratorExit, asyncio.CancelledError):
            logger.info("stopped after %d tokens: nobody reads them", written)
            raise

    # The reader has ten seconds to take each token, and two minutes for all of them. Who stalls is cut off.
    return StreamingResponse(
        events,
        headers={"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"},
        chunk_timeout=10,
        complete_timeout=120,
    )


@api.handle(Busy)
async def busy() -> Response:
    return JsonResponse({"detail": "the model is busy"}, 503, {"retry-after": "5"})


@api.handle(Events.AFTER_RESPONSE_SENT)
def log(outcome: Outcome) -> None:
    logger.info("%s, %s after %.1f s", outcome.status_code, outcome.reason, outcome.duration)


def event(name: str, data: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data))


# --- the app ----------------------------------------------------------------------------------------------------------

app.add_blueprint(api, prefixes={"v1": "/v1"})


@app.get("/")
async def home() -> Response:
    return PAGE
