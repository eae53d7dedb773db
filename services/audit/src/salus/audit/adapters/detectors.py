"""The detectors as Faust agents over salus.audit.ocsf; their findings go back onto the same topic.

They are projections: at least once in, idempotent out, and nothing in the integrity path waits for them.
State is a Faust table in memory with a compacted changelog topic, declared here since the broker creates
none by itself.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import faust
import msgspec
import structlog

from salus.audit.domain.detection import (
    ProbingRule,
    Window,
    actor_of,
    glass_finding,
    is_finding,
    is_glass_broken,
    is_refusal,
    key_of,
    note_refusal,
)
from salus.audit.metrics import FINDINGS
from salus.messaging import MessagingError, Topic, ensure_topics, partitions_of

TABLE = "refusals"
RETRY_S = 5.0
START_S_MAX = 10.0

_log = structlog.get_logger()
_decode = msgspec.json.Decoder().decode
_window = msgspec.json.Decoder(Window).decode


async def detect_for_ever(bootstrap: str, *, topic: str, rule: ProbingRule) -> None:
    """Run the detectors until cancelled; whatever stops them is logged, and they start again."""
    while True:
        app = None
        try:
            partitions = len((await partitions_of(bootstrap, [topic])).get(topic, []))
            if partitions:
                compacted = {"cleanup.policy": "compact"}
                changelog = Topic(f"{app_id_of(topic)}-{TABLE}-changelog", partitions, compacted)
                await ensure_topics(bootstrap, [changelog])
                app = detectors(bootstrap, topic=topic, partitions=partitions, rule=rule)
                await _start(app)
                await app.wait_until_stopped()
            _log.warning("detectors wait", topic=topic, partitions=partitions)
        except MessagingError as error:
            _log.warning("detectors wait", error=str(error))
        except Exception as error:  # noqa: BLE001  # Faust raises what it likes; the trail must not stop for it
            _log.error("detectors failed", error=type(error).__name__, exc_info=error)
        finally:
            if app is not None:
                await app.stop()
        await asyncio.sleep(RETRY_S)


async def _start(app: faust.App) -> None:
    """Start the app; who is cancelled meanwhile waits first, or START_S_MAX at most.

    Faust reads Kafka in a thread of its own, which leaves connections open if the app is stopped before it
    has started.
    """
    starting = asyncio.ensure_future(app.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting], timeout=START_S_MAX)
        starting.cancel()
        raise


def read_event(value: bytes) -> dict[str, Any] | None:
    """Return an OCSF event of audit's own, or None for anything else that may be on the topic."""
    try:
        event = _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        event = None
    if (
        not isinstance(event, dict)
        or not isinstance(event.get("metadata"), dict)
        or not isinstance(event.get("unmapped"), dict)
        or not isinstance(event.get("time"), int)
        or "uid" not in event["metadata"]
    ):
        _log.warning("not an event of audit", bytes=len(value or b""))
        return None
    return event


def app_id_of(topic: str) -> str:
    """Return the name of the detectors' consumer group, which also begins their changelog's name."""
    return f"{topic}-detectors"


def detectors(bootstrap: str, *, topic: str, partitions: int, rule: ProbingRule) -> faust.App:
    """Return the Faust app, not started."""
    app = faust.App(
        app_id_of(topic),
        broker=[f"kafka://{server}" for server in bootstrap.split(",")],
        store="memory://",
        # Made though nothing is kept in it; the working folder may be one that nobody may write to.
        datadir=Path(tempfile.gettempdir()) / app_id_of(topic),
        key_serializer="raw",
        value_serializer="raw",
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=partitions,
        web_enabled=False,
    )
    events = app.topic(topic, key_type=bytes, value_type=bytes)
    windows = app.Table(TABLE, key_type=bytes, value_type=bytes, partitions=partitions)

    async def publish(finding: dict[str, Any]) -> None:
        value = msgspec.json.encode(finding)
        headers = {"content-type": b"application/json", "salus-uid": finding["metadata"]["uid"].encode()}
        await events.send(key=key_of(finding).encode(), value=value, headers=headers)
        FINDINGS.labels(rule=finding["metadata"]["event_code"]).inc()
        _log.warning("finding", rule=finding["metadata"]["event_code"], uid=finding["metadata"]["uid"])

    @app.agent(events)
    async def watch(stream: faust.StreamT[bytes]) -> None:
        async for value in stream:
            event = read_event(value)
            if event is None or is_finding(event):
                continue
            if is_glass_broken(event):
                await publish(glass_finding(event))
            actor = actor_of(event)
            if actor is not None and is_refusal(event):
                key = actor.encode()
                stored = windows.get(key)
                window, found = note_refusal(_window(stored) if stored else Window(), event, rule)
                if found is not None:
                    await publish(found)
                # Last: a crash before it gives the same finding again, one after it would have lost it.
                windows[key] = msgspec.json.encode(window)

    return app
