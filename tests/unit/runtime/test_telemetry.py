"""A log is lines of JSON, whatever is in a message; case O1."""

from __future__ import annotations

import json
import logging

from salus.runtime.telemetry import JsonFormatter


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
