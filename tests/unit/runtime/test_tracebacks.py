"""A log says where an error came from and of which kind it is, and quotes nobody."""

# case X2, its sibling in logs

from __future__ import annotations

import logging
import sys

from pydantic import BaseModel, ValidationError

from salus.events.errors import Reason, RejectedError
from salus.runtime.telemetry import JsonFormatter
from salus.runtime.tracebacks import CHAIN_MAX, described

NAME = "Jane Doe"


class Person(BaseModel):
    age: int


def fails(value: str) -> Exception:
    """Return an error that a library raised over a value, and that another followed."""
    try:
        try:
            Person.model_validate({"age": value})
        except ValidationError as error:
            raise RuntimeError(value) from error
    except RuntimeError as error:
        return error
    raise AssertionError


def test_messages_of_libraries_stay_out_and_their_kinds_and_places_are_there() -> None:
    shown = described(fails(NAME))

    assert "Jane" not in shown
    first, _, then = shown.partition("\nwhich led to\n")
    assert first.endswith("ValidationError")
    assert then.endswith("RuntimeError")
    assert "in fails" in first


def test_what_our_own_errors_say_is_kept_and_what_the_system_says_too() -> None:
    own = RejectedError(Reason.SCHEMA_VIOLATION, "$.patient: not as the schema says")

    assert described(own).endswith(f"RejectedError: {own}")
    assert described(FileNotFoundError(2, "No such file", "/home/jane")) == "FileNotFoundError: No such file"


def test_every_error_of_a_group_is_told() -> None:
    group = ExceptionGroup("jane", [fails("jane"), KeyError("jane")])

    shown = described(group)

    assert "jane" not in shown
    assert "RuntimeError" in shown
    assert "KeyError" in shown


def test_a_long_chain_is_cut_off() -> None:
    error: Exception = ValueError()
    for _ in range(2 * CHAIN_MAX):
        later = ValueError()
        later.__cause__ = error
        error = later

    assert described(error).count("ValueError") == CHAIN_MAX


def test_what_libraries_log_is_written_in_the_same_way() -> None:
    try:
        raise fails(NAME)
    except RuntimeError:
        record = logging.LogRecord("x", logging.ERROR, "x", 1, "it failed", (), sys.exc_info())

    line = JsonFormatter().format(record)

    assert "Jane" not in line
    assert "RuntimeError" in line
