from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from salus.ledger.records import records_of
from salus.messaging import MissingRecordsError
from salus.runtime.supervisor import Pulse
from salus.sequencer.__main__ import checks_of, watch_lag
from salus.sequencer.adapters import observation
from salus.sequencer.adapters.memory import MemoryTopics
from salus.sequencer.adapters.observation import AWAITED, LAG
from salus.sequencer.handing_over import Outlook
from salus.sequencer.handlers import Progress
from salus.sequencer.intake import TRACES_LINKED_MAX, TRACES_LOOKED_AT, traces_in


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(observation, "_tracer", provider.get_tracer("test"))
    return exporter


def test_a_block_s_span_links_to_those_of_its_records_and_survives_nonsense(
    spans: InMemorySpanExporter,
) -> None:
    good = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with observation.PrometheusObserver(0).block(7, [good, b"\xff nonsense", b"", b"00-0-0-0"]):
        inside = trace.get_current_span().get_span_context()

    (span,) = spans.get_finished_spans()
    assert span.context == inside
    assert [link.context.trace_id for link in span.links] == [0x0AF7651916CD43DD8448EB211C80319C]
    assert span.attributes == {"salus.shard": "0", "salus.height": 7}


def test_few_distinct_traces_are_taken_from_a_batch() -> None:
    topics = MemoryTopics({("t", 0): []})
    records = [
        topics.append("t", 0, key=None, value=None, headers=[("traceparent", b"%d" % (number // 2))])
        for number in range(100)
    ]

    (parts,) = records_of(records)
    few = tuple(b"%d" % number for number in range(TRACES_LINKED_MAX))
    assert traces_in([parts]) == traces_in([parts.between(0, 9), parts.between(9, 100)]) == few
    assert traces_in(records_of([topics.append("t", 0, key=None, value=None)])) == ()
    assert traces_in([]) == ()


def test_no_more_than_the_first_records_are_looked_at_for_traces() -> None:
    topics = MemoryTopics({("t", 0): []})
    silent = [topics.append("t", 0, key=None, value=None) for _ in range(TRACES_LOOKED_AT - 1)]
    traced = [
        topics.append("t", 0, key=None, value=None, headers=[("traceparent", b"%d" % n)]) for n in (0, 1)
    ]
    parts = [*records_of(silent), *records_of(traced), *records_of(traced)]

    assert traces_in(parts) == traces_in(records_of([*silent, *traced])) == (b"0",)


class _Ends:
    """A log that ends at one offset everywhere."""

    def __init__(self, progress: Progress, end: int = 9) -> None:
        self._progress = progress
        self._end = end

    async def ends(self) -> dict[tuple[str, int], int]:
        return dict.fromkeys(self._progress.starts, self._end)


async def test_what_was_given_away_has_no_lag_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salus.sequencer.__main__.LAG_EVERY_S", 0)
    progress = Progress(starts={("topic.a", 0): 0, ("topic.a", 1): 0}, outlook=Outlook(1, (("topic.b", 0),)))
    progress.reader = _Ends(progress)  # type: ignore[assignment]  # what is asked of it here

    def lags() -> dict[str, float]:
        samples = next(iter(LAG.collect())).samples
        return {s.labels["partition"]: s.value for s in samples if s.labels["shard"] == "77"}

    watching = asyncio.create_task(watch_lag(77, progress, Pulse("sealing", age_s_max=60)))
    for _ in range(10):
        await asyncio.sleep(0)
    before = lags()
    progress.starts = {("topic.a", 1): 0}
    for _ in range(10):
        await asyncio.sleep(0)
    watching.cancel()
    await asyncio.wait([watching])

    assert before == {"0": 9, "1": 9}
    assert lags() == {"1": 9}
    assert AWAITED.labels("77")._value.get() == 1  # the client has no other way to read one


@pytest.mark.parametrize(("end", "ages"), [(9, True), (0, False)])
async def test_sealing_ages_while_records_wait_and_no_block_comes(
    end: int, *, ages: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Case K3 and item 12 of issue 12. A shard that sealed nothing was ready.
    monkeypatch.setattr("salus.sequencer.__main__.LAG_EVERY_S", 0)
    progress = Progress(starts={("topic.a", 0): 0})
    progress.reader = _Ends(progress, end)  # type: ignore[assignment]  # what is asked of it here
    seconds = [0.0]
    sealing = Pulse("sealing", age_s_max=5, clock=lambda: seconds[0])
    seconds[0] = 6.0
    watching = asyncio.create_task(watch_lag(78, progress, sealing))
    for _ in range(10):
        await asyncio.sleep(0)
    watching.cancel()
    await asyncio.wait([watching])

    assert (sealing.age_s > 5) == ages


@pytest.mark.parametrize("missing", ["before", "now", None])
async def test_records_that_are_gone_make_it_not_ready_whichever_reader_saw_it(missing: str | None) -> None:
    gap = {("topic.a", 0): MissingRecordsError("topic.a", 0, 1, 2)}
    reader = SimpleNamespace(damaged={}, missing=gap if missing == "now" else {})
    progress = Progress(reader=cast("Any", reader), missing=gap if missing == "before" else {})
    shard, nothing = SimpleNamespace(partitions=()), SimpleNamespace(require_bucket=None)
    checks = checks_of(
        cast("Any", None),
        cast("Any", shard),
        cast("Any", nothing),
        progress,
        cast("Any", None),
        cast("Any", SimpleNamespace(check=None)),
    )

    if missing is None:
        await checks["sealing"]()
    else:
        with pytest.raises(MissingRecordsError, match="from offset 1 to 1 some are gone"):
            await checks["sealing"]()
