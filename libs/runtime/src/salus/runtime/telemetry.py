"""Structured logs, traces and metrics; none of them carries personal data."""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
from datetime import UTC, datetime
from typing import TextIO, cast

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import Counter
from structlog.typing import EventDict, ExcInfo, WrappedLogger

from salus.crypto.private_files import UMASK
from salus.runtime.redaction import Redacting
from salus.runtime.settings import ProcessSettings
from salus.runtime.tracebacks import described

LINES_LOST = Counter("salus_log_lines_lost", "Log lines, or ends of them, that could not be written.")


def _with_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event


def _rendered(exc_info: ExcInfo) -> str:
    return described(exc_info[1])


class JsonFormatter(logging.Formatter):
    """Writes what libraries log as a line of JSON too: a message may quote others, line ends included."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "logger": record.name,
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = described(record.exc_info[1])
        return json.dumps(line)


class LogStream:
    """Where log lines go. One that cannot be written, for want of space or of a reader, is counted and lost.

    Else it would end whatever wrote it, which is most of all what tells of something that is wrong.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or count what is lost."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            LINES_LOST.inc()
            return len(text)

    def flush(self) -> None:
        """Flush, or count what is lost."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            LINES_LOST.inc()


def set_up(settings: ProcessSettings) -> None:
    """Configure logs (JSON lines on stderr) and traces (OTLP, if an endpoint is set) for this process.

    Every file that it makes from now on is its user's alone: databases and their journals too. If it crashes,
    the system keeps no image of its memory, where keys and plaintext are.
    """
    os.umask(UMASK)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    stream = LogStream(sys.stderr)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler])
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _with_trace,
            structlog.processors.ExceptionRenderer(_rendered),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", stream)),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=settings.service_name)
    set_up_traces(settings)


def set_up_traces(settings: ProcessSettings) -> None:
    """Let spans go to the endpoint; without one none is made, for they cost an eighth of a command."""
    if not settings.otlp_endpoint:
        return
    provider = TracerProvider(resource=Resource.create({"service.name": f"salus-{settings.service_name}"}))
    exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(Redacting(exporter)))
    trace.set_tracer_provider(provider)
