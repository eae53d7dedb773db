"""`python -m salus.devkit`: fetch and build Kafka and MinIO if they are not there yet, for `make`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from salus.devkit.errors import DevkitError
from salus.devkit.kafka_server import kafka_classpath, loaded_classes
from salus.devkit.minio_server import minio_binary
from salus.devkit.narration import PlainNarrator
from salus.devkit.parts import find_parts
from salus.devkit.processes import Place


async def prepare() -> None:
    """Get ready whatever this machine needs to start the parts.

    Raises:
        DevkitError: something is missing; the message says what.
    """
    narrator = PlainNarrator()
    with tempfile.TemporaryDirectory(prefix="salus-") as folder:
        place = Path(folder)
        parts = await find_parts(Place(place, place, detached=False), narrator)
    if parts.kind == "local":
        await minio_binary(narrator)
        await loaded_classes(await kafka_classpath(narrator), narrator)


def main() -> int:
    """Return the exit code: 0, or 1 with one sentence on stderr."""
    try:
        asyncio.run(prepare())
    except DevkitError as error:
        sys.stderr.write(f"salus: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
