"""Traces that cross Kafka: an append is linked to the blocks that woke it, its announcement continues it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

# Blocks beyond this many that woke one append are not linked to.
LINKS_MAX = 128
_tracer = trace.get_tracer(__name__)
_TRACE_CONTEXT = TraceContextTextMapPropagator()


@contextmanager
def appending(traceparents: Sequence[bytes]) -> Iterator[Context]:
    """Trace an append, linked to the spans that its blocks were sealed in; without any there is no span."""
    links = [trace.Link(span) for span in map(_span_context, traceparents[:LINKS_MAX]) if span.is_valid]
    if not links:
        yield context.get_current()
        return
    with _tracer.start_as_current_span("append to log", links=links):
        yield context.get_current()


@contextmanager
def continuing(traced: Context) -> Iterator[None]:
    """Do something as part of a trace that was begun elsewhere."""
    token = context.attach(traced)
    try:
        yield
    finally:
        context.detach(token)


def _span_context(traceparent: bytes) -> trace.SpanContext:
    """Return whose span it names; anybody may have sent the header, so anything may be in it."""
    carrier = {"traceparent": traceparent.decode("ascii", errors="replace")}
    return trace.get_current_span(_TRACE_CONTEXT.extract(carrier)).get_span_context()
