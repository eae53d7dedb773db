"""Whose account at Kafka is whose: the operator's file of principals.

Kafka's administration binds a name to a certificate or a password, so who is behind it is the operator's to
say. What it may do is not said here: that follows from the manifests, the catalogue and the key ring.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Annotated

import msgspec

FILE_NAME = "kafka-principals.toml"
ADMINISTRATOR = "administrator"
"""Who may do everything by Kafka's own settings, or by ACLs that are none of ours: they are left alone."""
BOOTSTRAP = "bootstrap"
"""Who makes the topics: `salus network bootstrap`."""
SOC = "soc"
"""Who reads what audit publishes."""
PARTS = (ADMINISTRATOR, BOOTSTRAP, SOC)
PRINCIPALS_MAX = 10_000
_PREFIX = "salus."
_TYPE = "User:"
_NO_NAMES = frozenset({"*", "ANONYMOUS"})
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# `CN=clinic, O=…`: other tools write a space there, and Kafka, which compares texts, does not.
_DN = re.compile(r"^[A-Za-z0-9.]+=")
_SPACED = re.compile(r"(?<!\\), ")

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
GroupPrefix = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{2,99}$")]


class PrincipalFileError(ValueError):
    """The file is none of principals; the sentence names the file and what is wrong in it."""


class Principal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account: its name as Kafka has it, the party that it is of, and how its consumer groups begin."""

    name: Name
    party: Name
    groups: GroupPrefix | None = None

    @property
    def is_of_party(self) -> bool:
        """Whether it is of somebody on the key ring."""
        return self.party.startswith("did:")

    def __str__(self) -> str:
        return f"{_TYPE}{self.name}"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    principal: Annotated[tuple[Principal, ...], msgspec.Meta(max_length=PRINCIPALS_MAX)] = ()


def read_principals(path: Path, *, services: Collection[str]) -> tuple[Principal, ...]:
    """Read the file; `services` are the names of those that speak to Kafka.

    Raises:
        PrincipalFileError: it cannot be used.
    """
    try:
        found = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File).principal
    except OSError as error:
        raise PrincipalFileError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise PrincipalFileError(f"{path}: {error}") from None
    if faults := list(_faults(found, services)):
        raise PrincipalFileError(f"{path}: " + "; ".join(faults))
    return found


def _faults(principals: Sequence[Principal], services: Collection[str]) -> Iterator[str]:
    names: set[str] = set()
    for one in principals:
        yield from (f"principal {one.name!r}: {fault}" for fault in _faults_of(one, services))
        if one.name in names:
            yield f"principal {one.name!r} is named twice"
        names.add(one.name)
    yield from _overlaps([one for one in principals if one.groups is not None])


def _overlaps(prefixed: Sequence[Principal]) -> Iterator[str]:
    """Yield each that shares names with another party's; in order, those that begin alike are neighbours."""
    outer: Principal | None = None
    for one in sorted(prefixed, key=attrgetter("groups")):
        if outer is None or not (one.groups or "").startswith(outer.groups or ""):
            outer = one
        elif one.party != outer.party:
            yield f"groups: {outer.groups} and {one.groups} of two parties have names in common"


def _faults_of(one: Principal, services: Collection[str]) -> Iterator[str]:
    if one.name in _NO_NAMES:
        yield "everybody is nobody's account"
    if one.name.startswith(_TYPE):
        yield f"name: it is what stands behind {_TYPE}"
    if _CONTROLS.search(one.name):
        yield "name: it has control characters"
    if _DN.match(one.name) and _SPACED.search(one.name):
        yield "name: Kafka writes no space behind a comma; `salus kafka principal` shows a certificate's name"
    if not one.is_of_party and one.party not in {*services, *PARTS}:
        known = ", ".join([*services, *PARTS])
        yield f"party: {one.party} is no DID and none of {known}; of a service, install its package here"
    if one.groups is not None and not (one.is_of_party or one.party == SOC):
        yield f"groups: {one.party} needs no consumer groups"
    if one.groups is not None and _overlap(one.groups, _PREFIX):
        yield f"groups: what begins with {_PREFIX} is of the services"


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
