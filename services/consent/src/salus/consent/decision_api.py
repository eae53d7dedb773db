"""Decisions over HTTP: one question, and many in one request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from salus.access.decisions import Question
from salus.consent import models
from salus.consent.api import Api, asking
from salus.consent.batch_turns import BatchTurns
from salus.consent.decision_handlers import Asked, Decision, Undecided, decide_access, decide_many
from salus.contracts.http_fields import IdempotencyKey, id_digits
from salus.runtime.auth import Caller
from salus.runtime.bodies import json_of
from salus.runtime.problems import ProblemError, documented
from salus.runtime.request_lanes import Lane


@dataclass(frozen=True)
class DecisionApi:
    """What the routes of decisions use; a request has at most `questions_max` questions."""

    shared: Api
    questions_max: int

    @cached_property
    def turns(self) -> BatchTurns:
        """The turns that batches of all routes take."""
        return BatchTurns(questions_max=self.questions_max)

    async def turn(self) -> AsyncIterator[None]:
        """Hold a turn of batches; a dependency that stands before `caller`, which looks up what is true."""
        async with self.turns.turn():
            yield

    async def caller(self, request: Request) -> Caller:
        """Return who asks, with the body, as of now; raises ProblemError 503 `state-stale` too."""
        await request.body()
        shared = self.shared
        return await shared.world.freshness.within(lambda: shared.authenticate.command(request))

    def require_few(self, number: int, *, name: str) -> None:
        """Raise ProblemError 422 if there are more questions than one request may have."""
        if number > self.questions_max:
            detail = f"{name}: at most {self.questions_max} in one request"
            raise ProblemError(422, "too-many-questions", detail)

    async def decide(self, body: models.DecisionBody, caller: Caller, *, key: str | None) -> Decision:
        """Answer one question."""
        broken = body.break_glass
        if broken is not None and key is not None:
            detail = "Idempotency-Key: an emergency is asked about anew each time"
            raise ProblemError(422, "invalid-request", detail)
        question = Question(
            principal=asking(caller),
            action=body.action,
            object=body.object,
            patient=body.patient,
            purpose=body.purpose,
            break_glass=broken.reason if broken else None,
            service=body.service,
        )
        asked = Asked(question, id_digits(caller.party.did, key), repeatable=key is not None)
        statement = broken.statement.as_sealed() if broken and broken.statement else None
        shared = self.shared
        return await decide_access(asked, statement=statement, at=shared.now(), world=shared.world)

    async def decide_all(
        self, body: models.BatchBody, caller: Caller, *, key: str | None, size: int
    ) -> models.BatchView:
        """Answer many questions; raises ProblemError `batch-incomplete` unless all of them are decided."""
        self.require_few(len(body.questions), name="questions")
        self.shared.authenticate.charge_parts(caller, number=len(body.questions), size=size)
        who = asking(caller)
        asked = [
            Asked(
                Question(
                    principal=who,
                    action=one.action,
                    object=one.object,
                    patient=one.patient,
                    purpose=one.purpose,
                    service=one.service,
                ),
                id_digits(who.did, item_key(key, item)),
                item=item,
                repeatable=key is not None,
            )
            for item, one in enumerate(body.questions)
        ]
        found = await decide_many(asked, at=self.shared.now(), world=self.shared.world)
        require_complete(found)
        return models.BatchView(items=[models.ItemView.of(one) for one in found])


def item_key(key: str | None, item: int) -> str | None:
    """Return the key of one question under a request's; no header has such a byte."""
    return None if key is None else f"{key}\0{item}"


def require_complete(found: Sequence[Decision | Undecided]) -> None:
    """Raise ProblemError unless each question is decided: 409 if only other facts were first, else 503."""
    failed = [one for one in found if isinstance(one, Undecided)]
    if not failed:
        return
    if len(failed) == len(found) and len({one.problem.code for one in failed}) == 1:
        raise failed[0].problem
    status = 409 if all(one.outcome == "without-effect" for one in failed) else 503
    detail = (
        f"{len(failed)} of {len(found)} questions are not decided, or nobody knows; items says which. With "
        "the same Idempotency-Key, asking again answers what is decided and decides the rest"
    )
    items = [models.ItemView.of(one).model_dump(mode="json") for one in found]
    raise ProblemError(status, "batch-incomplete", detail, items=items)


def lanes(api: DecisionApi) -> Mapping[str, Lane]:
    """Return the lanes of decisions, which come by the thousand."""

    async def one(request: Request, _: bytes) -> Response | None:
        if "idempotency-key" in request.headers:
            return None
        try:
            wanted = models.DecisionBody.model_validate(json_of(request))
        except ValueError:
            return None
        decision = await api.decide(wanted, await api.caller(request), key=None)
        return _json(models.DecisionView.of(decision).model_dump_json())

    async def many(request: Request, body: bytes) -> Response | None:
        if "idempotency-key" in request.headers:
            return None
        try:
            wanted = models.BatchBody.model_validate(json_of(request))
        except ValueError:
            return None
        async with api.turns.turn():
            view = await api.decide_all(wanted, await api.caller(request), key=None, size=len(body))
        return _json(view.model_dump_json())

    return {"/decisions": one, "/decisions/batch": many}


def _json(text: str) -> Response:
    return Response(text, status_code=HTTPStatus.OK, media_type="application/json")


def routes(api: DecisionApi) -> APIRouter:
    """Return the routes of decisions."""
    router = APIRouter()
    caller, turn = Depends(api.caller), [Depends(api.turn)]

    @router.post("/decisions", tags=["decisions"], responses=documented(401, 403, 409, 422, 429, 503))
    async def decide(
        body: models.DecisionBody, idempotency_key: IdempotencyKey = None, caller: Caller = caller
    ) -> models.DecisionView:
        """Ask whether the caller may act on an object now. A denial is an answer, and an event, as well.

        If allowed, `token` is what storage wants in `Salus-Decision`, or the service that is named as
        `service`; it holds for this caller, object, action and purpose, for a
        minute, and for five in an emergency.
        """
        return models.DecisionView.of(await api.decide(body, caller, key=idempotency_key))

    @router.post(
        "/decisions/batch",
        tags=["decisions"],
        responses=documented(401, 403, 409, 422, 429, 503),
        dependencies=turn,
    )
    async def decide_batch(
        request: Request,
        body: models.BatchBody,
        idempotency_key: IdempotencyKey = None,
        caller: Caller = caller,
    ) -> models.BatchView:
        """Ask many questions at once; each is decided by itself, and is an event of its own.

        200 says that all of them are decided and on the ledger, denials included. Else it is a problem
        `batch-incomplete` whose `items` say what became of each. Asked again with the same Idempotency-Key,
        what was decided is answered as it was, and the rest is decided.
        """
        size = len(await request.body())
        return await api.decide_all(body, caller, key=idempotency_key, size=size)

    return router
