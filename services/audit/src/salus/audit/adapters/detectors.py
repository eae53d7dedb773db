"""The detectors as Faust agents over salus.audit.ocsf; their findings go back onto the same topic.

They are projections: at least once in, idempotent out, and nothing in the integrity path waits for them.
State is a Faust table in memory with a compacted changelog topic, declared here since the broker creates
none by itself. It has as many partitions as the topic; a topic that grows gets another one, and the
detectors start anew on it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import faust
import msgspec
import structlog

from salus.audit.adapters.signatures import OwnSignatures
from salus.audit.domain.detection import (
    ProbingRule,
    Window,
    actor_of,
    glass_finding,
    is_finding,
    is_glass_broken,
    is_refusal,
    is_repeated,
    is_stated_late,
    is_unentitled,
    key_of,
    late_finding,
    note_refusal,
    repeated_finding,
    unentitled_finding,
)
from salus.audit.metrics import FINDINGS, FORGED, UNDETECTED
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import Bootstrap, MessagingError, Reader, Topic, ensure_topics, partitions_of
from salus.runtime.supervisor import failed, succeeded

TABLE = "refusals"
RULES = ("break-glass", "denied-access-probing", "not-entitled", "repeated", "stated-late")
# The rules that one event alone is enough for.
_ALONE = (
    (is_glass_broken, glass_finding),
    (is_stated_late, late_finding),
    (is_unentitled, unentitled_finding),
    (is_repeated, repeated_finding),
)
RETRY_S = 5.0
LOOK_EVERY_S = 2.0
START_S_MAX = 10.0
# A record that fails so often is passed over, named and counted.
ATTEMPTS_MAX = 3
ATTEMPT_PAUSE_S = 1.0

_log = structlog.get_logger()
_decode = msgspec.json.Decoder().decode
_window = msgspec.json.Decoder(Window).decode


@dataclass
class Watch:
    """How far the detectors are, by partition, and what keeps a rule from working."""

    topic: str
    rule: ProbingRule
    signatures: OwnSignatures
    done: dict[int, int] = field(default_factory=dict)
    trouble: str | None = None


async def detect_for_ever(
    bootstrap: Bootstrap, *, topic: str, rule: ProbingRule, signatures: OwnSignatures
) -> None:
    """Run the detectors until cancelled; whatever stops them is logged and told, and they start again."""
    watch = Watch(topic, rule, signatures)
    for name in RULES:
        FINDINGS.labels(rule=name)
    while True:
        try:
            await _detect(bootstrap, watch)
        except MessagingError as error:
            failed(error)
            _log.warning("detectors wait", error=str(error))
        except Exception as error:  # noqa: BLE001  # Faust raises what it likes; the trail must not stop for it
            failed(error)
            _log.error("detectors failed", error=type(error).__name__, exc_info=error)
        await asyncio.sleep(RETRY_S)


async def _detect(bootstrap: Bootstrap, watch: Watch) -> None:
    """Run the detectors until Faust stops, or the topic has more partitions."""
    partitions = await _partitions(bootstrap, watch.topic)
    table = f"{TABLE}-{partitions}"
    changelog = Topic(
        f"{app_id_of(watch.topic)}-{table}-changelog", partitions, {"cleanup.policy": "compact"}
    )
    await ensure_topics(bootstrap, [changelog])
    app = detectors(bootstrap, watch, table=table, partitions=partitions)
    try:
        await _start(app)
        starts = {(watch.topic, number): 0 for number in range(partitions)}
        async with Reader(bootstrap, starts=starts) as reader:
            await _look(bootstrap, app, watch, reader)
    finally:
        await app.stop()


async def _partitions(bootstrap: Bootstrap, topic: str) -> int:
    if not (partitions := len((await partitions_of(bootstrap, [topic])).get(topic, []))):
        raise MessagingError(f"there is no topic {topic}")
    return partitions


async def _look(bootstrap: Bootstrap, app: faust.App, watch: Watch, reader: Reader) -> None:
    """Tell how the detectors fare, until they have to start again.

    They fare well if all that was on their partitions at the last look is done with.
    """
    begins: dict[int, int] = {}
    ends: dict[int, int] = {}
    while not app.should_stop:
        mine = {at.partition for at in app.consumer.assignment() if at.topic == watch.topic}
        now = {number: end for (_, number), end in (await reader.end_offsets()).items()}
        for number in mine - begins.keys():
            # What another replica had until now, or was done with before the start.
            begins[number] = now[number]
            watch.done.pop(number, None)
        begins = {number: begins[number] for number in mine}
        late = [n for n in mine if watch.done.get(n, begins[n]) < ends.get(n, 0)]
        if watch.trouble is None and not late:
            succeeded()
        else:
            failed(watch.trouble or f"partitions {late} of {watch.topic}")
        ends = now
        if await _partitions(bootstrap, watch.topic) != len(now):
            _log.warning("the topic has grown, detectors start anew", topic=watch.topic)
            return
        await asyncio.sleep(LOOK_EVERY_S)


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


def read_event(value: bytes | None) -> dict[str, Any] | None:
    """Return an OCSF event of audit's own, or None for anything else that may be on the topic."""
    try:
        event = _decode(value) if value is not None else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        event = None
    if (
        not isinstance(event, dict)
        or not isinstance(event.get("metadata"), dict)
        or not isinstance(event.get("unmapped"), dict)
        or not isinstance(event["metadata"].get("logged_time"), int)
        or not isinstance(event.get("time"), int)
        or "uid" not in event["metadata"]
    ):
        return None
    return event


