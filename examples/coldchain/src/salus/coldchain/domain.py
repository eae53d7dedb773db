"""The law of the cold chain: what may be said of a batch, and what follows from it. It is pure."""

from __future__ import annotations

import msgspec

from salus.coldchain.context import CONTEXT, BatchRecalled, BatchRegistered, TemperatureRecorded
from salus.contracts.projection import Contract
from salus.events.event_types import EventData
from salus.events.parties import Party
from salus.runtime.refusal import Refusal


class Batch(msgspec.Struct, frozen=True, omit_defaults=True):
    """A batch as folded from its events; without an id it does not exist yet."""

    batch: str = ""
    product: str = ""
    holder: str = ""
    lowest: int = 0
    highest: int = 0
    readings: int = 0
    excursions: int = 0
    recalled: str | None = None

    @property
    def is_usable(self) -> bool:
        """Whether it may be used: it was always as cold as it has to be, and nobody recalled it."""
        return self.recalled is None and self.excursions == 0


def member_of(caller: Party) -> str:
    """Return for which member somebody speaks of batches: itself, or that of its device or clinician.

    A key of the network may be a patient's, an operator's or a service's; those have no say here.
    """
    if caller.kind == "member":
        return caller.did
    is_staff = caller.kind == "device" or (caller.kind == "person" and "clinician" in caller.roles)
    if caller.member is None or not is_staff:
        raise Refusal("not-permitted", "members, their devices and clinicians speak of batches", status=403)
    return caller.member


def register(batch: Batch, event: BatchRegistered, *, by: str) -> BatchRegistered:
    """Decide whether a batch may be registered, by somebody of the member `by`."""
    if event.holder != by:
        raise Refusal("not-the-holder", "a member registers what it holds itself", status=403)
    if batch.batch:
        raise Refusal("batch-exists", "a batch of that id is registered")
    if event.lowest > event.highest:
        raise Refusal("no-range", "lowest is above highest", status=422)
    return event


def record(batch: Batch, event: TemperatureRecorded, *, by: str) -> TemperatureRecorded:
    """Decide whether a temperature may be recorded, by somebody of the member `by`."""
    require_held(batch, by=by)
    return event


def recall(batch: Batch, event: BatchRecalled, *, by: str) -> BatchRecalled:
    """Decide whether a batch may be recalled, by somebody of the member `by`."""
    require_held(batch, by=by)
    if batch.recalled is not None:
        raise Refusal("already-recalled", "the batch is recalled already")
    return event


def require_held(batch: Batch, *, by: str) -> None:
    """Raise a Refusal unless that member holds the batch."""
    require_known(batch)
    if batch.holder != by:
        raise Refusal("not-the-holder", "another member holds the batch", status=403)


def require_known(batch: Batch) -> None:
    """Raise a Refusal unless the batch exists."""
    if not batch.batch:
        raise Refusal("unknown-batch", "there is no such batch", status=404)


def evolve(batch: Batch, event: EventData) -> Batch:
    """Return the batch after an event; those that do not concern it change nothing."""
    match event:
        case BatchRegistered():
            return Batch(
                batch=event.batch,
                product=event.product,
                holder=event.holder,
                lowest=event.lowest,
                highest=event.highest,
            )
        case TemperatureRecorded(temperature=temperature):
            out = not batch.lowest <= temperature <= batch.highest
            return msgspec.structs.replace(
                batch, readings=batch.readings + 1, excursions=batch.excursions + out
            )
        case BatchRecalled(reason=reason):
            return msgspec.structs.replace(batch, recalled=reason)
    return batch


BATCHES = Contract(kind="batch", topic=CONTEXT.topic, state=Batch, evolve=evolve)
