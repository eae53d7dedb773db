"""OperationOutcomes: how FHIR says what is wrong, for issues of a resource and for every error of the API."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from salus.consent.adapters.fhir.elements import Issue
from salus.runtime.problems import Answer

MEDIA_TYPE = "application/fhir+json"
CODES = "urn:salus:problem"

# R4 value set issue-type. A status that is not here is `processing`.
_ISSUE_TYPES: Mapping[int, str] = {
    400: "invalid",
    401: "login",
    403: "forbidden",
    404: "not-found",
    405: "not-supported",
    406: "not-supported",
    409: "conflict",
    412: "conflict",
    413: "too-long",
    415: "not-supported",
    429: "throttled",
    500: "exception",
    503: "transient",
}


def operation_outcome(issues: Sequence[Issue]) -> dict[str, Any]:
    """Return the OperationOutcome that tells a client what was wrong with its resource."""
    return _outcome(
        [
            {
                "severity": "error",
                "code": issue.code,
                "diagnostics": issue.why,
                "expression": [issue.expression],
            }
            for issue in issues
        ]
    )


def all_ok(what: str) -> dict[str, Any]:
    """Return the OperationOutcome that says what is true of what was asked for."""
    return _outcome([{"severity": "information", "code": "informational", "diagnostics": what}])


class FhirResponse(JSONResponse):
    """A resource, with line breaks for people if the request says `_pretty=true`."""

    media_type = MEDIA_TYPE

    def render(self, content: object) -> bytes:
        """Return it without line breaks, and keep it."""
        self._resource = content
        return super().render(content)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        if Request(scope).query_params.get("_pretty") == "true":
            self.body = json.dumps(self._resource, ensure_ascii=False, indent=2).encode()
            self.headers["Content-Length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


def answered(answer: Answer) -> FhirResponse:
    """Return an error of the API as an OperationOutcome; the stable code is in `details`."""
    issue = {
        "severity": "error",
        "code": _ISSUE_TYPES.get(answer.status, "processing"),
        "details": {"coding": [{"system": CODES, "code": answer.code}]},
        "diagnostics": answer.detail,
    }
    parts = [_part(issue, error) for error in answer.extra.get("errors", ())]
    headers = dict(answer.headers)
    return FhirResponse(_outcome(parts or [issue]), answer.status, headers)


def _part(issue: dict[str, Any], error: Mapping[str, str]) -> dict[str, Any]:
    """Return one of several things that are wrong with a request; of its body, with the element."""
    if re.match(r"body(?![\w/])", error["at"]) is None:
        return {**issue, "code": "invalid", "diagnostics": f"{error['at']}: {error['what']}"}
    expression = "Consent" + error["at"].removeprefix("body")
    code = error.get("code", "structure")
    return {**issue, "code": code, "diagnostics": error["what"], "expression": [expression]}


def _outcome(issues: list[dict[str, Any]]) -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": issues}
