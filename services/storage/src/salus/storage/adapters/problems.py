"""What the API answers when the object store, the KMS or a key is not there."""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from salus.crypto.errors import KmsAwayError, KmsUnusableError, UnwrapError
from salus.objects import ObjectsError, RefusedError
from salus.runtime.problems import problem_response

_log = structlog.get_logger()


def install(app: FastAPI) -> None:
    """Add storage's own parts to the problems that the runtime knows."""
    app.add_exception_handler(ObjectsError, _store_away)
    app.add_exception_handler(RefusedError, _store_refuses)
    app.add_exception_handler(KmsAwayError, _kms_away)
    app.add_exception_handler(KmsUnusableError, _kms_unusable)
    app.add_exception_handler(UnwrapError, _key_unusable)


async def _store_away(_: Request, error: Exception) -> JSONResponse:
    _log.warning("a part is away", part="the object store", error=type(error).__name__)
    detail = "the object store is away; whether a change was made is not known, repeat it"
    return problem_response(503, "unavailable", detail)


async def _store_refuses(_: Request, error: Exception) -> JSONResponse:
    """No waiting mends this, so it is not 503, which clients repeat."""
    _log.error("the object store refuses us", error=str(error))
    detail = "the object store refuses this service: an operator must look; repeating does not help"
    return problem_response(500, "store-refused", detail)


async def _kms_away(_: Request, error: Exception) -> JSONResponse:
    _log.warning("a part is away", part="the KMS", error=type(error).__name__)
    return problem_response(503, "kms-unavailable", "the KMS is away; nothing was read or changed")


async def _kms_unusable(_: Request, error: Exception) -> JSONResponse:
    _log.error("the KMS cannot be used", error=str(error))
    return problem_response(
        500, "kms-unusable", "the KMS does not serve us as it is set up: an operator must look"
    )


async def _key_unusable(_: Request, error: Exception) -> JSONResponse:
    _log.error("a key does not unwrap", error=str(error))
    return problem_response(500, "key-unusable", "the patient's key does not unwrap; the cause is in the log")
