"""AuthZEN 1.0 over HTTP: evaluation, evaluations, and where they are."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from salus.access.actors import Asking
from salus.access.decisions import Question
from salus.consent import authzen
from salus.consent.api import asking
from salus.consent.authzen import Evaluation, EvaluationResult, EvaluationResults, Evaluations
from salus.consent.decision_api import DecisionApi, item_key
from salus.consent.decision_handlers import Asked, decide_access, decide_many
from salus.contracts.http_fields import IdempotencyKey, id_digits
from salus.runtime.auth import Caller
from salus.runtime.bodies import json_of
from salus.runtime.problems import Answer, ProblemError, documented, use_format
from salus.runtime.request_lanes import Lane

BASE = "/access/v1"
REQUEST_ID = "x-request-id"
REQUEST_ID_CHARS_MAX = 256


class AuthZen:
    """What the routes do."""

    def __init__(self, api: DecisionApi) -> None:
        self._api = api

    async def caller(self, request: Request) -> Caller:
        """Return who asks, with the digest of the body: only that is on the ledger."""
        await request.body()
        shared = self._api.shared
        return await shared.world.freshness.within(lambda: shared.authenticate.document(request))

    async def evaluate(self, body: Evaluation, caller: Caller, *, key: str | None) -> EvaluationResult:
        """Answer one evaluation."""
        question = authzen.question_of(body, asking(caller))
        asked = Asked(question, id_digits(caller.party.did, key), repeatable=key is not None)
        shared = self._api.shared
        found = await decide_access(
            asked, statement=None, at=shared.now(), world=shared.world, opens_case=False
        )
        return authzen.answer_of(found)

    async def evaluate_all(
        self, body: Evaluations, caller: Caller, *, key: str | None, size: int
    ) -> EvaluationResult | EvaluationResults:
        """Answer many evaluations as their semantic says; without a list of them, one."""
        if not body.evaluations:
            return await self.evaluate(authzen.evaluation_of(body), caller, key=key)
        self._api.require_few(len(body.evaluations), name="evaluations")
        self._api.shared.authenticate.charge_parts(caller, number=len(body.evaluations), size=size)
        who, until = asking(caller), authzen.UNTIL[body.options.evaluations_semantic]
        asked = [_question_or_problem(one, who) for one in authzen.evaluations_of(body)]
        waiting: list[Asked] = []
        for item, one in enumerate(asked):
            if isinstance(one, ProblemError):
                if until is False:
                    # As a denial it ends the work.
                    break
                continue
            suffix = id_digits(who.did, item_key(key, item))
            waiting.append(Asked(one, suffix, item=item, repeatable=key is not None))
        shared = self._api.shared
        found = (
            await decide_many(waiting, at=shared.now(), world=shared.world, until=until) if waiting else []
        )
        places = (one.item for one in waiting)
        by_place = {place: one for place, one in zip(places, found, strict=False) if place is not None}
        return EvaluationResults(evaluations=authzen.in_order(asked, by_place, until=until))


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may answer with AuthZEN's form of these errors."""
    content = {"application/json": {"schema": {"type": "string"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def _question_or_problem(one: Evaluation, who: Asking) -> Question | ProblemError:
    try:
        return authzen.question_of(one, who)
    except ProblemError as problem:
        return problem


def lanes(api: DecisionApi) -> Mapping[str, Lane]:
    """Return the lanes of evaluations, which come by the thousand."""
    evaluations = AuthZen(api)

    async def one(request: Request, _: bytes) -> Response | None:
        if "idempotency-key" in request.headers:
            return None
        try:
            wanted = Evaluation.model_validate(json_of(request))
        except ValueError:
            return None
        answer = await evaluations.evaluate(wanted, await evaluations.caller(request), key=None)
        return Response(answer.model_dump_json(), media_type="application/json")

    async def many(request: Request, body: bytes) -> Response | None:
        if "idempotency-key" in request.headers:
            return None
        try:
            wanted = Evaluations.model_validate(json_of(request))
        except ValueError:
            return None
        async with api.turns.turn():
            caller = await evaluations.caller(request)
            answer = await evaluations.evaluate_all(wanted, caller, key=None, size=len(body))
        return Response(answer.model_dump_json(), media_type="application/json")

    return {f"{BASE}/evaluation": one, f"{BASE}/evaluations": many}


def routes(api: DecisionApi, *, public_url: str | None) -> APIRouter:
    """Return the routes."""
    router, evaluations = APIRouter(tags=["AuthZEN"]), AuthZen(api)
    caller, turn = Depends(evaluations.caller), [Depends(api.turn)]

    @router.post(f"{BASE}/evaluation", responses=_problems(400, 401, 403, 429, 503))
    async def evaluate(
        body: Evaluation, idempotency_key: IdempotencyKey = None, caller: Caller = caller
    ) -> EvaluationResult:
        """Answer AuthZEN's access evaluation: whether the caller may do this. A denial is an answer, too."""
        return await evaluations.evaluate(body, caller, key=idempotency_key)

    @router.post(f"{BASE}/evaluations", responses=_problems(400, 401, 403, 429, 503), dependencies=turn)
    async def evaluate_all(
        request: Request,
        body: Evaluations,
        idempotency_key: IdempotencyKey = None,
        caller: Caller = caller,
    ) -> EvaluationResults | EvaluationResult:
        """Answer AuthZEN's access evaluations, in their order.

        What cannot be decided, or is not known to stand on the ledger, is `false` with an `error`.
        """
        size = len(await request.body())
        return await evaluations.evaluate_all(body, caller, key=idempotency_key, size=size)

    @router.get("/.well-known/authzen-configuration", responses=documented(404))
    async def configuration() -> authzen.Configuration:
        """Say where evaluations are asked, if the operator says where callers find this service."""
        if public_url is None:
            raise ProblemError(404, "not-configured", "the operator has not set SALUS_PUBLIC_URL")
        return authzen.Configuration(
            policy_decision_point=public_url,
            access_evaluation_endpoint=f"{public_url}{BASE}/evaluation",
            access_evaluations_endpoint=f"{public_url}{BASE}/evaluations",
        )

    return router


def install(app: FastAPI, api: DecisionApi, *, public_url: str | None) -> None:
    """Add the routes, AuthZEN's form of errors, and the echo of request ids."""
    use_format(app, BASE, answered)
    app.include_router(routes(api, public_url=public_url))
    app.user_middleware.insert(0, Middleware(RequestIds))


def answered(answer: Answer) -> JSONResponse:
    """Return an error as AuthZEN has it: a status and a sentence, which begins with the stable code."""
    status = 400 if answer.status == authzen.UNPROCESSABLE else answer.status
    return JSONResponse(f"{answer.code}: {answer.detail}", status_code=status, headers=dict(answer.headers))


class RequestIds:
    """Gives back the X-Request-ID of an evaluation, if it is one that a header may have."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, with the id."""
        given = None
        if scope["type"] == "http" and scope["path"].startswith(f"{BASE}/"):
            given = Headers(scope=scope).get(REQUEST_ID)
        if given is None or len(given) > REQUEST_ID_CHARS_MAX or not given.isprintable():
            await self._app(scope, receive, send)
            return

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = given
            await send(message)

        await self._app(scope, receive, send_with_id)
