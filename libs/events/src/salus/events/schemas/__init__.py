"""The JSON Schema files of the catalogue, and the check that a released one only ever gains optional fields.

The files beside this module are generated (`python -m salus.events.schemas`), one for each event type; the
SHA-256 of a file is in the `dataschema` of its events. `released` holds every schema that was ever part of
a release, named by type and digest; nothing is removed from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from salus.events.contexts import CATALOGUE
from salus.events.event_types import EventType, dataschema_of

FOLDER = Path(__file__).parent
RELEASED = FOLDER / "released"


def files() -> dict[str, bytes]:
    """Return what should be in the folder, by file name."""
    return {f"{entry.name}.json": entry.schema for entry in CATALOGUE.types()}


def write(folder: Path = FOLDER) -> None:
    """Bring the folder up to date with the catalogue."""
    wanted = files()
    for path in folder.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, content in wanted.items():
        (folder / name).write_bytes(content)


def release(folder: Path = RELEASED) -> list[str]:
    """Add the schemas that are not there yet to the released ones; return their names.

    Run it when a version is tagged. From then on they may gain optional fields and nothing else.
    """
    folder.mkdir(exist_ok=True)
    added = []
    for entry in CATALOGUE.types():
        path = folder / f"{entry.name}.{_digest(entry.dataschema)[:16]}.json"
        if not path.exists():
            path.write_bytes(entry.schema)
            added.append(path.name)
    return added


def broken_promises(folder: Path = RELEASED) -> list[str]:
    """Return, as sentences, in what the catalogue breaks with what was released; none is right."""
    current = {entry.name: entry for entry in CATALOGUE.types()}
    found = []
    for path in sorted(folder.glob("*.json")):
        schema = path.read_bytes()
        name = msgspec.json.decode(schema)["x-salus"]["type"]
        if path.name != f"{name}.{_digest(dataschema_of(name, schema))[:16]}.json":
            found.append(f"{path.name}: the file is not the one that was released")
        elif name not in current:
            found.append(f"{name}: a released type is gone")
        else:
            found += _promises_broken_by(current[name], schema)
    return found


def breaking_changes(released: Any, current: Any, at: str = "$") -> list[str]:
    """Return where the current schema is not the released one with optional fields added."""
    if not isinstance(released, dict) or not isinstance(current, dict):
        return [] if released == current else [f"{at}: changed"]
    found = []
    for key in sorted(released.keys() | current.keys()):
        if key == "properties":
            found += _property_changes(released.get(key, {}), current.get(key, {}), at)
        elif key == "$defs":
            before, after = released.get(key, {}), current.get(key, {})
            for name in sorted(before.keys() & after.keys()):
                found += breaking_changes(before[name], after[name], f"{at}.$defs.{name}")
        elif key not in released or key not in current:
            found.append(f"{at}.{key}: {'removed' if key in released else 'added'}")
        else:
            found += breaking_changes(released[key], current[key], f"{at}.{key}")
    return found


def _property_changes(before: dict[str, Any], after: dict[str, Any], at: str) -> list[str]:
    # A new property that is required shows as a change of `required`.
    gone = [f"{at}.properties.{name}: removed" for name in sorted(before.keys() - after.keys())]
    changed = [
        change
        for name in sorted(before.keys() & after.keys())
        for change in breaking_changes(before[name], after[name], f"{at}.properties.{name}")
    ]
    return gone + changed


def _promises_broken_by(entry: EventType, released: bytes) -> list[str]:
    changes = breaking_changes(msgspec.json.decode(released), msgspec.json.decode(entry.schema))
    found = [f"{entry.name}: {change}" for change in changes]
    dataschema = dataschema_of(entry.name, released)
    if dataschema != entry.dataschema and dataschema not in entry.older_dataschemas:
        found.append(f"{entry.name}: {dataschema} is missing in its older_dataschemas")
    return found


def _digest(dataschema: str) -> str:
    return dataschema.rpartition(":")[2]
