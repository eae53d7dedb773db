"""How a service states facts, and how it hears what became of them: the one place where outcomes are met."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import assert_never

import structlog

from salus.client import ClientError
from salus.contracts.ports import Fold, OwnSigningKey, Stating
from salus.events.accountability import missing_step_up, require_asked
from salus.events.effect import Applied, Outcome, Refused, Unknown, WithoutEffect
from salus.events.errors import RejectedError
from salus.events.event_types import EventData
from salus.events.keyring import KeyRing
from salus.events.requests import SIGNED, RequestedData
from salus.messaging import MessagingError
from salus.runtime.auth import step_up_problem
from salus.runtime.problems import ProblemError

_log = structlog.get_logger()


class FactWriter:
    """Publishes facts of one service and waits until the fold says what became of them.

    Callers may rely on: nothing is published while the service's own key does not sign, nor what everybody
    would reject for its request. `ring` has who is who, as far as the service has folded it.
    """

    def __init__(
        self,
        publisher: Stating,
        follower: Fold,
        own_key: OwnSigningKey,
        *,
        ring: Callable[[], KeyRing],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._publisher = publisher
        self._follower = follower
        self._own_key = own_key
        self._ring = ring
        self._now = now

    async def write(self, data: EventData, *, subject: str, expected_version: int | None = None) -> Outcome:
        """Publish a fact and return its outcome, once it is folded.

        Raises:
            ProblemError: 503 `service-key-invalid`, 422 `invalid-request`, 401
                `insufficient-user-authentication`; nothing was published.
            UnreadRecordError: nothing was published; see `OwnKey.require_for`.
        """
        self._own_key.require_for(subject)
        self._require_asked(data)
        try:
            stated = await self._publisher.publish(data, subject=subject, expected_version=expected_version)
            return await self._follower.outcome(stated.position, value=stated.value)
        except RejectedError as error:
            # The caller's words do not fit the event's schema, and it was not published.
            raise ProblemError(422, "invalid-request", error.detail or str(error.reason)) from None
        except (MessagingError, ClientError) as error:
            _log.warning("an outcome is not known", type=type(data).__name__, error=type(error).__name__)
            return Unknown("Kafka did not answer in time")

    async def state(self, data: EventData, *, subject: str) -> None:
        """State a fact that changes nothing, and return when it is folded as acceptable.

        Raises:
            ProblemError: as of `write`, and 503 `not-accepted` or `outcome-unknown`. The caller must then
                neither show nor do what the fact says.
        """
        outcome = await self.write(data, subject=subject)
        match outcome:
            case Applied():
                return
            case WithoutEffect() | Refused() | Unknown():
                raise failed(outcome)
            case _:
                assert_never(outcome)

    def _require_asked(self, data: EventData) -> None:
        if not isinstance(data, RequestedData) or data.request.authentication != SIGNED:
            return
        ring = self._ring()
        try:
            require_asked(data, catalogue=ring.catalogue, network=ring.network)
        except RejectedError as error:
            # Everybody would reject the event. The caller hears it as a fault of the request, which it is.
            raise ProblemError(422, "invalid-request", error.detail) from None
        if (needed := missing_step_up(data, ring=ring, at=self._now())) is not None:
            raise step_up_problem(needed)


def failed(outcome: WithoutEffect | Refused | Unknown) -> ProblemError:
    """Return the problem that tells a caller that a fact is not known to have taken effect."""
    match outcome:
        case WithoutEffect():
            return ProblemError(409, "conflict", f"it changed nothing ({outcome.reason}); read and try again")
        case Refused():
            detail = f"the ledger refuses what this service states: {outcome.reason}; nothing was changed"
            return ProblemError(503, "not-accepted", detail)
        case Unknown():
            detail = f"{outcome.why}; whether a change was made is not known, read before you repeat it"
            return ProblemError(503, "outcome-unknown", detail)
        case _:
            assert_never(outcome)
