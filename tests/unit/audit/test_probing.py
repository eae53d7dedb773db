"""Probing: the same findings come out in whatever order refusals become known, and after any restart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event
from tests.unit.audit.chain import Accepted, Chain
from tests.unit.audit.samples import AROUND, NOON, STORAGE
from tests.unit.audit.test_detection import GLASS, REFUSED, entry_of
from tests.unit.audit.test_indexing import (
    ALLOWED,
    CLINICIAN,
    PATIENT,
    READ,
    FakeOutputs,
    index_all,
    publish_all,
    publisher_of,
)
from tests.unit.audit.test_mappings import OCSF

from salus.audit import detectors
from salus.audit.adapters import refusals as refusals_adapter
from salus.audit.adapters.sql import SqlTrail
from salus.audit.detectors import Detectors, RuleFailedError
from salus.audit.domain.detection import EntryRule, glass_finding, is_glass_broken
from salus.audit.domain.entry import TrailEntry
from salus.audit.domain.probing import RULE, Period, ProbingRule, Refusal, refusal_of
from salus.audit.metrics import UNDETECTED
from salus.audit.ports import OutOfReachError, Trail

PROBING = ProbingRule(refusals=3, window_s=60)
WINDOW_MS = PROBING.window_ms
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ACTORS = ("did:key:zAnna", "did:key:zBert")


def at_ms_of(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


def refused(at_ms: int, index: int, reader: str = CLINICIAN) -> TrailEntry:
    data = msgspec.structs.replace(REFUSED, reader=reader)
    return entry_of(data, index, appended_at=EPOCH + timedelta(milliseconds=at_ms))


@dataclass
class MemoryTrail:
    """What is indexed, as far as the detectors ask for it; `test_refusals_are_…` hold for it and for SQL."""

    entries: list[TrailEntry] = field(default_factory=list)

    async def refusals(self, periods: Collection[Period]) -> list[Refusal]:
        known = defaultdict[tuple[str, int], list[Refusal]](list)
        for refusal in filter(None, map(refusal_of, self.entries)):
            known[refusal.actor, refusal.at_ms // WINDOW_MS].append(refusal)
        wanted = {(each.actor, each.number - back) for each in periods for back in (0, 1)}
        each_sorted = [sorted(known[one]) for one in wanted]
        kept = PROBING.refusals
        return [refusal for all_ in each_sorted for refusal in {*all_[:kept], *all_[-kept:]}]


def detectors_of(trail: MemoryTrail) -> Detectors:
    return Detectors(cast("Trail", trail), PROBING, AROUND)


async def judged(entries: Sequence[TrailEntry], *, at_once: int = 1) -> list[dict[str, Any]]:
    """Return the findings of entries that become known, and are published, in this order."""
    trail, found = MemoryTrail(), list[dict[str, Any]]()
    detecting = detectors_of(trail)
    for start in range(0, len(entries), at_once):
        some = entries[start : start + at_once]
        trail.entries += some
        findings = await detecting.findings(some)
        detecting.note(findings)
        found += findings
    return found


async def run(times: Sequence[int]) -> list[dict[str, Any]]:
    return await judged([refused(at_ms, index) for index, at_ms in enumerate(times)])


async def test_enough_refusals_within_the_window_are_probing() -> None:
    findings = await run([0, 1_000, 2_000])

    [finding] = findings
    OCSF[2004].validate(finding)
    assert finding["finding_info"]["related_events_count"] == 3
    assert finding["evidences"] == [{"actor": {"user": {"uid": CLINICIAN}}}]
    assert finding["unmapped"]["patient"] == PATIENT
    assert finding["time"] == 2_000


@pytest.mark.parametrize(("between_ms", "count"), [(29_999, 1), (30_000, 0)])
async def test_refusals_further_apart_than_the_window_are_not_probing(between_ms: int, count: int) -> None:
    start = 7 * WINDOW_MS - 10
    assert len(await run([start + n * between_ms for n in range(3)])) == count


async def test_a_burst_gives_one_finding_and_a_later_burst_another() -> None:
    later = 10_000_000

    findings = await run([0, 1, 2, 3, 4, later, later + 1, later + 2])

    assert len(findings) == 2
    assert len({finding["metadata"]["uid"] for finding in findings}) == 2


async def test_who_goes_on_is_found_once_for_each_length_of_the_window() -> None:
    assert len(await run(range(0, 10 * WINDOW_MS, 1000))) == 10


@pytest.mark.parametrize("ahead_ms", [3_600_000, -3_600_000])
async def test_one_refusal_dated_elsewhere_hides_none_after_it(ahead_ms: int) -> None:
    # Case X5, and the security report: a record with a far-future time made its actor immune.
    start = 10_000_000

    assert len(await run([start + ahead_ms, *range(start, start + 5_000, 1000)])) == 1
    assert await run([time for n in range(20) for time in (start + ahead_ms * (n + 2), start + n)]) != []


async def test_refused_reads_and_refused_decisions_are_refusals_and_nothing_else_is() -> None:
    entries = [REFUSED, msgspec.structs.replace(ALLOWED, allowed=False), READ, ALLOWED, GLASS]

    assert [refusal_of(entry_of(data)) is not None for data in entries] == [True, True, False, False, False]


async def test_a_refusal_of_nobody_accuses_nobody() -> None:
    entries = [msgspec.structs.replace(refused(n, n), actor=None) for n in range(5)]

    assert await judged(entries) == []


async def test_many_actors_push_no_one_out_of_what_is_remembered() -> None:
    # What is kept of an actor is in the trail, so a flood of others takes nobody's place.
    trail = MemoryTrail([refused(0, 0), refused(1, 1)])
    detecting = detectors_of(trail)
    others = [refused(n, 1000 + n, f"did:key:z{n}") for n in range(1000)]
    trail.entries += others
    await detecting.findings(others)
    trail.entries.append(refused(2, 2))

    assert len(await detecting.findings([refused(2, 2)])) == 1


async def test_what_is_remembered_of_findings_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, "TOLD_MAX", 3)
    entries = [refused(n, n, f"did:key:z{n % 50}") for n in range(500)]
    trail = MemoryTrail(entries)
    detecting = detectors_of(trail)
    found = await detecting.findings(entries)
    detecting.note(found)

    assert len(found) == 50
    assert len(detecting._told) == 3
    assert {each["metadata"]["uid"] for each in await detecting.findings(entries)} < {
        each["metadata"]["uid"] for each in found
    }


def expected(entries: Sequence[TrailEntry]) -> set[tuple[str | None, int]]:
    """Return actor and period of each refusal that completes a burst, by trying every one."""
    return {
        (entry.actor, at // WINDOW_MS)
        for entry in entries
        if (at := at_of(entry)) is not None
        and sum(
            other.actor == entry.actor
            and at - WINDOW_MS < at_of(other) <= at
            and (at_of(other), other.uid) <= (at, entry.uid)
            for other in entries
        )
        >= PROBING.refusals
    }


def at_of(entry: TrailEntry) -> int:
    return at_ms_of(entry.place.appended_at)


def periods(findings: Sequence[dict[str, Any]]) -> set[tuple[str | None, int]]:
    return {(f["evidences"][0]["actor"]["user"]["uid"], f["time"] // WINDOW_MS) for f in findings}


@st.composite
def histories(draw: st.DrawFn) -> list[TrailEntry]:
    """Draw refusals of two actors, dense and thin, in the order in which they become known."""
    drawn = draw(st.lists(st.tuples(st.integers(0, 240), st.sampled_from(ACTORS)), min_size=1, max_size=24))
    return draw(st.permutations([refused(s * 1000, n, actor) for n, (s, actor) in enumerate(drawn)]))


@given(histories(), st.data())
async def test_any_order_and_any_restarts_give_the_same_findings(
    known: list[TrailEntry], data: st.DataObject
) -> None:
    """The law: published in any order, some at a time, by a process that is killed at any moment, before or
    after it noted how far it was, the findings are those of the refusals alone."""
    trail, found = MemoryTrail(), list[dict[str, Any]]()
    detecting, start = detectors_of(trail), 0
    while start < len(known):
        # Others may be indexed by now; what is published is indexed.
        end = data.draw(st.integers(start + 1, len(known)))
        indexed = data.draw(st.integers(end, len(known)))
        trail.entries = known[: max(indexed, len(trail.entries))]
        findings = await detecting.findings(known[start:end])
        found += findings
        match data.draw(st.sampled_from(["goes on", "killed after", "killed before the mark"])):
            case "goes on":
                detecting.note(findings)
                start = end
            case "killed after":
                detecting, start = detectors_of(trail), end
            case "killed before the mark":
                detecting = detectors_of(trail)
                if data.draw(st.booleans()):
                    start = end

    assert periods(found) == expected(known)
    assert len({finding["metadata"]["uid"] for finding in found}) == len(expected(known))
    again = await judged(sorted(known, key=lambda each: each.uid), at_once=5)
    assert {each["metadata"]["uid"] for each in again} == {each["metadata"]["uid"] for each in found}


async def test_a_rule_that_fails_is_named_and_counted_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: TrailEntry) -> bool:
        raise RuntimeError("a fault in a rule")

    glass = EntryRule("break-glass", is_glass_broken, glass_finding)
    monkeypatch.setattr(detectors, "RULES", (EntryRule("broken", fail, glass_finding), glass))
    before = UNDETECTED._value.get()
    detecting = detectors_of(MemoryTrail())
    entries = [entry_of(GLASS), entry_of(READ, 1)]

    assert [each["metadata"]["event_code"] for each in await detecting.findings(entries)] == ["break-glass"]
    with pytest.raises(RuleFailedError, match=f"broken: RuntimeError at {entries[1].uid}"):
        await detecting.check()
    assert UNDETECTED._value.get() == before + 2

    monkeypatch.undo()
    await detecting.findings(entries)
    await detecting.check()


# --- in the trail ----------------------------------------------------------------------------------


def refusals(*names: str, reader: str = CLINICIAN) -> list[Accepted]:
    data = msgspec.structs.replace(REFUSED, reader=reader)
    return [Accepted(data, source=STORAGE, name=name, subject=PATIENT) for name in names]


def two_shards() -> tuple[Chain, Chain]:
    """Two shards that seal a partition of storage's topic each."""
    return (
        Chain(topic="salus.storage.events"),
        Chain(topic="salus.storage.others", origin="salus.local/dev/shard/1", shard=1),
    )


