"""Which key of a shard, log or witness counts where: keys take over and retire at positions, not at times.

A position is a block's height for a shard's keys and a tree size for those of a log or witness. A thief of a
retired key can state any time he likes, but where a header or checkpoint stands is what he wants to forge.

A shard whose last key has an `until` has ended: whatever lies in its chain from there on is no block of the
ledger, for every reader (`is_void`). Other shards go on from its last block (`is_last`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from salus.ledger.errors import KeyTextError, PolicyError
from salus.ledger.note import NoteSignature, NoteVerifier, Verifier

_MEMBERS = {"verifier_key", "from", "until"}


@dataclass(frozen=True, slots=True)
class KeyPeriod:
    """One key and the positions at which its signature counts: from `first` up to, not including, `end`."""

    verifier: Verifier
    first: int = 0
    end: int | None = None

    def __post_init__(self) -> None:
        if self.first < 0 or (self.end is not None and self.end <= self.first):
            raise PolicyError("malformed-policy", f"a key from {self.first} until {self.end}")

    @property
    def key(self) -> tuple[str, bytes]:
        """Name and key id, which is how a signature line names the key."""
        return self.verifier.name, self.verifier.key_id

    def covers(self, position: int) -> bool:
        """Tell whether the key signs at this position."""
        return self.first <= position and (self.end is None or position < self.end)


@dataclass(frozen=True, slots=True)
class KeyHistory:
    """All keys that one name has, had or will have."""

    name: str
    periods: tuple[KeyPeriod, ...]

    def __post_init__(self) -> None:
        if any(period.verifier.name != self.name for period in self.periods):
            raise PolicyError("malformed-policy", f"a key of {self.name} has another name")
        if len({period.verifier.key_id for period in self.periods}) != len(self.periods):
            raise PolicyError("malformed-policy", f"a key of {self.name} is there twice")

    @property
    def history(self) -> KeyHistory:
        """This history, as `Keys` asks."""
        return self

    @property
    def verifiers(self) -> tuple[Verifier, ...]:
        """Every key, in its period or not."""
        return tuple(period.verifier for period in self.periods)

    def signing(self, position: int) -> tuple[Verifier, ...]:
        """Return the keys whose signatures count at a position."""
        return tuple(period.verifier for period in self.periods if period.covers(position))

    def counting(self, signatures: Iterable[NoteSignature], position: int) -> list[NoteSignature]:
        """Return those of the signatures that are by a key of this name, in its period."""
        valid = {verifier.key_id for verifier in self.signing(position)}
        return [s for s in signatures if s.name == self.name and s.key_id in valid]

    @property
    def end(self) -> int | None:
        """The position from which on no key signs any more; None if there is none such."""
        ends = [period.end for period in self.periods if period.end is not None]
        return max(ends) if ends and len(ends) == len(self.periods) else None

    def require_gapless(self, *, may_end: bool = False) -> KeyHistory:
        """Return the history if some key signs at every position, or up to its end if it `may_end`.

        Raises:
            PolicyError: `malformed-policy`, naming the first position at which none does.
        """
        reached: int | None = 0
        for period in sorted(self.periods, key=lambda period: period.first):
            if reached is None or period.first > reached:
                break
            reached = None if period.end is None else max(reached, period.end)
        if reached is not None and not (may_end and reached == self.end):
            raise PolicyError("malformed-policy", f"no key of {self.name} signs at {reached}")
        return self


@runtime_checkable
class LiveKeys(Protocol):
    """The keys of one shard, log or witness as they are known now; asking again may tell of a new one."""

    @property
    def name(self) -> str:
        """The name that they all have."""

    @property
    def history(self) -> KeyHistory:
        """The keys and their periods."""


Keys = Verifier | LiveKeys
"""A key history, one that may grow, or a single key, which then signs everywhere."""


def history_of(keys: Keys) -> KeyHistory:
    """Return the keys and their periods as they are known now."""
    return keys.history if isinstance(keys, LiveKeys) else KeyHistory(keys.name, (KeyPeriod(keys),))


def chain_end(shard: Keys) -> int | None:
    """Return the height before which a shard's chain ends; None while it goes on."""
    return history_of(shard).end


def is_void(shard: Keys, height: int) -> bool:
    """Tell whether what lies at this height of a shard's chain is no block of the ledger, whoever signed."""
    end = chain_end(shard)
    return end is not None and height >= end


def is_last(shard: Keys, height: int) -> bool:
    """Tell whether the shard's chain ends with this height, and others go on from there."""
    return chain_end(shard) == height + 1


def read_period(described: object, read: Callable[[str], Verifier] = NoteVerifier.from_vkey) -> KeyPeriod:
    """Return the period that network.json describes: a verifier key, or an object with `from` and `until`.

    Raises:
        PolicyError: `malformed-policy`.
    """
    if isinstance(described, str):
        described = {"verifier_key": described}
    if not isinstance(described, Mapping) or described.keys() - _MEMBERS or "verifier_key" not in described:
        raise PolicyError("malformed-policy", "a key is not a verifier key with `from` and `until`")
    first, end = described.get("from", 0), described.get("until")
    numbers = [first] if end is None else [first, end]
    if any(not isinstance(number, int) or isinstance(number, bool) for number in numbers):
        raise PolicyError("malformed-policy", "`from` or `until` of a key is not an integer")
    try:
        return KeyPeriod(read(str(described["verifier_key"])), first, end)
    except KeyTextError as error:
        raise PolicyError("malformed-policy", str(error)) from None


def read_history(
    origin: str, verifier_key: object, keys: Sequence[object] = (), *, may_end: bool = False
) -> KeyHistory:
    """Return the history of a log or shard of network.json; a shard `may_end`.

    `keys` has all its keys; where it is empty, `verifier_key` is the only one there ever was.

    Raises:
        PolicyError: `malformed-policy`; also if `verifier_key` is none of `keys`, or at some position no
            key signs.
    """
    latest = read_period(verifier_key)
    history = KeyHistory(origin, tuple(map(read_period, keys)) or (latest,))
    if latest.verifier.key_id not in {verifier.key_id for verifier in history.verifiers}:
        raise PolicyError("malformed-policy", f"the verifier key of {origin} is not among its keys")
    return history.require_gapless(may_end=may_end)


def described_history(described: Mapping[str, Any], *, may_end: bool = False) -> KeyHistory:
    """Return the history of a `log` or `shards` member of network.json; raises as `read_history` does."""
    keys = described.get("keys", [])
    if not isinstance(keys, list) or not isinstance(described["origin"], str):
        raise PolicyError("malformed-policy", "`keys` is not a list, or `origin` is not text")
    return read_history(described["origin"], described["verifier_key"], keys, may_end=may_end)
