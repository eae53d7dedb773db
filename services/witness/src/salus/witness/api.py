"""The witness over HTTP: c2sp.org/tlog-witness, submission and monitoring prefix are both `/`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, FastAPI, Path, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.registry import REGISTRY
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from salus.crypto.errors import KmsAwayError, KmsUnusableError
from salus.runtime import openapi
from salus.runtime.bodies import answer_to
from salus.runtime.problems import ProblemError, documented, problem_response
from salus.witness.domain import REQUEST_BYTES_MAX, OtherSizeError, RefusedError
from salus.witness.handlers import Witness
from salus.witness.ports import ForgetfulError

TEXT = "text/plain; charset=utf-8"
SIZE = "text/x.tlog.size"
PATH = "/add-checkpoint"


class Answers:
    """Answers add-checkpoint, and counts the answers by outcome."""

    def __init__(self, witness: Witness, registry: CollectorRegistry = REGISTRY) -> None:
        self.witness = witness
        self._answers = Counter(
            "salus_witness_answers", "Answers to add-checkpoint, by outcome.", ["outcome"], registry=registry
        )

    async def answer(self, request: Request) -> Response:
        """Return the answer, which may be a refusal."""
        try:
            lines = await self.witness.add_checkpoint(await _body(request))
        except OtherSizeError as error:
            self._answers.labels(error.code).inc()
            # Without the charset that the framework gives to text.
            return Response(f"{error.size}\n", status_code=409, headers={"content-type": SIZE})
        except RefusedError as error:
            return self._refusal(error.status, error.code, str(error))
        except ForgetfulError:
            return self._refusal(503, "memory-away", "the witness cannot remember, so it does not sign")
        except (KmsAwayError, KmsUnusableError):
            return self._refusal(503, "key-away", "the witness's key does not answer")
        self._answers.labels("cosigned").inc()
        return Response(lines, media_type=TEXT)

    def _refusal(self, status: int, code: str, sentence: str) -> Response:
        self._answers.labels(code).inc()
        return problem_response(status, code, sentence)


class CheckpointLane:
    """A lane past the router for add-checkpoint, which comes with every checkpoint of a log.

    Routing and validation take several times as long as cosigning. The answers are the same. It lies within
    the guards of headers and bodies: whoever reaches a witness may send it one.
    """

    def __init__(self, app: ASGIApp, *, answers: Answers) -> None:
        self._app = app
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the app answer what is anything else."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            answer = await self._answers.answer(request)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001  # the app says what is answered to which
            answer = await answer_to(error, request)
        await answer(scope, receive, send)


def install_witness(app: FastAPI, answers: Answers) -> None:
    """Add the calls of the specification, and the lane behind all middleware that there is."""
    app.include_router(witness_routes(answers))
    app.user_middleware.append(Middleware(CheckpointLane, answers=answers))


def witness_routes(answers: Answers) -> APIRouter:
    """Return the two calls of the specification; sign-subtree is optional there and absent here."""
    router = APIRouter(tags=["witness"])

    @router.post(
        PATH,
        summary="Cosign a checkpoint that extends the last one.",
        response_class=PlainTextResponse,
        responses={
            **documented(400, 403, 404, 422, 503),
            409: {"description": "The size last cosigned.", "content": {SIZE: {"schema": openapi.TEXT}}},
        },
        openapi_extra=openapi.body("application/octet-stream", openapi.BINARY, "c2sp.org/tlog-witness."),
    )
    async def add_checkpoint(request: Request) -> Response:
        return await answers.answer(request)

    @router.get(
        "/{origin_hash}/checkpoint",
        summary="The last checkpoint cosigned of a log.",
        response_class=PlainTextResponse,
        responses=documented(404, 503),
    )
    async def get_checkpoint(origin_hash: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]) -> Response:
        try:
            note = await answers.witness.last_checkpoint(origin_hash)
        except ForgetfulError as error:
            raise ProblemError(503, "memory-away", "the witness cannot remember") from error
        if note is None:
            raise ProblemError(404, "no-checkpoint", "no checkpoint of such a log was cosigned here")
        return Response(note, media_type=TEXT, headers={"Cache-Control": "no-cache"})

    return router


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > REQUEST_BYTES_MAX:
            raise RefusedError(f"a request of more than {REQUEST_BYTES_MAX} bytes")
    return bytes(body)
