"""A permit that is withdrawn by somebody without a right, with consent's key, is found (issue 12)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.asking import UNASKED
from tests.unit.archive.served_ledger import CLINIC, DOCTOR, HOSPITAL, OFFICER, PRIVY, THIEF, ServedLedger
from tests.unit.archive.small_ledger import note_key

from salus.archive.building import BEGIN
from salus.archive.entitlements import STATED_WITHIN_S, Entitlements
from salus.archive.served_kinds import served_of
from salus.archive.served_requests import ServedRun
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent_permits import PermitProposed, PermitWithdrawn
from salus.events.contexts.identity import (
    MemberSuspended,
    PartyRegistered,
    PublicKey,
    RoleWithdrawn,
)
from salus.events.did import LocalSigner, multibase_of
from salus.events.envelope import decode_event
from salus.events.permit_rights import RIGHTS, Act, Relation

NO_RIGHT = f"{Act.WITHDRAW}: who asked had no right to it"
RESEARCHER, REVIEWER, OPERATOR = (LocalSigner(note_key(n)) for n in (60, 61, 62))
# The hospital's researcher may use data of the clinic.
WHO = {
    Relation.RECIPIENT: RESEARCHER,
    Relation.PROPOSER: HOSPITAL,
    Relation.REVIEWER: REVIEWER,
    Relation.OWNER: PRIVY,
    Relation.OPERATOR: OPERATOR,
    Relation.OTHER: THIEF,
}
OTHERS = {"a privacy officer of the proposer": OFFICER, "a clinician of the proposer": DOCTOR}


@pytest.fixture
def ledger() -> ServedLedger:
    served = ServedLedger()
    people: list[tuple[LocalSigner, str, str | None]] = [
        (RESEARCHER, "researcher", HOSPITAL.did),
        (REVIEWER, "ethics-reviewer", None),
        (OPERATOR, "operator", None),
    ]
    for signer, role, member in people:
        key = PublicKey(
            signer.verification_method, multibase_of(signer.public_key), BEGIN - timedelta(days=1)
        )
        served.ring.apply(
            PartyRegistered(signer.did, "person", (key,), (role,), member=member, request=UNASKED)
        )
    return served


def permit(number: int) -> str:
    return f"permit-{number:020x}"


def propose(ledger: ServedLedger, *, number: int = 0) -> None:
    data = PermitProposed(
        permit=permit(number),
        owner=CLINIC.did,
        data_set="images",
        proposer=HOSPITAL.did,
        recipient=RESEARCHER.did,
        purpose="HRESCH",
        valid_from=BEGIN,
        valid_until=BEGIN + timedelta(days=30),
        uses_max=5,
        request=UNASKED,
    )
    ledger.state(data, HOSPITAL)


def withdraw(ledger: ServedLedger, by: LocalSigner, *, number: int = 0) -> None:
    ledger.state(PermitWithdrawn(permit(number), "other", request=UNASKED), by)


async def found(ledger: ServedLedger) -> list[str]:
    return [why for _, why in await ledger.unentitled()]


@pytest.mark.parametrize("relation", Relation)
async def test_each_cell_of_the_table_is_judged(ledger: ServedLedger, relation: Relation) -> None:
    propose(ledger)
    withdraw(ledger, WHO[relation])

    whys = await found(ledger)
    assert [why[: len(NO_RIGHT)] for why in whys] == [] if RIGHTS[Act.WITHDRAW, relation] else [NO_RIGHT]


@pytest.mark.parametrize("who", OTHERS)
async def test_who_acts_for_a_member_withdraws_nothing_of_its_proposals(
    ledger: ServedLedger, who: str
) -> None:
    propose(ledger)
    withdraw(ledger, OTHERS[who])

    assert [why[: len(NO_RIGHT)] for why in await found(ledger)] == [NO_RIGHT]


async def test_a_permit_that_nobody_proposed_is_waited_for_and_then_found(ledger: ServedLedger) -> None:
    withdraw(ledger, HOSPITAL)
    pending = [f.code for f in await ledger.findings()]
    ledger.now += timedelta(seconds=STATED_WITHIN_S + 5)
    ledger.adopt_policies_for("later")
    ledger.register()
    ledger.grant(HOSPITAL, DOCTOR)

    assert pending == ["rights-pending"]
    assert await found(ledger) == ["a permit withdrawn that nobody had proposed"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=str)
async def test_a_proposal_gives_its_member_the_right_whichever_is_taken_first(
    ledger: ServedLedger, order: tuple[int, int]
) -> None:
    """They stand on two partitions, which are taken in any order."""
    propose(ledger)
    withdraw(ledger, HOSPITAL)
    judge = Entitlements(ledger.ring)
    for place in order:
        record = ledger.records[place]
        event = decode_event(record.value or b"", CATALOGUE)
        appended = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
        served = served_of(event, offset=record.offset, row=0, appended=appended)
        assert served is not None
        judge.take(ServedRun(record.topic, place, 0, 9, 0, 0, "", b""), served)

    assert list(judge.unentitled()) == []


@pytest.mark.parametrize(("seconds", "wrong"), [(STATED_WITHIN_S - 5, 0), (STATED_WITHIN_S + 5, 1)])
async def test_a_role_that_was_lost_counts_as_long_as_consent_may_have_looked_before(
    ledger: ServedLedger, seconds: int, wrong: int
) -> None:
    propose(ledger)
    ledger.ring.apply(RoleWithdrawn(REVIEWER.did, "ethics-reviewer", request=UNASKED), at=ledger.now)
    ledger.now += timedelta(seconds=seconds)
    withdraw(ledger, REVIEWER)

    assert len(await found(ledger)) == wrong


async def test_a_suspended_member_withdraws_nothing(ledger: ServedLedger) -> None:
    propose(ledger)
    withdraw(ledger, HOSPITAL)
    ledger.ring.apply(
        MemberSuspended(HOSPITAL.did, "inquiry", request=UNASKED), at=BEGIN - timedelta(hours=1)
    )

    (why,) = await found(ledger)
    assert why == f"{Act.WITHDRAW}: who asked is not registered, or its member was suspended"
