"""By what a consent is found again under its business identifier, without the identifier being anywhere.

An identifier (a form's number, a case) may be personal, and a plain hash of one can be guessed from a list.
So the id of a consent that came with one ends in a mark: HMAC-SHA-256 of patient and identifier under a key
that is derived from the service's own signing key, and is in no event. The id's last 32 hex digits are

    8 of the key · 16 of the identifier · 8 that tell consents of one identifier apart

After the service's key has changed, what was marked before cannot be told from other identifiers: whoever
asks is told that, and nothing is created.
"""

from __future__ import annotations

import hashlib
import hmac

from salus.events.signature import Signer

SUFFIX_DIGITS = 32
_KEY_DIGITS, _MARK_DIGITS = 8, 16
# Fixed, and like nothing else that is signed: an Ed25519 signature over it is a secret of the key's holder.
_DERIVATION = b"salus.health/consent-identifier-key/v1\n"


class IdentifierMarks:
    """Marks identifiers under one service key; replicas of one key mark alike."""

    def __init__(self, signer: Signer) -> None:
        self._key = hashlib.sha256(signer.sign(_DERIVATION)).digest()
        self._name = self._digits(b"name")[:_KEY_DIGITS]

    def of(self, *, patient: str, system: str, value: str) -> str:
        """Return how the suffix of every consent of this patient with this identifier begins."""
        told = b"".join(len(text).to_bytes(4) + text for text in map(str.encode, (patient, system, value)))
        return self._name + self._digits(b"mark" + told)[:_MARK_DIGITS]

    def is_of_another_key(self, consent: str) -> bool:
        """Tell whether a consent has a mark that this key did not make."""
        suffix = consent.rpartition(".")[2]
        return len(suffix) == SUFFIX_DIGITS and not suffix.startswith(self._name)

    def _digits(self, message: bytes) -> str:
        return hmac.digest(self._key, message, "sha256").hex()
