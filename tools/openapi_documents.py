"""Writes the OpenAPI document of every service into docs/openapi, as the service itself serves it.

A document depends on routes alone, so `openapi.py` of each service builds its app with nothing behind them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request

from salus.events import requests
from salus.events.parties import Party
from salus.runtime.auth import Caller
from salus.runtime.manifests import services
from salus.runtime.openapi import StandIn
from salus.runtime.problems import ProblemError
from salus.runtime.service import create_app
from salus.runtime.settings import ProcessSettings

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


def apps(*, behind: Any = None, caller: Callable[[Request], Any] = _nobody) -> dict[str, FastAPI]:
    """Return each service's app by name, with all its routes and `behind` them."""
    stand_in = StandIn(behind if behind is not None else Behind(), _Called(caller))
    made = {}
    for name in sorted(manifest.name for manifest in services()):
        app = create_app(ProcessSettings(service_name=name, http_port=0), title=f"Salus {name}", checks={})
        import_module(f"salus.{name}.openapi").add_routes(app, stand_in)
        made[name] = app
    return made


def main() -> None:
    """Write the documents."""
    FOLDER.mkdir(exist_ok=True)
    written = {FOLDER / f"{name}.json": app.openapi() for name, app in apps().items()}
    for path in set(FOLDER.glob("*.json")) - written.keys():
        path.unlink()
    for path, document in written.items():
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
