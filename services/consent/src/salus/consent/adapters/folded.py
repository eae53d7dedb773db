"""Patients' facts from the fold store, together with the position that they belong to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from salus.access.grants import GrantIndex
from salus.access.state import (
    PatientState,
    PolicyState,
    PolicyText,
    SubjectState,
    evolve,
    evolve_policies,
    evolve_subject,
    evolve_text,
)
from salus.consent.adapters.review_table import REVIEWS
from salus.consent.domain.kept_decisions import KeptDecision, decision_named, evolve_decision
from salus.consent.domain.reviews import falls_due, owed, review_rows
from salus.consent.ports import Facts
from salus.contracts.contract import Contract
from salus.contracts.fold_batch import version_kind
from salus.contracts.fold_tables import Loaded, Pair
from salus.contracts.ports import Fold, States
from salus.contracts.reactors import Reactor
from salus.contracts.table_projection import TableProjection
from salus.events.contexts.consent import (
    AccessDecided,
    ConsentGranted,
    ConsentRevoked,
    GlassBreakReviewed,
    GlassBroken,
    PatientLinked,
    PatientUnlinked,
    PolicySetActivated,
    PolicySetAdopted,
    PolicySetProposed,
)
from salus.events.contexts.consent_oversight import CaseDecided, CaseOpened, ReviewOverdue
from salus.events.contexts.consent_prohibitions import AccessProhibited, ProhibitionLifted
from salus.events.event_types import EventData
from salus.events.state_positions import Partition

CONSENT_TOPIC = "salus.consent.events"
STORAGE_TOPIC = "salus.storage.events"


def _text_of(_: str, event: EventData) -> str | None:
    return event.policy_set if isinstance(event, PolicySetAdopted | PolicySetProposed) else None


PATIENTS = Contract(
    kind="patient",
    topic=CONSENT_TOPIC,
    state=PatientState,
    evolve=evolve,
    events=frozenset(
        {
            PatientLinked,
            PatientUnlinked,
            ConsentGranted,
            ConsentRevoked,
            GlassBroken,
            GlassBreakReviewed,
            ReviewOverdue,
            CaseOpened,
            CaseDecided,
            AccessProhibited,
            ProhibitionLifted,
        }
    ),
    tables=(TableProjection(REVIEWS, review_rows),),
    version=2,
)
REVIEW = Reactor("review", PATIENTS, owed, falls_due=falls_due)
POLICIES = Contract(
    kind="policies",
    topic=CONSENT_TOPIC,
    state=PolicyState,
    evolve=evolve_policies,
    events=frozenset({PolicySetAdopted, PolicySetProposed, PolicySetActivated}),
)
POLICY_TEXTS = Contract(
    kind="policy-text",
    topic=CONSENT_TOPIC,
    state=PolicyText,
    evolve=evolve_text,
    events=frozenset({PolicySetAdopted, PolicySetProposed}),
    aggregate=_text_of,
    initial=PolicyText,
)
SUBJECTS = Contract(kind="subject", topic=STORAGE_TOPIC, state=SubjectState, evolve=evolve_subject)
# Of those alone that somebody may ask for again: others leave nothing in the database but their claims.
DECISIONS = Contract(
    kind="decision",
    topic=CONSENT_TOPIC,
    state=KeptDecision,
    evolve=evolve_decision,
    events=frozenset({AccessDecided}),
    aggregate=decision_named,
)
_VERSION = version_kind(CONSENT_TOPIC)


# So many consents are kept found by what they allow, some 50 MB of them: those of patients asked about last.
CONSENTS_KEPT_MAX = 100_000


@dataclass(frozen=True, slots=True)
class _Patient:
    """A patient as of a version of her on consent's topic."""

    version: int
    state: PatientState
    grants: GrantIndex

    @classmethod
    def of(cls, row: Loaded | None, *, version: int) -> _Patient:
        state = PATIENTS.decode(row.state) if row else PatientState()
        return cls(version, state, GrantIndex(state))

    @property
    def size(self) -> int:
        """How much it takes to keep, in consents."""
        held = (self.state.consents, self.state.prohibitions, self.state.glass_breaks, self.state.cases)
        return 1 + sum(map(len, held))


