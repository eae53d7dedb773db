"""Whose each permit for research is, folded from what consent did; withdrawals are judged by it.

Who proposes, approves and uses one the ledger itself judges, as that needs nothing but who asks (`asker` of
the event types). Who may withdraw one depends on its parties.
"""

from __future__ import annotations

from sys import intern

from salus.archive.askers import Askers
from salus.archive.lacks import LackOfRight
from salus.archive.served_requests import CONSENT_TOPIC, AnyServed, ServedProposal, ServedWithdrawal
from salus.events.permit_rights import RIGHTS, Act, objection, relation_to


class PermitParties:
    """Folds the proposals that took effect. A permit is proposed once, and its parties never change."""

    def __init__(self, askers: Askers) -> None:
        self._askers = askers
        # By permit: its recipient, who proposed it, and whose the data is.
        self._parties: dict[str, tuple[str, str, str]] = {}

    def evolve(self, served: AnyServed) -> bool:
        """Fold a change that took effect; tell whether a withdrawal that was judged before may rest on it."""
        if not isinstance(served, ServedProposal) or served.patient in self._parties:
            return False
        # Few members have many permits.
        parties = intern(served.recipient), intern(served.proposer), intern(served.owner)
        self._parties[served.patient] = parties
        return True

    def lack_of(self, served: ServedWithdrawal) -> LackOfRight | None:
        """Return why whoever asked to withdraw a permit had no right to it."""
        parties = self._parties.get(served.patient)
        if parties is None:
            return LackOfRight("a permit withdrawn that nobody had proposed", missing=CONSENT_TOPIC)
        if self._askers.who(served) is None:
            return LackOfRight(f"{Act.WITHDRAW}: who asked is not registered, or its member was suspended")
        recipient, proposer, owner = parties
        for who in self._askers.as_they_were(served):
            relation = relation_to(who, recipient=recipient, proposer=proposer, owner=owner)
            if RIGHTS[Act.WITHDRAW, relation]:
                return None
        return LackOfRight(f"{Act.WITHDRAW}: who asked had no right to it ({objection(Act.WITHDRAW)})")
