"""The witness over HTTP: c2sp.org/tlog-witness, submission and monitoring prefix are both `/`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.registry import REGISTRY

from salus.crypto.errors import KmsAwayError
from salus.runtime.problems import ProblemError, documented
from salus.witness.domain import REQUEST_BYTES_MAX, OtherSizeError, RefusedError
from salus.witness.handlers import Witness
from salus.witness.ports import ForgetfulError

TEXT = "text/plain; charset=utf-8"
SIZE = "text/x.tlog.size"


def witness_routes(witness: Witness, registry: CollectorRegistry = REGISTRY) -> APIRouter:
    """Return the two calls of the specification; sign-subtree is optional there and absent here."""
    router = APIRouter(tags=["witness"])
    answers = Counter(
        "salus_witness_answers", "Answers to add-checkpoint, by outcome.", ["outcome"], registry=registry
    )

    @router.post(
        "/add-checkpoint",
        summary="Cosign a checkpoint that extends the last one.",
        responses=documented(400, 403, 404, 422, 503),
    )
    async def add_checkpoint(request: Request) -> Response:
        try:
            lines = await witness.add_checkpoint(await _body(request))
        except OtherSizeError as error:
            answers.labels(error.code).inc()
            # Without the charset that the framework gives to text.
            return Response(f"{error.size}\n", status_code=409, headers={"content-type": SIZE})
        except RefusedError as error:
            answers.labels(error.code).inc()
            raise ProblemError(error.status, error.code, str(error)) from error
        except ForgetfulError as error:
            answers.labels("memory-away").inc()
            raise ProblemError(
                503, "memory-away", "the witness cannot remember, so it does not sign"
            ) from error
        except KmsAwayError as error:
            answers.labels("key-away").inc()
            raise ProblemError(503, "key-away", "the witness's key does not answer") from error
        answers.labels("cosigned").inc()
        return Response(lines, media_type=TEXT)

    @router.get(
        "/{origin_hash}/checkpoint",
        summary="The last checkpoint cosigned of a log.",
        responses=documented(404, 503),
    )
    async def checkpoint(origin_hash: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]) -> Response:
        try:
            note = await witness.last_checkpoint(origin_hash)
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
