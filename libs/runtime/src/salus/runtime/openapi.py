"""The OpenAPI document of a service: what each route shares is written here, once, and generators take it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi.routing import APIRoute

from salus.runtime.problems import Problem, documented

Document = dict[str, Any]
Operation = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StandIn:
    """What a service's routes are given where nothing of the service runs and only its document is asked."""

    behind: Any
    authenticate: Any

    @staticmethod
    def now() -> datetime:
        """Return the time."""
        return datetime.now(UTC)


BINARY = {"type": "string", "format": "binary"}
TEXT = {"type": "string"}
_DESCRIPTION = (
    "Each error is a problem document (RFC 9457): programs go by its `code`, people read its `detail`. "
    "Caches keep no answer, except public ones."
)
_LICENSE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": (
        "A JWT that the caller signs with its own DID key: `alg` EdDSA, `kid` the DID URL of the key, `iss` "
        "and `sub` the DID, `aud` `salus:` and this service's name, `iat` and `exp` at most 300 s apart, "
        "`jti` fresh. A request that makes an event is signed by its token, which names it: `htm` the "
        "method, `htu` path and query as sent, `dig` the SHA-256 of the body in hex; such a token is used "
        "once. No server gives it out: docs/integrators.md says how to make one, `salus.client.auth` "
        "makes it."
    ),
}
_OPERATIONS = {"name": "operations", "description": "For those who run the service."}


def operation_id(route: APIRoute) -> str:
    """Return the name of an operation in generated clients: that of the function, which must not change."""
    return route.name


def content(
    media_type: str, schema: dict[str, Any], description: str = "OK", *, status: int = 200
) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that answers with this media type."""
    return {status: {"description": description, "content": {media_type: {"schema": schema}}}}


def body(media_type: str, schema: dict[str, Any], description: str = "") -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads the body itself."""
    described = {"description": description} if description else {}
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}, **described}}


def complete(document: Document) -> Document:
    """Complete what FastAPI generated: problems, how to authenticate, and what any operation may answer."""
    document["info"] |= {"description": _DESCRIPTION, "license": _LICENSE}
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    # FastAPI's own forms of an invalid request, which `problems` replaces.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas[Problem.__name__] = Problem.model_json_schema()
    _drop_titles(document["paths"])
    _drop_titles([schema.get("properties") for schema in schemas.values()])
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    authenticates = False
    tags: dict[str, None] = {}
    for operation in _operations(document):
        tags |= dict.fromkeys(operation["tags"])
        _complete_answers(operation)
        _use_first_sentence(operation)
        if "401" in operation["responses"]:
            operation["security"] = [{"bearer": []}]
            authenticates = True
    own = [{"name": tag} for tag in tags if tag != _OPERATIONS["name"]]
    document["tags"] = [*own, _OPERATIONS]
    if authenticates:
        document["components"]["securitySchemes"] = {"bearer": _BEARER}
    return document


def _drop_titles(part: Any) -> None:
    """Drop the titles that pydantic makes of fields' names: generators would make classes of them."""
    if isinstance(part, list):
        for each in part:
            _drop_titles(each)
    elif isinstance(part, dict):
        if isinstance(part.get("title"), str):
            del part["title"]
        for each in part.values():
            _drop_titles(each)


def _operations(document: Document) -> Iterator[Operation]:
    for methods in document["paths"].values():
        yield from methods.values()


def _use_first_sentence(operation: Operation) -> None:
    """Use the first sentence of the description in place of a summary that repeats the operation's name."""
    name = operation["operationId"].replace("_", " ").title()
    description = operation.get("description", "")
    if operation.get("summary") == name and description:
        # A sentence that ends its paragraph has no blank behind it. A summary is text, and no Markdown.
        first = description.partition("\n\n")[0].partition(". ")[0]
        operation["summary"] = " ".join(first.split()).removesuffix(".").replace("`", "")


def _complete_answers(operation: Operation) -> None:
    answers = operation["responses"]
    if "422" in answers:
        answers.pop("422")
    statuses = {500}
    if operation.get("parameters") or "requestBody" in operation:
        statuses.add(422)
    if "requestBody" in operation:
        statuses.add(413)
    if "operations" not in operation["tags"]:
        statuses.add(503)
    # Below a base path that has its own format of errors, that is the one of all of them.
    own = next((answer["content"] for status, answer in answers.items() if status.startswith("4")), None)
    for status, answer in documented(*statuses).items():
        answers.setdefault(str(status), answer if own is None else {**answer, "content": own})
    operation["responses"] = dict(sorted(answers.items()))