def app_id_of(topic: str) -> str:
    """Return the name of the detectors' consumer group, which also begins their changelog's name."""
    return f"{topic}-detectors"


def detectors(bootstrap: Bootstrap, watch: Watch, *, table: str, partitions: int) -> faust.App:
    """Return the Faust app, not started."""
    app = faust.App(
        app_id_of(watch.topic),
        broker=[f"kafka://{server}" for server in str(bootstrap).split(",")],
        broker_credentials=_credentials(bootstrap),
        store="memory://",
        # Made though nothing is kept in it; the working folder may be one that nobody may write to.
        datadir=Path(tempfile.gettempdir()) / app_id_of(watch.topic),
        key_serializer="raw",
        value_serializer="raw",
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=partitions,
        web_enabled=False,
    )
    events = app.topic(watch.topic, key_type=bytes, value_type=bytes)
    windows = app.Table(table, key_type=bytes, value_type=bytes, partitions=partitions)

    app.agent(events)(agent_of(watch, windows, events))
    return app


def _credentials(bootstrap: Bootstrap) -> faust.SASLCredentials | faust.SSLCredentials | None:
    """Return the account as Faust takes it; none for brokers that speak to everybody."""
    if isinstance(bootstrap, str):
        return None
    account = bootstrap.account
    context = account.ssl_context()
    if account.user is None:
        return faust.SSLCredentials(context)
    return faust.SASLCredentials(
        username=account.user,
        password=account.password(),
        ssl_context=context,
        mechanism=account.mechanism.value,
    )


async def publish(finding: dict[str, Any], watch: Watch, events: Any) -> None:
    """Publish a finding, signed."""
    value = msgspec.json.encode(finding)
    [signature] = watch.signatures.of([value])
    headers = {
        "content-type": b"application/json",
        "salus-uid": finding["metadata"]["uid"].encode(),
        SIGNATURE_HEADER: signature,
    }
    await events.send(key=key_of(finding).encode(), value=value, headers=headers)
    FINDINGS.labels(rule=finding["metadata"]["event_code"]).inc()
    _log.warning("finding", rule=finding["metadata"]["event_code"], uid=finding["metadata"]["uid"])


def agent_of(watch: Watch, windows: Any, events: Any) -> Callable[[faust.StreamT[bytes]], Awaitable[None]]:
    """Return what goes through the rules for each record."""

    async def detect(value: bytes | None, signature: bytes | None) -> bool:
        """Go through the rules; tell whether one had something to do."""
        event = read_event(value)
        if value is None or event is None or not watch.signatures.are_on(value, signature):
            FORGED.inc()
            return False
        if is_finding(event):
            return False
        alone = [finding_of(event) for applies, finding_of in _ALONE if applies(event)]
        for finding in alone:
            await publish(finding, watch, events)
        actor = actor_of(event)
        if actor is None or not is_refusal(event):
            return bool(alone)
        key = actor.encode()
        stored = windows.get(key)
        window, found = note_refusal(_window(stored) if stored else Window(), event, watch.rule)
        if found is not None:
            await publish(found, watch, events)
        # Last: a crash before it gives the same finding again, one after it would have lost it.
        windows[key] = msgspec.json.encode(window)
        return True

    async def see(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            partition, offset = event.message.partition, event.message.offset
            signature = dict(event.message.headers or ()).get(SIGNATURE_HEADER)
            place = f"{watch.topic} {partition} {offset}"
            await _try(partial(detect, event.value, signature), watch, place)
            watch.done[partition] = offset + 1

    return see


async def _try(detect: Callable[[], Awaitable[bool]], watch: Watch, place: str) -> None:
    """Go through the rules for one record. Faust acknowledges it either way, so it is tried again here."""
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            if await detect():
                watch.trouble = None
        except Exception as error:  # noqa: BLE001  # told in /readyz until a rule works again
            watch.trouble = f"{type(error).__name__} at {place}"
            _log.error("a rule failed", at=watch.trouble, attempt=attempt, exc_info=error)
            await asyncio.sleep(ATTEMPT_PAUSE_S)
        else:
            return
    UNDETECTED.inc()
