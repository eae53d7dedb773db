"""`salus audit reconcile` says what differs and how it ended, for people and for scripts (case SEC10)."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from salus.cli.exits import CommandError, Exit
from salus.cli.reconciliation import compared, show

DIFFERENCE = {
    "difference": {
        "kind": "missing",
        "table": "entry",
        "key": "shard 0 block 1 row 2",
        "shard": 0,
        "height": 1,
    },
    "sentence": "entry shard 0 block 1 row 2 is missing",
}
PROGRESS = {"progress": {"blocks": 1, "blocks_in_all": 2, "rows": 3}}


async def ask(*told: dict[str, Any], status: int = 200, repair: bool = False) -> list[dict[str, Any]]:
    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.params["repair"]) == ("POST", str(repair).lower())
        body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in told)
        return httpx.Response(status, content=body)

    steps: list[tuple[int, int]] = []
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://audit") as http:
        found = await compared(http, lambda done, in_all: steps.append((done, in_all)), repair=repair)
    assert steps == [(1, 2)] * told.count(PROGRESS)
    return found


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ({"result": "equal", "differences": 0}, None),
        ({"result": "repaired", "differences": 1}, None),
        ({"result": "differs", "differences": 1}, Exit.NO),
        ({"error": "ledger-block-refused", "detail": "shard 0 block 1"}, Exit.NO),
        ({"error": "unavailable", "detail": "away"}, Exit.NOT_RUNNING),
        (DIFFERENCE, Exit.NOT_RUNNING),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
async def test_the_exit_code_is_the_answer(
    end: dict[str, Any], code: Exit | None, *, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    told = await ask(PROGRESS, DIFFERENCE, PROGRESS, end)

    if code is None:
        show(told, as_json=as_json)
    else:
        with pytest.raises(CommandError) as ended:
            show(told, as_json=as_json)
        assert ended.value.code == code
    shown = capsys.readouterr().out
    assert "shard 0 block 1 row 2" in shown
    if as_json:
        assert json.loads(shown)["differences"][0] == DIFFERENCE["difference"]


async def test_a_refusal_is_said() -> None:
    with pytest.raises(CommandError) as refused:
        await ask(status=403)

    assert refused.value.code == Exit.NO


async def test_an_answer_that_is_no_json_is_said() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"data: {\n\n")

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://audit") as http:
        with pytest.raises(CommandError, match="audit's answer cannot be trusted"):
            await compared(http, lambda *_: None, repair=True)
