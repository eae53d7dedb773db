"""What the process of a sequencer asks of interpreter and C library before it seals."""

from __future__ import annotations

import pytest

from salus.sequencer import __main__ as wiring


class Asked(Exception):  # noqa: N818  # nothing went wrong: it ends the process under test early
    """It was asked for."""


@pytest.mark.parametrize("what", ["wait_for_a_turn", "keep_freed_memory", "collect_rarely"])
async def test_a_sequencer_asks_before_it_seals(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> None:
        raise Asked

    for name in ("wait_for_a_turn", "keep_freed_memory", "collect_rarely"):
        monkeypatch.setattr(wiring, name, ask if name == what else lambda: None)
    monkeypatch.setattr(wiring, "set_up", lambda _: None)
    monkeypatch.setattr("pyarrow.set_memory_pool", lambda _: None)

    with pytest.raises(Asked):
        await wiring.main(None)  # type: ignore[arg-type]  # nobody has looked at the settings by then
