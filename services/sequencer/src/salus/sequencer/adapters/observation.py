"""Metrics and logs of a sequencer; neither holds anything of a record but its position and status."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

import structlog
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Counter, Gauge, Histogram

from salus.events.errors import Reason
from salus.runtime.supervisor import succeeded
from salus.sequencer.domain import Draft
from salus.sequencer.errors import HaltError
from salus.sequencer.ports import Announcement

_log = structlog.get_logger()
_tracer = trace.get_tracer("salus.sequencer")
_TRACE_CONTEXT = TraceContextTextMapPropagator()

BLOCKS = Counter("salus_sequencer_blocks", "Blocks committed by this process.", ["shard"])
LEAVES = Counter("salus_sequencer_leaves", "Leaves committed by this process.", ["shard", "status"])
HEIGHT = Gauge("salus_sequencer_height", "Height of the last block this process committed.", ["shard"])
OVERTAKEN = Counter("salus_sequencer_overtaken", "Times another sequencer was first.", ["shard"])
DOUBTED = Counter(
    "salus_sequencer_doubted_blocks",
    "Blocks of others with verdicts that differ here, for which other packages may be the reason.",
    ["shard"],
)
HALTED = Gauge("salus_sequencer_halted", "1: sealing stopped and needs a person.", ["shard", "reason"])
LAG = Gauge("salus_sequencer_lag_records", "Offsets not sealed yet.", ["shard", "topic", "partition"])
AWAITED = Gauge(
    "salus_sequencer_awaited_partitions", "Assigned to the shard, and not given to it yet.", ["shard"]
)
CLOCK_OFF = Gauge(
    "salus_sequencer_clock_off_seconds",
    "How far this clock is ahead of the store's, while no block is dated for it; 0: it is not.",
    ["shard"],
)
BLOCK_SECONDS = Histogram(
    "salus_sequencer_block_seconds",
    "From the arrival of a block's first record to its commit.",
    ["shard"],
    buckets=(0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2, 5, 10, 30),
)
STAGE_SECONDS = Histogram(
    "salus_sequencer_stage_seconds",
    "Time of one stage of one block.",
    ["shard", "stage"],
    buckets=(0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)


class PrometheusObserver:
    """Counts what one shard does, and remembers its last block for /status."""

    def __init__(self, shard: int) -> None:
        self._shard = str(shard)
        self.last: Draft | None = None

    def restored(self, *, height: int | None, window: int) -> None:
        """Say where sealing goes on."""
        _log.info("chain restored", shard=self._shard, height=height, window=window)

    def dated_ahead(self, *, height: int, seconds: float) -> None:
        """Say whose clock is to be looked at."""
        _log.error(
            "the last block is dated in the future: a sequencer's clock was ahead, or this one is behind",
            shard=self._shard,
            height=height,
            seconds=round(seconds),
        )

    def clock_off(self, *, seconds: float) -> None:
        """Say whose clocks are to be looked at."""
        CLOCK_OFF.labels(self._shard).set(seconds)
        if seconds:
            _log.error(
                "no block is dated: this clock and the store's differ", shard=self._shard, ahead_s=seconds
            )
        else:
            _log.info("the clocks agree again", shard=self._shard)

    def sealed(self, block: Announcement, draft: Draft, *, age_ms: float) -> None:
        """Count a committed block and its leaves by status."""
        succeeded()
        BLOCKS.labels(self._shard).inc()
        HEIGHT.labels(self._shard).set(block.height)
        BLOCK_SECONDS.labels(self._shard).observe(age_ms / 1000)
        LEAVES.labels(self._shard, "accepted").inc(block.accepted)
        for reason, count in Tally(rejection.reason for rejection in block.rejections).items():
            LEAVES.labels(self._shard, f"rejected:{reason}").inc(count)
        self._tell_undated(block)
        self.last = draft
        _log.info(
            "block sealed",
            shard=block.shard,
            height=block.height,
            leaves=block.leaves,
            accepted=block.accepted,
            age_ms=round(age_ms),
        )

    def _tell_undated(self, block: Announcement) -> None:
        """Say that a topic's setting was another, even if nobody saw it: who may change it can try again."""
        undated = Tally(each.topic for each in block.rejections if each.reason == Reason.CREATE_TIME)
        for topic, count in undated.items():
            _log.error(
                "records were dated by their senders: the topic's message.timestamp.type was another",
                topic=topic,
                records=count,
                height=block.height,
            )

    def overtaken(self, *, height: int) -> None:
        """Count a lost race."""
        OVERTAKEN.labels(self._shard).inc()
        _log.warning("another sequencer was first; starting over from the archive", height=height)

    def passed_over(self, error: HaltError) -> None:
        """Name the block that stays."""
        _log.error("a wrong block stays: its keys are retired, and the chain goes on", reason=str(error))

    def doubted(self, *, height: int, why: str, differs: bool) -> None:
        """Name the block and why nobody can tell."""
        if differs:
            DOUBTED.labels(self._shard).inc()
        say = _log.error if differs else _log.warning
        say("another's block cannot be judged", shard=self._shard, height=height, reason=why)

    def halted(self, error: HaltError) -> None:
        """Raise the alarm."""
        HALTED.labels(self._shard, type(error).__name__).set(1)
        _log.error("sealing stopped and needs a person", reason=str(error), error=type(error).__name__)

    @contextmanager
    def block(self, height: int, traces: Sequence[bytes]) -> Iterator[None]:
        """Trace the block in a span of its own, linked to its records'; the announcement carries it on."""
        links = [trace.Link(context) for context in map(_span_context, traces) if context.is_valid]
        attributes: dict[str, str | int] = {"salus.shard": self._shard, "salus.height": height}
        with _tracer.start_as_current_span("seal block", links=links, attributes=attributes):
            yield

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what is done within the context."""
        began = perf_counter()
        try:
            yield
        finally:
            STAGE_SECONDS.labels(self._shard, name).observe(perf_counter() - began)


def _span_context(traceparent: bytes) -> trace.SpanContext:
    """Return whose span it names; anybody may have sent the header, so anything may be in it."""
    carrier = {"traceparent": traceparent.decode("ascii", errors="replace")}
    return trace.get_current_span(_TRACE_CONTEXT.extract(carrier)).get_span_context()
