"""A ledger on which consent decides as it does: each decision follows from what was stated before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from msgspec import structs
from tests.asking import UNASKED, truly_asked
from tests.unit.archive.served_ledger import (
    CLINIC,
    CONSENT,
    HOSPITAL,
    PATIENT,
    ServedLedger,
    identifier,
    whole_ring,
)
from tests.unit.archive.small_ledger import SHARD_SIGNERS, note_key

from salus.access.actors import Asking
from salus.access.decisions import Basis, Question, decided, inputs_digest, inputs_of, patients_among
from salus.access.law import answer_of
from salus.access.policy_check import usable
from salus.access.policy_files import contents_of, digest_of, files_of, read_policies
from salus.access.state import (
    PatientState,
    PolicyState,
    SubjectState,
    evolve,
    evolve_policies,
    evolve_subject,
)
from salus.archive.building import BEGIN, ChainBuilder
from salus.archive.decision_replay import DecisionReplay
from salus.archive.replay import SealedBlock
from salus.archive.replayed_decision import Replayed
from salus.consent.adapters.release import policies_folder
from salus.events.contexts import CATALOGUE, consent, identity
from salus.events.contexts.consent import Action, EmergencyReason, PolicyFile
from salus.events.did import LocalSigner, multibase_of
from salus.events.envelope import decode_event
from salus.events.event_types import type_of
from salus.events.fields import Purpose
from salus.events.keyring import KeyRing
from salus.events.requests import Request
from salus.events.state_positions import Partition
from salus.objects.memory import MemoryObjects

RELEASED = files_of(read_policies(policies_folder(None)))
SCHEMA = next(file for file in RELEASED if file.name.endswith("schema"))


def policies(text: str) -> tuple[PolicyFile, ...]:
    """Return a policy set of this text, with the schema of the release."""
    return PolicyFile("own.cedar", text), SCHEMA


FIRST, SECOND = LocalSigner(note_key(60)), LocalSigner(note_key(61))


def ring_with_operators() -> KeyRing:
    """Return the ring of served ledgers with two operators, one of the hospital and one of the clinic."""
    ring = whole_ring()
    for signer, member in ((FIRST, HOSPITAL), (SECOND, CLINIC)):
        key = identity.PublicKey(
            id=signer.verification_method,
            multibase=multibase_of(signer.public_key),
            valid_from=BEGIN - timedelta(days=1),
        )
        roles, of = ("operator",), member.did
        ring.apply(
            identity.PartyRegistered(
                did=signer.did, kind="person", keys=(key,), roles=roles, member=of, request=UNASKED
            )
        )
    return ring


@dataclass(frozen=True)
class StateOf:
    """What decisions are made by, and up to where it was read."""

    patient: PatientState
    subject: SubjectState
    policies: PolicyState
    positions: dict[Partition, int]


@dataclass
class DecidedLedger(ServedLedger):
    """What consent decides, by a state that the test folds itself, event by event."""

    ring: KeyRing = field(default_factory=ring_with_operators)
    patient: PatientState = field(default_factory=PatientState)
    subject: SubjectState = field(default_factory=SubjectState)
    policies: PolicyState = field(default_factory=PolicyState)
    texts: dict[str, tuple[PolicyFile, ...]] = field(default_factory=dict)
    answers: int = 0

    def _publish(self, data: Any, entry: Any, subject: str, expected: int | None) -> None:
        super()._publish(data, entry, subject, expected)
        event = decode_event(self.records[-1].value or b"", CATALOGUE)
        if subject == PATIENT:
            self.patient = evolve(self.patient, event.data)
            self.subject = evolve_subject(self.subject, event.data)
        else:
            self.policies = evolve_policies(self.policies, event.data)

    @property
    def positions(self) -> dict[Partition, int]:
        """Up to where everything is stated; the ring of the tests knows everybody from the beginning."""
        topics = ("salus.consent.events", "salus.storage.events")
        return {(t, 0): self._offsets.get((t, 0), 0) for t in topics} | {("salus.identity.events", 0): 0}

    def state_now(self) -> StateOf:
        """Return by what a decision would be made."""
        return StateOf(self.patient, self.subject, self.policies, self.positions)

    def be_in(self, state: StateOf) -> None:
        """Decide by another state than what was stated last gave."""
        self.patient, self.subject, self.policies = state.patient, state.subject, state.policies

    def adopt(self, files: tuple[PolicyFile, ...] = RELEASED, *, with_text: bool = True) -> None:
        """Let consent adopt its first policy set."""
        request, text = Request.of_service(CONSENT.did), files if with_text else ()
        data = consent.PolicySetAdopted(
            policy_set=self._keep(files), contract="0" * 64, files=text, request=request
        )
        self._publish(data, type_of(consent.PolicySetAdopted), CONSENT.did, None)

    def govern(
        self,
        data: consent.PolicySetProposed | consent.PolicySetActivated,
        second: LocalSigner | None = SECOND,
    ) -> None:
        """State a fact about policies that operators asked for."""
        self.now += timedelta(seconds=1)
        is_activation = isinstance(data, consent.PolicySetActivated)
        asked = truly_asked(data, FIRST, at=self.now, second=second if is_activation else None)
        self._publish(asked, type_of(type(data)), CONSENT.did, None)

    def change_policies(self, files: tuple[PolicyFile, ...]) -> None:
        """Propose and activate a policy set."""
        digest = self._keep(files)
        self.govern(consent.PolicySetProposed(policy_set=digest, files=files, request=UNASKED))
        self.govern(
            consent.PolicySetActivated(
                policy_set=digest,
                replaces=self.policies.policy_set,
                version=self.policies.version + 1,
                engine="cedar",
                request=UNASKED,
            )
        )

    def _keep(self, files: tuple[PolicyFile, ...]) -> str:
        digest = digest_of(contents_of(files))
        self.texts[digest] = files
        return digest

    def ask(
        self,
        by: LocalSigner,
        *,
        action: Action = "read",
        purpose: Purpose = "TREAT",
        emergency: EmergencyReason | None = None,
        **forged: Any,
    ) -> consent.AccessDecided:
        """Decide as consent does, and state it; `forged` are fields that say something else."""
        self.answers += 1
        at, asking = self.now, Asking.of(self.ring.caller(by.did), UNASKED)
        question = Question(asking, action, "o-1", PATIENT, purpose, emergency)
        patients = patients_among(self.patient.dids, self.ring.parties)
        known: dict[str, Any] = {"state": self.patient, "subject": self.subject, "at": at}
        known["patients"] = patients
        inputs = inputs_of(question, **known)
        verdict = usable(contents_of(self.texts[self.policies.policy_set])).evaluate(inputs)
        basis = Basis(
            decision=identifier(PATIENT, self.answers),
            policy_set=self.policies.policy_set,
            inputs=inputs_digest(inputs),
            at=at,
            positions=self.positions,
            epoch=self.patient.epoch,
        )
        said = structs.replace(decided(question, answer_of(question, verdict, **known), basis), **forged)
        self.state(said, by)
        return said

    async def replayed(self, *, blocks: int = 1, other: str | None = None, **options: Any) -> list[Replayed]:
        """Seal everything in so many blocks, and decide again."""
        replay = DecisionReplay(CATALOGUE, **options)
        for block in await self.blocks(blocks):
            replay.take(block)
        instead = None if other is None else usable(contents_of(policies(other)))
        return list(replay.results(lambda _: self.ring, other=instead))

    async def blocks(self, count: int) -> list[SealedBlock]:
        """Return everything in so many sealed blocks."""
        chain = ChainBuilder(MemoryObjects(), SHARD_SIGNERS[0], CONSENT)
        size = -(-len(self.records) // count)
        sealed = []
        for start in range(0, len(self.records), size):
            await chain.seal(self.records[start : start + size])
            sealed.append(SealedBlock(0, chain.headers[-1], chain.bodies[-1]))
        return sealed


def begun(*, at: datetime | None = None) -> DecidedLedger:
    """Return a ledger with the policies of the release, and a patient."""
    ledger = DecidedLedger() if at is None else DecidedLedger(now=at)
    ledger.adopt()
    ledger.register()
    return ledger
