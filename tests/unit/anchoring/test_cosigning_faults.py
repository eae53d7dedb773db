"""Witnesses are asked before an append is in place: whatever fails or races then, they see one history."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.effort import tries
from tests.unit.anchoring.test_cosigning import POLICY, SIGNERS, SmallWitness
from tests.unit.anchoring.world import World

from salus.anchoring.cosigning import Cosigning
from salus.archive.errors import ArchiveError
from salus.archive.log import LogReader
from salus.ledger.merkle import leaf_hash, root_of
from salus.objects import ObjectsError
from salus.objects.memory import Fault

WRITES_A_SCHEDULE = 40

faults = st.lists(
    st.sampled_from([Fault.NONE, Fault.NONE, Fault.LOST, Fault.LATE]), max_size=WRITES_A_SCHEDULE
)
turns = st.lists(st.integers(0, 4), max_size=120)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("seal"), st.integers(0, 1)),
        st.tuples(st.just("append"), st.integers(0, 1)),
        st.tuples(st.just("restart"), st.integers(0, 1)),
        st.tuples(st.just("race"), st.just(0)),
    ),
    min_size=1,
    max_size=25,
)


class Process:
    """An anchoring that has each append cosigned at once, and shows it when it is in place."""

    def __init__(self, world: World, witnesses: list[SmallWitness]) -> None:
        named = {witness.signer.name: witness for witness in witnesses}
        log = LogReader(world.log)
        self.cosigning = Cosigning(named, POLICY, log, deadline_s=60, stragglers_s=60)
        self.anchor = world.anchor()
        self.anchor._is_final = self.cosigning.is_final
        self.anchor.on_moved = self._ask
        self._cosigned: tuple[Any, bytes] | None = None

    async def attempt(self) -> bool:
        """Return whether all there is, is shown."""
        with suppress(ObjectsError, ArchiveError):
            appended = await self.anchor.append()
            await self._ask()
            standing, note = self._cosigned or (None, b"")
            if standing is not None and self.cosigning.is_final(note):
                await self.anchor.publish_final(standing, note)
                latest = self.anchor.latest
                return not appended and latest is not None and standing.head.size == latest.head.size
        return False

    async def _ask(self) -> None:
        standing = self.anchor.committed
        if standing is not None and (
            self._cosigned is None or self._cosigned[0].head.size < standing.head.size
        ):
            note = await self.cosigning.cosign(
                standing.checkpoint, standing.head.checkpoint.encode(), standing.tile
            )
            if self.cosigning.is_final(note):
                self._cosigned = standing, note


async def play(world: World, witnesses: list[SmallWitness], script: list[tuple[str, int]]) -> None:
    processes = [Process(world, witnesses) for _ in range(2)]
    for step, which in script:
        if step == "seal":
            await world.chains[which].seal_samples(1)
        elif step == "append":
            await processes[which].attempt()
        elif step == "restart":
            processes[which] = Process(world, witnesses)
        else:
            await asyncio.gather(*(process.attempt() for process in processes))
    await settle(processes)
    # A witness whose answer was lost, or that another process asked, is asked for something new.
    await world.chains[0].seal_samples(1)
    await settle(processes[:1])


async def settle(processes: list[Process]) -> None:
    """Go on until one of them shows all there is; every fault uses up one of a finite list."""
    for _ in range(WRITES_A_SCHEDULE + 5):
        if any([await process.attempt() for process in processes]):
            return
    raise AssertionError("nothing becomes final")


@settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=tries(60, long=5_000),
)
@given(script=steps, faults=faults, turns=turns)
def test_whatever_fails_or_races_witnesses_cosign_one_history_and_all_of_it_is_shown(
    script: list[tuple[str, int]], faults: list[Fault], turns: list[int]
) -> None:
    world, witnesses = World(faults=faults, turns=turns), [SmallWitness(signer) for signer in SIGNERS]

    asyncio.run(play(world, witnesses, script))

    asyncio.run(world.require_whole())
    entries = asyncio.run(world.entries())
    for witness in witnesses:
        assert witness.last is not None
        assert witness.last.root == root_of([leaf_hash(entry) for entry in entries[: witness.last.size]])
    assert all(POLICY.open_checkpoint(note).is_final for note in world.log.shown)
