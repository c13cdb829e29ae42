"""The project's corpus of raw requests, in every cut, on both event loops; and the judge, judged."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from conformance import case, corpus
from conformance.case import Case, Message
from conformance.replay import Client, Result, pieces, serving

ROOT = Path(__file__).parent.parent
CASES = list(corpus.cases())

PARTS: dict[str, list[Case]] = defaultdict(list)
for one in CASES:
    PARTS[one.name.partition("/")[0]].append(one)


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Literal["uvloop", "asyncio"]:
    name: Literal["uvloop", "asyncio"] = request.param
    return name


@pytest.fixture(scope="module")
def client(loop: Literal["uvloop", "asyncio"]) -> Iterator[Client]:
    with serving(loop) as server, Client(server, patience=10) as client:
        yield client
        assert server.is_alive


def disagreements(results: Iterator[Result]) -> list[str]:
    return [f"{result.case.name}, {result.cut}: {result.problems}" for result in results if result.problems]


class TestCorpus:
    """Each case: responses, statuses, what was understood, what was executed, the close, the next client."""

    @pytest.mark.parametrize("part", PARTS)
    def test_whole(self, client: Client, part: str) -> None:
        assert disagreements(client.replay(case, "whole") for case in PARTS[part]) == []

    @pytest.mark.parametrize("part", PARTS)
    def test_cut_at_random(self, client: Client, part: str) -> None:
        assert disagreements(client.replay(case, "random") for case in PARTS[part]) == []

    @pytest.mark.parametrize("loop", ["uvloop"], indirect=True)
    @pytest.mark.parametrize("part", PARTS)
    def test_octet_by_octet(self, client: Client, part: str) -> None:
        assert disagreements(client.replay(case, "octets") for case in PARTS[part]) == []


class TestJudge:
    """A judge that finds nothing is a defect."""

    GOOD = next(case for case in CASES if case.name == "pipeline/mixed")
    BAD = next(case for case in CASES if case.name == "lines/bare-cr/field-line")
    OPEN = next(case for case in CASES if case.name == "pipeline/cut")
    CLOSING = next(case for case in CASES if case.name == "persistence/1.1-close/close")

    def test_finds_nothing_in_what_is_right(self, client: Client) -> None:
        for right in (self.GOOD, self.BAD, self.OPEN, self.CLOSING):
            assert client.replay(right, "whole").problems == ()

    def test_sees_a_rejection_of_what_is_valid(self, client: Client) -> None:
        wrong = replace(self.BAD, verdict="accept", messages=(Message("GET", "/"),))
        result = client.replay(wrong, "whole")
        assert result.outcome == "reject"
        assert any("400 instead of 200" in problem for problem in result.problems)

    def test_sees_that_an_invalid_message_was_executed(self, client: Client) -> None:
        wrong = replace(self.GOOD, verdict="reject", messages=self.GOOD.messages[:-1])
        result = client.replay(wrong, "whole")
        assert result.violates
        assert {"200 to what should be rejected", "not closed after the rejection"} <= set(result.problems)
        assert "executed 5 messages instead of 4" in result.problems

    def test_sees_a_response_without_a_message(self, client: Client) -> None:
        result = client.replay(replace(self.GOOD, messages=self.GOOD.messages[:-1]), "whole")
        assert "200 without a message" in result.problems

    def test_sees_a_message_without_a_response(self, client: Client) -> None:
        wrong = replace(self.CLOSING, messages=(Message("GET", "/"), Message("GET", "/hidden", closes=True)))
        assert "1 responses to 2 messages" in client.replay(wrong, "whole").problems

    def test_sees_what_was_misunderstood(self, client: Client) -> None:
        post, *others = self.GOOD.messages
        for wrong in (replace(post, method="PUT"), replace(post, target="/b"), replace(post, body=b"hell")):
            result = client.replay(replace(self.GOOD, messages=(wrong, *others)), "whole")
            assert any("understood" in problem for problem in result.problems)

    def test_sees_another_status(self, client: Client) -> None:
        assert "400 instead of 431" in client.replay(replace(self.BAD, statuses=(431,)), "whole").problems

    def test_sees_a_connection_that_ends_too_early(self, client: Client) -> None:
        wrong = replace(self.CLOSING, messages=(Message("GET", "/"),))
        assert "closed" in client.replay(wrong, "whole").problems

    def test_sends_every_octet_in_every_cut(self) -> None:
        for one in CASES:
            for cut in ("whole", "octets", "random"):
                assert b"".join(pieces(one, cut)) == one.octets
        assert pieces(self.BAD, "octets") == [bytes([octet]) for octet in self.BAD.octets]


class TestCorpusFiles:
    """Other corpora come as files of one JSON object a line."""

    def test_names_are_unique(self) -> None:
        assert len({one.name for one in CASES}) == len(CASES)

    def test_a_corpus_survives_being_written_and_read(self, tmp_path: Path) -> None:
        path = tmp_path / "corpus.jsonl"
        case.write(CASES, path)
        for original, copy in zip(CASES, case.read(path), strict=True):
            must = original.verdict == "reject" and original.must
            assert copy == replace(original, must=must)

    def test_a_chunk_line_is_sent_after_a_head(self, tmp_path: Path) -> None:
        path = tmp_path / "chunks.jsonl"
        path.write_text('{"name": "a", "chunk_line_b64": "NQ0K", "strict": "wait"}\n{"name": "b", "url_b64": "Lw=="}\n')
        (chunk,) = case.read(path)
        assert chunk.octets.endswith(b"\r\n\r\n5\r\n")
        assert chunk.verdict == "wait"


class TestDocuments:
    """What the checklist and the threat model name exists."""

    @pytest.mark.parametrize("document", ["docs/conformance.md", "THREAT_MODEL.md"])
    def test_every_test_that_is_named_exists(self, document: str) -> None:
        text = (ROOT / document).read_text()
        tests = "\n".join(path.read_text() for path in sorted((ROOT / "tests").glob("**/*.py")))
        crates = "\n".join(path.read_text() for path in sorted((ROOT / "rust").glob("**/*.rs")))
        named = set(re.findall(r"`((?:test_|Test)\w+|rust: \w+)`", text))
        assert named
        defined = set(re.findall(r"(?:def|class) (\w+)", tests)) | {path.stem for path in (ROOT / "tests").glob("*.py")}
        defined |= {f"rust: {name}" for name in re.findall(r"fn (\w+)", crates)}
        assert named - defined == set()

    @pytest.mark.parametrize("document", ["docs/conformance.md", "THREAT_MODEL.md"])
    def test_every_part_of_the_corpus_that_is_named_exists(self, document: str) -> None:
        named = set(re.findall(r"`corpus: ([^`]+)`", (ROOT / document).read_text())) - {"…"}
        assert named
        assert [part for part in sorted(named) if not any(one.name.startswith(part) for one in CASES)] == []
