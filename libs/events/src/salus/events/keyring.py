"""Whose key may sign what, and when: the fold of the identity topic that every verifier keeps."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import assert_never

from salus.events.catalogue import Catalogue
from salus.events.contexts.identity import (
    EventTypeActivated,
    EventTypeProposed,
    EventTypeWithdrawn,
    KeyAdded,
    KeyRevoked,
    MemberExpelled,
    MemberReinstated,
    MemberSuspended,
    PartyRegistered,
    PublicKey,
    RoleGranted,
    RoleWithdrawn,
    ShardsAssigned,
)
from salus.events.did import key_of
from salus.events.doubt import earlier_of
from salus.events.effect import Applied, Effect, WithoutEffect, claims_of, effect_of
from salus.events.entitlement import Standing, objection_to_event
from salus.events.envelope import Event
from salus.events.errors import RULE_FAULTS, Reason, RejectedError
from salus.events.event_types import EventData
from salus.events.logins import Logins
from salus.events.membership import KEPT_ROLES, Membership, Memberships, organisation_of, restricted
from salus.events.parties import Founder, KnownKey, Operator, Party
from salus.events.requests import Request
from salus.events.rights import Objection
from salus.events.sharding import Assignment
from salus.events.type_registry import TypeRegistry

NOT_JUDGED = "not-judged"
"""Of a fact that a rule failed on: a fault of ours, to be reported."""
_PAGE = 4096
_AN_INSTANT = timedelta(microseconds=1)
LONG_AGO = datetime.min.replace(tzinfo=UTC)
_Change = Callable[[frozenset[str], set[str]], frozenset[str]]


@dataclass
class KeyRing:
    """The parties and keys known at one position of the identity topic, and the event types that hold there.

    `catalogue` is the release's, and `types` has what members brought, by the moment of a record.

    `position` is the offset after the last identity event that was folded, and `time` the latest moment at
    which the broker appended one that took effect. A fact counts for whatever was appended after it, by the
    broker's clock: so all who folded the topic up to that moment judge a record alike, however far beyond.
    The ring starts with the root party alone: the identity service, named in the network file that everyone
    holds. `assignments` are the partitions' assignments to shards that were stated, each with the position
    after it; what they come to is `salus.events.sharding`. `founders` are those whom the network file names,
    by DID: nobody else joins without being asked for. `network` is the origin of the network, which tokens
    name. `unentitled` has, by offset, why an event had no effect though it was the next of its subject: who
    asked had no right to it (a code of `salus.events.entitlement`). `lacking` are the roles that services of
    the network have and no installed package declares: what their events are, nobody can tell here.
    `memberships` says which members are suspended or expelled; `logins` has login providers and session keys.
    """

    catalogue: Catalogue
    network: str
    parties: dict[str, Party] = field(default_factory=dict)
    keys: dict[str, KnownKey] = field(default_factory=dict)
    claims: set[str] = field(default_factory=set)
    position: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    time: datetime = LONG_AGO
    assignments: list[tuple[int, Assignment]] = field(default_factory=list)
    founders: dict[str, Founder] = field(default_factory=dict)
    unentitled: dict[int, Objection] = field(default_factory=dict)
    lacking: set[str] = field(default_factory=set)
    memberships: Memberships = field(default_factory=Memberships)
    logins: Logins = field(default_factory=Logins)
    types: TypeRegistry = field(init=False)
    # The ids of each party's keys, and who holds the role of operator.
    _held: dict[str, list[str]] = field(default_factory=dict, repr=False)
    _governing: set[str] = field(default_factory=set, repr=False)
    # A byte for each offset of the topic, by pages: whether the event there took effect.
    _effective: dict[int, bytearray] = field(default_factory=dict, repr=False)
    # Of each party: the roles that it has after each moment at which they changed, in order.
    _roles: dict[str, list[tuple[datetime, frozenset[str]]]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Begin with the release's types alone."""
        self.types = TypeRegistry(self.catalogue)

    @classmethod
    def rooted(
        cls,
        catalogue: Catalogue,
        *,
        network: str,
        did: str,
        key: PublicKey,
        founders: Iterable[Founder] = (),
    ) -> KeyRing:
        """Return the ring that knows only the identity service itself, and whom it may register unasked."""
        root = Founder(did, "service", ("identity",), key)
        ring = cls(catalogue, network, founders={root.did: root})
        for founder in founders:
            # A DID that is named twice is what it is named first, as identity registers it.
            ring.founders.setdefault(founder.did, founder)
        request = Request.of_service(did)
        ring.apply(
            PartyRegistered(did=did, kind="service", keys=(key,), roles=("identity",), request=request)
        )
        return ring

    def fold(self, event: Event, *, appended: datetime, offset: int | None = None) -> Effect:
        """Fold one accepted identity event and return what it did, by the rule that everybody shares.

        `appended` is when the broker appended it: what it gives and takes counts for what was appended after
        it. `offset` is where it stands; by default right after what is known.
        """
        subject, at = event.envelope.subject, self.position if offset is None else offset
        version = self.versions.get(subject, 0)

        def is_entitled() -> bool:
            objection = _objection_to(event, self._standing, appended)
            if objection is not None:
                self.unentitled[at] = objection
            return objection is None

        effect = effect_of(
            event, version=version, is_claimed=self.claims.__contains__, is_entitled=is_entitled
        )
        match effect:
            case Applied():
                page, place = divmod(at, _PAGE)
                self._effective.setdefault(page, bytearray(_PAGE))[place] = True
                self.versions[subject] = effect.version
                self.claims.update(claims_of(event))
                self.time = max(self.time, appended)
                self.apply(event.data, at=appended)
                if isinstance(event.data, ShardsAssigned):
                    self.assignments.append((at + 1, Assignment.of(event.data)))
            case WithoutEffect():
                pass
            case _:
                assert_never(effect)
        return effect

    def apply(self, data: EventData, *, at: datetime = LONG_AGO) -> None:
        """Take one fact as it is, without regard to versions; data of other contexts changes nothing.

        It counts after the moment `at`: what was appended before stays judged as it was, or a state that is
        rebuilt from its topic would lack what its service had stated, or have what it had refused.
        """
        self.logins.apply(data, at=at)
        match data:
            case PartyRegistered():
                if data.did not in self.parties:
                    party = Party(data.did, kind=data.kind, roles=frozenset(data.roles), member=data.member)
                    self._put(party, at=at)
                    for key in data.keys:
                        self._add(data.did, key, at=at)
                    self._note_roles(data, at=at)
            case KeyAdded():
                self._add(data.did, data.key, at=at)
            case KeyRevoked():
                self._revoke(data, at=at)
            case RoleGranted():
                self._change_roles(data.did, frozenset.union, data.role, at=at)
                self._note_roles(data, at=at)
            case RoleWithdrawn():
                self._change_roles(data.did, frozenset.difference, data.role, at=at)
            case MemberSuspended() | MemberReinstated() | MemberExpelled():
                self.memberships.apply(data, at=at)
            case EventTypeProposed() | EventTypeActivated() | EventTypeWithdrawn():
                self.types.apply(data, at=at)
            case _:
                pass

    def took_effect(self, offset: int) -> bool:
        """Tell whether the event at an offset of the identity topic, which was folded, took effect.

        Other folds of that topic go by it: they judge later, when a key that was unknown then may be known.
        """
        page, place = divmod(offset, _PAGE)
        return page in self._effective and bool(self._effective[page][place])

    def operators(self, *, at: datetime) -> list[Operator]:
        """Return the operators of the network, and whether they can sign at that moment."""
        return self._standing.operators(at=at)

    @property
    def _standing(self) -> Standing:
        return Standing(
            self.types,
            self.parties,
            self.keys,
            self.founders,
            self._held,
            self._governing,
            self.network,
            self.memberships,
            self.logins,
        )

    def key_for(self, key_id: str, *, at: datetime) -> KnownKey:
        """Return the key if it may sign at that moment.

        Raises:
            RejectedError: UNKNOWN_KEY, KEY_REVOKED, KEY_NOT_YET_VALID, KEY_EXPIRED, MEMBER_SUSPENDED or
                MEMBER_EXPELLED.
        """
        known = self.keys.get(key_id)
        if known is None or not known.is_known(at=at):
            raise RejectedError(Reason.UNKNOWN_KEY)
        if known.is_revoked(at=at):
            raise RejectedError(Reason.KEY_REVOKED)
        known.require_in_time(at=at)
        _require_no_bar(self.memberships.at(self._organisation(known.did), at))
        return known

    def valid_keys(self, *, at: datetime) -> dict[str, KnownKey]:
        """Return the keys that may sign at that moment, by id."""
        found = {}
        for key_id in self.keys:
            try:
                found[key_id] = self.key_for(key_id, at=at)
            except RejectedError:
                continue
        return found

    def doubted(self, key_ids: Iterable[str], *, at: datetime) -> tuple[str, ...]:
        """Return which of these keys may have been in other hands when a record was appended."""
        known = ((key_id, self.asking_key(key_id)) for key_id in key_ids)
        return tuple(key_id for key_id, key in known if key is not None and key.is_in_doubt(at=at))

    def asking_key(self, key_id: str) -> KnownKey | None:
        """Return a key that may sign requests in its time: one of a party, or of the session of a person.

        Events, decisions and approvals are signed with keys of parties alone.
        """
        return self.keys.get(key_id) or self.logins.keys.get(key_id)

    def present_key(self, key_id: str, *, now: datetime, asking: bool = False) -> KnownKey:
        """Return the key if it may sign now: all that is known of it counts, though a clock here is behind.

        What its party may ask for is `caller`. With `asking` it may be one of `asking_key`.

        Raises:
            RejectedError: as `key_for`.
        """
        known = self.asking_key(key_id) if asking else self.keys.get(key_id)
        if known is None:
            raise RejectedError(Reason.UNKNOWN_KEY)
        if known.revoked_at is not None:
            raise RejectedError(Reason.KEY_REVOKED)
        known.require_in_time(at=now)
        return known

    def membership_of(self, did: str) -> Membership:
        """Return the standing, by all that is known, of the member that a registered party is or acts for."""
        return self.memberships.now(self._organisation(did))

    def caller(self, did: str) -> Party:
        """Return a registered party with the roles in which it may ask for something now.

        Raises:
            RejectedError: MEMBER_SUSPENDED or MEMBER_EXPELLED, and it is none of the people who keep a role.
        """
        membership = self.membership_of(did)
        if not self.may_ask(did):
            _require_no_bar(membership)
        return restricted(self.parties[did], membership)

    def may_ask(self, did: str) -> bool:
        """Tell whether a party's member lets it ask for something now, or it keeps a role in which it may."""
        return self.membership_of(did) is Membership.ACTIVE or bool(self.parties[did].roles & KEPT_ROLES)

    def might_ask(self, did: str, first: datetime, last: datetime) -> bool:
        """Tell whether a party's member let it ask for something at some moment from `first` to `last`."""
        if self.memberships.throughout(self._organisation(did), first, last) is Membership.ACTIVE:
            return True
        return bool(self.party_between(did, first, last).roles & KEPT_ROLES)

    def signer_throughout(
        self, key_id: str, first: datetime, last: datetime
    ) -> tuple[KnownKey, Party] | None:
        """Return a key that may sign from `first` to `last`, and its party; None if either changes."""
        try:
            known = self.key_for(key_id, at=first)
            self.key_for(key_id, at=last)
        except RejectedError:
            return None
        if any(first <= changed < last for changed, _ in self._roles[known.did]):
            return None
        if self.memberships.changed(self._organisation(known.did), first, last):
            return None
        return known, self.party_at(known.did, first)

    def _note_roles(self, data: EventData, *, at: datetime) -> None:
        """Let the contexts of a service's roles hold, and note the roles that no package here declares."""
        match data:
            case PartyRegistered(kind="service", roles=roles):
                pass
            case RoleGranted(did=did, role=role) if (
                did in self.parties and self.parties[did].kind == "service"
            ):
                roles = (role,)
            case _:
                return
        self.lacking.update(set(roles) - {role.name for role in self.catalogue.roles()})
        for role in roles:
            self.types.join(role, at=at)

    def _add(self, did: str, key: PublicKey, *, at: datetime) -> None:
        # A key id stands for one key for ever, and only its own DID may hold it.
        if key.id in self.keys or key.id.partition("#")[0] != did or did not in self.parties:
            return
        try:
            public = key_of(key.multibase)
        except ValueError:
            return
        self._held.setdefault(did, []).append(key.id)
        self.keys[key.id] = KnownKey(
            key=public, did=did, known_at=at, valid_from=key.valid_from, valid_until=key.valid_until
        )

    def _revoke(self, data: KeyRevoked, *, at: datetime) -> None:
        known = self.keys.get(data.key_id)
        if known is not None and known.did == data.did:
            self.keys[data.key_id] = replace(
                known,
                revoked_at=at if known.revoked_at is None else known.revoked_at,
                doubted_since=earlier_of(known.doubted_since, data.since),
            )

    def party_at(self, did: str, at: datetime) -> Party:
        """Return a registered party with the roles that it had at a moment; none before it was registered.

        While its member was suspended or expelled, these are the ones that it kept.
        """
        changes = self._roles[did]
        number = bisect_left(changes, at, key=itemgetter(0))
        party = replace(self.parties[did], roles=changes[number - 1][1] if number else frozenset())
        return restricted(party, self.memberships.at(organisation_of(party), at))

    def party_between(self, did: str, first: datetime, last: datetime) -> Party:
        """Return a registered party with every role that it had at some moment from `first` to `last`."""
        return replace(
            self.parties[did], roles=frozenset[str]().union(*self._roles_between(did, first, last))
        )

    def parties_between(self, did: str, first: datetime, last: datetime) -> list[Party]:
        """Return a registered party as it was at each moment from `first` to `last`, in their order.

        A right need not grow with roles: who looked it up found one of these, and no sum of them.
        """
        return [replace(self.parties[did], roles=roles) for roles in self._roles_between(did, first, last)]

    def _roles_between(self, did: str, first: datetime, last: datetime) -> list[frozenset[str]]:
        changed = [moment for moment, _ in self._roles[did] if first <= moment < last]
        changed += self.memberships.changed(self._organisation(did), first, last)
        # What changed counts right after.
        moments = [first, *(moment + _AN_INSTANT for moment in sorted(changed))]
        return [self.party_at(did, moment).roles for moment in moments]

    def _organisation(self, did: str) -> str:
        return organisation_of(self.parties[did])

    def _put(self, party: Party, *, at: datetime) -> None:
        self.parties[party.did] = party
        (self._governing.add if "operator" in party.roles else self._governing.discard)(party.did)
        changes = self._roles.setdefault(party.did, [])
        # A broker's clock may be set back: what stands later on the topic does not count earlier.
        changes.append((max(at, changes[-1][0]) if changes else at, party.roles))

    def _change_roles(self, did: str, change: _Change, role: str, *, at: datetime) -> None:
        party = self.parties.get(did)
        if party is not None and (roles := change(party.roles, {role})) != party.roles:
            self._put(replace(party, roles=roles), at=at)


def _objection_to(event: Event, standing: Standing, appended: datetime) -> Objection | None:
    """Return why a fact has no effect; one that our own rules fail on has none."""
    try:
        return objection_to_event(event, standing, appended=appended)
    except RULE_FAULTS as error:
        return Objection(NOT_JUDGED, f"a rule failed on it: {type(error).__name__}")


def _require_no_bar(membership: Membership) -> None:
    if (bar := membership.bar) is not None:
        raise RejectedError(bar)
