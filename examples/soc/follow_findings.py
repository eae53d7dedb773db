# ruff: noqa: INP001  # a script
r"""Follows audit's findings with Faust, for a SOC: one line of JSON for each, whatever else is on the topic.

Written from docs/integrators.md alone; it needs faust-streaming and cryptography, and nothing of Salus.

    python follow_findings.py --bootstrap HOST:PORT --group soc.findings \
        --method DID#KEY --public-key audit.pem

What audit did not sign is passed over and named. A finding that comes again has the same uid, and is one
line. The position is the consumer group's: nobody else may have Kafka's `Read` on a group of that name, or he
can have findings passed over. Nothing else is kept, so there is no other topic that somebody could write to.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import faust
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

FINDING = 2004
BATCH_SIZE_MAX = 1024
HEADER_BYTES_MAX = 1024
# Findings that are remembered, so that one that comes again is no second line.
SEEN_MAX = 10_000


def root_of(value: bytes, *, index: int, size: int, path: bytes) -> bytes:
    """Return the root of a batch by one of its values and the hashes beside the way up; raise ValueError."""
    node, taken = sha256(b"\0" + value).digest(), 0
    if not 0 <= index < size <= BATCH_SIZE_MAX:
        raise ValueError("no such place in a batch")
    while size > 1:
        if index ^ 1 < size:
            beside = path[taken : taken + 32]
            node, taken = sha256(b"\1" + (beside + node if index & 1 else node + beside)).digest(), taken + 32
        # Without a sibling a node moves up as it is.
        index, size = index // 2, (size + 1) // 2
    if taken != len(path):
        raise ValueError("the path is not as long as the batch is high")
    return node


def read_base64(text: str) -> bytes:
    """Return what base64 says, if it is written in its one form; raise ValueError."""
    read = b64decode(text, validate=True)
    if b64encode(read).decode() != text:
        raise ValueError("not as base64 is written")
    return read


def is_signed(value: bytes, header: bytes, *, method: str, key: Ed25519PublicKey) -> bool:
    """Tell whether audit signed a value, by its `salus-signature` header."""
    try:
        version, by, place, signature, *path = header[: HEADER_BYTES_MAX + 1].decode("ascii").split(" ")
        index, size = map(int, place.split("/"))
        known = (version, by, place) == ("v1", method, f"{index}/{size}")
        if not known or len(header) > HEADER_BYTES_MAX or len(path) > 1 or path == [""]:
            return False
        siblings = read_base64("".join(path))
        root = b64encode(root_of(value, index=index, size=size, path=siblings)).decode()
        text = f"salus.health/audit-output/v1\n{size}\n{root}\n"
        key.verify(read_base64(signature), text.encode())
    except (ValueError, InvalidSignature):
        return False
    return True


def line_of(finding: dict[str, Any]) -> str:
    """Return a finding as a line; JSON in ASCII, so no byte of it does anything to a terminal."""
    info = finding["finding_info"]
    told = {
        "uid": info["uid"],
        "rule": info["types"][0],
        "severity": finding["severity"],
        "time": finding["time"],
        "actor": finding["evidences"][0]["actor"].get("user", {}).get("uid"),
        "message": finding["message"],
        "related": [event["uid"] for event in info["related_events"]],
    }
    return json.dumps(told) + "\n"


def follower(
    chosen: argparse.Namespace, key: Ed25519PublicKey, folder: str, tell: Callable[[str], Any]
) -> faust.App:
    """Return the stream processor, not started."""
    app = faust.App(
        chosen.group,
        broker=[f"kafka://{server}" for server in chosen.bootstrap.split(",")],
        datadir=folder,
        key_serializer="raw",
        value_serializer="raw",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=2.0,
    )
    seen: dict[str, None] = {}

    @app.agent(app.topic(chosen.topic, key_type=bytes, value_type=bytes))
    async def follow(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            value, headers = event.value or b"", dict(event.message.headers or ())
            if not is_signed(value, headers.get("salus-signature") or b"", method=chosen.method, key=key):
                sys.stderr.write(
                    f"not audit's: partition {event.message.partition} offset {event.message.offset}\n"
                )
                continue
            finding = json.loads(value)  # noqa: TID251  # audit wrote these bytes
            uid = finding["metadata"]["uid"]
            if finding["class_uid"] == FINDING and uid not in seen:
                # First the line, then the group's position: a crash in between writes it again.
                tell(line_of(finding))
                seen[uid] = None
                if len(seen) > SEEN_MAX:
                    del seen[next(iter(seen))]

    return app


def tell(line: str) -> None:
    """Write a line at once, for whoever reads from a pipe."""
    sys.stdout.write(line)
    sys.stdout.flush()


async def run(chosen: argparse.Namespace, key: Ed25519PublicKey) -> None:
    """Follow until told to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # Faust makes a folder though nothing is kept in it.
    with tempfile.TemporaryDirectory() as folder:
        app = follower(chosen, key, folder, tell)
        await app.start()
        try:
            await stop.wait()
        finally:
            await app.stop()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--bootstrap", "--method", "--public-key", "--group"):
        parser.add_argument(name, required=True)
    parser.add_argument("--topic", default="salus.audit.ocsf")
    chosen = parser.parse_args()
    key = load_pem_public_key(Path(chosen.public_key).read_bytes())
    if not isinstance(key, Ed25519PublicKey):
        parser.error("the key is not an Ed25519 key")
    asyncio.run(run(chosen, key))


if __name__ == "__main__":
    main()
