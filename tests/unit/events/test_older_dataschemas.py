"""A newcomer's case: a published type gained an optional field, and earlier events were judged as wrong.

Its declaration did not name the earlier `dataschema`, and the guide did not say that it has to.
"""

from __future__ import annotations

import pytest
from tests.asking import NETWORK
from tests.unit.events import samples
from tests.unit.events.samples import MEMBER, PATIENT, ROOT, encoded, party, public_key, row
from tests.unit.events.test_released_schemas import Enrolled, EnrolledLater, catalogue_of

from salus.events.catalogue import Catalogue
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import EventData
from salus.events.keyring import KeyRing

NAME = "salus.trials.enrolled.v1"


def made_by(catalogue: Catalogue, **fields: str) -> bytes:
    """Return an event as a package with this catalogue states it."""
    entry = catalogue.type_named(NAME)
    assert entry is not None
    kind: type[EventData] = entry.data
    return encoded(kind(patient=PATIENT, trial="t-1", **fields))


def judged(value: bytes, catalogue: Catalogue) -> str:
    """Return the verdict of whoever has a package with this catalogue."""
    ring = KeyRing.rooted(catalogue, network=NETWORK, did=ROOT.did, key=public_key(ROOT))
    ring.apply(party(MEMBER))
    told = samples.verdict(row(value, topic="salus.trials.events"), ring=ring)
    return told.reason.value if isinstance(told, RejectedError) else "accepted"


@pytest.fixture
def before() -> Catalogue:
    return catalogue_of(Enrolled)


@pytest.fixture
def after(before: Catalogue) -> Catalogue:
    """The next version: it has an optional field more, and names the `dataschema` before."""
    return catalogue_of(EnrolledLater, older=frozenset(entry.dataschema for entry in before.types()))


def test_earlier_and_later_events_are_accepted_by_who_has_the_new_package(
    before: Catalogue, after: Catalogue
) -> None:
    earlier, later = made_by(before), made_by(after, site="s-1")

    assert [judged(value, after) for value in (earlier, later)] == ["accepted", "accepted"]
    assert judged(earlier, before) == "accepted"


def test_who_does_not_name_the_earlier_schema_refuses_earlier_events(before: Catalogue) -> None:
    assert judged(made_by(before), catalogue_of(EnrolledLater)) == Reason.SCHEMA_VIOLATION.value


def test_who_has_the_earlier_package_refuses_later_events(before: Catalogue, after: Catalogue) -> None:
    # So whoever judges has the new package before its service states anything.
    assert judged(made_by(after, site="s-1"), before) == Reason.SCHEMA_VIOLATION.value
