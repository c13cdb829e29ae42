"""A JSON API of a to-do list in SQLite. What is wrong with a request is told as problem details (RFC 9457).

    vibora run examples/todo/app.py

    curl --json '{"title": "milk"}' http://127.0.0.1:5000/v1/todos
    curl 'http://127.0.0.1:5000/v1/todos?done=false&limit=10'
    curl -X PATCH --json '{"done": true}' http://127.0.0.1:5000/v1/todos/1
    curl -X DELETE http://127.0.0.1:5000/v1/todos/1

It needs aiosqlite. The list is in the file named by TODOS, else in `todos.sqlite` of the current directory.
"""

import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, cast

import aiosqlite

from vibora import (
    BadRequest,
    Blueprint,
    Conflict,
    Events,
    HTTPError,
    JsonResponse,
    NotFound,
    Outcome,
    Request,
    Response,
    Vibora,
)
from vibora.exceptions import UnprocessableContent, reason_phrase

logger = logging.getLogger("todo")

# --- the list ---------------------------------------------------------------------------------------------------------

TABLE = "create table if not exists todos (id integer primary key, title text not null unique, done integer not null)"
LAST = 2**63 - 1  # the largest number in SQLite


@dataclass(frozen=True, slots=True)
class Todo:
    id: int
    title: str
    done: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What a client says about a to-do; None where it says nothing."""

    title: str | None = None
    done: bool | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of the list a client asks for."""

    after: int = 0
    limit: int = 50
    done: bool | None = None


class Todos:
    """The list. Each statement is a transaction of its own."""

    def __init__(self, database: aiosqlite.Connection) -> None:
        self._database = database

    async def page(self, page: Page) -> list[Todo]:
        statement = "select id, title, done from todos where id > ?1 and done = coalesce(?2, done) order by id limit ?3"
        return await self._read(statement, (page.after, page.done, page.limit))

    async def find(self, number: int) -> Todo:
        return _only(number, await self._read("select id, title, done from todos where id = ?", (number,)))

    async def add(self, title: str, *, done: bool) -> Todo:
        statement = "insert into todos (title, done) values (?, ?) returning id, title, done"
        return (await self._read(statement, (title, done)))[0]

    async def change(self, number: int, change: Change) -> Todo:
        statement = """
            update todos set title = coalesce(?, title), done = coalesce(?, done) where id = ? returning id, title, done
        """
        return _only(number, await self._read(statement, (change.title, change.done, number)))

    async def remove(self, number: int) -> None:
        _only(number, await self._read("delete from todos where id = ? returning id, title, done", (number,)))

    async def _read(self, statement: str, values: Iterable[Any]) -> list[Todo]:
        rows = await self._database.execute_fetchall(statement, values)
        return [Todo(number, title, bool(done)) for number, title, done in rows]


def _only(number: int, todos: list[Todo]) -> Todo:
    if not todos:
        raise NotFound(f"there is no to-do {number}")
    return todos[0]


# --- components: what handlers ask for by type ------------------------------------------------------------------------

app = Vibora()


@dataclass(frozen=True, slots=True)
class Settings:
    database: str


app.add_component(Settings(os.environ.get("TODOS") or "todos.sqlite"))


@app.component("app")
async def todos(settings: Settings) -> AsyncIterator[Todos]:
    """Open the database when the worker starts; close it when it stops."""
    async with aiosqlite.connect(settings.database, isolation_level=None) as database:
        await database.execute(TABLE)
        yield Todos(database)


@app.component("request")
async def change(request: Request) -> Change:
    """Read what the client sends, for handlers that ask for a `Change`."""
    data = await request.json(strict=True)
    if not isinstance(data, dict):
        raise BadRequest("the content is a JSON object")
    sent = cast("dict[str, object]", data)
    errors = dict.fromkeys(sent.keys() - {"title", "done"}, "is not known")
    title, done = sent.get("title"), sent.get("done")
    if title is not None and not (isinstance(title, str) and 1 <= len(title.strip()) <= 200):
        errors["title"] = "is a text of 1 to 200 characters"
    if done is not None and not isinstance(done, bool):
        errors["done"] = "is true or false"
    if errors:
        raise UnprocessableContent("some members are wrong", members={"errors": errors})
    return Change(title.strip() if isinstance(title, str) else None, done if isinstance(done, bool) else None)


@app.component("request")
def page(request: Request) -> Page:
    """Read the query, for handlers that ask for a `Page`."""
    try:
        after, limit = int(request.args.get("after", "0")), int(request.args.get("limit", "50"))
        done = {"true": True, "false": False, None: None}[request.args.get("done")]
    except (ValueError, KeyError):
        raise BadRequest("'after' and 'limit' are numbers, 'done' is true or false") from None
    return Page(min(max(after, 0), LAST), min(max(limit, 1), 100), done)


# --- the API ----------------------------------------------------------------------------------------------------------

api = Blueprint()


@api.get("/todos")
async def index(todos: Todos, page: Page) -> Response:
    found = await todos.page(page)
    more = None
    if len(found) == page.limit:
        done = None if page.done is None else str(page.done).lower()
        more = app.url_for("v1.index", after=found[-1].id, limit=page.limit, done=done)
    return JsonResponse({"todos": found, "next": more})


@api.post("/todos")
async def create(todos: Todos, change: Change) -> Response:
    if change.title is None:
        raise UnprocessableContent("some members are wrong", members={"errors": {"title": "is missing"}})
    todo = await todos.add(change.title, done=bool(change.done))
    return JsonResponse(todo, 201, {"location": app.url_for("v1.show", number=todo.id)})


@api.get("/todos/<number>")
async def show(todos: Todos, number: int) -> Response:
    return JsonResponse(await todos.find(number))


@api.patch("/todos/<number>")
async def update(todos: Todos, number: int, change: Change) -> Response:
    return JsonResponse(await todos.change(number, change))


@api.delete("/todos/<number>")
async def delete(todos: Todos, number: int) -> Response:
    await todos.remove(number)
    return Response(status_code=204)


@api.handle(OverflowError)
async def no_number() -> Response:
    return problem(NotFound("no to-do has such a number"))


@api.handle(sqlite3.IntegrityError)
async def taken() -> Response:
    return problem(Conflict("there is a to-do of this title already"))


# --- the app ----------------------------------------------------------------------------------------------------------

app.add_blueprint(api, prefixes={"v1": "/v1"})


@app.get("/")
async def home() -> Response:
    return JsonResponse({"todos": app.url_for("v1.index")})


@app.handle(HTTPError)
def problem(error: HTTPError) -> Response:
    """Answer in JSON, whatever the client accepts: this API speaks nothing else."""
    details = {"title": reason_phrase(error.status), "status": error.status, "detail": error.detail, **error.members}
    return JsonResponse(details, error.status, {**error.headers, "content-type": "application/problem+json"})


@app.handle(Events.AFTER_RESPONSE_SENT)
def log(outcome: Outcome) -> None:
    """Log what became of each response."""
    took = 1000 * outcome.duration
    logger.info("%s %s %s, %s, %.1f ms", outcome.method, outcome.path, outcome.status_code, outcome.reason, took)