def found_in(outputs: FakeOutputs) -> list[dict[str, Any]]:
    events = [msgspec.json.decode(each.value) for each in outputs.messages]
    return [each for each in events if each.get("class_uid") == 2004]


def minutes(actor: str, *after: int) -> list[Period]:
    """Return the periods of an actor that begin so many minutes after noon."""
    return [Period(actor, at_ms_of(NOON) // WINDOW_MS + number, PROBING) for number in after]


async def test_of_each_period_and_the_one_before_the_first_and_last_refusals_are_given(
    trail: SqlTrail,
) -> None:
    chain = two_shards()[0]
    # A block a second: two minutes and a half.
    for n in range(150):
        more = refusals(f"o-{n}", reader="did:key:zOther") if n < 2 else []
        chain.seal([*refusals(f"r-{n}"), *more])
    await index_all(chain, trail)

    async def seconds(*periods: Period) -> list[tuple[str, int]]:
        found = await trail.refusals(periods)
        assert {each.patient for each in found} <= {PATIENT}
        return sorted((each.actor, (each.at_ms - at_ms_of(NOON)) // 1000) for each in found)

    first, second = [0, 1, 2, 57, 58, 59], [60, 61, 62, 117, 118, 119]
    assert await seconds(*minutes(CLINICIAN, 0)) == [(CLINICIAN, n) for n in first]
    assert await seconds(*minutes(CLINICIAN, 1)) == [(CLINICIAN, n) for n in [*first, *second]]
    assert await seconds(*minutes(CLINICIAN, 2)) == [
        (CLINICIAN, n) for n in [*second, 120, 121, 122, 147, 148, 149]
    ]
    assert await seconds(*minutes(CLINICIAN, 4)) == []
    both = await seconds(*minutes(CLINICIAN, 0), *minutes("did:key:zOther", 0, 1))
    assert ("did:key:zOther", 0) in both
    assert (CLINICIAN, 59) in both


async def test_any_number_of_actors_is_asked_for(trail: SqlTrail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals_adapter, "ACTORS_AT_ONCE_MAX", 7)
    chain = two_shards()[0]
    readers = [f"did:key:z{n}" for n in range(40)]
    chain.seal([each for reader in readers for each in refusals(f"r-{reader}", reader=reader)])
    await index_all(chain, trail)
    asked = [period for reader in readers for period in minutes(reader, 0, 1)]

    # Who is asked for twice, in two statements, is given twice.
    assert {each.actor for each in await trail.refusals(asked)} == set(readers)


@pytest.mark.parametrize("copies", [1, 40])
async def test_copies_of_a_refusal_are_not_more_refusals_and_hide_none(trail: SqlTrail, copies: int) -> None:
    """A member's Kafka account sends old refusals again, to accuse somebody or to fill what is looked at."""
    first, second = two_shards()
    first.seal(refusals("r-0"))
    await index_all(first, trail, second)
    second.seal([])
    for _ in range(copies):
        second.seal(refusals("r-0"))
    await index_all(second, trail, first)
    outputs = FakeOutputs()
    publisher = publisher_of(trail, outputs, first, second)
    await publish_all(publisher)

    assert [each["metadata"]["event_code"] for each in found_in(outputs)] == ["repeated"] * copies
    assert len(await trail.refusals(minutes(CLINICIAN, 0))) == 1
    second.seal(refusals("r-1", "r-2"))
    await index_all(second, trail, first)
    await publish_all(publisher)
    assert [f["metadata"]["event_code"] for f in found_in(outputs)][copies:] == [RULE]


async def test_refusals_of_two_shards_are_one_burst(trail: SqlTrail) -> None:
    first, second = two_shards()
    first.seal(refusals("r-0", "r-1"))
    second.seal(refusals("r-2"))
    outputs = FakeOutputs()
    publisher = publisher_of(trail, outputs, first, second)
    for chain, other in ((second, first), (first, second)):
        await index_all(chain, trail, other)
        await publish_all(publisher)

    [finding] = found_in(outputs)
    assert finding["finding_info"]["related_events_count"] == 3


@pytest.mark.parametrize("fault", ["LOST", "LATE"])
async def test_a_finding_that_may_not_have_gone_out_goes_out_again_as_the_same(
    trail: SqlTrail, fault: str
) -> None:
    """Between what is published and its mark a process can end: both come again, with the same ids."""
    chain = two_shards()[0]
    chain.seal(refusals("r-0", "r-1", "r-2"))
    await index_all(chain, trail)
    outputs = FakeOutputs()
    outputs.fault = fault
    await publish_all(publisher_of(trail, outputs, chain))
    await publish_all(publisher_of(trail, outputs, chain))

    assert len(found_in(outputs)) == (2 if fault == "LATE" else 1)
    assert len({finding["metadata"]["uid"] for finding in found_in(outputs)}) == 1


async def test_what_a_repair_puts_back_is_judged(trail: SqlTrail) -> None:
    """Whoever writes to the database can take a refusal away; what the ledger has of it is found then."""
    chain = two_shards()[0]
    chain.seal(refusals("r-0", "r-1"))
    await index_all(chain, trail)
    outputs = FakeOutputs()
    publisher = publisher_of(trail, outputs, chain)
    missing = refused(at_ms_of(NOON), 77)
    await publisher.correct([missing])

    [finding] = found_in(outputs)
    assert finding["metadata"]["event_code"] == RULE


async def test_a_database_that_is_away_holds_back_what_would_be_judged(trail: SqlTrail) -> None:
    chain = two_shards()[0]
    chain.seal(refusals("r-0", "r-1", "r-2"))
    await index_all(chain, trail)
    outputs = FakeOutputs()
    publisher = publisher_of(trail, outputs, chain)

    async def away(*_: object, **__: object) -> list[Refusal]:
        raise OutOfReachError("the database")

    true, publisher.detectors.trail = publisher.detectors.trail, cast("Trail", SimpleNamespace(refusals=away))
    assert not await publisher.round()
    assert outputs.messages == []
    publisher.detectors.trail = true
    await publish_all(publisher)

    assert len(found_in(outputs)) == 1


async def test_refusals_are_looked_up_by_an_index_of_their_own(trail: SqlTrail) -> None:
    if trail._engine.dialect.name != "sqlite":
        pytest.skip("how SQLite plans")
    asked: list[tuple[str, Any]] = []

    @event.listens_for(trail._engine.sync_engine, "before_cursor_execute")
    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        asked.append((statement, parameters))

    await trail.refusals(minutes(CLINICIAN, 0, 1))
    event.remove(trail._engine.sync_engine, "before_cursor_execute", note)
    [(statement, parameters)] = asked
    async with trail._engine.connect() as connection:
        plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        steps = " ".join(row[-1] for row in plan)

    assert "ix_audit_trail_refused (actor=? AND appended_us>? AND appended_us<?)" in steps
    assert "ix_audit_trail_event (source=? AND id=?)" in steps
    assert "SCAN audit_trail" not in steps
