"""What the process of a sequencer asks of interpreter and C library before it seals."""

from __future__ import annotations

import pytest

from salus.sequencer import __main__ as wiring


class Kept(Exception):  # noqa: N818  # nothing went wrong: it ends the process under test early
    """Memory is kept from now on."""


async def test_a_sequencer_keeps_what_one_block_freed_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep() -> None:
        raise Kept

    monkeypatch.setattr(wiring, "set_up", lambda _: None)
    monkeypatch.setattr(wiring, "keep_freed_memory", keep)

    with pytest.raises(Kept):
        await wiring.main(None)  # type: ignore[arg-type]  # nobody has looked at the settings by then
