"""Whether a service's own key signs: a service whose key does not is not ready, says so, and does nothing."""

from __future__ import annotations

from datetime import UTC, datetime

from salus.events.errors import RejectedError
from salus.events.keyring import KeyRing
from salus.events.signature import Signer
from salus.messaging import PermanentError
from salus.runtime.identity_view import IdentityView
from salus.runtime.problems import ProblemError

IDENTITY = "identity"


class OwnKeyError(PermanentError):
    """The service's own key does not sign, so it states nothing; the sentence is shown in /readyz."""

    def __init__(self, role: str, why: str) -> None:
        super().__init__(f"the key of the {role} service does not sign: {why}")


def require_signing(ring: KeyRing, method: str, *, role: str) -> None:
    """Raise OwnKeyError unless a key signs now for a service of that role."""
    try:
        known = ring.present_key(method, now=datetime.now(UTC))
    except RejectedError as error:
        raise OwnKeyError(role, str(error.reason)) from None
    party = ring.parties[known.did]
    if party.kind != "service" or role not in party.roles:
        raise OwnKeyError(role, f"its party does not hold the role {role}")


class AnnouncingKey:
    """The key of a service that takes no commands, as of what was folded of identity's topic.

    Unlike `OwnKey` it does not object where the ring lacks what another version of identity wrote: whoever
    could write such a record would keep all alarms silent.
    """

    def __init__(self, signer: Signer, *, role: str) -> None:
        self._method = signer.verification_method
        self._role = role
        self._ring: KeyRing | None = None

    def look(self, ring: KeyRing) -> None:
        """Go by this ring, which was just folded up to the end of the topic, and which may be folded on."""
        self._ring = ring

    def require(self) -> None:
        """Raise OwnKeyError unless the key signs; nobody knows before the first look."""
        if self._ring is None:
            raise OwnKeyError(self._role, "identity's topic is not read yet")
        require_signing(self._ring, self._method, role=self._role)

    async def check(self) -> None:
        """Raise OwnKeyError if the key signs no more; for /readyz.

        A key that identity has not registered yet is no fault of this service: identity may start after it.
        """
        if self._ring is not None and self._method in self._ring.keys:
            self.require()


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
        try:
            require_signing(self._identity.ring, self._method, role=self._role)
        except OwnKeyError as error:
            raise ProblemError(503, "service-key-invalid", str(error)) from None

    def require_for(self, subject: str) -> None:
        """Raise unless the service may state a fact about that subject; raises as `require`.

        Without what another version of it wrote, identity speaks of nobody but itself: what it states of
        others would count for nothing where that is known.
        """
        self.require()
        if subject != self._method.partition("#")[0]:
            self._identity.require_read()
