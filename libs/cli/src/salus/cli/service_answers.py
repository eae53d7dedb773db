"""What services answer, read as what this version expects: strict JSON with every field that is used."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from salus.cli.display import shown
from salus.cli.exits import CommandError, Exit
from salus.ledger.json_reader import JsonError, read_json

_T = TypeVar("_T")


class AnswerError(CommandError):
    """What a service answered is not what this version expects of it."""

    def __init__(self, service: str, why: object) -> None:
        super().__init__(Exit.BAD_ANSWER, f"{service}'s answer cannot be trusted: {shown(why)}")


def read_answer(service: str, content: bytes, kind: type[_T]) -> _T:
    """Return a service's answer as `kind`: a struct with the fields that are used; others may be there.

    Raises:
        AnswerError: it is no JSON, or a field is missing or of another type; the sentence names which.
    """
    return converted(service, _parsed(service, content), kind)


def checked_answer(service: str, content: bytes, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return a service's answer with all its fields, of which those of `kind` are there and of their types.

    Raises:
        AnswerError: as `read_answer`.
    """
    told: dict[str, Any] = _parsed(service, content)
    converted(service, told, kind)
    return told


def converted(service: str, told: object, kind: type[_T]) -> _T:
    """Return what a service told, which is parsed already, as `kind`; raises as `read_answer`."""
    try:
        return msgspec.convert(told, kind)
    except msgspec.ValidationError as error:
        raise AnswerError(service, error) from None


def _parsed(service: str, content: bytes) -> Any:
    try:
        return read_json(content)
    except JsonError as error:
        raise AnswerError(service, f"{error.why}, in {error.place}") from None
