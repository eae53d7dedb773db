"""Writes what is generated from the catalogue: JSON Schemas, and the AsyncAPI document with `--docs`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from salus.events import asyncapi, schemas
from salus.events.contexts import CATALOGUE


def main() -> int:
    """Write the files; return 1 if the catalogue breaks with a released schema."""
    parser = argparse.ArgumentParser(prog="python -m salus.events.schemas", description=__doc__)
    parser.add_argument("--docs", type=Path, help="the folder that asyncapi.json goes to")
    parser.add_argument("--release", action="store_true", help="keep today's schemas as released ones")
    chosen = parser.parse_args()
    schemas.write(CATALOGUE)
    if chosen.docs is not None:
        (chosen.docs / asyncapi.FILE_NAME).write_bytes(asyncapi.document(CATALOGUE))
    if chosen.release:
        schemas.release(CATALOGUE)
    broken = schemas.broken_promises(CATALOGUE)
    for sentence in broken:
        sys.stderr.write(sentence + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
