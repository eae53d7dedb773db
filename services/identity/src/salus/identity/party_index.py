"""Registered parties in the order of their DIDs, and by their keys, so that no request looks through all."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Reversible
from itertools import islice
from urllib.parse import unquote

from salus.events.contexts.identity import PublicKey
from salus.events.did import key_of
from salus.events.keyring import KeyRing


class PartyIndex:
    """Indexes of a key ring, which only grows; `of` takes in what has come since it was asked last."""

    def __init__(self) -> None:
        self._dids: list[str] = []
        self._alike: dict[str, list[str]] = {}
        self._holders: dict[bytes, dict[str, None]] = {}
        self._keys = 0

    def of(self, ring: KeyRing) -> PartyIndex:
        """Return the index with all parties and keys of this ring, the same as before with more in it."""
        for did in _newest(ring.parties, len(ring.parties) - len(self._dids)):
            insort(self._dids, did)
            self._alike.setdefault(unquote(did), []).append(did)
        for key_id in _newest(ring.keys, len(ring.keys) - self._keys):
            known = ring.keys[key_id]
            self._holders.setdefault(known.key.public_bytes_raw(), {})[known.did] = None
        self._keys = len(ring.keys)
        return self

    def after(self, did: str | None) -> Iterator[str]:
        """Yield the DIDs that come after one, or all, in their order."""
        yield from islice(self._dids, 0 if did is None else bisect_right(self._dids, did), None)

    def lookalike_of(self, did: str) -> str | None:
        """Return another registered DID that is equal once the percent signs of both are decoded."""
        return next((other for other in self._alike.get(unquote(did), ()) if other != did), None)

    def held_elsewhere(self, *, did: str, keys: Iterable[PublicKey]) -> dict[str, str]:
        """Return which of these public keys another party has, or had: multibase to DID."""
        found: dict[str, str] = {}
        for key in keys:
            try:
                raw = key_of(key.multibase).public_bytes_raw()
            except ValueError:
                continue  # The contract refuses it with its own code.
            others = (other for other in self._holders.get(raw, ()) if other != did)
            if (other := next(others, None)) is not None:
                found[key.multibase] = other
        return found


def _newest(names: Reversible[str], count: int) -> list[str]:
    """Return the last names of a dictionary that nothing is taken from, in the order in which they came."""
    return [*islice(reversed(names), count)][::-1]
