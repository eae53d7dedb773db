"""Who may do what with a permit for research: one table, by which consent refuses and the ledger is judged.

Pure. An ethics reviewer acts for no member. A member grants roles to its own people by itself; to a person of
no member two operators of different organisations do. So nobody approves for an organisation of their own,
and no member makes its own reviewer.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from salus.events.patient_rights import Somebody, stewarding

REVIEWER, RESEARCHER = "ethics-reviewer", "researcher"
# A permit holds so many days at most, and begins so many days from its proposal at most.
PERIOD_DAYS_MAX = 366
AHEAD_DAYS_MAX = 366


class Act(StrEnum):
    """What is done."""

    PROPOSE = "propose a permit"
    APPROVE = "approve it"
    WITHDRAW = "withdraw it, or what was proposed"
    USE = "use the data set by it"
    SEE = "see it"


class Relation(StrEnum):
    """What somebody is to a permit; the first that fits."""

    RECIPIENT = "its recipient, as a researcher of the proposing member"
    PROPOSER = "the proposing member"
    REVIEWER = "an ethics reviewer of no member"
    OWNER = "the data set's owner, or its privacy officer"
    OPERATOR = "an operator"
    OTHER = "anybody else"


# In the order of `Relation`.
_ROWS: Mapping[Act, tuple[bool, bool, bool, bool, bool, bool]] = {
    Act.PROPOSE: (False, True, False, False, False, False),
    Act.APPROVE: (False, False, True, False, False, False),
    Act.WITHDRAW: (False, True, True, True, True, False),
    Act.USE: (True, False, False, False, False, False),
    Act.SEE: (True, True, True, True, True, False),
}
RIGHTS: Mapping[tuple[Act, Relation], bool] = {
    (act, relation): given
    for act, row in _ROWS.items()
    for relation, given in zip(Relation, row, strict=True)
}


def relation_to(who: Somebody, *, recipient: str, proposer: str, owner: str) -> Relation:
    """Return what somebody is to a permit with these parties."""
    if who.did == recipient and is_researcher_of(who, proposer):
        return Relation.RECIPIENT
    if who.did == proposer and who.kind == "member":
        return Relation.PROPOSER
    if is_reviewer(who):
        return Relation.REVIEWER
    if stewarding(who) == owner:
        return Relation.OWNER
    return Relation.OPERATOR if "operator" in who.roles else Relation.OTHER


def is_researcher_of(who: Somebody, member: str | None) -> bool:
    """Tell whether a person is a researcher of a member; nobody is one of none."""
    acts_for = member is not None and who.member == member
    return who.kind == "person" and acts_for and RESEARCHER in who.roles


def is_reviewer(who: Somebody) -> bool:
    """Tell whether somebody may approve for the network: not for a member, so for none of their own."""
    return who.kind == "person" and who.member is None and REVIEWER in who.roles


def objection(act: Act) -> str:
    """Return the sentence that says why an act is not permitted."""
    return _WHO[act]


_WHO = {
    Act.PROPOSE: "the recipient's member proposes a permit, by its own key",
    Act.APPROVE: "an ethics reviewer who acts for no member approves a permit",
    Act.WITHDRAW: "the proposing member, an ethics reviewer, the owner or an operator withdraws it",
    Act.USE: "the permit is not for you, or you are no researcher of the member that proposed it any more",
    Act.SEE: "the permit is not your business",
}
