"""What storage needs from the world; `ObjectStore` and `Kms` are ports of the libraries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from salus.contracts.contract import NameTakenError
from salus.contracts.decision import Decision
from salus.events.event_types import EventData
from salus.events.keyring import KeyRing
from salus.events.state_positions import Partition
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal
from salus.storage.domain import ObjectState, SubjectState

# The codes of `salus.contracts.facts` and `contract` by which a fact is known not to stand.
NOTHING_CHANGED = frozenset({"not-accepted", "service-key-invalid", "invalid-request", "conflict"})


@dataclass(frozen=True, slots=True)
class PatientView:
    """What the topics say of a patient and of an object of hers, all folded up to the same positions.

    Each state is the empty one if nothing was said; the epoch is 0 if she never revoked a consent.
    """

    subject: SubjectState
    object: ObjectState
    epoch: int
    positions: Mapping[Partition, int]


class Facts(Protocol):
    """What the topics say, folded; after `catch_up`, all that was published before it."""

    async def catch_up(self) -> None:
        """Return once every event published before the call is folded; raises MessagingError."""

    async def view(self, patient: str, name: str = "") -> PatientView:
        """Return what is known of a patient, and of the object of hers that has this id."""


class Subjects(Protocol):
    """What the topics say of many patients."""

    async def catch_up(self) -> None:
        """Return once every event published before the call is folded; raises MessagingError."""

    async def destroyed(self, patients: Collection[str]) -> Mapping[str, str]:
        """Return the key of each of whom it is recorded that they are erased and their key is gone."""


@dataclass(frozen=True, slots=True)
class Located:
    """Where the event of an object says that it lies."""

    location: str
    patient: str
    object: str


class Inventory(Protocol):
    """Every object that the topics name, by where it lies."""

    async def catch_up(self) -> None:
        """Return once every event published before the call is folded; raises MessagingError."""

    def located(self, *, after: str) -> AsyncIterator[Located]:
        """Yield the objects that lie behind a place, in the order of their places, also those of erased."""

    async def at(self, location: str) -> Located | None:
        """Return the object that lies at a place."""


class Announcer(Protocol):
    """States facts on the storage topic."""

    async def announce(self, data: EventData, *, patient: str) -> None:
        """State a fact that changes nothing; return when it is in the topic and accepted.

        Raises:
            ProblemError: it is not accepted, or nobody knows; then nothing may rest on it.
        """

    async def execute(
        self, patient: str, decide: Callable[[SubjectState], EventData | Awaitable[EventData]]
    ) -> EventData:
        """Decide against the patient's state, publish, and return once the event has taken effect.

        Raises:
            Refusal: the contract says no; nothing was published.
            ProblemError: 409 `conflict`, other commands were first; 503, it is not known to have taken
                effect.
        """


def changed_nothing(error: Refusal | ProblemError) -> bool:
    """Tell whether a command that failed so is known to have changed nothing, now and later."""
    return isinstance(error, Refusal | NameTakenError) or error.code in NOTHING_CHANGED


class Vault(Protocol):
    """The private halves of patients' keys, wrapped by the KMS."""

    async def keep(self, *, patient: str, key: str, private_key: bytes) -> None:
        """Keep a new private key; raises StoreAwayError, KmsAwayError."""

    async def fetch(self, *, patient: str, key: str) -> bytes:
        """Return a private key.

        Raises:
            NotFoundError: it is not there (any more).
            UnwrapError: it was altered, or its root key is gone.
        """

    async def discard(self, *, patient: str, key: str) -> None:
        """Destroy one key that nobody was told of; fine if there is none."""

    async def holds(self, patient: str) -> bool:
        """Tell whether there is a key of a patient."""

    def patients(self) -> AsyncIterator[str]:
        """Yield each patient of whom there is a key."""

    async def destroy(self, patient: str, *, key: str) -> None:
        """Destroy every key of a patient, all versions of it; fine if there is none.

        `key` is gone then whatever a list of the bucket leaves out: it is asked for by its name.
        """


class Erasures(Protocol):
    """Destroys the keys of erased patients, and records that."""

    async def perform(self, patient: str) -> None:
        """Destroy an erased patient's key now, and record that, unless it is recorded.

        Raises:
            ObjectsError, TimeoutError: it is not destroyed yet.
            ProblemError, MessagingError: it is, and that is not known to be recorded yet.
        """


class Ring(Protocol):
    """The key ring that signatures are judged by."""

    async def catch_up(self) -> KeyRing:
        """Return the ring with everything that has been published until now."""


class Decisions(Protocol):
    """Reads decision tokens."""

    async def read(self, token: str, *, at: datetime) -> Decision:
        """Return what the token says; raises Refusal `invalid-decision` unless consent signed it."""
