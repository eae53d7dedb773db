"""A whole bucket against the ledger: what is damaged, missing, nobody's, and where to go on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import calling

from salus.objects import Entry, OnStray
from salus.runtime.places import Places
from salus.storage.adapters.object_table import FoldedInventory
from salus.storage.handlers.bucket_verification import BucketVerification, Finding, Step
from salus.storage.handlers.damage import Fault
from salus.storage.verification_api import verified, words

from .conftest import CONTENT, HOSPITAL, OFFICER, PATIENT, SEGMENT_BYTES, Bench


def verification_of(bench: Bench) -> BucketVerification:
    replica = bench.topic.topics.replica()
    return BucketVerification(bench.topic, FoldedInventory(replica, replica), bench.objects, bench.vault)


async def steps_of(bench: Bench, after: str = "") -> list[Step]:
    return [step async for step in verification_of(bench).steps(after=after)]


async def findings_of(bench: Bench) -> list[Finding]:
    return [finding for step in await steps_of(bench) for finding in step.findings]


async def bucket(*names: str) -> Bench:
    bench = Bench()
    await bench.registered()
    for name in names:
        await bench.stored(CONTENT, name=name)
    return bench


def place_of(bench: Bench, name: str) -> str:
    (place,) = [key for key in bench.objects.objects if key.startswith(f"{name}/")]
    return place


async def test_a_bucket_that_is_as_the_ledger_says_has_no_finding() -> None:
    bench = await bucket("a", "b", "c")
    steps = await steps_of(bench)

    assert [step.after for step in steps] == sorted(bench.objects.objects)
    assert not any(step.findings for step in steps)
    assert sum(step.stored_bytes for step in steps) == sum(
        len(raw) for raw, _ in bench.objects.objects.values()
    )


@pytest.mark.parametrize("erased", [False, True])
async def test_everything_that_is_wrong_is_named_and_a_stray_disturbs_nothing(erased: bool) -> None:  # noqa: FBT001  # a case
    bench = await bucket("a", "b", "c", "d")
    damaged, missing = place_of(bench, "b"), place_of(bench, "c")
    raw, etag = bench.objects.objects[damaged]
    at = raw.index(b"\n\n") + 2 + SEGMENT_BYTES + 7
    bench.objects.objects[damaged] = (raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], etag)
    del bench.objects.objects[missing]
    for stray in ("0 of a backup\n", "zz/\u202e"):
        bench.objects.plant(stray, b"x")
    bench.objects.plant("c/left-by-a-crash", b"x")
    bench.objects.plant("_salus/probe/0", b"x")
    bench.objects.plant(f"_uploads/{'0' * 32}/1790000000-9-{'0' * 32}/{0:016d}", b"x")
    bench.objects.plant("_uploads/somebody/else", b"x")
    if erased:
        await bench.subjects.erase(PATIENT, basis="gdpr-art-17", caller=calling(HOSPITAL))
    found = await findings_of(bench)

    assert sorted(found, key=lambda finding: (finding.kind, finding.location)) == [
        Finding("damaged", damaged, "b", PATIENT, (Fault("segment", "altered", segment=1),)),
        Finding("damaged", missing, "c", PATIENT, (Fault("object", "missing"),)),
        Finding("stray", "0 of a backup\\n"),
        Finding("stray", "zz/\\u202e"),
        Finding("unnamed", "_uploads/somebody/else"),
        Finding("unnamed", "c/left-by-a-crash"),
    ]


@given(names=st.sets(st.text("abc", min_size=1, max_size=3), max_size=8), data=st.data())
def test_who_goes_on_from_where_it_was_misses_nothing(names: set[str], data: st.DataObject) -> None:
    import asyncio  # noqa: PLC0415  # Hypothesis calls a function

    async def story() -> None:
        bench = await bucket(*sorted(names))
        for name in data.draw(st.sets(st.sampled_from(sorted(names) or ["a"]))):
            bench.objects.objects.pop(place_of(bench, name), None) if names else None
        bench.objects.plant("b/unnamed", b"x")
        whole = await steps_of(bench)
        stop = data.draw(st.integers(0, len(whole) - 1))
        again = await steps_of(bench, after=whole[stop].after)

        assert whole[: stop + 1] + again == whole

    asyncio.run(story())


async def test_an_object_that_comes_meanwhile_is_not_called_wrong() -> None:
    bench = await bucket("a")
    listing = bench.objects.list

    async def slow(prefix: str = "", start_after: str = "", *, on_stray: OnStray) -> AsyncIterator[Entry]:
        await bench.stored(CONTENT, name="b")
        async for entry in listing(prefix, start_after, on_stray=on_stray):
            yield entry

    bench.objects.list = slow  # type: ignore[method-assign]  # the moment between two lines
    steps = await steps_of(bench)

    assert [step.after.partition("/")[0] for step in steps] == ["a", "b"]
    assert not any(step.findings for step in steps)


async def events_of(bench: Bench, *, after: str = "", stream_s_max: float = 60) -> list[dict[str, object]]:
    events = verified(
        verification_of(bench),
        Places(most=1, of_one_max=1),
        OFFICER,
        after=after,
        stream_s_max=stream_s_max,
    )
    lines = b"".join([event async for event in events]).split(b"\n\n")
    return [msgspec.json.decode(line.removeprefix(b"data: ")) for line in lines if line]


async def test_the_stream_tells_progress_findings_and_the_result() -> None:
    bench = await bucket("a", "b")
    del bench.objects.objects[place_of(bench, "a")]
    told = await events_of(bench)
    (found,) = [event for event in told if "finding" in event]

    assert told[-1] == {"result": "differs", "findings": 1}
    assert "object is missing" in str(found["sentence"])
    assert told[-2]["progress"]["objects"] == 2  # type: ignore[index]  # it is a dict


async def test_a_stream_that_took_long_says_where_to_go_on() -> None:
    bench = await bucket("a", "b", "c")
    told, after, streams = list[dict[str, object]](), "", 0
    while not told or "result" not in told[-1]:
        told = await events_of(bench, after=after, stream_s_max=-1 if streams < 2 else 60)
        after, streams = str(told[-1].get("after", "")), streams + 1

    assert streams == 3
    assert told[-1] == {"result": "intact", "findings": 0}


async def test_a_store_that_is_away_ends_it_with_where_to_go_on() -> None:
    bench = await bucket("a")
    bench.objects.away = True

    assert (await events_of(bench))[-1]["error"] == "unavailable"


def test_each_kind_of_finding_has_its_sentence() -> None:
    assert words(Finding("stray", "x")) == "x: none of ours, it is left alone"
    assert words(Finding("unnamed", "x")).startswith("x: no event names it")
