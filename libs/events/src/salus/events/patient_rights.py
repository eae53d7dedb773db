"""Who may do what for a patient: one table, by which services refuse and whoever has the ledger judges again.

Pure. Every right is judged by what the key ring says: a link to a patient gives nothing to a party that does
not hold the role patient any more. Whoever could gain a right by an act needs that right already, so nobody
acts for a patient's steward where they would act for themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Protocol

from salus.events.recipients import RECIPIENT_ROLES

# By then an emergency access is reviewed, whatever a policy says; it may say less.
REVIEW_HOURS_MAX = 72
# For so long an emergency access lasts at most.
EMERGENCY_SECONDS_MAX = 300
# For so long what a person approved may be asked for.
APPROVED_HOURS_MAX = 24


class Somebody(Protocol):
    """A party, as the key ring knows it."""

    @property
    def did(self) -> str:
        """Its DID."""

    @property
    def kind(self) -> str:
        """What kind of party it is."""

    @property
    def roles(self) -> frozenset[str]:
        """The roles that it holds."""

    @property
    def member(self) -> str | None:
        """The organisation that it acts for."""


class Act(StrEnum):
    """What is done."""

    GRANT = "grant a consent"
    REVOKE = "take a consent back"
    FORBID = "forbid an access"
    LIFT = "lift a prohibition"
    LINK = "say that a party is the patient"
    UNLINK = "say that it is not"
    REVIEW = "review an emergency access"
    DECIDE = "decide a case that waits for a person"
    SEE = "see all her consents, prohibitions, parties, emergency accesses and cases"


class Relation(StrEnum):
    """What somebody is to a patient; the first that fits."""

    PATIENT = "the patient"
    LINKED = "linked to her, without the role patient"
    STEWARD = "her steward"
    OFFICER = "its privacy officer"
    OTHER = "anybody else"


class Concern(StrEnum):
    """Whom the act is about: a consent's grantee, who is forbidden, the linked party, who had the access."""

    ANOTHER = "another"
    ONESELF = "oneself"


class Permission(StrEnum):
    """Whether it may be done; what may not is refused with `not-permitted`, or the code that is named."""

    GIVEN = "yes"
    DENIED = "no"
    OWN = "no: `own-access`"


YES, NO, OWN = Permission.GIVEN, Permission.DENIED, Permission.OWN

# In the order of `Relation`: patient, linked without the role, steward, its officer, anybody else.
_ROWS: Mapping[Act, Mapping[Concern, tuple[Permission, Permission, Permission, Permission, Permission]]] = {
    Act.GRANT: {Concern.ANOTHER: (YES, NO, YES, YES, NO), Concern.ONESELF: (YES, NO, YES, OWN, NO)},
    Act.REVOKE: {Concern.ANOTHER: (YES, NO, YES, YES, NO), Concern.ONESELF: (YES, NO, YES, YES, NO)},
    Act.FORBID: {Concern.ANOTHER: (YES, NO, YES, YES, NO), Concern.ONESELF: (YES, NO, YES, YES, NO)},
    Act.LIFT: {Concern.ANOTHER: (YES, NO, YES, YES, NO), Concern.ONESELF: (YES, NO, OWN, OWN, NO)},
    Act.LINK: {Concern.ANOTHER: (NO, NO, YES, YES, NO), Concern.ONESELF: (NO, NO, OWN, OWN, NO)},
    Act.UNLINK: {Concern.ANOTHER: (NO, NO, YES, YES, NO), Concern.ONESELF: (YES, YES, YES, YES, NO)},
    Act.REVIEW: {Concern.ANOTHER: (NO, NO, NO, YES, NO), Concern.ONESELF: (NO, NO, NO, OWN, NO)},
    Act.DECIDE: {Concern.ANOTHER: (NO, NO, NO, YES, NO), Concern.ONESELF: (NO, NO, NO, OWN, NO)},
    Act.SEE: {Concern.ANOTHER: (YES, NO, YES, YES, NO), Concern.ONESELF: (YES, NO, YES, YES, NO)},
}
RIGHTS: Mapping[tuple[Act, Concern, Relation], Permission] = {
    (act, concern, relation): permission
    for act, concerns in _ROWS.items()
    for concern, permissions in concerns.items()
    for relation, permission in zip(Relation, permissions, strict=True)
}
# Only the steward, who knows the person behind the pseudonym, can say who she is; she herself cannot.
_WHO: Mapping[Act, str] = {
    Act.GRANT: "neither the patient nor her steward",
    Act.REVOKE: "neither the patient nor her steward",
    Act.FORBID: "neither the patient nor her steward",
    Act.LIFT: "neither the patient nor her steward",
    Act.LINK: "only the patient's steward says which party she is",
    Act.UNLINK: "neither the patient's steward nor the party itself",
    Act.REVIEW: "a privacy officer of the patient's steward reviews",
    Act.DECIDE: "a privacy officer of the patient's steward decides",
    Act.SEE: "neither the patient nor her steward",
}


