"""The cold chain over HTTP: register a batch, record its temperature, recall it, look at it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Path
from pydantic import BaseModel, Field

from salus.coldchain import context, domain
from salus.coldchain.context import BatchRecalled, BatchRegistered, TemperatureRecorded
from salus.coldchain.domain import BATCHES, Batch
from salus.contracts.contract import ContractHost
from salus.contracts.dependencies import Dependencies
from salus.contracts.http_fields import CommandBody
from salus.contracts.settings import ContractSettings
from salus.runtime.auth import Caller
from salus.runtime.fields import pattern_of
from salus.runtime.problems import documented

TOKEN = pattern_of(context.Token)
Token = Annotated[str, Field(pattern=TOKEN, max_length=20)]
Decidegrees = Annotated[int, Field(ge=-2000, le=1000, description="Tenths of a degree Celsius.")]
BatchInPath = Annotated[str, Path(pattern=TOKEN, max_length=20, description="The batch's id.")]


class RegisterBody(CommandBody):
    """A batch, and between which temperatures it has to be kept."""

    batch: Token
    product: Token
    lowest: Decidegrees
    highest: Decidegrees


class TemperatureBody(CommandBody):
    """A temperature that a batch had; `reading` is the thermometer's number for it."""

    reading: Token
    temperature: Decidegrees


class RecallBody(CommandBody):
    """Why nobody may use a batch any more."""

    reason: context.Reason


class BatchView(BaseModel):
    """What is known of a batch."""

    batch: str
    product: str
    holder: str
    readings: int
    excursions: int
    recalled: str | None
    usable: bool

    @classmethod
    def of(cls, state: Batch) -> BatchView:
        """Return the view of a batch that exists; raises a Refusal of any other."""
        domain.require_known(state)
        return cls(
            batch=state.batch,
            product=state.product,
            holder=state.holder,
            readings=state.readings,
            excursions=state.excursions,
            recalled=state.recalled,
            usable=state.is_usable,
        )


async def open_batches(around: Dependencies[ContractSettings]) -> ContractHost[Batch]:
    """Return what executes commands on batches."""
    return around.host(BATCHES)


def install(app: FastAPI, around: Dependencies[ContractSettings], batches: ContractHost[Batch]) -> None:
    """Add the routes."""
    router = APIRouter(tags=["batches"])
    command = Depends(around.authenticate.command)
    problems = documented(401, 403, 404, 409, 422, 429, 503)

    @router.post("/batches", status_code=201, responses=problems)
    async def register_batch(body: RegisterBody, caller: Caller = command) -> BatchView:
        """Register a batch; a member does, its device or a clinician of it, and that member holds it."""
        event = BatchRegistered(
            batch=body.batch,
            product=body.product,
            holder=domain.member_of(caller.party),
            lowest=body.lowest,
            highest=body.highest,
            request=caller.request,
        )

        async def decide(batch: Batch) -> BatchRegistered:
            return domain.register(batch, event, by=domain.member_of(await around.party_of(caller)))

        await batches.execute(body.batch, decide)
        return BatchView.of(await batches.state(body.batch))

    @router.post("/batches/{batch}/temperatures", status_code=201, responses=problems)
    async def record_temperature(
        batch: BatchInPath, body: TemperatureBody, caller: Caller = command
    ) -> BatchView:
        """Record a temperature that a batch had; its holder does, and each reading counts once."""
        event = TemperatureRecorded(
            batch=batch, reading=body.reading, temperature=body.temperature, request=caller.request
        )

        async def decide(state: Batch) -> TemperatureRecorded:
            return domain.record(state, event, by=domain.member_of(await around.party_of(caller)))

        await batches.execute(batch, decide)
        return BatchView.of(await batches.state(batch))

    @router.post("/batches/{batch}/recall", responses=problems)
    async def recall_batch(batch: BatchInPath, body: RecallBody, caller: Caller = command) -> BatchView:
        """Recall a batch; its holder does, and it is never usable again."""
        event = BatchRecalled(batch=batch, reason=body.reason, request=caller.request)

        async def decide(state: Batch) -> BatchRecalled:
            return domain.recall(state, event, by=domain.member_of(await around.party_of(caller)))

        await batches.execute(batch, decide)
        return BatchView.of(await batches.state(batch))

    @router.get("/batches/{batch}", responses=documented(404, 422, 503))
    async def get_batch(batch: BatchInPath) -> BatchView:
        """Return what is known of a batch, with everything that was published before."""
        return BatchView.of(await batches.state(batch))

    app.include_router(router)
