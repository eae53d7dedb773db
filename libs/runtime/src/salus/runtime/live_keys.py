"""Keys that change while a process runs: network.json says which count where, a place of keys holds ours.

network.json is looked at every second and read again when it is another file; a file that cannot be read,
or makes no sense, is reported and the one before it stays in force.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from salus.crypto.errors import CryptoError, InvalidKeyError
from salus.crypto.signing_keys import KeyPlace
from salus.ledger.errors import PolicyError
from salus.ledger.key_periods import KeyHistory, LiveKeys
from salus.ledger.note import NoteSigner
from salus.runtime.network import Network
from salus.runtime.supervisor import failed, succeeded

LOOK_EVERY_S = 1.0

_log = structlog.get_logger()
_Stamp = tuple[int, int, int]


class WatchedNetwork:
    """The network file as it is now; `follow` keeps it up to date."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self.network = Network.read(path)
        self.trouble: str | None = None

    def look(self) -> bool:
        """Read the file again if it is another one, and tell whether it was. This blocks."""
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                self.trouble = None
                return False
            network = Network.read(self._path)
            network.require_keys()
        except (OSError, ValueError, PolicyError) as error:
            _log.error("the network file cannot be followed", error=str(error))
            self.trouble = f"the network file: {error}"
            return False
        self._stamp, self.network, self.trouble = stamp, network, None
        return True

    async def follow(self, changed: Callable[[], None] = lambda: None) -> None:
        """Look every second until cancelled, and say so when there is another file."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if await asyncio.to_thread(self.look):
                _log.info("the network file changed", file=str(self._path))
                changed()
            failed(self.trouble) if self.trouble else succeeded()

    def log(self) -> NetworkKeys:
        """Return the log's keys."""
        return NetworkKeys(self, lambda network: network.log.history)

    def shards(self) -> dict[int, LiveKeys]:
        """Return the keys of every shard that is described now, by its id."""
        return {shard.id: self.shard(shard.id) for shard in self.network.shards}

    def shard(self, number: int) -> NetworkKeys:
        """Return the keys of one shard; they stay as they were should the file no longer have it."""
        return NetworkKeys(
            self, lambda network: next((s.history for s in network.shards if s.id == number), None)
        )


class NetworkKeys:
    """The keys of a log or shard, as the network file describes them now."""

    def __init__(self, watched: WatchedNetwork, select: Callable[[Network], KeyHistory | None]) -> None:
        self._watched = watched
        self._select = select
        self._of = watched.network
        history = select(self._of)
        if history is None:
            raise LookupError("the network file does not describe it")
        self._history = history

    @property
    def name(self) -> str:
        """The origin."""
        return self._history.name

    @property
    def history(self) -> KeyHistory:
        """The keys and their periods."""
        if self._of is not self._watched.network:
            self._of = self._watched.network
            self._history = self._select(self._of) or self._history
        return self._history


class HeldSigners:
    """Signs for a log or shard with those keys that count at a position and that are ours."""

    def __init__(self, keys: LiveKeys, place: KeyPlace) -> None:
        self._keys = keys
        self._place = place
        self._held: dict[bytes, NoteSigner] = {}
        self._looked_s = -LOOK_EVERY_S

    @property
    def name(self) -> str:
        """The key name."""
        return self._keys.name

    def at(self, position: int) -> tuple[NoteSigner, ...]:
        """Return who signs there, at least one. This may read a file or ask an HSM, so it blocks.

        A key that counts and is not held is looked for once a second, in case it has just been added.

        Raises:
            InvalidKeyError: we hold no key that counts at this position.
            KmsAwayError: the place of keys cannot be read.
        """
        wanted = [verifier.key_id for verifier in self._keys.history.signing(position)]
        if any(key not in self._held for key in wanted):
            self._look(needed=not any(key in self._held for key in wanted))
        signers = tuple(self._held[key] for key in wanted if key in self._held)
        if not signers:
            raise InvalidKeyError(f"we hold no key of {self.name} that signs at {position}")
        return signers

    def require_one(self) -> None:
        """Raise InvalidKeyError unless we hold a key that counts somewhere, or KmsAwayError."""
        self._look(needed=True)
        if not self._held.keys() & {verifier.key_id for verifier in self._keys.history.verifiers}:
            raise InvalidKeyError(f"we hold no key of {self.name}")

    def _look(self, *, needed: bool) -> None:
        if not needed and time.monotonic() - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = time.monotonic()
        try:
            found = [NoteSigner(self.name, key) for key in self._place.read()]
        except CryptoError as error:
            if needed:
                raise
            _log.error("the place of keys cannot be read", name=self.name, error=str(error))
            return
        fresh = [signer for signer in found if signer.key_id not in self._held]
        self._held |= {signer.key_id: signer for signer in fresh}
        if fresh:
            _log.info("signing keys are held", name=self.name, keys=[s.key_id.hex() for s in fresh])


def _stamp(path: Path) -> _Stamp:
    about = path.stat()
    return about.st_mtime_ns, about.st_ino, about.st_size
