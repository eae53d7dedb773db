"""Who is who and what was consented: what puts member, pseudonym and consent beside a fact."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple, assert_never

import msgspec

from salus.audit.domain.effects import Effects, Name, Subject
from salus.audit.domain.entry import Place
from salus.audit.domain.identity_history import IDENTITY_TOPIC, IdentityHistory
from salus.audit.domain.served import RunKey, ServedEvents
from salus.events.contexts.consent import ConsentGranted, ConsentRevoked, PatientLinked, PatientUnlinked
from salus.events.effect import Applied, Effect, WithoutEffect
from salus.events.envelope import Event
from salus.events.event_types import EventData


class KnownConsent(msgspec.Struct, frozen=True, omit_defaults=True):
    """A consent as the trail knows it."""

    consent: str
    patient: str
    grantee: str
    actions: tuple[str, ...]
    purposes: tuple[str, ...]
    valid_from: datetime
    valid_until: datetime
    revoked: bool = False
    role: str | None = None


ConsentPlace = tuple[str, str]
"""A patient, and the id of a consent of hers."""


class Needs(NamedTuple):
    """What a directory has to know for some events: consents, subjects' versions, claimed names."""

    consents: frozenset[ConsentPlace] = frozenset()
    subjects: frozenset[Subject] = frozenset()
    names: frozenset[Name] = frozenset()


class Directory:
    """Links and consents up to some point of the ledger, what decides which events count, and who is who.

    It knows only the consents that it was made with and those that it has seen since. `changed_consents` are
    to be stored again, `linked` and `unlinked` are the (DID, pseudonym) pairs that are new and gone. `served`
    takes what rights are judged again by, and `runs` is what the block at hand holds of it. Who
    belongs to whom is said as of `judged_at`, the position of the identity topic that the block at hand was
    judged at.
    """

    def __init__(
        self,
        identity: IdentityHistory,
        consents: Iterable[KnownConsent] = (),
        effects: Effects | None = None,
    ) -> None:
        self.effects = effects or Effects()
        self.identity = identity
        self.judged_at = 0
        self._consents = {(consent.patient, consent.consent): consent for consent in consents}
        self.changed_consents: dict[ConsentPlace, KnownConsent] = {}
        self.linked: set[tuple[str, str]] = set()
        self.unlinked: set[tuple[str, str]] = set()
        self.served = ServedEvents()
        self.runs: dict[RunKey, bytes] = {}

    def fold(self, event: Event, place: Place) -> Effect | None:
        """Fold one accepted event, if it takes effect; return what it did.

        None is returned for an event of the identity topic that is not the one at its offset: a shard has
        sealed it that was not given the topic.
        """
        if event.type.topic == IDENTITY_TOPIC:
            return self.identity.effect_of(place.offset, bytes.fromhex(place.digest))
        effect = self.effects.of(place.topic, event)
        match effect:
            case Applied():
                self._apply(event.data)
            case WithoutEffect():
                pass
            case _:
                assert_never(effect)
        return effect

    def _apply(self, data: EventData) -> None:
        """Take a fact; one that tells nothing of who is who changes nothing."""
        match data:
            case PatientLinked():
                self.linked.add((data.did, data.patient))
                self.unlinked.discard((data.did, data.patient))
            case PatientUnlinked():
                self.linked.discard((data.did, data.patient))
                self.unlinked.add((data.did, data.patient))
            case ConsentGranted() | ConsentRevoked():
                self._apply_consent(data)
            case _:
                pass

    def member_of(self, did: str | None) -> str | None:
        """Return the member that a party is or acts for."""
        return self.identity.member_of(did, at=self.judged_at)

    def consent(self, patient: str, consent: str) -> KnownConsent | None:
        """Return a consent, if this directory knows it."""
        return self._consents.get((patient, consent))

    def _apply_consent(self, data: ConsentGranted | ConsentRevoked) -> None:
        place = (data.patient, data.consent)
        known = self._consents.get(place)
        if isinstance(data, ConsentGranted):
            consent = KnownConsent(
                consent=data.consent,
                patient=data.patient,
                grantee=data.grantee,
                actions=data.actions,
                purposes=data.purposes,
                valid_from=data.valid_from,
                valid_until=data.valid_until,
                role=data.role,
            )
        elif known is not None:
            consent = msgspec.structs.replace(known, revoked=True)
        else:
            return
        self._consents[place] = self.changed_consents[place] = consent
