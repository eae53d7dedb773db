"""Signs the root of a published checkpoint once more, for receipts in their COSE form (RFC 9942)."""

from __future__ import annotations

from functools import lru_cache

from salus.ledger.note import NoteVerifier, Signer
from salus.ledger.receipt import cose_receipt

# Receipts are asked for under the last checkpoint or two; a key in an HSM is slow.
ROOTS_REMEMBERED_MAX = 16


class CoseIssuer:
    """Is itself a signer that signs a root once.

    What it is given is a receipt under our own checkpoint, whose note signature is checked before: a root
    that was not in a checkpoint of ours is never signed.
    """

    def __init__(self, verifier: NoteVerifier, signer: Signer) -> None:
        self._verifier = verifier
        self._signer = signer
        self._sign = lru_cache(maxsize=ROOTS_REMEMBERED_MAX)(signer.signature_of)

    @property
    def name(self) -> str:
        """The log's origin."""
        return self._signer.name

    @property
    def key_id(self) -> bytes:
        """The key id of the log's key."""
        return self._signer.key_id

    def signature_of(self, text: bytes) -> bytes:
        """Return the log's signature."""
        return self._sign(text)

    def receipt(self, receipt: bytes) -> bytes:
        """Return the receipt in its COSE form; raises as `cose_receipt` does."""
        return cose_receipt(receipt, self._verifier, self)
