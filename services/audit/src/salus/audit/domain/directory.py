"""Who is who: the fold that tells which member an actor acts for, and which pseudonyms are whose."""

from __future__ import annotations

import msgspec

from salus.events.catalogue import EventData, PartyRegistered, PatientLinked, RoleGranted, RoleWithdrawn


class KnownParty(msgspec.Struct, frozen=True, omit_defaults=True):
    """A party as the trail knows it; `name` is an organisation's or a service's, never a person's."""

    did: str
    kind: str
    roles: tuple[str, ...] = ()
    member: str | None = None
    name: str | None = None


class Directory:
    """The parties registered up to some point of the ledger.

    `changed` are the parties to be stored again, `linked` the (DID, pseudonym) pairs that are new.
    """

    def __init__(self, parties: dict[str, KnownParty] | None = None) -> None:
        self._parties = dict(parties or {})
        self.changed: dict[str, KnownParty] = {}
        self.linked: set[tuple[str, str]] = set()

    def apply(self, data: EventData) -> None:
        """Fold one accepted event; facts that tell nothing of who is who change nothing."""
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

    def _put(self, party: KnownParty) -> None:
        self._parties[party.did] = self.changed[party.did] = party
