"""Traces carry the templates of paths, and nothing that a caller sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from fastapi import Request
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from structlog.testing import capture_logs
from tests.unit.runtime.test_response_headers import client_of, operations_of
from tools.openapi_documents import Behind, apps

from salus.events.parties import Party
from salus.runtime.redaction import Redacting

SECRET = "jane"  # in each place of a request
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Redacting(exporter)))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    # Without an endpoint services trace nothing.
    monkeypatch.setenv("SALUS_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    yield exporter
    provider.shutdown()


async def _somebody(_: Request) -> Party:
    return Party(did="did:web:jane.example", kind="person", roles=frozenset(), member=None)


# case X2
@pytest.mark.parametrize("service", ["audit", "consent", "identity", "storage"])
async def test_a_trace_names_routes_and_nobody(service: str, exporter: InMemorySpanExporter) -> None:
    # What is behind the routes fails with an error that names somebody too.
    app = apps(behind=Behind(f"{SECRET} {PATIENT}"), caller=_somebody)[service]
    headers = {
        "traceparent": f"00-{'1' * 32}-{'2' * 16}-01",
        "tracestate": f"a={SECRET}",
        "User-Agent": SECRET,
    }
    templates = {path for _, path in operations_of(app)}
    with capture_logs():
        async with client_of(app) as http:
            for method, path in operations_of(app):
                place = path.replace("{patient}", PATIENT).replace("{did}", f"did:web:{SECRET}")
                query = {"q": f"{SECRET} doe", "patient": PATIENT, SECRET: SECRET}
                await http.request(
                    method,
                    place.replace("{", SECRET),
                    params=query,
                    headers={**headers, "Host": f"{SECRET}.example"},
                )
            await http.get(f"/nowhere/{SECRET}?{SECRET}")
    spans = exporter.get_finished_spans()

    shown = "\n".join(span.to_json() for span in spans)
    assert SECRET not in shown
    assert PATIENT not in shown
    routes = {str((span.attributes or {}).get("http.route")).replace(":path}", "}") for span in spans}
    assert templates - {"/healthz", "/readyz", "/metrics"} <= routes <= templates | {"None"}
    assert {span.name.split()[0] for span in spans} <= {
        "DELETE",
        "GET",
        "HEAD",
        "OPTIONS",
        "PATCH",
        "POST",
        "PUT",
    }
    # The errors are known by their kind.
    assert "RuntimeError" in shown


def test_other_spans_leave_without_what_instrumentation_or_an_error_put_into_them(
    exporter: InMemorySpanExporter,
) -> None:
    tracer = trace.get_tracer("test")
    attributes = {
        "http.url": f"http://x/{SECRET}",
        "url.full": SECRET,
        "http.method": "GET",
        "db.statement": SECRET,
    }
    with tracer.start_as_current_span(f"GET /{SECRET}", kind=SpanKind.CLIENT, attributes=attributes):
        pass
    own_attributes = {"salus.height": 3}
    with suppress(ValueError), tracer.start_as_current_span("seal block", attributes=own_attributes):
        raise ValueError(SECRET)
    client, own = exporter.get_finished_spans()

    assert SECRET not in client.to_json() + own.to_json()
    assert (client.name, own.name) == ("GET", "seal block")
    assert dict(own.attributes or {}) == {"salus.height": 3}
    assert dict(own.events[0].attributes or {}) == {"exception.type": "ValueError"}
    assert own.status.description is None
