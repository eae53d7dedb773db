"""Who is who and what was consented: the fold that puts member, pseudonym and consent beside a fact."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple, assert_never

import msgspec

from salus.audit.domain.effects import Effects, Name, Subject
from salus.events.catalogue import (
    ConsentGranted,
    ConsentRevoked,
    EventData,
    PartyRegistered,
    PatientLinked,
    PatientUnlinked,
    RoleGranted,
    RoleWithdrawn,
)
from salus.events.effect import Applied, Effect, WithoutEffect
from salus.events.envelope import Event


class KnownParty(msgspec.Struct, frozen=True, omit_defaults=True):
    """A party as the trail knows it; `name` is an organisation's or a service's, never a person's."""

    did: str
    kind: str
    roles: tuple[str, ...] = ()
    member: str | None = None
    name: str | None = None


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


class Needs(NamedTuple):
    """What a directory has to know for some events: patients' consents, subjects' versions, claimed names."""

    patients: frozenset[str] = frozenset()
    subjects: frozenset[Subject] = frozenset()
    names: frozenset[Name] = frozenset()


class Directory:
    """The parties, links and consents up to some point of the ledger, and what decides which events count.

    It knows all parties, but only the consents of the patients it was made for. `changed` and
    `changed_consents` are to be stored again, `linked` and `unlinked` are the (DID, pseudonym) pairs that
    are new and gone.
    """

    def __init__(
        self,
        parties: dict[str, KnownParty] | None = None,
        consents: Iterable[KnownConsent] = (),
        effects: Effects | None = None,
    ) -> None:
        self.effects = effects or Effects()
        self._parties = dict(parties or {})
        self._consents = {(consent.patient, consent.consent): consent for consent in consents}
        self.changed: dict[str, KnownParty] = {}
        self.changed_consents: dict[tuple[str, str], KnownConsent] = {}
        self.linked: set[tuple[str, str]] = set()
        self.unlinked: set[tuple[str, str]] = set()

    def fold(self, topic: str, event: Event) -> Effect:
        """Fold one accepted event, if it takes effect; return what it did."""
        effect = self.effects.of(topic, event)
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
            case PartyRegistered() if data.did not in self._parties:
                name = data.name if data.kind in {"member", "service"} else None
                self._put(KnownParty(data.did, data.kind, tuple(sorted(set(data.roles))), data.member, name))
            case RoleGranted() if (party := self._parties.get(data.did)) is not None:
                self._put(msgspec.structs.replace(party, roles=tuple(sorted({*party.roles, data.role}))))
            case RoleWithdrawn() if (party := self._parties.get(data.did)) is not None:
                left = tuple(role for role in party.roles if role != data.role)
                self._put(msgspec.structs.replace(party, roles=left))
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

    def party(self, did: str | None) -> KnownParty | None:
        """Return the party, if it is known."""
        return self._parties.get(did) if did is not None else None

    def member_of(self, did: str | None) -> str | None:
        """Return the member that a party is or acts for."""
        party = self.party(did)
        if party is None:
            return None
        return party.did if party.kind == "member" else party.member

    def consent(self, patient: str, consent: str) -> KnownConsent | None:
        """Return a consent of one of the patients that this directory was made for."""
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
            )
        elif known is not None:
            consent = msgspec.structs.replace(known, revoked=True)
        else:
            return
        self._consents[place] = self.changed_consents[place] = consent

    def _put(self, party: KnownParty) -> None:
        self._parties[party.did] = self.changed[party.did] = party
