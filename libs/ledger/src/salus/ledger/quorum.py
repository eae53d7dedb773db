"""Which witnesses have to cosign a checkpoint: named witnesses, groups of them, and the one that is required.

The rule is that of c2sp.org/tlog-policy, whose text `salus.ledger.tlog_policy` reads and writes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NoReturn

from salus.ledger.cosignature import COSIGNED_ED25519, CosignatureVerifier
from salus.ledger.errors import PolicyError
from salus.ledger.note import parse_vkey

NO_WITNESS = "none"
# Each takes a line; the specification asks for at least 32 witnesses and 32 groups.
DEFINITIONS_MAX = 256
_WORD = re.compile(r"[^\x00-\x20\x7f]+")

Key = tuple[str, bytes]
"""Name and key id of a key, which is how a signature line names it."""


@dataclass(frozen=True, slots=True)
class Witness:
    """One key of a witness, called `name` within its policy only; `url` is its submission prefix."""

    name: str
    verifier: CosignatureVerifier
    url: str | None = None

    @property
    def key(self) -> Key:
        """How signature lines name the key."""
        return self.verifier.name, self.verifier.key_id


@dataclass(frozen=True, slots=True)
class Group:
    """Counts as one that cosigned if at least `threshold` of its members do."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quorum:
    """The witnesses, the groups in the order of their definition, and the name that has to be met.

    `required` is a witness, a group, or `none`. A witness that no group names may still cosign; it counts
    for nothing. Whoever makes a quorum that is not one gets PolicyError, `malformed-policy`.
    """

    witnesses: tuple[Witness, ...] = ()
    groups: tuple[Group, ...] = ()
    required: str = NO_WITNESS

    def __post_init__(self) -> None:
        if len(self.witnesses) + len(self.groups) > DEFINITIONS_MAX:
            _refuse(f"more than {DEFINITIONS_MAX} witnesses and groups")
        defined = {NO_WITNESS}
        for name in [witness.name for witness in self.witnesses]:
            _define(name, defined)
        if len({parse_vkey(witness.verifier.vkey)[2] for witness in self.witnesses}) != len(self.witnesses):
            _refuse("a witness has the public key of another")
        placed: set[str] = set()
        for group in self.groups:
            _check_members(group, defined, placed)
            _define(group.name, defined)
        if self.required not in defined:
            _refuse(f"the quorum {self.required} is not defined before it")

    @classmethod
    def of(
        cls, threshold: int, verifiers: Sequence[CosignatureVerifier], *, urls: Sequence[str] = ()
    ) -> Quorum:
        """Return the quorum of `threshold` out of these witnesses, by key name: two keys of one count once.

        `urls`, if any are given, belong to the verifiers one by one.

        Raises:
            PolicyError: `malformed-policy`, if there are fewer witnesses than the threshold.
        """
        if urls and len(urls) != len(verifiers):
            _refuse(f"{len(urls)} URLs of {len(verifiers)} witnesses")
        by_name: dict[str, list[int]] = {}
        for place, verifier in enumerate(verifiers):
            by_name.setdefault(verifier.name, []).append(place)
        if not 0 <= threshold <= len(by_name):
            _refuse(f"a quorum of {threshold} out of {len(by_name)} witnesses")
        witnesses, groups = [], []
        for name, places in by_name.items():
            names = [name] if len(places) == 1 else [f"{name}:{_kind(verifiers[at])}" for at in places]
            for inner, at in zip(names, places, strict=True):
                witnesses.append(Witness(inner, verifiers[at], urls[at] if urls else None))
            if len(places) > 1:
                groups.append(Group(name, 1, tuple(names)))
        required = NO_WITNESS
        if threshold and len(by_name) == 1:
            required = witnesses[0].name if not groups else groups[0].name
        elif threshold:
            required = "witnesses"
            groups.append(Group(required, threshold, tuple(by_name)))
        return cls(tuple(witnesses), tuple(groups), required)

    @property
    def verifiers(self) -> tuple[CosignatureVerifier, ...]:
        """The witnesses' keys."""
        return tuple(witness.verifier for witness in self.witnesses)

    @property
    def url_of(self) -> dict[str, str]:
        """Where each witness is reached, by key name, as far as the policy says."""
        return {w.verifier.name: w.url for w in self.witnesses if w.url is not None}

    def is_met(self, cosigned: Collection[Key]) -> bool:
        """Tell whether a checkpoint is final that these keys cosigned, validly."""
        return self.required in self._met(cosigned)

    def shortfall(self, cosigned: Collection[Key]) -> str | None:
        """Return what is missing in a sentence, or None if the quorum is met."""
        met = self._met(cosigned)
        if self.required in met:
            return None
        groups = {group.name: group for group in self.groups}
        sentences, unmet = [], [self.required]
        while unmet:
            name = unmet.pop(0)
            if (group := groups.get(name)) is None:
                continue
            lacking = [member for member in group.members if member not in met]
            have = len(group.members) - len(lacking)
            sentences.append(f"{name} has {have} of {group.threshold}, without {', '.join(lacking)}")
            unmet += lacking
        return "; ".join(sentences) or f"{self.required} has not cosigned"

    def _met(self, cosigned: Collection[Key]) -> set[str]:
        met = {NO_WITNESS, *(witness.name for witness in self.witnesses if witness.key in cosigned)}
        for group in self.groups:
            if sum(member in met for member in group.members) >= group.threshold:
                met.add(group.name)
        return met


def is_word(text: str) -> bool:
    """Tell whether a name or URL may stand in a policy: not empty, no white space, no control character."""
    return _WORD.fullmatch(text) is not None


def _define(name: str, defined: set[str]) -> None:
    if not is_word(name):
        _refuse(f"{name!r} is not a name")
    if name in defined:
        _refuse(f"{name} is defined already" if name != NO_WITNESS else f"nobody may be called {NO_WITNESS}")
    defined.add(name)


def _check_members(group: Group, defined: Collection[str], placed: set[str]) -> None:
    if not 1 <= group.threshold <= len(group.members):
        _refuse(f"group {group.name} asks for {group.threshold} of {len(group.members)} members")
    for member in group.members:
        if member == NO_WITNESS or member not in defined:
            _refuse(f"{member} in group {group.name} is not defined before it")
        if member in placed:
            _refuse(f"{member} is a member twice, of group {group.name} or of another")
        placed.add(member)


def _kind(verifier: CosignatureVerifier) -> str:
    _, algorithm, _ = parse_vkey(verifier.vkey)
    return "ed25519" if algorithm == COSIGNED_ED25519 else "ml-dsa-44"


def _refuse(sentence: str) -> NoReturn:
    raise PolicyError("malformed-policy", sentence)
