"""The context of the cold chain: its events, who states them, and which request asks for which event."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import msgspec

from salus.events.context import Context
from salus.events.event_types import Retention
from salus.events.fields import Did
from salus.events.requests import RequestedData
from salus.events.rules import rules_event
from salus.events.signed_request import Asked, Body

CONTEXT = Context("coldchain")
COLDCHAIN = CONTEXT.role("coldchain", "service", "states what is known of batches of vaccine")

# Ids are up to three letters and a number: all can read the ledger, so there is no room for words or names.
Token = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{1,3}-[0-9]{1,16}\Z", max_length=20)]
Decidegrees = Annotated[int, msgspec.Meta(ge=-2000, le=1000)]
Reason = Literal["excursion", "contamination", "counterfeit", "label"]

_event = partial(
    CONTEXT.event, owner=COLDCHAIN, retention=Retention.RECORD, subject_field="batch", changes=True
)
RulesAdopted = rules_event(CONTEXT, owner=COLDCHAIN)


@_event("salus.coldchain.batch-registered.v1")
class BatchRegistered(RequestedData):
    """A member holds a batch, which has to be kept between two temperatures."""

    batch: Token
    product: Token
    holder: Did
    lowest: Decidegrees
    highest: Decidegrees


@_event(
    "salus.coldchain.temperature-recorded.v1",
    claims=lambda data: (f"reading:{data.batch}/{data.reading}",),
)
class TemperatureRecorded(RequestedData):
    """A batch had this temperature, in tenths of a degree Celsius."""

    batch: Token
    reading: Token
    temperature: Decidegrees


@_event("salus.coldchain.batch-recalled.v1")
class BatchRecalled(RequestedData):
    """Nobody may use a batch any more, for this reason."""

    batch: Token
    reason: Reason


# --- which request asks for which event -------------------------------------------------------------

_SMALL = 1024
CONTEXT.form("POST", "batches", body_bytes_max=_SMALL)
CONTEXT.form("POST", "batches", None, "temperatures", body_bytes_max=_SMALL)
CONTEXT.form("POST", "batches", None, "recall", body_bytes_max=_SMALL)


class _Batch(Body):
    batch: str
    product: str
    lowest: int
    highest: int


class _Temperature(Body):
    reading: str
    temperature: int


class _Recall(Body):
    reason: str


@CONTEXT.asked(BatchRegistered)
def _registers(asked: Asked, data: BatchRegistered) -> bool:
    said = _Batch(data.batch, data.product, data.lowest, data.highest)
    holder = data.request.behalf or data.request.by
    return asked.is_("POST", "batches") and asked.read(_Batch) == said and data.holder == holder


@CONTEXT.asked(TemperatureRecorded)
def _records(asked: Asked, data: TemperatureRecorded) -> bool:
    there = asked.is_("POST", "batches", data.batch, "temperatures")
    return there and asked.read(_Temperature) == _Temperature(data.reading, data.temperature)


@CONTEXT.asked(BatchRecalled)
def _recalls(asked: Asked, data: BatchRecalled) -> bool:
    there = asked.is_("POST", "batches", data.batch, "recall")
    return there and asked.read(_Recall) == _Recall(data.reason)
