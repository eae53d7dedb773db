"""The plan of Kafka's ACLs: what each account needs and no more, and how what is in force differs from it.

Pure. Services' rights follow from their manifests, members' and operators' from the catalogue's owners of
types and the key ring. What nobody is given is denied: no transactional ids, no consumer groups of others
(the services use none), nothing on the cluster. `Read` and `Write` include `Describe`, and `Write` on a topic
is enough for an idempotent producer, so neither is planned by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from salus.events.catalogue import Catalogue
from salus.events.errors import RejectedError
from salus.events.event_types import EventType
from salus.events.judging import require_owner
from salus.events.parties import Party
from salus.messaging import Acl, Operation, Pattern, Permission, ResourceType
from salus.runtime.kafka_principals import ADMINISTRATOR, BOOTSTRAP, SOC, Principal
from salus.runtime.manifests import Manifest, Role

PREFIX = "salus."
EVERYTHING = "*"
EVERYBODY = "User:*"
# What the brokers themselves keep: who belongs to which group and how far it read, and who may do what.
_BROKERS_TOPICS = ("__cluster_metadata", "__consumer_offsets", "__transaction_state")
# Who may do one of these on the cluster can give himself everything, or stop the brokers from working.
_GRAVE = frozenset(
    {
        Operation.ALL,
        Operation.ALTER,
        Operation.ALTER_CONFIGS,
        Operation.CLUSTER_ACTION,
        Operation.CREATE,
    }
)
_NAMED = frozenset({ResourceType.TOPIC, ResourceType.GROUP})
# Who makes or sees a token of another account is that account.
_TOKENS = frozenset({ResourceType.DELEGATION_TOKEN, ResourceType.USER})


@dataclass(frozen=True, slots=True)
class Plan:
    """Every ACL that Salus needs, and the principals that get nothing.

    Of `unknown` the party is not on the key ring; of `barred` its member is suspended or expelled.
    """

    principals: tuple[Principal, ...]
    acls: frozenset[Acl]
    unknown: tuple[Principal, ...]
    barred: tuple[Principal, ...] = ()

    def missing(self, in_force: Iterable[Acl]) -> list[Acl]:
        """Return what is planned and not in force, in order."""
        return sorted(self.acls.difference(in_force))

    def surplus(self, in_force: Iterable[Acl]) -> list[Acl]:
        """Return what is in force and not planned, in order: of our accounts, or of others on what is ours.

        What everybody may do our accounts may do. ACLs of administrators, and of other applications on what
        is theirs, are left alone. Groups of an account that is no longer listed show as long as it has a
        right on Salus's topics, and on no others.
        """
        in_force = frozenset(in_force)
        ours = {str(one): one.party for one in self.principals}
        names = (*self._prefixes(), *_BROKERS_TOPICS)
        former = _with_salus_alone(in_force).difference(ours)
        return sorted(
            acl
            for acl in in_force.difference(self.acls)
            if _is_surplus(acl, ours, names)
            or (acl.resource is ResourceType.GROUP and acl.principal in former)
        )

    def removable(self, surplus: Iterable[Acl]) -> list[Acl]:
        """Return what of it nobody else can need: of our accounts, or on Salus's topics and groups.

        Whoever has rights on the cluster may be who runs the command. What everybody may do elsewhere, other
        applications may rest on. Whether the brokers would know again what we do not know is open.
        """
        ours = {str(one) for one in self.principals}
        prefixes = self._prefixes()
        return [
            acl
            for acl in surplus
            if acl.resource is not ResourceType.CLUSTER
            and acl.is_known
            and (
                acl.principal in ours
                or (acl.resource in _NAMED and _touches_any(acl, prefixes))
                or (acl.resource is ResourceType.GROUP and acl.principal != EVERYBODY)
            )
        ]

    def _prefixes(self) -> tuple[str, ...]:
        return PREFIX, *(one.groups for one in self.principals if one.groups)


def _is_surplus(acl: Acl, ours: Mapping[str, str], names: Sequence[str]) -> bool:
    if acl.principal in ours:
        return ours[acl.principal] != ADMINISTRATOR
    if acl.resource in _NAMED and _touches_any(acl, names):
        return True
    if acl.permission is Permission.DENY:
        # It takes nothing that is planned.
        return False
    if acl.principal == EVERYBODY or acl.resource in _TOKENS:
        return True
    is_grave = acl.operation in _GRAVE or not acl.operation.is_known
    return acl.resource is ResourceType.CLUSTER and is_grave


def _with_salus_alone(in_force: Iterable[Acl]) -> frozenset[str]:
    """Return whose rights are on Salus's topics and on no others."""
    allowed = [
        acl for acl in in_force if acl.resource is ResourceType.TOPIC and acl.permission is Permission.ALLOW
    ]
    elsewhere = {acl.principal for acl in allowed if not acl.name.startswith(PREFIX)}
    return frozenset(acl.principal for acl in allowed) - elsewhere - {EVERYBODY}