class FoldedFacts:
    """Reads after a barrier, and in one statement, so that position and state belong together.

    The state of a patient follows from her version on consent's topic. It is read and decoded where that has
    changed, so that a question about a patient with a thousand consents costs no more than one with one.
    """

    def __init__(
        self, follower: Fold, store: States, *, service: str, kept_max: int = CONSENTS_KEPT_MAX
    ) -> None:
        self._follower = follower
        self._store = store
        # The policies of the service of that DID.
        self._policies = POLICIES.kind, service
        self._kept_max = kept_max
        self._kept: OrderedDict[str, _Patient] = OrderedDict()
        self._size = 0

    async def facts(self, patient: str) -> Facts:
        """Return what is known of the patient now; raises MessagingError when Kafka is away."""
        return (await self.facts_of((patient,)))[patient]

    async def facts_to_change(self, patient: str) -> Facts:
        """Return what is known of the patient now, for who changes it; raises as `facts`.

        Her state is read at once: who changed it before has made what is kept of it old.
        """
        await self._follower.catch_up()
        keys = ((_VERSION, patient), (SUBJECTS.kind, patient), self._policies, (PATIENTS.kind, patient))
        ends, rows = await self._store.rows_at(keys)
        known = self._known(patient, rows) or self._keep(patient, rows)
        return self._facts({patient: known}, rows, ends)[patient]

    async def facts_of(self, patients: Collection[str]) -> Mapping[str, Facts]:
        """Return what is known of each now, all at the same positions; raises as `facts`."""
        await self._follower.catch_up()
        short = [key for patient in patients for key in ((_VERSION, patient), (SUBJECTS.kind, patient))]
        short.append(self._policies)
        ends, rows = await self._store.rows_at(short)
        known = {patient: self._known(patient, rows) for patient in patients}
        if any(each is None for each in known.values()):
            # Whole, and anew: what the first statement said may be over.
            ends, rows = await self._store.rows_at([*short, *((PATIENTS.kind, p) for p in patients)])
            known = {patient: self._known(patient, rows) or self._keep(patient, rows) for patient in patients}
        return self._facts({name: one for name, one in known.items() if one is not None}, rows, ends)

    def _facts(
        self, known: Mapping[str, _Patient], rows: Mapping[Pair, Loaded], ends: Mapping[Partition, int]
    ) -> dict[str, Facts]:
        policies = rows.get(self._policies)
        in_force = POLICIES.decode(policies.state).policy_set if policies else ""
        found: dict[str, Facts] = {}
        for patient, one in known.items():
            subject = rows.get((SUBJECTS.kind, patient))
            about = SUBJECTS.decode(subject.state) if subject else SubjectState()
            found[patient] = Facts(one.state, about, in_force, ends, one.grants, one.version)
        return found

    def _known(self, patient: str, rows: Mapping[Pair, Loaded]) -> _Patient | None:
        kept = self._kept.get(patient)
        if kept is None or kept.version != _version_in(rows, patient):
            return None
        self._kept.move_to_end(patient)
        return kept

    def _keep(self, patient: str, rows: Mapping[Pair, Loaded]) -> _Patient:
        one = _Patient.of(rows.get((PATIENTS.kind, patient)), version=_version_in(rows, patient))
        if (old := self._kept.pop(patient, None)) is not None:
            self._size -= old.size
        self._kept[patient] = one
        self._size += one.size
        while self._size > self._kept_max and len(self._kept) > 1:
            self._size -= self._kept.popitem(last=False)[1].size
        return one


class FoldedDecisions:
    """The decisions that are kept, read after a barrier."""

    def __init__(self, follower: Fold, store: States) -> None:
        self._follower = follower
        self._store = store

    async def kept(self, decisions: Collection[str]) -> Mapping[str, KeptDecision]:
        """Return those that stand on the topic now, by their ids; raises MessagingError."""
        await self._follower.catch_up()
        found = await self._store.load_some(DECISIONS.kind, decisions)
        return {name: DECISIONS.decode(state) for name, state in found.items()}


def _version_in(rows: Mapping[Pair, Loaded], patient: str) -> int:
    row = rows.get((_VERSION, patient))
    return row.version if row else 0
