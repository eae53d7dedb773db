"""Writes the OpenAPI document of every service into docs/openapi, as the service itself serves it.

A document depends on routes alone, so each app is built with nothing behind its routes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request

from salus.anchoring import api as anchoring
from salus.anchoring import receipt_api as anchoring_receipts
from salus.audit import api as audit
from salus.audit.reconcile_api import reconcile_routes
from salus.consent import api as consent
from salus.consent import fhir_api
from salus.devkit.manifests import services
from salus.events import requests
from salus.events.parties import Party
from salus.identity import api as identity
from salus.identity import shards_api
from salus.runtime.auth import Caller
from salus.runtime.problems import ProblemError
from salus.runtime.service import create_app
from salus.runtime.settings import ProcessSettings
from salus.sequencer import api as sequencer
from salus.storage import api as storage
from salus.storage import transfers
from salus.witness import api as witness

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "openapi"


class Behind:
    """Stands for all that is behind a route; whoever reaches for it fails with `says`."""

    def __init__(self, says: str = "nothing is behind this route") -> None:
        self._says = says

    def __getattr__(self, name: str) -> Any:
        """Fail."""
        raise RuntimeError(f"{self._says} ({name})")


async def _nobody(_: Request) -> Any:
    raise ProblemError(401, "unauthenticated", "nobody calls")


class _Called:
    """Callers that need no token: `find` tells who sends a request."""

    def __init__(self, find: Callable[[Request], Any]) -> None:
        self._find = find

    async def __call__(self, request: Request) -> Party:
        """Return who it is."""
        party: Party = await self._find(request)
        return party

    async def command(self, request: Request) -> Caller:
        """Return who it is, with a request that nobody looks at."""
        party = await self(request)
        return Caller(party, requests.Request.of_service(party.did))

    async def document(self, request: Request) -> Caller:
        """Return the same as for a command."""
        return await self.command(request)

    async def transfer(self, request: Request) -> Caller:
        """Return the same as for a command."""
        return await self.command(request)


def _now() -> datetime:
    return datetime.now(UTC)


def _anchoring(app: FastAPI, behind: Any, _: Any) -> None:
    app.include_router(anchoring.log_routes(behind, behind))
    app.include_router(anchoring_receipts.receipt_routes(behind))
    app.include_router(anchoring.status_routes(behind))


def _audit(app: FastAPI, behind: Any, caller: Any) -> None:
    reading = audit.Reading(trail=behind, around=behind, grown=behind, authenticate=caller)
    app.include_router(audit.routes(reading))
    app.include_router(reconcile_routes(behind, caller))


def _consent(app: FastAPI, behind: Any, caller: Any) -> None:
    shared = consent.Api(world=behind, authenticate=caller, now=_now)
    app.include_router(consent.routes(shared))
    fhir_api.install(app, fhir_api.FhirApi(shared, behind))


def _identity(app: FastAPI, behind: Any, caller: Any) -> None:
    app.include_router(identity.routes(world=behind, authenticate=caller, now=_now))
    app.include_router(
        shards_api.shard_routes(behind, behind, authenticate=caller, partitions_of=behind, operators=behind)
    )


def _sequencer(app: FastAPI, behind: Any, _: Any) -> None:
    app.include_router(sequencer.routes(behind, behind))


def _storage(app: FastAPI, behind: Any, caller: Any) -> None:
    limits = transfers.Limits(
        object_bytes_max=1,
        transfers_max=1,
        transfers_of_one_max=1,
        verifications_max=1,
        body_idle_s_max=1,
        transfer_s_max=1,
    )
    desk = storage.Desk(
        subjects=behind,
        storing=behind,
        reading=behind,
        sealed=behind,
        authenticate=caller,
        limits=limits,
        verifications=behind,
        now=_now,
    )
    app.include_router(storage.routes(desk))


def _witness(app: FastAPI, behind: Any, _: Any) -> None:
    app.include_router(witness.witness_routes(behind))


_SERVICES: dict[str, Callable[[FastAPI, Any, Any], None]] = {
    "anchoring": _anchoring,
    "audit": _audit,
    "consent": _consent,
    "identity": _identity,
    "sequencer": _sequencer,
    "storage": _storage,
    "witness": _witness,
}


def apps(*, behind: Any = None, caller: Callable[[Request], Any] = _nobody) -> dict[str, FastAPI]:
    """Return each service's app by name, with all its routes and `behind` them."""
    made = {}
    for name, add_routes in _SERVICES.items():
        app = create_app(ProcessSettings(service_name=name, http_port=0), title=f"Salus {name}", checks={})
        add_routes(app, behind if behind is not None else Behind(), _Called(caller))
        made[name] = app
    return made


def main() -> None:
    """Write the documents."""
    if lacking := {manifest.name for manifest in services()} ^ _SERVICES.keys():
        raise SystemExit(
            f"of {', '.join(sorted(lacking))} there is a manifest or a function here, and not both"
        )
    FOLDER.mkdir(exist_ok=True)
    written = {FOLDER / f"{name}.json": app.openapi() for name, app in apps().items()}
    for path in set(FOLDER.glob("*.json")) - written.keys():
        path.unlink()
    for path, document in written.items():
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
