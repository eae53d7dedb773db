"""What a sequencer does whose key is away, or was taken over by one that it does not hold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.unit.sequencer.world import World

from salus.crypto.errors import InvalidKeyError, KmsAwayError, KmsUnusableError
from salus.ledger.note import NoteSigner, Signer
from salus.sequencer import __main__ as wiring
from salus.sequencer.errors import NoKeyError
from salus.sequencer.handlers import Sequencer


class Failing:
    """Signers of a shard that fail some times before they sign."""

    def __init__(self, signer: NoteSigner, failures: list[Exception]) -> None:
        self._signer = signer
        self.failures = failures
        self.name = signer.name

    def at(self, position: int) -> Sequence[Signer]:
        """Fail, or return the signer."""
        if self.failures:
            raise self.failures.pop()
        return self._signer.at(position)


def failing(world: World, *failures: Exception) -> tuple[Sequencer, Failing]:
    signers = Failing(world.note_key, list(failures))
    return replace(world.sequencer(), signer=signers), signers


@pytest.mark.parametrize(
    "failure", [KmsAwayError("does not serve"), KmsUnusableError("PinIncorrect")], ids=repr
)
async def test_an_hsm_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    monkeypatch.setattr(wiring, "KMS_RETRY_S", 0.0)
    world = World.with_hospital()
    sequencer, signers = failing(world, *[failure] * 3)
    stop = asyncio.Event()
    sealing = asyncio.create_task(wiring.seal_with_keys(sequencer, stop))
    while not sealing.done() and not world.notes():  # noqa: ASYNC110  # each step of the loop is a step of the world
        await asyncio.sleep(0)
    stop.set()
    await sealing

    assert signers.failures == []
    assert world.headers()[0].height == 0


async def test_a_sequencer_without_a_key_that_counts_stops_with_an_alarm() -> None:
    world = World.with_hospital()
    sequencer, _ = failing(world, InvalidKeyError("we hold no key"))

    with pytest.raises(NoKeyError, match="we hold no key"):
        await wiring.seal_with_keys(sequencer, asyncio.Event())
    assert world.notes() == []
