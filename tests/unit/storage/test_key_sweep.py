"""Case: who holds storage's key states that a patient's key is gone before storage could destroy it."""

from __future__ import annotations

import asyncio
import re

import pytest
from tests.asking import UNASKED, calling
from tests.unit.storage.conftest import HOSPITAL, PATIENT, Bench

from salus.events.contexts.storage import SubjectErased, SubjectKeyDestroyed
from salus.objects import RefusedError
from salus.storage.handlers import key_sweep
from salus.storage.handlers import sweep as sweep_module
from salus.storage.handlers.key_sweep import DESTROYED, LEFT, KeySweep


def sweep_of(bench: Bench) -> KeySweep:
    return KeySweep(bench.topic, bench.vault, interval_s=3600)


async def with_a_thief() -> Bench:
    """Her erasure is on the topic, and that her key is gone, and the reactor owes nothing any more."""
    bench = Bench()
    state = await bench.registered()
    number = state.key.rpartition("#")[2]
    erased = SubjectErased(
        patient=PATIENT,
        key=state.key,
        requested_by=HOSPITAL.did,
        basis="gdpr-art-17",
        objects=0,
        request=UNASKED,
    )
    bench.topic.fold(erased, PATIENT)
    bench.topic.fold(SubjectKeyDestroyed(patient=PATIENT, key=state.key, request=UNASKED), PATIENT)
    await bench.erasures.perform(PATIENT)
    assert set(bench.keys.objects) == {f"subjects/{PATIENT}/{number}"}
    return bench


async def test_a_key_that_is_recorded_as_destroyed_is_destroyed() -> None:
    bench, before = await with_a_thief(), DESTROYED._value.get()  # the client has no other way to read one
    sweep = sweep_of(bench)
    await sweep.look_through()
    await sweep.look_through()

    assert not bench.keys.objects
    assert DESTROYED._value.get() == before + 1
    assert await sweep.check() is None


async def test_keys_of_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sweep, "PATIENTS_AT_ONCE", 2)
    bench = await with_a_thief()
    # Of a registration under way nothing is on the topic yet.
    strangers = {f"subjects/urn:uuid:00000000-0000-4000-8000-00000000000{n}/1" for n in (0, 3, 4, 5)}
    for name in strangers:
        bench.keys.plant(name, b"wrapped")
    bench.keys.plant("subjects/README")
    await sweep_of(bench).look_through()

    assert set(bench.keys.objects) == strangers | {"subjects/README"}


async def test_an_erasure_that_is_not_done_yet_is_left_to_the_reactor() -> None:
    bench = Bench()
    await bench.registered()
    bench.keys.away = True
    with pytest.raises(Exception, match="key-destruction-pending"):
        await bench.subjects.erase(PATIENT, basis="gdpr-art-17", caller=calling(HOSPITAL))
    bench.keys.away = False
    await sweep_of(bench).look_through()

    assert bench.keys.objects
    await bench.erasures.perform(PATIENT)
    assert not bench.keys.objects


async def test_a_key_that_the_store_does_not_let_go_is_counted_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = await with_a_thief()
    sweep = sweep_of(bench)

    async def locked(key: str) -> None:
        raise RefusedError(key, "ObjectLocked")

    with monkeypatch.context() as patched:
        patched.setattr(bench.keys, "destroy", locked)
        await sweep.look_through()
        assert await sweep.check() == (
            "keys of 1 erased patients are there, and the store does not let them be destroyed"
        )
        assert LEFT._value.get() == 1
    await sweep.look_through()

    assert await sweep.check() is None
    assert LEFT._value.get() == 0
    assert not re.search(r"urn:uuid", capsys.readouterr().out)


async def test_a_store_that_is_away_ends_no_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await with_a_thief()
    monkeypatch.setattr(sweep_module, "RETRY_S_MAX", 0)
    bench.keys.away = True
    running = asyncio.create_task(sweep_of(bench).run())
    for _ in range(10):
        await asyncio.sleep(0)
    bench.keys.away = False
    async with asyncio.timeout(60):
        while bench.keys.objects:  # noqa: ASYNC110  # each step of the loop is a step of the sweep
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])

    assert running.cancelled()
