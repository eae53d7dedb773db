"""The folded state in SQL, and the topic it is folded from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from salus.contracts.contract import Contract, ContractHost
from salus.contracts.facts import FactWriter
from salus.contracts.ports import Fold, States
from salus.contracts.reactors import Reactor
from salus.contracts.table_projection import TableProjection
from salus.events.event_types import EventData
from salus.storage.adapters.object_table import BY_LOCATION, object_rows
from salus.storage.domain import (
    EpochState,
    ObjectState,
    SubjectState,
    evolve_epoch,
    evolve_object,
    evolve_subject,
    object_name,
    object_of,
    object_with_event,
    owed_destruction,
    patient_of_revocation,
)
from salus.storage.ports import PatientView

STORAGE_TOPIC = "salus.storage.events"
CONSENT_TOPIC = "salus.consent.events"
SUBJECTS = Contract(kind="subject", topic=STORAGE_TOPIC, state=SubjectState, evolve=evolve_subject)
OBJECTS = Contract(
    kind="object",
    topic=STORAGE_TOPIC,
    state=ObjectState,
    evolve=evolve_object,
    aggregate=object_of,
    with_event=object_with_event,
    tables=(TableProjection(BY_LOCATION, object_rows),),
)
EPOCHS = Contract(
    kind="epoch",
    topic=CONSENT_TOPIC,
    state=EpochState,
    evolve=evolve_epoch,
    aggregate=patient_of_revocation,
)
# For so long an erasure is left to the request that asked for it: its answer waits for the key's destruction.
ERASURE_GRACE_S = 5.0
ERASURE = Reactor("erasure", SUBJECTS, owed_destruction, grace_s=ERASURE_GRACE_S)
_S = TypeVar("_S", bound=msgspec.Struct)


@dataclass(frozen=True)
class FoldedFacts:
    """`Facts` and `Announcer` over the runtime's fold."""

    follower: Fold
    store: States
    writer: FactWriter
    subjects_host: ContractHost[SubjectState]

    async def catch_up(self) -> None:
        """Fold everything that is in the topics now."""
        await self.follower.catch_up()

    async def view(self, patient: str, name: str = "") -> PatientView:
        """Return what is known of a patient, and of an object of hers, by one statement."""
        names = {OBJECTS.kind: object_name(patient, name)}
        keys = [(kind, names.get(kind, patient)) for kind in (SUBJECTS.kind, OBJECTS.kind, EPOCHS.kind)]
        positions, states = await self.store.load_at(keys)
        raw = {kind: state for (kind, _), state in states.items()}
        return PatientView(
            subject=_state_of(SUBJECTS, raw),
            object=_state_of(OBJECTS, raw),
            epoch=_state_of(EPOCHS, raw).epoch,
            positions=positions,
        )

    async def destroyed(self, patients: Collection[str]) -> Mapping[str, str]:
        """Return the key of each of whom it is recorded that they are erased and their key is gone."""
        raw = await self.store.load_some(SUBJECTS.kind, patients)
        states = {patient: SUBJECTS.decode(each) for patient, each in raw.items()}
        return {patient: state.key for patient, state in states.items() if state.destroyed}

    async def announce(self, data: EventData, *, patient: str) -> None:
        """State a fact that changes nothing."""
        await self.writer.state(data, subject=patient)

    async def execute(
        self, patient: str, decide: Callable[[SubjectState], EventData | Awaitable[EventData]]
    ) -> EventData:
        """Run a command of the subject contract."""
        return await self.subjects_host.execute(patient, decide)


def _state_of(contract: Contract[_S], raw: Mapping[str, bytes]) -> _S:
    found = raw.get(contract.kind)
    return contract.state() if found is None else contract.decode(found)
