"""Erases a patient in a process that is killed at each line, or each n-th; run by `test_erasures.py`.

Topic, bucket and database are in files, so that what a killed process had left stays. Prints at how many
lines that was.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import traceback
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from tests.unit.contracts.replicas import (
    HOSPITAL,
    PATIENT,
    FixedView,
    Replica,
    Topic,
    erasure,
    register,
    replica,
)
from tests.unit.storage.conftest import PlainKms
from tests.unit.storage.killed_rotation import Filed, die_at

from salus.contracts import contract, facts, obligations, reactor_host
from salus.contracts.fold_store import open_fold_store
from salus.contracts.reactor_host import Obligation
from salus.devkit.waiting import until
from salus.events.contexts.storage import SubjectErased, SubjectKeyDestroyed
from salus.events.parties import Party
from salus.objects.memory import MemoryObjects
from salus.runtime.auth import Caller
from salus.storage.adapters.facts import FoldedFacts
from salus.storage.adapters.vault import BucketVault, holds_keys
from salus.storage.domain import SubjectState
from salus.storage.handlers import subjects
from salus.storage.handlers.standing import Standing
from salus.storage.handlers.subjects import Subjects

TRACED = {str(module.__file__) for module in (contract, facts, obligations, reactor_host, subjects)}
MEMBER = Party(did=HOSPITAL.did, kind="member", roles=frozenset(), member=None)
DEADLINE_S = 60


class LostError(Exception):
    """An erasure is not what it should be after a crash."""


class Bucket(Filed):
    """What the bucket of keys holds; what is destroyed is gone for every process."""

    def pop(self, key: str, default: Any = None) -> Any:
        (self.folder / key.encode().hex()).unlink(missing_ok=True)
        return super().pop(key, default)


class Place:
    """A folder with all that outlives a process."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite+aiosqlite:///{folder / 'state.db'}"
        self.topic = Topic(folder / "topic")
        self.bucket = MemoryObjects(objects=Bucket(folder / "bucket"))
        self.vault = BucketVault(self.bucket, PlainKms())

    async def work(self, owed: Obligation[SubjectState]) -> None:
        """Destroy a key, as storage's wiring has it."""
        await self.vault.destroy(owed.aggregate, key=owed.key)

    def running(self) -> Any:
        """Start a process."""
        return replica(self.url, self.topic, self.work)


async def prepare(folder: Path) -> None:
    """Register a patient, with two keys that storage keeps of her."""
    (folder / "bucket").mkdir(parents=True)
    place = Place(folder)
    async with open_fold_store(place.url):
        register(place.topic)
    for number in ("1", "2"):
        await place.vault.keep(patient=PATIENT, key=f"{PATIENT}#{number}", private_key=b"k" * 32)


async def erase(folder: Path) -> None:
    """Do what a request to erase her does, and what goes on beside it."""
    place = Place(folder)
    async with place.running() as here:
        # Whoever authenticated the caller has read who the service is.
        await here.own_key.check()
        await handlers_of(here, place).erase(
            PATIENT, basis="gdpr-art-17", caller=Caller(MEMBER, erasure().request)
        )


def handlers_of(here: Replica, place: Place) -> Subjects:
    facts_ = FoldedFacts(here.follower, here.store, here.host._writer, here.host)
    standing = Standing(facts_, cast("Any", FixedView()), partial(datetime.now, UTC))
    return Subjects(facts_, facts_, place.vault, here.reactor, standing)


async def restart(folder: Path) -> None:
    """Start again, let what is owed be settled, and look whether all is as it should be."""
    place = Place(folder)
    was_told = place.topic.told(SubjectErased) > 0

    async def is_settled() -> bool:
        return not await here.open()

    async with place.running() as here:
        if not await until(is_settled, deadline_s=DEADLINE_S, period_s=0.005):
            raise LostError("what is owed was not settled")
        state = await here.host.state(PATIENT)
        if (state.erased is not None) != was_told or state.destroyed != was_told:
            raise LostError(f"told: {was_told}, erased: {state.erased}, destroyed: {state.destroyed}")
    outcomes = place.topic.told(SubjectKeyDestroyed)
    if outcomes != int(was_told):
        raise LostError(f"{outcomes} outcomes")
    if await holds_keys(place.bucket) == was_told:
        raise LostError(f"told: {was_told}, and keys are there or not")


def main(folder: Path, *, step: int) -> None:
    asyncio.run(prepare(folder / "prepared"))
    line, was_killed = 0, True
    while was_killed:
        place = folder / str(line)
        shutil.copytree(folder / "prepared", place)
        child = os.fork()
        if child == 0:
            die_at(line, TRACED)
            try:
                asyncio.run(erase(place))
            except BaseException:  # noqa: BLE001  # the child must not go on as its parent does
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        was_killed = os.WIFSIGNALED(status)
        if not was_killed and os.WEXITSTATUS(status) != 0:
            raise LostError("nobody was killed, and she is not erased")
        asyncio.run(restart(place))
        line += step
    sys.stdout.write(f"{line - step}\n")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), step=int(sys.argv[2]))
    except LostError as error:
        sys.exit(f"after a crash: {error}")
