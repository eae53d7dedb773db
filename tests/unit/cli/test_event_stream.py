"""Case O1: only LF, CR and CRLF end a line of a stream, and no entry ends the watch."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.cli import auditing
from salus.cli.auditing import watch
from salus.cli.event_stream import EVENT_CHARS_MAX, StreamError, StreamEvent, events_of
from salus.cli.exits import CommandError, Exit


async def chunks_of(data: bytes, cuts: Sequence[int] = ()) -> AsyncIterator[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(places):
        yield data[start:end]


async def read(data: bytes, cuts: Sequence[int] = ()) -> list[StreamEvent]:
    return [event async for event in events_of(chunks_of(data, cuts))]


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), min_size=1, max_size=4),
    st.lists(st.integers(0, 200), max_size=6),
    st.sampled_from(["\n", "\r", "\r\n"]),
)
async def test_whatever_stands_in_the_data_comes_out_whole(
    texts: list[str], cuts: list[int], line_end: str
) -> None:
    lines = [f"id: {at}{line_end}data: {text}{line_end}{line_end}" for at, text in enumerate(texts)]
    events = await read("".join(lines).encode(), cuts)

    # An event whose last line end may be half of a CRLF comes with the next bytes, or at the end.
    assert [event.data for event in events] == texts
    assert [event.last_id for event in events] == [str(at) for at in range(len(texts))]


async def test_examples_of_the_standard_are_read_as_it_says() -> None:
    """WHATWG HTML, section 9.2.6: the blocks of its examples."""
    stock = b"data: YHOO\ndata: +2\ndata: 10\n\n"
    ids = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"

    assert await read(stock) == [StreamEvent("YHOO\n+2\n10", None)]
    assert await read(ids) == [
        StreamEvent(None, None),
        StreamEvent("first event", "1"),
        StreamEvent("second event", None),
        StreamEvent(" third event", None),
    ]
    assert await read(b"\xef\xbb\xbfdata\n\ndata\ndata\n\ndata:cut off") == [
        StreamEvent("", None),
        StreamEvent("\n", None),
    ]
    assert await read(b"id: a\0b\ndata: x\r\rid: 5\r\n\r\n") == [
        StreamEvent("x", None),
        StreamEvent(None, "5"),
    ]


async def test_an_event_has_a_largest_size() -> None:
    for data in (b"data: " + b"x" * (EVENT_CHARS_MAX + 1), b"data: x\n" * (EVENT_CHARS_MAX + 1)):
        with pytest.raises(StreamError):
            await read(data)


def entry(summary: str) -> str:
    facts = {"severity": 1, "time": "2026-11-22T15:00:00.000Z", "outcome": "success", "summary": summary}
    return json.dumps(facts, ensure_ascii=False)


class Trail:
    """Answers each connection with the next of these bodies; then with a refusal, which ends the watch."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers = list(answers)
        self.came_back_with: list[str | None] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.came_back_with.append(request.headers.get("Last-Event-ID"))
        return self.answers.pop(0) if self.answers else httpx.Response(401, json={"code": "over"})


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditing, "RECONNECT_S", 0.0)


async def followed(trail: Trail, *, as_json: bool = False) -> CommandError:
    async with httpx.AsyncClient(transport=httpx.MockTransport(trail), base_url="http://audit") as http:
        with pytest.raises(CommandError) as ended:
            await watch(http, httpx.Auth(), [], as_json=as_json)
    return ended.value


async def test_no_entry_ends_the_watch(capsys: pytest.CaptureFixture[str]) -> None:
    summaries = ["letter-plain", "letter\u2028two", "letter\u2029three\x85", "[/] scan", "letter-after"]
    body = "".join(f"id: {at}\nevent: entry\ndata: {entry(text)}\n\n" for at, text in enumerate(summaries))
    strange = ["{", "[]", "{}", json.dumps({"severity": 1, "time": 3, "outcome": "", "summary": ""})]
    body += "".join(f"id: {at}\ndata: {text}\n\n" for at, text in enumerate(strange, 10))
    body += f"id: 20\ndata: {entry('the last')}\n\n"

    await followed(Trail(httpx.Response(200, content=body.encode())))

    shown, troubles = capsys.readouterr()
    assert [line.partition("success   ")[2] for line in shown.split("\n")[:-1]] == [
        "letter-plain",
        "letter\\u2028two",
        "letter\\u2029three\\u0085",
        "[/] scan",
        "letter-after",
        "the last",
    ]
    assert [f"entry {at} cannot be shown" in troubles for at in (10, 11, 12, 13)] == [True] * 4


async def test_who_was_cut_off_comes_back_with_the_last_id(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield f"id: 7\ndata: {entry('seven')}\n\nid: 8\ndata: cut".encode()
            raise httpx.ReadError("gone")

    trail = Trail(
        httpx.Response(200, content=b"id: 6\n: the trail\n\n"),
        httpx.Response(200, stream=Broken()),
        httpx.Response(503, json={"code": "unavailable"}),
        httpx.Response(200, content=f"id: 8\ndata: {entry('eight')}\n\n".encode()),
    )
    ended = await followed(trail)

    assert trail.came_back_with == [None, "6", "7", "7", "8"]
    assert ended.code is Exit.NO
    shown = capsys.readouterr().out
    assert ("seven" in shown, "eight" in shown) == (True, True)


async def test_who_never_answered_is_not_waited_for() -> None:
    assert (await followed(Trail(httpx.Response(503, json={"code": "[/]"})))).code is Exit.NOT_RUNNING