def _touches_any(acl: Acl, prefixes: Iterable[str]) -> bool:
    return any(_touches(acl, prefix) for prefix in prefixes)


def _touches(acl: Acl, prefix: str) -> bool:
    """Tell whether an ACL is about something whose name begins so."""
    if acl.pattern is Pattern.PREFIXED:
        return acl.name.startswith(prefix) or prefix.startswith(acl.name)
    return acl.name == EVERYTHING or acl.name.startswith(prefix)


@dataclass(frozen=True, slots=True)
class Known:
    """What the plan follows from; `barred` are the DIDs of those whose member is suspended or expelled."""

    manifests: Sequence[Manifest]
    catalogue: Catalogue
    parties: Mapping[str, Party]
    barred: Collection[str] = ()


def plan(principals: Sequence[Principal], known: Known) -> Plan:
    """Return what these accounts need."""
    acls = {Acl(str(one), *right) for one in principals for right in _rights(one, known)}
    unknown = [one for one in principals if one.is_of_party and one.party not in known.parties]
    barred = [one for one in principals if one.is_of_party and one.party in known.barred]
    return Plan(tuple(principals), frozenset(acls), tuple(unknown), tuple(barred))


_Right = tuple[ResourceType, str, Pattern, Operation]


def _rights(one: Principal, known: Known) -> Iterator[_Right]:
    by_name = {manifest.name: manifest for manifest in known.manifests}
    if one.party in by_name:
        yield from rights_of_service(by_name[one.party], known)
    elif one.party == BOOTSTRAP:
        for operation in (Operation.CREATE, Operation.DESCRIBE):
            yield ResourceType.TOPIC, PREFIX, Pattern.PREFIXED, operation
    elif one.party == SOC:
        projections = [manifest for manifest in known.manifests if manifest.role is Role.PROJECTION]
        yield from _topics(Operation.READ, _owned(projections))
    elif one.party in known.barred:
        # What it sends is refused anyway; what is for members it reads no more.
        return
    elif (party := known.parties.get(one.party)) is not None:
        yield from rights_of_party(party, known)
    else:
        return
    if one.groups is not None:
        yield ResourceType.GROUP, one.groups, Pattern.PREFIXED, Operation.READ


def rights_of_service(one: Manifest, known: Known) -> Iterator[_Right]:
    """Yield what a service needs: what its manifest says that it does."""
    said = one.topics
    yield from _topics(Operation.WRITE, [*said.owns, *said.writes])
    read = _matching(said.reads, known)
    yield from _topics(Operation.READ, read)
    # Who reads a topic sees its partitions anyway.
    seen = [topic for topic in _matching(said.describes, known) if topic not in read]
    yield from _topics(Operation.DESCRIBE, seen)
    yield from _topics(Operation.DESCRIBE_CONFIGS, _matching(said.describes_configs, known))


def rights_of_party(party: Party, known: Known) -> Iterator[_Right]:
    """Yield what somebody on the key ring needs.

    Kafka knows no types, so who may state one type of a topic may write anything there: what he may not state
    is a rejected leaf. Members read what they write, and what becomes of it.
    """
    if party.kind == "service":
        for manifest in known.manifests:
            if manifest.name in party.roles:
                yield from rights_of_service(manifest, known)
        return
    topics = sorted({entry.topic for entry in known.catalogue.types() if _may_state(party, entry)})
    yield from _topics(Operation.WRITE, topics)
    if party.kind == "member" or party.member is not None:
        ledger = [manifest for manifest in known.manifests if manifest.context == "ledger"]
        yield from _topics(Operation.READ, [*known.catalogue.topics_of_members(), *_owned(ledger)])


def _may_state(party: Party, entry: EventType) -> bool:
    try:
        require_owner(entry, party)
    except RejectedError:
        return False
    return True


def _owned(manifests: Iterable[Manifest]) -> list[str]:
    return sorted({topic for manifest in manifests for topic in manifest.topics.owns})


def _matching(patterns: Iterable[str], known: Known) -> list[str]:
    topics = {*known.catalogue.input_topics(), *_owned(known.manifests)}
    return sorted(topic for topic in topics if any(fnmatchcase(topic, one) for one in patterns))


def _topics(operation: Operation, names: Iterable[str]) -> Iterator[_Right]:
    yield from ((ResourceType.TOPIC, name, Pattern.LITERAL, operation) for name in names)
