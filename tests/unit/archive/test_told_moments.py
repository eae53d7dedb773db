"""A moment that consent tells of its own accord is when it stated the event, or it is found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from tests.asking import UNASKED
from tests.unit.archive.served_ledger import DOCTOR, HERSELF, HOSPITAL, PATIENT, ServedLedger, identifier

from salus.archive.entitlements import STATED_WITHIN_S
from salus.events.contexts.consent import ConsentGranted
from salus.events.contexts.consent_prohibitions import AccessProhibited

Tells = Callable[[ServedLedger, datetime], object]


def grant(ledger: ServedLedger, at: datetime, *, without: tuple[str, ...] = ("valid_from",)) -> None:
    data = ConsentGranted(
        consent=identifier(PATIENT, 1),
        patient=PATIENT,
        grantee=DOCTOR.did,
        actions=("read",),
        purposes=("TREAT",),
        valid_from=at,
        valid_until=at + timedelta(days=30),
        epoch=0,
        request=UNASKED,
    )
    ledger.state(data, HERSELF, without=without)


def forbid(ledger: ServedLedger, at: datetime, *, without: tuple[str, ...] = ("valid_from",)) -> None:
    data = AccessProhibited(
        prohibition=identifier(PATIENT, 70),
        patient=PATIENT,
        party=None,
        valid_from=at,
        epoch=1,
        request=UNASKED,
    )
    ledger.state(data, HERSELF, without=without)


TOLD: dict[str, tuple[Tells, str]] = {
    "broken_at": (
        lambda ledger, at: ledger.emergency(DOCTOR, broken_at=at),
        "an emergency access said to have begun",
    ),
    "opened_at": (lambda ledger, at: ledger.case(DOCTOR, opened_at=at), "a case said to have been opened"),
    "valid_from of a consent": (grant, "a consent that named no beginning, and begins"),
    "valid_from of a prohibition": (forbid, "a prohibition that named no beginning, and begins"),
}


@pytest.fixture
def ledger() -> ServedLedger:
    served = ServedLedger()
    served.register()
    served.link(HOSPITAL)
    return served


@pytest.mark.parametrize(
    "seconds", [-STATED_WITHIN_S - 1, -STATED_WITHIN_S, STATED_WITHIN_S, STATED_WITHIN_S + 1]
)
@pytest.mark.parametrize("name", TOLD)
async def test_what_consent_tells_of_another_time_is_found(
    ledger: ServedLedger, name: str, seconds: int
) -> None:
    tell, what = TOLD[name]
    # Each statement is a second later than the one before.
    tell(ledger, ledger.now + timedelta(seconds=1 + seconds))

    is_wrong = abs(seconds) > STATED_WITHIN_S
    found = [why for _, why in await ledger.unentitled()]
    assert found == ([f"{what} at another time than it was stated"] if is_wrong else [])


@pytest.mark.parametrize("state", [grant, forbid])
async def test_a_beginning_that_was_asked_for_is_the_asker_s(
    ledger: ServedLedger, state: Callable[..., None]
) -> None:
    state(ledger, ledger.now + timedelta(days=7), without=())

    assert await ledger.unentitled() == []