def relation_to(who: Somebody, *, linked: Collection[str], steward: str | None) -> Relation:
    """Return what somebody is to the patient to whom these parties are linked, and whose steward this is.

    A steward acts by its own key and by its privacy officers; its other people do not act for it. Nobody does
    who is linked to the patient, with the role patient or without: she would act for herself.
    """
    if who.did in linked:
        return Relation.PATIENT if is_patient(who.kind, who.roles) else Relation.LINKED
    if steward is None or stewarding(who) != steward:
        return Relation.OTHER
    return Relation.STEWARD if who.kind == "member" else Relation.OFFICER


def stewarding(who: Somebody) -> str | None:
    """Return the member that somebody speaks for as a steward of patients: itself, or its officer."""
    if who.kind == "member":
        return who.did
    return who.member if is_privacy_officer(who) else None


def is_privacy_officer(who: Somebody) -> bool:
    """Tell whether somebody is a privacy officer of a member, whosever patient it is about."""
    return who.kind == "person" and who.member is not None and "privacy-officer" in who.roles


def is_patient(kind: str, roles: frozenset[str]) -> bool:
    """Tell whether a party may be a patient at all."""
    return kind == "person" and "patient" in roles


def permission_of(act: Act, who: Somebody, *, about: str | None, relation: Relation) -> Permission:
    """Return whether somebody of that relation to a patient may do this, about the party of that DID."""
    return RIGHTS[act, _concern(who, about), relation]


def objection(act: Act, permission: Permission) -> str:
    """Return the sentence that says why an act is not permitted."""
    if permission is Permission.OWN:
        return "it is about yourself: another officer, or the steward itself, does that"
    return _WHO[act]


def keeps_records_for(who: Somebody, member: str) -> bool:
    """Tell whether a party keeps records for a member: itself, or one of its clinicians or devices.

    A member's patients, researchers and officers are its people too, and keep nobody's record.
    """
    keeps = who.kind == "device" or (who.kind == "person" and "clinician" in who.roles)
    return who.did == member or (who.member == member and keeps)


def may_erase(who: Somebody, steward: str) -> bool:
    """Tell whether a party may destroy a patient's key: her steward itself, or its privacy officer."""
    return who.did == steward or (who.member == steward and "privacy-officer" in who.roles)


def lifted_from(who: Somebody, party: str | None) -> str:
    """Return whom the lifting of a prohibition is about; one of everybody is about who lifts it."""
    return party or who.member or who.did


def _concern(who: Somebody, about: str | None) -> Concern:
    """Tell whether what is about a party is about oneself: also what is given to the member that one uses.

    What is about a role at a member is judged as what is about the member: a member gives its people roles.
    """
    if about is None:
        return Concern.ANOTHER
    uses = who.kind == "person" and about == who.member and bool(who.roles & RECIPIENT_ROLES)
    return Concern.ONESELF if about == who.did or uses else Concern.ANOTHER
