"""Signs the root of a published checkpoint once more, for receipts in their COSE form (RFC 9942)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from salus.ledger.key_periods import Keys
from salus.ledger.note import Signer, Signers
from salus.ledger.receipt import cose_receipt

# Receipts are asked for under the last checkpoint or two; a key in an HSM is slow.
ROOTS_REMEMBERED_MAX = 16


@dataclass(frozen=True, slots=True)
class _Once:
    """A signer that signs a root once."""

    name: str
    key_id: bytes
    signature_of: Callable[[bytes], bytes]


class CoseIssuer:
    """Makes the COSE form of receipts; it signs for the log as `Signers` do, each root once.

    What it is given is a receipt under our own checkpoint, whose note signature is checked before: a root
    that was not in a checkpoint of ours is never signed.
    """

    def __init__(self, log: Keys, signers: Signers) -> None:
        self._log = log
        self._signers = signers
        self._once: dict[bytes, Signer] = {}

    @property
    def name(self) -> str:
        """The log's origin."""
        return self._signers.name

    def at(self, position: int) -> list[Signer]:
        """Return who signs the checkpoint of this size."""
        return [self._remembering(signer) for signer in self._signers.at(position)]

    def receipt(self, receipt: bytes) -> bytes:
        """Return the receipt in its COSE form; raises as `cose_receipt` does."""
        return cose_receipt(receipt, self._log, self)

    def _remembering(self, signer: Signer) -> Signer:
        if signer.key_id not in self._once:
            sign = lru_cache(maxsize=ROOTS_REMEMBERED_MAX)(signer.signature_of)
            self._once[signer.key_id] = _Once(signer.name, signer.key_id, sign)
        return self._once[signer.key_id]
