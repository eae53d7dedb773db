"""A log is lines of JSON, whatever is in a message; case O1."""

from __future__ import annotations

import io
import json
import logging
import os
import resource
import sys

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from salus.runtime import telemetry
from salus.runtime.service import create_app
from salus.runtime.settings import ProcessSettings
from salus.runtime.telemetry import LINES_LOST, JsonFormatter


def test_what_a_library_logs_is_one_line_whatever_it_quotes() -> None:
    nasty = 'a\n{"event": "faked"}\r\x1b[2J\u2028\u202e\ud800'
    error = ValueError(nasty)
    caught = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("aiokafka", logging.WARNING, "x.py", 1, "topic %s", (nasty,), caught)
    line = JsonFormatter().format(record)

    assert line.isprintable()
    assert line.isascii()
    read = json.loads(line)
    assert (read["event"], read["level"], read["logger"]) == (f"topic {nasty}", "warning", "aiokafka")
    assert read["exception"].startswith("ValueError")
    assert read["timestamp"].endswith("Z")


@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:4318"])
def test_without_an_endpoint_nothing_is_traced(monkeypatch: pytest.MonkeyPatch, endpoint: str | None) -> None:
    providers: list[TracerProvider] = []
    monkeypatch.setattr(trace, "set_tracer_provider", providers.append)
    settings = ProcessSettings(service_name="consent", http_port=1, otlp_endpoint=endpoint)

    telemetry.set_up_traces(settings)
    app = create_app(settings, title="t", checks={})
    for provider in providers:
        provider.shutdown()

    assert len(providers) == (endpoint is not None)
    assert getattr(app, "_is_instrumented_by_opentelemetry", False) is (endpoint is not None)


@pytest.mark.parametrize(
    "fault", [OSError(28, "No space left on device"), BrokenPipeError(), ValueError("closed")]
)
def test_a_line_that_is_not_written_ends_nobody(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    # Case B5: the log's disk was full, a warning within a handler raised, and consent's fold ended for good.
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise fault

        def flush(self) -> None:
            raise fault

    monkeypatch.setattr(sys, "stderr", Full())
    monkeypatch.setattr(os, "umask", lambda _: 0)
    limits: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(resource, "setrlimit", limits.__setitem__)
    before = LINES_LOST._value.get()
    root, handlers = logging.getLogger(), logging.getLogger().handlers[:]
    root.handlers.clear()
    try:
        telemetry.set_up(ProcessSettings(service_name="consent", http_port=1))
        structlog.get_logger().warning("folding waits")
        logging.getLogger("aiokafka").error("away")
    finally:
        root.handlers[:] = handlers
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()

    assert LINES_LOST._value.get() > before
    # What is in memory, keys among it, is not written to a disk by a crash.
    assert limits == {resource.RLIMIT_CORE: (0, 0)}
