"""A network whose consent and storage serve requests: what they state, truly signed, accepted and sealed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, get_args

from msgspec import structs
from tests.asking import NETWORK, UNASKED, truly_asked
from tests.pseudonyms import patient_of
from tests.unit.archive.small_ledger import SHARD_SIGNERS, note_key

from salus.archive.building import BEGIN, ChainBuilder, SampleRecord
from salus.archive.check_blocks import Checked
from salus.archive.deep_rights import RightsJudge
from salus.archive.report import Finding
from salus.archive.served_kinds import runs_of_body
from salus.events.contexts import (
    CATALOGUE,
    consent,
    consent_oversight,
    consent_prohibitions,
    identity,
    storage,
)
from salus.events.did import LocalSigner, multibase_of
from salus.events.envelope import decode_event, encode_event
from salus.events.event_types import EventData, EventType, type_of
from salus.events.fields import SEALED_CHARS_MIN, Purpose, Sealed, Suite
from salus.events.judging import judge
from salus.events.keyring import KeyRing
from salus.events.recipients import RecipientRole
from salus.events.requests import Request, RequestedData
from salus.events.signature import sign_values
from salus.ledger.records import timestamp_at
from salus.objects.memory import MemoryObjects

SUITE = get_args(Suite)[0]
CONSENT, STORAGE = LocalSigner(note_key(40)), LocalSigner(note_key(41))
HOSPITAL, DOCTOR, OFFICER, HERSELF = (LocalSigner(note_key(n)) for n in (42, 43, 44, 45))
PATIENT, OTHER_PATIENT = (patient_of(HOSPITAL.did, number) for number in range(2))
CLINIC, THIEF, PRIVY = (LocalSigner(note_key(n)) for n in (50, 51, 52))
SERVICES = {"consent": CONSENT, "storage": STORAGE}
# The thief is a clinician of another organisation, and so is a privacy officer.
PEOPLE: tuple[tuple[LocalSigner, Any, str | None, LocalSigner | None], ...] = (
    (CONSENT, "service", "consent", None),
    (STORAGE, "service", "storage", None),
    (HOSPITAL, "member", None, None),
    (DOCTOR, "person", "clinician", HOSPITAL),
    (OFFICER, "person", "privacy-officer", HOSPITAL),
    (HERSELF, "person", "patient", HOSPITAL),
    (CLINIC, "member", None, None),
    (THIEF, "person", "clinician", CLINIC),
    (PRIVY, "person", "privacy-officer", CLINIC),
)


def whole_ring() -> KeyRing:
    """Return the ring that knows everybody."""
    ring = KeyRing(CATALOGUE, NETWORK)
    for signer, kind, role, member in PEOPLE:
        key = identity.PublicKey(
            id=signer.verification_method,
            multibase=multibase_of(signer.public_key),
            valid_from=BEGIN - timedelta(days=1),
        )
        roles: Any = (role,) if role else ()
        of = member.did if member else None
        ring.apply(
            identity.PartyRegistered(
                did=signer.did, kind=kind, keys=(key,), roles=roles, member=of, request=UNASKED
            )
        )
    return ring


def identifier(patient: str, number: int) -> str:
    """Return an id of the form of a consent's or a decision's."""
    return f"{patient.removeprefix('urn:uuid:')}.{number:08x}"


@dataclass
class ServedLedger:
    """What the two services state, one second after the other; a thief states what he likes."""

    ring: KeyRing = field(default_factory=whole_ring)
    now: datetime = BEGIN
    records: list[SampleRecord] = field(default_factory=list)
    _versions: dict[tuple[str, str], int] = field(default_factory=dict)
    partition: int = 0
    _offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    def state(
        self,
        data: RequestedData,
        by: LocalSigner,
        *,
        expected: int | None = None,
        under: str | None = None,
        signed: datetime | None = None,
        without: tuple[str, ...] = (),
    ) -> None:
        """State what `by` asked for; the version is the one that is due, unless another is given."""
        self.now += timedelta(seconds=1)
        asked = truly_asked(data, by, at=signed or self.now, without=without)
        member = self.ring.parties[by.did].member
        request = structs.replace(asked.request, behalf=member, decision=under or asked.request.decision)
        asked = structs.replace(asked, request=request)
        entry = type_of(data)
        self._publish(asked, entry, str(getattr(data, entry.subject_field or "patient")), expected)

    def repeat(self, record: SampleRecord, *, expected: int) -> None:
        """State again what stands in a record, as another event of the same request, which has no effect."""
        event, versions = decode_event(record.value or b"", CATALOGUE), dict(self._versions)
        self._publish(event.data, event.type, event.envelope.subject, expected)
        self._versions = versions

    def adopt_policies_for(self, subject: str) -> None:
        """Let consent adopt policies under somebody's name."""
        data = consent.PolicySetAdopted(
            policy_set="0" * 64, contract="0" * 64, request=Request.of_service(CONSENT.did)
        )
        self._publish(data, type_of(consent.PolicySetAdopted), subject, None)

    def _publish(self, data: EventData, entry: EventType, subject: str, expected: int | None) -> None:
        signer, at = SERVICES[entry.owner], (entry.topic, subject)
        offset = self._offsets.setdefault((entry.topic, self.partition), 0)
        due = self._versions.get(at, 0)
        version = due if expected is None else expected
        value = encode_event(
            data,
            id=f"{entry.owner}-{offset}"
            if not self.partition
            else f"{entry.owner}-{offset}-{self.partition}",
            source=signer.did,
            subject=subject,
            time=self.now,
            expected_version=version if entry.changes else None,
        )
        signature = sign_values([value], signer)[0]
        judge(
            topic=entry.topic,
            key=subject.encode(),
            value=value,
            signature=signature,
            ring=self.ring,
            at=self.now,
        )
        # What is rejected leaves nothing.
        self._offsets[entry.topic, self.partition] += 1
        if entry.changes and expected in {None, due}:
            self._versions[at] = due + 1
        self.records.append(
            SampleRecord(
                entry.topic, self.partition, offset, value, signature, timestamp_ms=timestamp_at(self.now)
            )
        )

    async def findings(
        self, *, blocks: int = 1, backwards: bool = False, without: int | None = None
    ) -> list[Finding]:
        """Seal everything in so many blocks, and judge; one of them may be missing."""
        chain = ChainBuilder(MemoryObjects(), SHARD_SIGNERS[0], CONSENT)
        size = -(-len(self.records) // blocks)
        stretches = []
        for start in range(0, len(self.records), size):
            await chain.seal(self.records[start : start + size])
            header, body = chain.headers[-1], chain.bodies[-1]
            served = runs_of_body(0, header, body, CATALOGUE)
            stretches.append(Checked(0, header.height, header.height + 1, served=served))
        if without is not None:
            del stretches[without]
        rights = RightsJudge(self.ring)
        for checked in reversed(stretches) if backwards else stretches:
            rights.take(checked)
        return rights.findings()

    async def unentitled(self) -> list[tuple[str | None, str]]:
        """Return event and sentence of each finding, all of which are errors."""
        found = await self.findings()
        assert {f.code for f in found} <= {"unentitled"}
        return [(f.event, f.detail) for f in found]

    # --- what is stated ------------------------------------------------------------------------------

    def register(
        self, by: LocalSigner = DOCTOR, steward: LocalSigner = HOSPITAL, patient: str = PATIENT
    ) -> None:
        self.state(
            storage.SubjectRegistered(
                patient=patient,
                steward=steward.did,
                suite=SUITE,
                key=f"{patient}#1",
                public_key="AAAA",
                request=UNASKED,
            ),
            by,
        )

    def grant(
        self,
        by: LocalSigner,
        to: LocalSigner,
        *,
        number: int = 1,
        role: RecipientRole | None = None,
        **more: Any,
    ) -> None:
        until = BEGIN + timedelta(days=30)
        data = consent.ConsentGranted(
            consent=identifier(PATIENT, number),
            patient=PATIENT,
            grantee=to.did,
            actions=("read",),
            purposes=("TREAT",),
            valid_from=BEGIN,
            valid_until=until,
            epoch=0,
            role=role,
            request=UNASKED,
        )
        self.state(data, by, **more)

    def revoke(self, by: LocalSigner, *, number: int = 1, epoch: int = 1, of: str = PATIENT) -> None:
        data = consent.ConsentRevoked(
            consent=identifier(of, number), patient=PATIENT, epoch=epoch, request=UNASKED
        )
        self.state(data, by)

    def forbid(
        self, by: LocalSigner, of: LocalSigner | None = None, *, number: int = 70, epoch: int = 1, **more: Any
    ) -> None:
        data = consent_prohibitions.AccessProhibited(
            prohibition=identifier(PATIENT, number),
            patient=PATIENT,
            party=of.did if of else None,
            valid_from=BEGIN,
            epoch=epoch,
            request=UNASKED,
        )
        self.state(structs.replace(data, **more), by)

    def lift(
        self,
        by: LocalSigner,
        of: LocalSigner | None = None,
        *,
        number: int = 70,
        patient: str = PATIENT,
    ) -> None:
        data = consent_prohibitions.ProhibitionLifted(
            prohibition=identifier(patient, number),
            patient=PATIENT,
            party=of.did if of else None,
            request=UNASKED,
        )
        self.state(data, by)

    def link(self, by: LocalSigner, did: LocalSigner = HERSELF) -> None:
        self.state(consent.PatientLinked(patient=PATIENT, did=did.did, request=UNASKED), by)

    def unlink(self, by: LocalSigner, did: LocalSigner = HERSELF, *, epoch: int = 1) -> None:
        self.state(consent.PatientUnlinked(patient=PATIENT, did=did.did, epoch=epoch, request=UNASKED), by)

    def decide(self, by: LocalSigner, *, number: int = 1, patient: str = PATIENT, **changes: Any) -> str:
        """State a decision and return its id; it is valid for a minute unless the changes say otherwise."""
        decision = identifier(patient, number)
        data = consent.AccessDecided(
            decision=decision,
            principal=by.did,
            action="read",
            object="o-1",
            patient=patient,
            purpose="TREAT",
            allowed=True,
            reasons=("open",),
            policy_set="0" * 64,
            inputs="0" * 64,
            decided_at=self.now,
            state_positions=(),
            epoch=0,
            valid_until=self.now + timedelta(minutes=1),
            request=UNASKED,
        )
        self.state(structs.replace(data, **changes), by)
        return decision

    def emergency(self, by: LocalSigner, *, number: int = 1, told: bool = True, **alarm_says: Any) -> str:
        """State an emergency access, and what everybody is told of it; return the decision's id."""
        decision = identifier(PATIENT, number)
        if told:
            alarm = consent.GlassBroken(
                decision=decision,
                principal=by.did,
                object="o-1",
                patient=PATIENT,
                reason="other",
                valid_until=self.now + timedelta(minutes=5),
                request=UNASKED,
            )
            self.state(structs.replace(alarm, **alarm_says), by)
        return self.decide(by, number=number, purpose="ETREAT", emergency="other", break_glass=True)

    def review(self, by: LocalSigner, decision: str) -> None:
        data = consent.GlassBreakReviewed(
            decision=decision, patient=PATIENT, reviewer=by.did, outcome="justified", request=UNASKED
        )
        self.state(data, by)

    def case(self, by: LocalSigner, *, number: int = 1, **says: Any) -> str:
        """State that an access waits for a person, and return its id."""
        data = consent_oversight.CaseOpened(
            case=identifier(PATIENT, number),
            principal=by.did,
            action="read",
            object="o-1",
            patient=PATIENT,
            purpose="TREAT",
            opened_at=self.now,
            due=self.now + timedelta(hours=72),
            steward=HOSPITAL.did,
            request=UNASKED,
        )
        self.state(structs.replace(data, **says), by)
        return data.case

    def judge_case(self, by: LocalSigner, case: str, *, approved: bool = True, hours: float = 24) -> None:
        data = consent_oversight.CaseDecided(
            case=case,
            patient=PATIENT,
            reviewer=by.did,
            outcome="approved" if approved else "rejected",
            ground="other",
            valid_until=self.now + timedelta(hours=hours) if approved else None,
            request=UNASKED,
        )
        self.state(data, by)

    def overdue(self, decision: str, *, due: datetime) -> None:
        """State by consent's key alone that nobody reviewed an emergency access."""
        data = consent_oversight.ReviewOverdue(
            decision=decision, patient=PATIENT, principal=DOCTOR.did, due=due, request=UNASKED
        )
        request = Request.of_service(CONSENT.did)
        self._publish(structs.replace(data, request=request), type_of(type(data)), PATIENT, None)

    def store(self, by: LocalSigner, *, under: str | None = None, name: str = "o-1", **more: Any) -> None:
        data = storage.ObjectStored(
            object=name,
            patient=PATIENT,
            steward=HOSPITAL.did,
            media_type="text/plain",
            plaintext_bytes=1,
            ciphertext_bytes=1,
            ciphertext_sha256="0" * 64,
            commitment="0" * 64,
            salt=Sealed(suite=SUITE, key=f"{PATIENT}#1", ciphertext="A" * SEALED_CHARS_MIN),
            request=UNASKED,
        )
        self.state(data, by, under=under, **more)

    def read(  # what is said of it
        self,
        by: LocalSigner,
        decision: str,
        *,
        name: str = "o-1",
        purpose: Purpose = "TREAT",
        break_glass: bool = False,
        **more: Any,
    ) -> None:
        data = storage.ObjectRead(
            object=name,
            patient=PATIENT,
            reader=by.did,
            decision=decision,
            purpose=purpose,
            break_glass=break_glass,
            request=UNASKED,
        )
        self.state(data, by, **more)

    def break_off(self, by: LocalSigner, decision: str) -> None:
        data = storage.ReadBrokenOff(
            object="o-1",
            patient=PATIENT,
            reader=by.did,
            decision=decision,
            reason="role-lost",
            sent_bytes=1,
            request=UNASKED,
        )
        self.state(data, by)

    def open(self, by: LocalSigner, decision: str, **says: Any) -> None:
        data = storage.SealedOpened(
            patient=PATIENT,
            source=HOSPITAL.did,
            event="e-1",
            field="content",
            digest="0" * 64,
            reader=by.did,
            decision=decision,
            purpose="TREAT",
            request=UNASKED,
        )
        self.state(structs.replace(data, **says), by)

    def destroy_key(self, patient: str = PATIENT, *, key: str = "1") -> None:
        """State that the key is gone, which nobody asks for."""
        request = Request.of_service(STORAGE.did)
        data = storage.SubjectKeyDestroyed(patient=patient, key=f"{patient}#{key}", request=request)
        self._publish(data, type_of(storage.SubjectKeyDestroyed), patient, None)

    def erase(self, by: LocalSigner, *, key: str = "1") -> None:
        data = storage.SubjectErased(
            patient=PATIENT,
            key=f"{PATIENT}#{key}",
            requested_by=by.did,
            basis="gdpr-art-17",
            objects=0,
            request=UNASKED,
        )
        self.state(data, by)
