"""Whether a service's own key signs: a service whose key does not is not ready, says so, and does nothing."""

from __future__ import annotations

from datetime import UTC, datetime

from salus.events.errors import RejectedError
from salus.events.signature import Signer
from salus.runtime.identity_view import IdentityView
from salus.runtime.problems import ProblemError

IDENTITY = "identity"


class OwnKey:
    """The key by which a service states facts, looked up in the key ring as anybody else looks it up."""

    def __init__(self, identity: IdentityView, signer: Signer, *, role: str) -> None:
        self._identity = identity
        self._method = signer.verification_method
        self._role = role

    async def check(self) -> None:
        """Raise ProblemError unless the key signs, as of everything published until now; for /readyz.

        Raises:
            UnreadRecordError: another version of identity wrote something that the ring lacks.
        """
        await self._identity.catch_up()
        self._identity.require_read()
        self.require()

    def require(self) -> None:
        """Raise unless the key signs, as far as the ring is folded.

        Raises:
            ProblemError: 503 `service-key-invalid`; nothing may be stated, shown or destroyed.
            UnreadRecordError: the same, for the ring may lack a revocation. Identity goes on, since only
                there the key of a thief who wrote the record can be revoked.
        """
        if self._role != IDENTITY:
            self._identity.require_read()
        ring = self._identity.ring
        try:
            known = ring.present_key(self._method, now=datetime.now(UTC))
        except RejectedError as error:
            raise self._invalid(str(error.reason)) from None
        party = ring.parties[known.did]
        if party.kind != "service" or self._role not in party.roles:
            raise self._invalid(f"its party does not hold the role {self._role}")

    def require_for(self, subject: str) -> None:
        """Raise unless the service may state a fact about that subject; raises as `require`.

        Without what another version of it wrote, identity speaks of nobody but itself: what it states of
        others would count for nothing where that is known.
        """
        self.require()
        if subject != self._method.partition("#")[0]:
            self._identity.require_read()

    def _invalid(self, why: str) -> ProblemError:
        return ProblemError(
            503, "service-key-invalid", f"the key of the {self._role} service does not sign: {why}"
        )
