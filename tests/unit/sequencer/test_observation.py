from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from salus.sequencer.adapters import observation
from salus.sequencer.adapters.memory import MemoryTopics
from salus.sequencer.handlers import TRACES_LINKED_MAX, traces_in


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

    assert traces_in(records) == tuple(b"%d" % number for number in range(TRACES_LINKED_MAX))
    assert traces_in([topics.append("t", 0, key=None, value=None)]) == ()
