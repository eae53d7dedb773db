"""Synthea's patients as the demo needs them: the record as it is, and what happened to them as events."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

Context = Literal["clinical", "lab", "pharma"]

# Which organisation tells which of Synthea's resources: resource type -> (context, its time in the resource).
_TOLD = {
    "Encounter": ("clinical", ("period", "start")),
    "Observation": ("clinical", ("effectiveDateTime",)),
    "DiagnosticReport": ("lab", ("effectiveDateTime",)),
    "MedicationRequest": ("pharma", ("authoredOn",)),
}


@dataclass(frozen=True)
class Happening:
    """One resource that becomes an event: its content is sealed, its time is in the open."""

    context: Context
    kind: str
    identifier: str
    at: datetime
    content: bytes


@dataclass(frozen=True)
class SyntheticPatient:
    """A patient that Synthea made up: her given name, and her record as one FHIR bundle."""

    name: str
    record: bytes

    def happenings(self, *, most: int) -> Iterator[Happening]:
        """Yield up to `most` things that happened to her, in the order of the record."""
        told = 0
        for entry in json.loads(self.record)["entry"]:  # noqa: TID251  # packaged with us
            happening = _happening(entry["resource"])
            if happening is not None and told < most:
                told += 1
                yield happening


def load_patients(folder: Path) -> list[SyntheticPatient]:
    """Read the bundles of a folder, in the order of their names.

    Raises:
        FileNotFoundError: there are none.
    """
    files = sorted(folder.glob("*.json.gz"))
    if not files:
        raise FileNotFoundError(f"no patients in {folder}")
    return [
        SyntheticPatient(
            name=file.name.rstrip("0123456789_").split("_")[0].rstrip("0123456789"),
            record=gzip.decompress(file.read_bytes()),
        )
        for file in files
    ]


def _happening(resource: dict[str, Any]) -> Happening | None:
    told = _TOLD.get(resource["resourceType"])
    if told is None:
        return None
    context, path = told
    moment: Any = resource
    for name in path:
        moment = moment.get(name, {}) if isinstance(moment, dict) else None
    if not isinstance(moment, str):
        return None
    slim = {
        key: resource[key]
        for key in ("resourceType", "id", "code", "valueQuantity", "medicationCodeableConcept", "type")
        if key in resource
    }
    return Happening(
        context=context,  # type: ignore[arg-type]  # the table above holds the three contexts
        kind=resource["resourceType"],
        identifier=resource["id"],
        at=datetime.fromisoformat(moment).astimezone(UTC),
        content=json.dumps(slim, separators=(",", ":")).encode(),
    )
