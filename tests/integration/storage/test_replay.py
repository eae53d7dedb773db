"""What storage stated is decided again by the state at exactly the positions that it named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from tests.integration.replays import folded_up_to

from salus.contracts.__main__ import SAME, compare
from salus.contracts.contract import Contract
from salus.contracts.decision import Attempt, Decision
from salus.events.contexts.storage import (
    ObjectRead,
    ObjectStored,
    ReadRefused,
    SubjectErased,
    SubjectKeyDestroyed,
    SubjectRegistered,
)
from salus.events.keyring import KeyRing
from salus.runtime.refusal import Refusal
from salus.storage.__main__ import SERVICE
from salus.storage.adapters.facts import EPOCHS, OBJECTS, SUBJECTS, FoldedFacts
from salus.storage.domain import (
    decide_erasure,
    decide_registration,
    decide_storing,
    require_may_read,
)
from salus.storage.ports import PatientView

from .conftest import World

Stated = SubjectRegistered | ObjectStored | ObjectRead | ReadRefused | SubjectErased
CONTRACTS: list[Contract[Any]] = [SUBJECTS, OBJECTS, EPOCHS]


async def view_then(world: World, event: Stated, folder: Path) -> tuple[PatientView, KeyRing]:
    """Return what was known of the patient, and of the object if the event names one, at its positions."""
    name = "" if isinstance(event, SubjectRegistered | SubjectErased) else event.object
    async with folded_up_to(
        event.state_positions,
        bootstrap=world.parts.kafka_bootstrap,
        network_file=world.folder.file,
        contracts=CONTRACTS,
        database_url=f"sqlite+aiosqlite:///{folder / 'then.db'}",
    ) as (store, ring):
        nothing = cast("Any", None)
        return await FoldedFacts(nothing, store, nothing, nothing).view(event.patient, name), ring


def decide_again(event: Stated, view: PatientView, ring: KeyRing, decision: Decision) -> None:
    """Raise the refusal that was stated, or return if the event follows from the view."""
    who = ring.parties[event.request.by]
    attempt = Attempt(caller=who, at=decision.expires - timedelta(seconds=1), epoch=view.epoch)
    match event:
        case SubjectRegistered():
            steward = ring.parties.get(event.steward)
            assert decide_registration(view.subject, registration=event, caller=who, steward=steward) == event
        case ObjectStored():
            assert decide_storing(view.subject, event, decision=None, attempt=attempt) == event
        case ObjectRead() | ReadRefused():
            require_may_read(view.object, view.subject, decision=decision, attempt=attempt)
        case SubjectErased():
            again = decide_erasure(view.subject, caller=who, basis=event.basis, request=event.request)
            assert again.objects == event.objects


async def test_every_statement_is_decided_again_from_the_topics(world: World, tmp_path: Path) -> None:
    patient = await world.patient()
    name = await world.store(patient, b"content")
    await world.store(patient, b"more")
    assert (await world.read(name, patient)).status_code == 200
    await world.revoke(patient, epoch=1)
    assert (await world.read(name, patient)).status_code == 403
    erased = await world.client.request(
        "DELETE",
        f"/subjects/{patient}/key",
        json={"basis": "patient-request"},
        auth=world.people["officer"].signing(),
    )
    assert erased.status_code == 200, erased.text
    assert (await world.read(name, patient, epoch=1)).status_code == 410
    decision = Decision(
        id="d",
        principal=world.people["doctor"].did,
        action="read",
        object=name,
        patient=patient,
        purpose="TREAT",
        epoch=0,
        break_glass=False,
        roles=frozenset({"clinician"}),
        expires=datetime.now(UTC),
    )
    told = [event for event in await world.told(patient) if not isinstance(event, SubjectKeyDestroyed)]

    reasons: list[str] = []
    for number, event in enumerate(told):
        assert isinstance(event, Stated)
        folder = tmp_path / str(number)
        folder.mkdir()
        view, ring = await view_then(world, event, folder)
        if isinstance(event, ReadRefused):
            with pytest.raises(Refusal) as refused:
                decide_again(event, view, ring, decision)
            assert refused.value.code == event.reason
            reasons.append(event.reason)
        else:
            decide_again(event, view, ring, decision)
    assert await compare(SERVICE, world.settings) == SAME
    assert [type(event) for event in told] == [
        SubjectRegistered,
        ObjectStored,
        ObjectStored,
        ObjectRead,
        ReadRefused,
        SubjectErased,
        ReadRefused,
    ]
    assert reasons == ["decision-outdated", "subject-erased"]
