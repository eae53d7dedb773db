"""Audit finds who withdrew a permit without a right, and what consent tells of another time, as fsck does."""

from __future__ import annotations

from datetime import timedelta

from tests.unit.archive.served_ledger import CLINIC, DOCTOR, OFFICER, THIEF
from tests.unit.archive.test_permit_withdrawals import propose, withdraw
from tests.unit.archive.test_told_moments import forbid
from tests.unit.audit.test_rights_review import Network, network

from salus.audit.rights_review import SETTLED_S

__all__ = ["network"]


async def test_a_withdrawal_without_a_right_and_moments_that_are_not_so_are_shown(network: Network) -> None:
    served = network.served
    served.link(OFFICER)
    propose(served)
    withdraw(served, THIEF)
    propose(served, number=1)
    withdraw(served, CLINIC, number=1)
    served.emergency(DOCTOR, broken_at=served.now + timedelta(days=1))
    served.case(DOCTOR, opened_at=served.now - timedelta(days=1))
    forbid(served, served.now + timedelta(days=1))
    await network.seal(0, 1)
    await network.judge(after_s=SETTLED_S)

    ids = ("consent-2", "consent-5", "consent-7", "consent-8")
    assert await network.outcomes() == dict.fromkeys(ids, "unentitled")
