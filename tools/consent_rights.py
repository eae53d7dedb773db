"""The part of docs/rights.md that is about patients: consent's table, and what the policies say of cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files

from salus.access.actors import Asking
from salus.access.cedar import CedarPolicies
from salus.access.decisions import Answer, Question, inputs_of
from salus.access.law import answer_of
from salus.access.policy_files import read_policies
from salus.access.state import Consent, PatientState, SubjectState
from salus.events import permit_rights
from salus.events.contexts.consent import Action, EmergencyReason
from salus.events.fields import Purpose
from salus.events.patient_rights import RIGHTS, Act, Concern, Relation
from salus.events.recipients import RecipientRole
from salus.events.requests import Request

HEAD = """
# Who may do what for a patient

Generated from [`patient_rights.py`](../libs/events/src/salus/events/patient_rights.py), by which consent
refuses and `salus ledger fsck --deep` judges again; each cell is a test
([`test_rights.py`](../tests/unit/consent/test_rights.py)). *About* is the grantee of a consent, the linked
party, or who had the emergency access; *oneself* is also the member that one acts for, if one could use what
is granted to it (as its clinician or researcher), and any role there. What somebody is, is what the key ring
says now. A *no* is refused with `not-permitted`, unless it names another code.
Why: [decisions/a-link-is-no-right.md](decisions/a-link-is-no-right.md).
"""
CASES_HEAD = """
## Read and write

What the policies of the release say, and which of them; an operator may bring
[others](../services/consent/README.md#policies). An erased or an unknown patient's data is nobody's
(`patient-erased`, `patient-unknown`).

| who | read | write |
|---|---|---|"""
PERMITS_HEAD = """
# Who may do what with a permit for research

Generated from [`permit_rights.py`](../libs/events/src/salus/events/permit_rights.py), by which consent
refuses; each cell is a test ([`test_permit_rights.py`](../tests/unit/consent/test_permit_rights.py)). What
somebody is, is the first that fits, by what the key ring says now. A *no* is `not-permitted`, or
`unknown-permit` to whoever may not see it; to a use it is a denial (`not-recipient`).
Why: [decisions/a-permit-is-counted.md](decisions/a-permit-is-counted.md).

"""
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PATIENT, STEWARD, OTHER = "urn:uuid:00000000-0000-4000-8000-000000000000", "did:web:steward", "did:web:other"
_POLICIES = CedarPolicies(read_policies(files("salus.access").joinpath("policies")))


@dataclass(frozen=True)
class Case:
    """Somebody who asks, with a consent to read and write or without, for a purpose."""

    who: str
    kind: str
    role: str | None = None
    member: str | None = None
    purpose: Purpose = "TREAT"
    grantee: str | None = None
    held: RecipientRole | None = None
    linked: bool = False
    emergency: EmergencyReason | None = None
    governs: bool = False

    @property
    def did(self) -> str:
        """The DID: a member is asked for by its own key."""
        return self.member or OTHER if self.kind == "member" else "did:web:somebody"


CASES = (
    Case("the patient, at her own request", "person", "patient", purpose="PATRQT", linked=True),
    Case("linked to her, without the role patient", "person", purpose="PATRQT", linked=True),
    Case("a clinician with a consent to her", "person", "clinician", OTHER, grantee="did:web:somebody"),
    Case("a clinician with a consent to her member", "person", "clinician", OTHER, grantee=OTHER),
    Case(
        "a clinician with a consent to the clinicians of her member",
        *("person", "clinician", OTHER),
        grantee=OTHER,
        held="clinician",
    ),
    Case(
        "a clinician with a consent to the researchers of her member",
        *("person", "clinician", OTHER),
        grantee=OTHER,
        held="researcher",
    ),
    Case("a clinician without one", "person", "clinician", OTHER),
    Case(
        "a clinician without one, in an emergency",
        "person",
        "clinician",
        OTHER,
        purpose="ETREAT",
        emergency="other",
    ),
    Case(
        "a clinician of no organisation, in an emergency",
        "person",
        "clinician",
        purpose="ETREAT",
        emergency="other",
    ),
    Case("a clinician of the steward, without one", "person", "clinician", STEWARD),
    Case("the steward's own key, without one", "member", None, STEWARD),
    Case("another member's own key, with one", "member", None, OTHER, grantee=OTHER),
    Case(
        "another member's own key, with one to its clinicians",
        *("member", None, OTHER),
        grantee=OTHER,
        held="clinician",
    ),
    Case("another member's own key, without one", "member", None, OTHER),
    Case(
        "a researcher with one for research", "person", "researcher", OTHER, purpose="HRESCH", grantee=OTHER
    ),
    Case("a privacy officer of the steward", "person", "privacy-officer", STEWARD),
    Case(
        "an operator, whatever else they are and was granted",
        "person",
        "clinician",
        STEWARD,
        grantee="did:web:somebody",
        governs=True,
    ),
)


def section() -> str:
    """Return the text, from its heading on."""
    return "\n".join([HEAD.rstrip("\n"), *_acts(), CASES_HEAD, *map(_row, CASES), *_permits()]) + "\n"


def _permits() -> Iterator[str]:
    yield PERMITS_HEAD + f"| act | {' | '.join(permit_rights.Relation)} |\n" + "|---" * 7 + "|"
    for act in permit_rights.Act:
        cells = (permit_rights.RIGHTS[act, relation] for relation in permit_rights.Relation)
        yield f"| {act} | {' | '.join('yes' if given else 'no' for given in cells)} |"


def _acts() -> Iterator[str]:
    yield f"\n| act | about | {' | '.join(Relation)} |\n" + "|---" * 7 + "|"
    for act in Act:
        cells = {c: " | ".join(RIGHTS[act, c, relation] for relation in Relation) for c in Concern}
        if len(set(cells.values())) == 1:
            yield f"| {act} | anybody | {cells[Concern.ANOTHER]} |"
        else:
            yield from (f"| {act} | {concern} | {cell} |" for concern, cell in cells.items())


def _row(case: Case) -> str:
    return f"| {case.who} | {_cell(answer_to(case, 'read'))} | {_cell(answer_to(case, 'write'))} |"


def _cell(answer: Answer) -> str:
    word = "no" if not answer.allowed else "yes, loudly" if answer.break_glass else "yes"
    return f"{word} ({', '.join(f'`{reason}`' for reason in answer.reasons)})"


def answer_to(case: Case, action: Action) -> Answer:
    """Return the policies' answer."""
    roles = frozenset(({case.role} if case.role else set()) | ({"operator"} if case.governs else set()))
    member = None if case.kind == "member" else case.member
    principal = Asking(case.did, case.kind, roles, member, request=Request.of_service(STEWARD))
    consents: tuple[Consent, ...] = ()
    until = NOW + timedelta(days=1)
    if case.grantee is not None:
        consents = (
            Consent("c", case.grantee, ("read", "write"), (case.purpose,), NOW, until, role=case.held),
        )
    state = PatientState(consents=consents, dids=(case.did,) if case.linked else ())
    question = Question(principal, action, "object", PATIENT, case.purpose, case.emergency)
    patients = {case.did} if case.role == "patient" else set[str]()
    subject = SubjectState(steward=STEWARD)
    inputs = inputs_of(question, state=state, patients=patients, subject=subject, at=NOW)
    verdict = _POLICIES.evaluate(inputs)
    return answer_of(question, verdict, state=state, patients=patients, subject=subject, at=NOW)
