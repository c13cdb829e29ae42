"""A case: octets for one connection, and what a strict server does with them.

A corpus file has one case a line, as JSON:

| field | meaning |
|---|---|
| `name` | unique in its file |
| `bytes_b64` | the octets to send |
| `chunk_line_b64` | instead of `bytes_b64`: what follows the head of a chunked request |
| `strict` | `accept`, `reject`, or `wait`: more octets are needed |
| `status` | statuses fit for the rejection; any when empty |
| `n_requests`, `requests` | the messages before the end or the error: `method`, `target`, `body_b64`, `close` |
| `rfc_must`, `rfc`, `why` | whether an RFC demands the rejection, where, and the reason |
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

Verdict: TypeAlias = Literal["accept", "reject", "wait"]

#: What chunk lines without a head of their own are sent after.
CHUNKED_HEAD = b"POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Message:
    """A request that must be answered."""

    method: str
    target: str
    body: bytes = b""
    #: Whether the connection ends with its response (RFC 9112 §9.3).
    closes: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """Octets for one connection, and what a strict server does with them."""

    name: str
    octets: bytes
    verdict: Verdict
    rule: str
    messages: tuple[Message, ...] = ()
    statuses: tuple[int, ...] = ()
    #: Whether an RFC demands the rejection, or the grammar has no room for the octets.
    must: bool = True


def read(path: Path) -> list[Case]:
    """Return the cases of a corpus file; lines without octets to send are left out."""
    records = (json.loads(line) for line in path.read_text().splitlines() if line.strip())
    return [_case(record) for record in records if "strict" in record and _octets(record) is not None]


def write(cases: Iterator[Case] | list[Case], path: Path) -> None:
    """Write a corpus file."""
    with path.open("w") as file:
        for case in cases:
            file.write(json.dumps(_record(case)) + "\n")


def _octets(record: dict[str, Any]) -> bytes | None:
    if "bytes_b64" in record:
        return base64.b64decode(record["bytes_b64"])
    if "chunk_line_b64" in record:
        return CHUNKED_HEAD + base64.b64decode(record["chunk_line_b64"])
    return None


def _case(record: dict[str, Any]) -> Case:
    verdict = record["strict"]
    assert verdict in get_args(Verdict), verdict
    octets = _octets(record)
    assert octets is not None
    messages = tuple(
        Message(
            message["method"],
            message["target"],
            base64.b64decode(message.get("body_b64", "")),
            bool(message.get("close", False)),
        )
        for message in record.get("requests", [])
    )
    assert len(messages) == record.get("n_requests", 0), record["name"]
    return Case(
        record["name"],
        octets,
        cast("Verdict", verdict),
        ": ".join(part for part in (record.get("rfc", ""), record.get("why", "")) if part),
        messages,
        tuple(record.get("status", ())),
        bool(record.get("rfc_must", False)),
    )


def _record(case: Case) -> dict[str, Any]:
    return {
        "name": case.name,
        "bytes_b64": base64.b64encode(case.octets).decode(),
        "strict": case.verdict,
        "rfc_must": case.verdict == "reject" and case.must,
        "status": list(case.statuses),
        "rfc": case.rule,
        "n_requests": len(case.messages),
        "requests": [
            {
                "method": message.method,
                "target": message.target,
                "body_b64": base64.b64encode(message.body).decode(),
                "close": message.closes,
            }
            for message in case.messages
        ],
    }
