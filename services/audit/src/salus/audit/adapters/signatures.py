"""What audit publishes is signed, so that nobody who can write to its topics speaks for it.

The signature is made as those of events are, but as OUTPUT_ORIGIN: what audit publishes is no event, and on a
topic of events it is nothing that audit signed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from salus.events.did import LocalSigner
from salus.events.errors import RejectedError
from salus.events.judging import verify_signature
from salus.events.keyring import KeyRing
from salus.events.signature import parse_signature, sign_values, signed_text
from salus.events.verification_keys import VerificationKey, verifies
from salus.ledger.merkle import leaf_hash
from salus.ledger.signature_header import BATCH_SIZE_MAX

OUTPUT_ORIGIN = b"salus.health/audit-output/v1"


class OwnSignatures:
    """Signs with audit's key, and knows what audit signed: with this key, or another one that it has."""

    def __init__(
        self,
        signer: LocalSigner,
        ring: Callable[[], KeyRing],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._signer = signer
        self._ring = ring
        self._now = now

    def of(self, values: Sequence[bytes]) -> list[bytes]:
        """Return the signature header of each value."""
        headers: list[bytes] = []
        for start in range(0, len(values), BATCH_SIZE_MAX):
            headers += sign_values(values[start : start + BATCH_SIZE_MAX], self._signer, origin=OUTPUT_ORIGIN)
        return headers

    def are_on(self, value: bytes, header: bytes | None) -> bool:
        """Tell whether audit signed the value."""
        if header is None:
            return False
        try:
            parsed = parse_signature(header)
            if parsed.verification_method == self._signer.verification_method:
                root = parsed.root_over(leaf_hash(value))
                text = signed_text(size=parsed.size, root=root, origin=OUTPUT_ORIGIN)
                return verifies(VerificationKey.of(self._signer.public_key).raw, parsed.signature, text)
            ring, at = self._ring(), self._now()
            signer = verify_signature(header, digest=leaf_hash(value), ring=ring, at=at, origin=OUTPUT_ORIGIN)
        except RejectedError:
            return False
        return signer.did == self._signer.did
