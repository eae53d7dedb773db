"""The JSON Schema files of a catalogue, and the check that it keeps what was released.

The files beside this module are generated (`python -m salus.events.schemas`), one for each event type; the
SHA-256 of a file is in the `dataschema` of its events. `released` holds every schema that was ever part of
a release, named by type and digest; nothing is removed from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from salus.events.catalogue import Catalogue
from salus.events.event_types import EventType, dataschema_of
from salus.events.schemas.compatibility import breaks_between

FOLDER = Path(__file__).parent
RELEASED = FOLDER / "released"


def files(catalogue: Catalogue) -> dict[str, bytes]:
    """Return what should be in the folder, by file name."""
    return {f"{entry.name}.json": entry.schema for entry in catalogue.types()}


def write(catalogue: Catalogue, folder: Path = FOLDER) -> None:
    """Bring the folder up to date with the catalogue."""
    wanted = files(catalogue)
    for path in folder.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, content in wanted.items():
        (folder / name).write_bytes(content)


def release(catalogue: Catalogue, folder: Path = RELEASED) -> list[str]:
    """Add the schemas that are not there yet to the released ones; return their names.

    Run it when a version is tagged (`make release-schemas`). From then on they change compatibly or never.
    """
    folder.mkdir(exist_ok=True)
    added = []
    for entry in catalogue.types():
        path = folder / _released_name(entry.name, entry.dataschema)
        if not path.exists():
            path.write_bytes(entry.schema)
            added.append(path.name)
    return added


def released_schemas(name: str, folder: Path = RELEASED) -> list[tuple[str, dict[str, Any]]]:
    """Return the released schemas of a type, each with the name of its file."""
    found = ((path.name, msgspec.json.decode(path.read_bytes())) for path in sorted(folder.glob("*.json")))
    return [(file, schema) for file, schema in found if schema["x-salus"]["type"] == name]


def broken_promises(catalogue: Catalogue, folder: Path = RELEASED) -> list[str]:
    """Return, as sentences, in what the catalogue breaks with what was released; none is right."""
    current = {entry.name: entry for entry in catalogue.types()}
    found, kept = [], set[str]()
    for path in sorted(folder.glob("*.json")):
        schema = path.read_bytes()
        name = msgspec.json.decode(schema)["x-salus"]["type"]
        dataschema = dataschema_of(name, schema)
        kept.add(dataschema)
        if path.name != _released_name(name, dataschema):
            found.append(f"{path.name}: the file is not the one that was released")
        elif name not in current:
            found.append(f"{name}: a released type is gone")
        else:
            found += _promises_broken_by(current[name], schema)
    for entry in current.values():
        gone = sorted(entry.older_dataschemas - kept)
        found += [f"{entry.name}: {older} is among its older_dataschemas and not released" for older in gone]
    return found


def _promises_broken_by(entry: EventType, released: bytes) -> list[str]:
    breaks = breaks_between(msgspec.json.decode(released), msgspec.json.decode(entry.schema))
    found = [f"{entry.name}: {each}" for each in breaks]
    dataschema = dataschema_of(entry.name, released)
    if dataschema != entry.dataschema and dataschema not in entry.older_dataschemas:
        found.append(f"{entry.name}: {dataschema} is missing in its older_dataschemas")
    return found


def _released_name(name: str, dataschema: str) -> str:
    return f"{name}.{dataschema.rpartition(':')[2][:16]}.json"
