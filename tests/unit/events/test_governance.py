"""What operators must have asked for is refused by everybody who judges, whoever signed the record."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs
from tests.asking import UNASKED, truly_asked
from tests.unit.archive.decided_ledger import FIRST, RELEASED, SECOND, DecidedLedger, policies
from tests.unit.archive.served_ledger import CONSENT, DOCTOR, HOSPITAL

from salus.access.policy_files import contents_of, digest_of
from salus.events.contexts import consent
from salus.events.contexts.identity import RoleWithdrawn
from salus.events.did import LocalSigner
from salus.events.errors import RejectedError
from salus.events.event_types import type_of
from salus.events.governance import objection_to_governing, operators_at
from salus.events.requests import Request

FILES = policies('@id("a") permit (principal, action, resource);')
DIGEST = digest_of(contents_of(FILES))
PROPOSED = consent.PolicySetProposed(policy_set=DIGEST, files=FILES, request=UNASKED)
ACTIVATED = consent.PolicySetActivated(
    policy_set=DIGEST, replaces="0" * 64, version=2, engine="e", request=UNASKED
)


def state(ledger: DecidedLedger, data: Any, by: LocalSigner, second: LocalSigner | None = None) -> None:
    """State it by consent's key: whoever holds that key can."""
    ledger.now += timedelta(seconds=1)
    asked = truly_asked(data, by, at=ledger.now, second=second)
    ledger._publish(asked, type_of(type(data)), CONSENT.did, None)


def test_an_operator_proposes_and_nobody_else() -> None:
    ledger = DecidedLedger()
    state(ledger, PROPOSED, FIRST)
    for other in (DOCTOR, HOSPITAL):
        with pytest.raises(RejectedError, match="only operators"):
            state(ledger, PROPOSED, other)


def test_two_operators_of_different_organisations_activate() -> None:
    ledger = DecidedLedger()
    state(ledger, ACTIVATED, FIRST, SECOND)
    state(ledger, structs.replace(ACTIVATED, version=3), SECOND, FIRST)


@pytest.mark.parametrize("second", [None, FIRST, DOCTOR, HOSPITAL])
def test_one_operator_alone_activates_nothing(second: LocalSigner | None) -> None:
    with pytest.raises(RejectedError, match=r"another organisation must approve|nobody approves"):
        state(DecidedLedger(), ACTIVATED, FIRST, second)


def test_nobody_asked_is_no_way() -> None:
    ledger = DecidedLedger()
    for data in (PROPOSED, ACTIVATED):
        unasked = structs.replace(data, request=Request.of_service(CONSENT.did))
        with pytest.raises(RejectedError, match="somebody must have asked"):
            ledger._publish(unasked, type_of(type(data)), CONSENT.did, None)


def test_other_files_than_the_operator_signed_are_refused() -> None:
    asked = truly_asked(PROPOSED, FIRST, at=DecidedLedger().now)
    ledger = DecidedLedger()
    with pytest.raises(RejectedError, match="asks for something else"):
        ledger._publish(
            structs.replace(asked, files=RELEASED), type_of(consent.PolicySetProposed), CONSENT.did, None
        )


def test_what_counts_is_who_was_operator_when_it_was_appended() -> None:
    ledger = DecidedLedger()
    ring, at = ledger.ring, ledger.now
    ring.apply(RoleWithdrawn(did=SECOND.did, role="operator", request=UNASKED), at=at)
    later = at + timedelta(seconds=1)
    told: dict[str, Any] = {"by": FIRST.did, "second": SECOND.did, "ring": ring}

    assert [operator.did for operator in operators_at(ring, at)] == [FIRST.did, SECOND.did]
    assert [operator.did for operator in operators_at(ring, later)] == [FIRST.did]
    assert objection_to_governing(2, **told, at=at) is None
    # No operator of another organisation is left who could approve, so one acts alone.
    assert objection_to_governing(2, **told, at=later) is None
    assert objection_to_governing(1, by=SECOND.did, second=None, ring=ring, at=later) is not None
