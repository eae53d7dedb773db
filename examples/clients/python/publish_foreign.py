# ruff: noqa: INP001  # a script
"""Publishes documents of a patient to Salus with confluent-kafka and cryptography, and nothing of Salus.

Written from docs/integrators.md alone, to show that the page is enough. Python users install
`salus-client` instead and write `publish_with_salus.py`.

    python publish_foreign.py --bootstrap HOST:PORT --key KEY.pem --method DID#KEY --dataschema URN \
        --patient urn:uuid:… OBJECT…

Prints one line for each event: its id, topic, partition and offset. With `--lines` nothing is sent: what is
printed is what Kafka's console producer takes (see the integrator's page).
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

TOPIC = "salus.clinical.events"
TYPE = "salus.clinical.document-registered.v1"
CONTENT_TYPE = "application/cloudevents+json"
ANSWER_S_MAX = 60


def event(*, source: str, dataschema: str, patient: str, name: str) -> dict[str, Any]:
    """Return the CloudEvent that says that a document of this patient exists."""
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": source,
        "type": TYPE,
        "subject": patient,
        "time": datetime.now(UTC).isoformat(),
        "datacontenttype": "application/json",
        "dataschema": dataschema,
        "data": {"patient": patient, "object": name, "media_type": "application/fhir+json"},
    }


def sign(values: list[bytes], key: Ed25519PrivateKey, method: str) -> list[bytes]:
    """Return the `salus-signature` header of each value: one signature over all of them, and a path each."""
    levels = [[sha256(b"\0" + value).digest() for value in values]]
    while len(levels[-1]) > 1:
        level = levels[-1]
        above = [sha256(b"\1" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        # Without a sibling a node moves up as it is.
        levels.append(above + level[len(level) - 1 :] if len(level) % 2 else above)
    text = f"salus.health/event-batch/v1\n{len(values)}\n{b64encode(levels[-1][0]).decode()}\n"
    signature = b64encode(key.sign(text.encode())).decode()
    headers = []
    for index in range(len(values)):
        path = b"".join(
            level[(index >> height) ^ 1]
            for height, level in enumerate(levels[:-1])
            if (index >> height) ^ 1 < len(level)
        )
        header = f"v1 {method} {index}/{len(values)} {signature}"
        headers.append((f"{header} {b64encode(path).decode()}" if path else header).encode())
    return headers


def publish(bootstrap: str, events: list[dict[str, Any]], values: list[bytes], headers: list[bytes]) -> None:
    """Send the events and wait for every answer; raise if one is not delivered."""
    from confluent_kafka import KafkaException, Producer  # noqa: PLC0415  # `--lines` needs no Kafka

    failed = []

    def answered(error: Any, message: Any) -> None:
        if error is not None:
            failed.append(error)
        else:
            name = json.loads(message.value())["id"]  # noqa: TID251  # the bytes that were just made here
            sys.stdout.write(f"{name} {message.topic()} {message.partition()} {message.offset()}\n")

    # Another member could make Kafka take an idempotent producer's events for repetitions of its own. One
    # request at a time keeps the order, and of what a retry doubles the ledger takes the first.
    # `partitioner` as in the Java clients, so that a subject's events share a partition whoever sends them.
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": False,
            "max.in.flight.requests.per.connection": 1,
            "partitioner": "murmur2_random",
        }
    )
    for one, value, header in zip(events, values, headers, strict=True):
        kafka_headers: list[tuple[str, str | bytes | None]] = [
            ("salus-signature", header),
            ("content-type", CONTENT_TYPE.encode()),
        ]
        producer.produce(
            TOPIC, key=one["subject"].encode(), value=value, headers=kafka_headers, on_delivery=answered
        )
    left = producer.flush(ANSWER_S_MAX)
    if failed or left:
        raise KafkaException(failed[0] if failed else f"{left} events were not answered")


def console_line(one: dict[str, Any], value: bytes, header: bytes) -> str:
    """Return headers, key and value as the console producer takes them: with tabs between."""
    headers = f"salus-signature:{header.decode()},content-type:{CONTENT_TYPE}"
    return f"{headers}\t{one['subject']}\t{value.decode()}\n"


def main() -> int:
    """Publish a document for each object that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--bootstrap", "--key", "--method", "--dataschema", "--patient"):
        parser.add_argument(name, required=name != "--bootstrap")
    parser.add_argument("--lines", action="store_true")
    parser.add_argument("objects", nargs="+")
    chosen = parser.parse_args()

    key = load_pem_private_key(Path(chosen.key).read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        parser.error("the key is not an Ed25519 key")
    source = chosen.method.partition("#")[0]
    events = [
        event(source=source, dataschema=chosen.dataschema, patient=chosen.patient, name=name)
        for name in chosen.objects
    ]
    values = [json.dumps(one, separators=(",", ":"), ensure_ascii=False).encode() for one in events]
    headers = sign(values, key, chosen.method)
    if chosen.lines:
        for one, value, header in zip(events, values, headers, strict=True):
            sys.stdout.write(console_line(one, value, header))
    else:
        publish(chosen.bootstrap, events, values, headers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
