"""What leaves this process in a trace: names and numbers of ours, nothing that somebody sent.

A path, a query or an error's message may name a patient, and a trace store is outside of every erasure.
Instrumentation puts them into spans by default, so only attributes that are known to be harmless leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status
from opentelemetry.util.types import Attributes, AttributeValue

# Of OpenTelemetry's HTTP conventions, older and newer: what the server itself decides. `http.route` is a
# template, as in `/subjects/{patient}/key`.
ATTRIBUTES = frozenset(
    {
        "error.type",
        "exception.type",
        "http.flavor",
        "http.method",
        "http.request.method",
        "http.response.status_code",
        "http.route",
        "http.scheme",
        "http.status_code",
        "net.host.port",
        "network.protocol.version",
        "server.port",
        "url.scheme",
    }
)
# Attributes that this project's own code sets.
OWN_PREFIX = "salus."


class Redacting(SpanExporter):
    """Hands spans to another exporter without what somebody sent."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export what may leave."""
        return self._exporter.export([redacted(span) for span in spans])

    def shutdown(self) -> None:
        """Shut the other exporter down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the other exporter."""
        return self._exporter.force_flush(timeout_millis)


def redacted(span: ReadableSpan) -> ReadableSpan:
    """Return the span with harmless attributes only, and without messages and the caller's `tracestate`."""
    attributes = _harmless(span.attributes)
    return ReadableSpan(
        name=_name(span, attributes),
        context=_without_state(span.context),
        parent=_without_state(span.parent),
        resource=span.resource,
        attributes=attributes,
        events=[Event(event.name, _harmless(event.attributes), event.timestamp) for event in span.events],
        links=[Link(_known(link.context), _harmless(link.attributes)) for link in span.links],
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _harmless(attributes: Attributes) -> dict[str, AttributeValue]:
    return {
        key: value
        for key, value in (attributes or {}).items()
        if key in ATTRIBUTES or key.startswith(OWN_PREFIX)
    }


def _name(span: ReadableSpan, attributes: Mapping[str, AttributeValue]) -> str:
    """Return the name; that of a request, which instrumentation may take from its path, is made anew."""
    if span.kind not in {SpanKind.SERVER, SpanKind.CLIENT}:
        return span.name
    method = attributes.get("http.request.method") or attributes.get("http.method") or "HTTP"
    return " ".join(str(part) for part in (method, attributes.get("http.route")) if part)


def _known(context: SpanContext) -> SpanContext:
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)


def _without_state(context: SpanContext | None) -> SpanContext | None:
    return None if context is None else _known(context)
