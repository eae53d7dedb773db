"""A time in a request is what an event's time may be."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from tests.unit.ledger.test_times import VECTORS, Vector, moment_of

from salus.runtime.moments import Moment

_moments: TypeAdapter[datetime] = TypeAdapter(Moment)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.why)
def test_a_request_has_the_times_of_the_vectors(vector: Vector) -> None:  # cases K5, formats 8
    expected = moment_of(vector.text)
    if expected is None:
        with pytest.raises(ValidationError):
            _moments.validate_python(vector.text)
    else:
        assert _moments.validate_python(vector.text) == expected


@pytest.mark.parametrize("value", [1795348800, 1795348800.5, True, None, [], {}])
def test_what_is_no_text_is_no_time(value: Any) -> None:
    with pytest.raises(ValidationError):
        _moments.validate_python(value)
