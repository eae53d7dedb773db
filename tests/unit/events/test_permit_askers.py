"""A permit that the wrong party asked for is refused by everybody who judges, whoever signed the record."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs
from tests.asking import UNASKED, truly_asked
from tests.unit.archive.decided_ledger import FIRST, DecidedLedger
from tests.unit.archive.served_ledger import CLINIC, DOCTOR, HOSPITAL, THIEF
from tests.unit.archive.small_ledger import note_key

from salus.events.contexts.consent_permits import PermitGranted, PermitProposed, PermitUsed
from salus.events.contexts.identity import PartyRegistered, PublicKey, RoleGranted, RoleWithdrawn
from salus.events.did import LocalSigner, multibase_of
from salus.events.errors import RejectedError
from salus.events.event_types import type_of

PERMIT = f"permit-{'0' * 20}"
REVIEWER, ANYBODY = LocalSigner(note_key(80)), LocalSigner(note_key(81))
GRANTED = PermitGranted(permit=PERMIT, terms="0" * 64, request=UNASKED)


def ledger_with_reviewer() -> DecidedLedger:
    """Return a ledger whose ring knows two people of no member, and a clinician who is a researcher, too."""
    ledger = DecidedLedger()
    for signer, roles in ((REVIEWER, ("ethics-reviewer",)), (ANYBODY, ("patient",))):
        key = PublicKey(
            id=signer.verification_method,
            multibase=multibase_of(signer.public_key),
            valid_from=ledger.now - timedelta(days=1),
        )
        data = PartyRegistered(did=signer.did, kind="person", keys=(key,), roles=roles, request=UNASKED)
        ledger.ring.apply(data, at=ledger.now - timedelta(hours=1))
    for who, role in ((DOCTOR, "researcher"), (THIEF, "ethics-reviewer"), (THIEF, "researcher")):
        granted = RoleGranted(did=who.did, role=role, request=UNASKED)
        ledger.ring.apply(granted, at=ledger.now - timedelta(hours=1))
    return ledger


def state(ledger: DecidedLedger, data: Any, by: LocalSigner) -> None:
    """State it by consent's key: whoever holds that key can."""
    ledger.now += timedelta(seconds=1)
    ledger._publish(truly_asked(data, by, at=ledger.now), type_of(type(data)), PERMIT, 0)


def proposed(ledger: DecidedLedger, by: LocalSigner) -> PermitProposed:
    return PermitProposed(
        permit=PERMIT,
        owner=HOSPITAL.did,
        data_set="cohort-1",
        proposer=by.did,
        recipient=THIEF.did,
        purpose="HRESCH",
        valid_from=ledger.now,
        valid_until=ledger.now + timedelta(days=1),
        uses_max=1,
        request=UNASKED,
    )


def used(ledger: DecidedLedger, by: LocalSigner) -> PermitUsed:
    return PermitUsed(
        permit=PERMIT,
        use="0" * 20,
        owner=HOSPITAL.did,
        data_set="cohort-1",
        purpose="HRESCH",
        principal=by.did,
        number=1,
        used_at=ledger.now,
        state_positions=(),
        request=UNASKED,
    )


def test_a_permit_is_granted_by_a_reviewer_of_no_member_alone() -> None:
    """Case: whoever holds consent's key approves his own research, by an account that his member made."""
    for other in (THIEF, ANYBODY, FIRST, HOSPITAL, CLINIC, DOCTOR):
        with pytest.raises(RejectedError, match="may not ask for this"):
            state(ledger_with_reviewer(), GRANTED, other)
    state(ledger_with_reviewer(), GRANTED, REVIEWER)


def test_what_counts_is_who_was_reviewer_when_it_was_appended() -> None:
    ledger = ledger_with_reviewer()
    state(ledger, GRANTED, REVIEWER)
    lost = RoleWithdrawn(did=REVIEWER.did, role="ethics-reviewer", request=UNASKED)
    ledger.ring.apply(lost, at=ledger.now)

    with pytest.raises(RejectedError, match="may not ask for this"):
        state(ledger, GRANTED, REVIEWER)


def test_a_member_proposes_and_a_researcher_of_a_member_uses() -> None:
    for make, right, wrong in (
        (proposed, (CLINIC, HOSPITAL), (THIEF, DOCTOR, REVIEWER, FIRST)),
        (used, (THIEF, DOCTOR), (CLINIC, HOSPITAL, REVIEWER, ANYBODY, FIRST)),
    ):
        for by in right:
            ledger = ledger_with_reviewer()
            state(ledger, make(ledger, by), by)
        for by in wrong:
            ledger = ledger_with_reviewer()
            with pytest.raises(RejectedError, match="may not ask for this"):
                state(ledger, make(ledger, by), by)


def test_nobody_proposes_or_uses_in_the_name_of_another() -> None:
    ledger = ledger_with_reviewer()
    for data in (
        structs.replace(proposed(ledger, HOSPITAL), proposer=CLINIC.did),
        structs.replace(used(ledger, DOCTOR), principal=THIEF.did),
    ):
        by = HOSPITAL if isinstance(data, PermitProposed) else DOCTOR
        with pytest.raises(RejectedError, match="asks for something else"):
            state(ledger, data, by)
