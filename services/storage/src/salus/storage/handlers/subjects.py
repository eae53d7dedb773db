"""Patients' keys: made, told, destroyed."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
import structlog

from salus.crypto.sealing import SUITE, generate_key_pair
from salus.events.contexts.storage import SubjectErased, SubjectRegistered
from salus.objects import ObjectsError, RefusedError
from salus.runtime.auth import Caller
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal
from salus.storage.domain import (
    Basis,
    SubjectState,
    decide_erasure,
    decide_registration,
    require_may_erase,
    require_not_erased,
    require_registered,
)
from salus.storage.handlers.standing import Standing
from salus.storage.ports import Announcer, Erasures, Facts, Vault, changed_nothing

_log = structlog.get_logger()


@dataclass(frozen=True)
class Subjects:
    """Commands and questions about patients' keys."""

    facts: Facts
    announcer: Announcer
    vault: Vault
    erasures: Erasures
    standing: Standing

    async def register(self, *, patient: str, steward: str, number: str, caller: Caller) -> SubjectState:
        """Give a patient a key pair and return her state; repeating it returns the key she has.

        The private key is kept before anyone is told of the public one. A crash in between leaves a key that
        nothing is sealed to; it goes with the patient's others when she is erased.

        Raises:
            Refusal: the contract says no, or she is registered with another steward.
        """
        pair = generate_key_pair()
        registration = SubjectRegistered(
            patient=patient,
            steward=steward,
            suite=SUITE,
            key=f"{patient}#{number}",
            public_key=b64encode(pair.public_key).decode("ascii"),
            request=caller.request,
        )

        async def decide(_: SubjectState | None = None) -> SubjectRegistered:
            view = await self.standing.view(caller, patient=patient)
            return decide_registration(
                view.subject,
                registration=msgspec.structs.replace(registration, state_positions=view.positions),
                caller=view.attempt.caller,
                steward=view.ring.parties.get(steward),
            )

        try:
            await decide()
            await self.vault.keep(patient=patient, key=registration.key, private_key=pair.private_key)
            await self._state(registration, decide)
        except Refusal as refusal:
            now = await self._subject(patient)
            if refusal.code == "subject-exists" and now.steward == steward:
                require_not_erased(now)
                return now
            raise
        return await self._subject(patient)

    async def _state(
        self, registration: SubjectRegistered, decide: Callable[[SubjectState], Awaitable[SubjectRegistered]]
    ) -> None:
        try:
            await self.announcer.execute(registration.patient, decide)
        except (Refusal, ProblemError) as error:
            if changed_nothing(error):
                # Somebody else was first, and nobody will ever seal to this key.
                await self.vault.discard(patient=registration.patient, key=registration.key)
            raise

    async def get(self, patient: str) -> SubjectState:
        """Return a patient's key; raises Refusal 404, or 410 once it is destroyed."""
        await self.facts.catch_up()
        state = await self._subject(patient)
        require_registered(state)
        require_not_erased(state)
        return state

    async def erase(self, patient: str, *, basis: Basis, caller: Caller) -> SubjectState:
        """Erase a patient: the event first, then her key, then the record that it is gone.

        Repeating it finishes what is left.

        From the event on every read is refused. A crash before it is recorded that the key is gone leaves an
        obligation, which the reactor of erasures settles at the next start, or another replica does.

        Raises:
            Refusal: the contract says no.
            ProblemError: 409 `conflict`; 503 if the event is not known to stand, and then no key is
                destroyed, or if it stands but the key is not gone yet.
        """
        await self.facts.catch_up()
        state = await self._subject(patient)
        require_may_erase(state, caller=caller.party)
        if state.erased is None:

            async def decide(_: SubjectState) -> SubjectErased:
                view = await self.standing.view(caller, patient=patient)
                who = view.attempt.caller
                event = decide_erasure(view.subject, caller=who, basis=basis, request=caller.request)
                return msgspec.structs.replace(event, state_positions=view.positions)

            await self.announcer.execute(patient, decide)
        await self._destroy(patient, key=state.key)
        return await self._subject(patient)

    async def _subject(self, patient: str) -> SubjectState:
        return (await self.facts.view(patient)).subject

    async def _destroy(self, patient: str, *, key: str) -> None:
        try:
            await self.erasures.perform(patient)
            # Whoever recorded it, and whatever was put back since, it is true now.
            await self.vault.destroy(patient, key=key)
        except RefusedError as error:
            _log.error("a key cannot be destroyed", error=str(error))
            raise ProblemError(
                500,
                "key-destruction-refused",
                "the erasure is recorded and reads are refused, but the object store refuses to destroy the"
                " key: an operator must look",
            ) from error
        except (ObjectsError, TimeoutError) as error:
            _log.warning("a key is not destroyed yet", error=type(error).__name__)
            raise ProblemError(
                503,
                "key-destruction-pending",
                "the erasure is recorded and reads are refused; the key itself is destroyed as soon as the"
                " object store answers",
            ) from error
