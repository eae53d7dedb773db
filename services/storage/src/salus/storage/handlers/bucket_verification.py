"""Compare a whole bucket with the ledger: every object that an event names, and every one that lies there.

Bucket and table of objects are both read in the order of their places, a page at a time, so it takes the
same memory whatever there is, and whoever says where it was goes on from there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from salus.objects import Entry, NotFoundError, ObjectStore, Stray
from salus.objects.probe import PROBE_PREFIX
from salus.storage.handlers.damage import Fault
from salus.storage.handlers.inspection import inspect
from salus.storage.handlers.upload_parts import place_of_part
from salus.storage.ports import Facts, Inventory, Located, Vault

SHOWN_CHARS_MAX = 200
"""What lies in the bucket beside objects is named by so many characters, and counted."""

Wrong = Literal["damaged", "unnamed", "stray"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is not as the ledger says: an object is damaged or missing, or something lies there beside them.

    `unnamed`: no event names it; an upload that is under way has none yet. `stray`: its key is none of ours.
    """

    kind: Wrong
    location: str
    object: str = ""
    patient: str = ""
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One place of the bucket was compared; `after` is where to go on."""

    after: str
    stored_bytes: int = 0
    is_object: bool = True
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class BucketVerification:
    """Compares the bucket of objects with what the topics say."""

    facts: Facts
    inventory: Inventory
    objects: ObjectStore
    vault: Vault

    async def steps(self, *, after: str = "") -> AsyncGenerator[Step]:
        """Yield what was compared, from behind a place on, one after the other.

        What comes or goes meanwhile is looked up again before it is called wrong.

        Raises:
            ObjectsError, KmsError, MessagingError: a part is away; the last step says where to go on.
        """
        await self.inventory.catch_up()
        strays: list[Finding] = []

        def note(stray: Stray) -> None:
            strays.append(Finding("stray", stray.shown[:SHOWN_CHARS_MAX]))

        listed = self.objects.list(start_after=after, on_stray=note)
        async with aclosing(_merged(_keys(listed), self.inventory.located(after=after))) as places:
            async for place in places:
                step = await self._compared(place)
                after = step.after
                if strays:
                    step = Step(step.after, step.stored_bytes, step.is_object, (*strays, *step.findings))
                    strays.clear()
                yield step
        if strays:
            yield Step(after, is_object=False, findings=tuple(strays))

    async def _compared(self, place: _Place) -> Step:
        if place.named is None:
            # Its event may have come since the table was read.
            await self.inventory.catch_up()
            named = await self.inventory.at(place.location)
            if named is None:
                left = await self._is_there(place.location)
                found = (Finding("unnamed", place.location),) if left else ()
                return Step(place.location, is_object=False, findings=found)
            return await self._inspected(named)
        return await self._inspected(place.named)

    async def _inspected(self, named: Located) -> Step:
        view = await self.facts.view(named.patient, named.object)
        stored = view.object
        private_key = None if view.subject.erased else await self._key(named.patient, view.subject.key)
        report = await inspect(self.objects, stored, private_key=private_key)
        finding = Finding("damaged", named.location, named.object, named.patient, report.faults)
        return Step(named.location, report.ciphertext_bytes, findings=() if report.intact else (finding,))

    async def _key(self, patient: str, key: str) -> bytes | None:
        try:
            return await self.vault.fetch(patient=patient, key=key)
        except NotFoundError:
            # What is stored is compared without it, too.
            return None

    async def _is_there(self, location: str) -> bool:
        try:
            await self.objects.head(location)
        except NotFoundError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class _Place:
    location: str
    named: Located | None = None


async def _keys(entries: AsyncIterator[Entry]) -> AsyncIterator[str]:
    """Yield the keys that objects may have; those that a start tries the store with are none.

    Nor are the parts of uploads that are under way: what is left of them is swept, and none opens alone. What
    somebody put beside them is swept by nobody, and is named.
    """
    async for entry in entries:
        if not entry.key.startswith(f"{PROBE_PREFIX}/") and place_of_part(entry.key) is None:
            yield entry.key


async def _merged(listed: AsyncIterator[str], named: AsyncIterator[Located]) -> AsyncGenerator[_Place]:
    """Yield each place once, in order; both come in the order of their code points, which are bytes here."""
    key, row = await anext(listed, None), await anext(named, None)
    while key is not None or row is not None:
        if row is not None and (key is None or row.location <= key):
            yield _Place(row.location, row)
            if row.location == key:
                key = await anext(listed, None)
            row = await anext(named, None)
        elif key is not None:
            yield _Place(key)
            key = await anext(listed, None)
