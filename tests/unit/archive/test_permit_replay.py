"""Uses of permits are answered again from the ledger: those that follow do, and no other one does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs
from tests.asking import UNASKED, truly_asked
from tests.unit.archive.decided_ledger import DecidedLedger
from tests.unit.archive.served_ledger import CLINIC, DOCTOR, OFFICER, PATIENT, THIEF
from tests.unit.events.test_permit_askers import PERMIT, REVIEWER, ledger_with_reviewer, proposed, used

from salus.access.permits import Permit, evolve_permit, terms_of
from salus.archive.replayed_decision import Replayed
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent_permits import (
    PermitGranted,
    PermitUsed,
    PermitUseDenied,
    PermitWithdrawn,
)
from salus.events.did import LocalSigner
from salus.events.envelope import decode_event
from salus.events.event_types import type_of
from salus.events.state_positions import state_positions


class Study:
    """A permit of the thief, a researcher of the clinic, on a ledger; it is used once at most."""

    def __init__(self) -> None:
        self.ledger: DecidedLedger = ledger_with_reviewer()
        self.ledger.register()
        self.proposal = proposed(self.ledger, CLINIC)
        self.state(self.proposal, CLINIC)

    def state(self, data: Any, by: LocalSigner) -> None:
        self.ledger.now += timedelta(seconds=1)
        asked = truly_asked(data, by, at=self.ledger.now)
        self.ledger._publish(asked, type_of(type(data)), PERMIT, None)

    def grant(self) -> None:
        terms = terms_of(self.proposal).digest
        self.state(PermitGranted(permit=PERMIT, terms=terms, request=UNASKED), REVIEWER)

    def use(self, by: LocalSigner = THIEF, **says: Any) -> None:
        positions = state_positions(self.ledger.positions)
        names = {"use": f"{len(self.ledger.records):020x}", "state_positions": positions, **says}
        self.state(structs.replace(used(self.ledger, by), **names), by)

    def deny(self, *reasons: str, by: LocalSigner = THIEF, **says: Any) -> None:
        one = used(self.ledger, by)
        told = {name: getattr(one, name) for name in ("permit", "owner", "data_set", "purpose", "principal")}
        denied = PermitUseDenied(
            reasons=reasons,
            decided_at=self.ledger.now,
            state_positions=state_positions(self.ledger.positions),
            request=UNASKED,
            **told | says,
        )
        self.state(denied, by)

    async def replayed(self) -> list[Replayed]:
        return await self.ledger.replayed(blocks=2)


def fields(found: Replayed) -> list[str]:
    return [difference.field for difference in found.differences]


async def test_each_use_and_each_denial_follows_again() -> None:
    study = Study()
    study.deny("permit-not-granted")
    study.grant()
    study.deny("not-recipient", by=DOCTOR)
    study.ledger.forbid(OFFICER, THIEF)
    study.deny("patient-forbids", patient=PATIENT)
    study.use()
    study.deny("permit-used-up")
    study.state(PermitWithdrawn(permit=PERMIT, ground="misused", request=UNASKED), REVIEWER)
    study.deny("permit-withdrawn", "permit-used-up")
    found = await study.replayed()

    assert [(each.outcome, each.allowed) for each in found] == [
        *(("same", False) for _ in range(3)),
        ("same", True),
        *(("same", False) for _ in range(2)),
    ]
    assert found[3].decision != found[0].decision == PERMIT


def use_again(study: Study) -> None:
    study.use()
    study.use(number=2)


def be_late(study: Study) -> None:
    study.ledger.now += timedelta(days=2)
    study.use()


def be_forbidden(study: Study) -> None:
    study.ledger.forbid(OFFICER, CLINIC)
    study.use(patient=PATIENT)


def be_withdrawn(study: Study) -> None:
    study.state(PermitWithdrawn(permit=PERMIT, ground="misused", request=UNASKED), REVIEWER)
    study.use()


def rest_on_what_follows(study: Study) -> Any:
    """Return positions that would make it wait for blocks which may never come."""
    positions = study.ledger.positions
    return state_positions(positions | {("salus.consent.events", 0): 10**9})


@pytest.mark.parametrize(
    ("act", "named"),
    [
        (use_again, ["allowed", "reasons"]),
        (be_late, ["allowed", "reasons"]),
        (be_forbidden, ["allowed", "reasons"]),
        (be_withdrawn, ["allowed", "reasons"]),
        (lambda study: study.use(by=DOCTOR), ["allowed", "reasons"]),
        (lambda study: study.use(purpose="PUBHLTH"), ["allowed", "reasons"]),
        (lambda study: study.use(data_set="cohort-2"), ["allowed", "reasons"]),
        (lambda study: study.use(number=7), ["number"]),
        (lambda study: study.use(used_at=study.ledger.now - timedelta(hours=1)), ["decided_at", "allowed"]),
        (lambda study: study.deny("permit-over"), ["allowed", "reasons"]),
        (lambda study: study.use(state_positions=rest_on_what_follows(study)), ["state_positions"]),
    ],
)
async def test_a_use_that_does_not_follow_is_found(act: Callable[[Study], None], named: list[str]) -> None:
    """Case: the thief of consent's key allows a researcher with whom he works more than was approved."""
    study = Study()
    study.grant()
    act(study)
    *honest, found = await study.replayed()

    assert [each.outcome for each in honest] == ["same"] * len(honest)
    assert found.outcome == "differs"
    assert fields(found)[: len(named)] == named


async def test_a_use_before_the_approval_and_one_without_effect_are_told_apart() -> None:
    study = Study()
    study.use()
    study.grant()
    study.ledger.now += timedelta(seconds=1)
    asked = truly_asked(used(study.ledger, THIEF), THIEF, at=study.ledger.now)
    # It expects a version of long ago, so it changes nothing, and allows nobody anything.
    study.ledger._publish(structs.replace(asked, use="f" * 20), type_of(PermitUsed), PERMIT, 0)
    found = await study.replayed()

    assert [each.outcome for each in found] == ["differs"]
    assert fields(found[0]) == ["allowed", "reasons"]
    assert evolve_permit(Permit(), used(study.ledger, THIEF)) == Permit()


async def test_a_denied_request_that_is_stated_as_a_use_hides_no_use_after_it() -> None:
    """Case: the replay took it for a use, and so each real one for one that was stated too late."""
    study = Study()
    study.deny("permit-not-granted")
    denied = decode_event(study.ledger.records[-1].value or b"", CATALOGUE).data
    assert isinstance(denied, PermitUseDenied)
    study.grant()
    positions = state_positions(study.ledger.positions)
    again = structs.replace(used(study.ledger, THIEF), request=denied.request, state_positions=positions)
    versions = dict(study.ledger._versions)
    study.ledger.now += timedelta(seconds=1)
    study.ledger._publish(again, type_of(PermitUsed), PERMIT, None)
    # No fold takes it: the denial has claimed the request.
    study.ledger._versions = versions
    study.use(use="1" * 20)
    study.use(use="2" * 20, number=2)
    found = await study.replayed()

    assert [(each.outcome, each.decision) for each in found] == [
        ("same", PERMIT),
        ("same", "1" * 20),
        ("differs", "2" * 20),
    ]
