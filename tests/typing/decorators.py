"""What type checkers make of the decorators: a handler keeps its type, whatever it is registered with.

mypy and pyright check this file, with everything else; it is not run.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, assert_type

from vibora import (
    Blueprint,
    CallNext,
    Component,
    Events,
    HTTPError,
    NotFound,
    Request,
    Response,
    TextResponse,
    Vibora,
)

app = Vibora()
api = Blueprint()


class Pool:
    """A component."""


@app.get("/<number>")
async def show(number: int, *, verbose: bool = False) -> TextResponse:
    return TextResponse(f"{number} {verbose}")


@app.route("/both", methods=["GET", "POST"])
@api.post("/")
def both(request: Request) -> Response:
    return Response(request.method)


@app.middleware
async def through(request: Request, call_next: CallNext) -> Response:
    response = await call_next(request)
    assert_type(response, Response)
    return response


@app.handle(NotFound, 410)
async def missing(error: HTTPError) -> Response:
    return Response(error.detail, error.status)


@app.handle([Events.BEFORE_SERVER_START, Events.AFTER_SERVER_START])
def hook(pool: Pool) -> None:
    assert_type(app.components.get(Pool), Pool)
    assert_type(app.components[Pool], Pool)


@app.component("app")
async def make_pool() -> AsyncIterator[Pool]:
    yield Pool()


@app.route("/view/<number>")
class View:
    """A class with a method for each of HTTP's."""

    async def get(self, number: int) -> Response:
        return Response(str(number))


app.add_component(Component(make_pool, "app"))


async def called(request: Request) -> None:
    """Call what was decorated, as a test of it would."""
    assert_type(await show(1, verbose=True), TextResponse)
    assert_type(both(request), Response)
    assert_type(await missing(NotFound()), Response)
    assert_type(hook(Pool()), None)
    assert_type(make_pool(), AsyncIterator[Pool])
    assert_type(View(), View)
    assert_type(await View().get(1), Response)
    first: Callable[[Request], Response] = both
    second: Callable[[Request, CallNext], Coroutine[Any, Any, Response]] = through
    _ = first, second

    # What is not in the signature is a mistake to a checker too.
    await show("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    both()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.get("/", tiemout=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def requested(request: Request) -> None:
    """Use a request."""
    assert_type(request.app, Vibora)
    assert_type(request.args.get("page"), str | None)
    assert_type(request.args.get("page", "1"), str)
    assert_type(await request.text(), str)
    assert_type(await request.content(), bytes)
    json: Awaitable[Any] = request.json()
    assert_type(json, Awaitable[Any])
    async for piece in request.stream:
        assert_type(piece, bytes)
    async for part in request.multipart():
        assert_type(part.filename, str | None)
