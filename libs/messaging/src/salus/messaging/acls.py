"""Access control lists of Kafka: what is in force, and giving and taking what somebody planned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self

from aiokafka.errors import SecurityDisabled, for_code
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest

from salus.messaging.admin import administration
from salus.messaging.brokers import Bootstrap
from salus.messaging.errors import BrokerAwayError, RefusedByBrokerError

ANY_HOST = "*"
CLUSTER_NAME = "kafka-cluster"
_ANY = 1


class _Word(IntEnum):
    """A word of Kafka's protocol, and as its tools write it.

    Newer brokers have newer words, and other applications use them: one that is not known here is its number.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int):
            return None
        word = int.__new__(cls, value)
        word._name_, word._value_ = f"UNKNOWN_{value}", value
        return word

    @property
    def word(self) -> str:
        """As kafka-acls.sh writes it."""
        return "".join(part.capitalize() for part in self.name.split("_"))

    @property
    def is_known(self) -> bool:
        """Whether this version knows what it means."""
        return self.name in type(self).__members__


class ResourceType(_Word):
    """What an ACL is about."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    USER = 7


class Pattern(_Word):
    """Whether its name is that of one resource, or how the names of several begin."""

    LITERAL = 3
    PREFIXED = 4


class Operation(_Word):
    """What it allows or denies."""

    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12
    CREATE_TOKENS = 13
    DESCRIBE_TOKENS = 14
    TWO_PHASE_COMMIT = 15


class Permission(_Word):
    """Which of the two. What is denied is denied, whatever else allows it."""

    DENY = 2
    ALLOW = 3


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """One ACL. The principal is as Kafka writes it, `User:<name>`."""

    principal: str
    resource: ResourceType
    name: str
    pattern: Pattern
    operation: Operation
    permission: Permission = Permission.ALLOW
    host: str = ANY_HOST

    @property
    def is_known(self) -> bool:
        """Whether this version knows what it means."""
        return all(word.is_known for word in (self.resource, self.pattern, self.operation, self.permission))

    @property
    def _filter(self) -> tuple[int, str, int, str, str, int, int]:
        return (
            int(self.resource),
            self.name,
            int(self.pattern),
            self.principal,
            self.host,
            int(self.operation),
            int(self.permission),
        )


async def acls_in_force(bootstrap: Bootstrap) -> frozenset[Acl]:
    """Return every ACL that the brokers have.

    Raises:
        BrokerAwayError: no broker answers.
        RefusedByBrokerError: the account may not ask, or the brokers have no authorizer.
    """
    async with administration(bootstrap) as client:
        answer = await client._send_request(  # noqa: SLF001  # the library has no method for ACLs
            DescribeAclsRequest(_ANY, None, _ANY, None, None, _ANY, _ANY)
        )
    _require_done("the ACLs cannot be listed", answer.error_code, answer.error_message)
    return frozenset(
        _acl(kind, name, pattern, *rest)
        for kind, name, pattern, entries in answer.resources
        for rest in entries
    )


async def add_acls(bootstrap: Bootstrap, acls: Iterable[Acl]) -> None:
    """Make ACLs; those that there are already stay as they are. Raises as `acls_in_force`."""
    async with administration(bootstrap) as client:
        for acl in acls:
            answer = await client._send_request(CreateAclsRequest(*acl._filter))  # noqa: SLF001  # as above
            for code, message in answer.creation_responses:
                _require_done(f"no ACL can be made for {acl.principal}", code, message)


async def remove_acls(bootstrap: Bootstrap, acls: Iterable[Acl]) -> None:
    """Remove exactly these ACLs; those that there are not are none. Raises as `acls_in_force`."""
    async with administration(bootstrap) as client:
        for acl in acls:
            answer = await client._send_request(DeleteAclsRequest(*acl._filter))  # noqa: SLF001  # as above
            for code, message, matching in answer.filter_responses:
                said = f"an ACL of {acl.principal} cannot be removed"
                _require_done(said, code, message)
                for inner_code, inner_message, *_ in matching:
                    _require_done(said, inner_code, inner_message)


def _acl(kind: int, name: str, pattern: int, *rest: Any) -> Acl:
    principal, host, operation, permission = rest
    return Acl(
        principal,
        ResourceType(kind),
        name,
        Pattern(pattern),
        Operation(operation),
        Permission(permission),
        host,
    )


def _require_done(what: str, code: int, message: str | None) -> None:
    if code == 0:
        return
    error = for_code(code)
    if error is SecurityDisabled:
        raise RefusedByBrokerError(f"{what}: the brokers have no authorizer (authorizer.class.name)")
    kind = BrokerAwayError if getattr(error, "retriable", False) else RefusedByBrokerError
    raise kind(f"{what}: {error.__name__}" + (f", {message}" if message else ""))
