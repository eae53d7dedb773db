"""What decisions are asked with in a benchmark: the hospital's questions, and policies of organisations.

Run as a program it serves a FastAPI route that does nothing, on the port that is given.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI

from salus.cli.bench.contract_load import patient_of, token_for
from salus.cli.bench.http_client import KeptConnection
from salus.client.auth import RequestLine

BATCH_QUESTIONS = 20


def question(grant: int, *, purpose: str = "TREAT") -> dict[str, str]:
    """Return whether the hospital may read an object of the patient of a grant."""
    return {"action": "read", "object": f"object-{grant}", "patient": patient_of(grant), "purpose": purpose}


def request_for(connection: KeptConnection, target: str, body: Any) -> bytes:
    """Return the bytes of a request of the hospital to consent, signed now."""
    line = RequestLine("POST", target, b"" if body is None else msgspec.json.encode(body))
    token = token_for(line, "consent")
    return connection.request("POST", target, body=line.body or b"", token=token)


def batch_body(first: int, *, grants: int) -> dict[str, Any]:
    """Return the body of a request with questions about patients from this grant on."""
    step = max(1, grants // BATCH_QUESTIONS)
    return {"questions": [question((first + place * step) % grants) for place in range(BATCH_QUESTIONS)]}


def policies_of(number: int) -> dict[str, bytes]:
    """Return the policies of the release, and so many that organisations would have for themselves."""
    folder = files("salus.access").joinpath("policies")
    found = {name: folder.joinpath(name).read_bytes() for name in ("base.cedar", "salus.cedarschema")}
    own = [
        f'@id("own-{n}") forbid (principal, action == Salus::Action::"read", resource) when {{ principal has '
        f'member && principal.member == "did:web:m{n}.example" && context.purpose == "HRESCH" }};'
        for n in range(number)
    ]
    return {**found, "own.cedar": "\n".join(own).encode()} if own else found


def nothing(port: int) -> None:
    """Serve a route that takes JSON and does nothing."""
    app = FastAPI()

    @app.post("/nothing")
    async def answer(body: dict[str, Any]) -> dict[str, int]:
        return {"names": len(body)}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


if __name__ == "__main__":
    nothing(int(sys.argv[1]))
