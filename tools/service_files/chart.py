"""What lists services in the Helm chart: manifests.yaml for its templates, values.yaml and their schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from tools.service_files.regions import with_region

from salus.devkit.store_accounts import READER
from salus.runtime.manifests import Manifest

CHART = Path("deploy/helm/salus")
MANIFESTS, VALUES, SCHEMA = CHART / "manifests.yaml", CHART / "values.yaml", CHART / "values.schema.json"
_HEAD = "# Made from the services' manifests by `make generate`; the templates read it.\n"

_NAME = {"type": "string", "pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", "maxLength": 253}
_BUCKET = {"type": "string", "pattern": "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"}
_DATABASE = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "existingSecret": {
            **_NAME,
            "description": "Secret with the key url: a postgresql+asyncpg URL. "
            "Empty: embedded SQLite on a volume.",
        },
        "storage": {"type": "string", "pattern": "^[0-9]+(Mi|Gi|Ti)$"},
    },
    "required": ["existingSecret", "storage"],
}
_WITNESSES = {
    "type": "object",
    "propertyNames": {"pattern": "^[^\\s+'\"]+$"},
    "additionalProperties": {"type": "string", "pattern": "^https?://[^\\s]+$"},
}


def manifests_yaml(manifests: Sequence[Manifest]) -> str:
    """Return what the chart's templates know of the services."""
    known = {one.name: _known(one) for one in manifests}
    return _HEAD + yaml.safe_dump(known, sort_keys=False, width=1000)


def _known(manifest: Manifest) -> dict[str, Any]:
    known: dict[str, Any] = {
        "instances": manifest.instances,
        "public": manifest.public,
        "probes": {
            "alive": manifest.probes.alive,
            "ready": manifest.probes.ready,
            "startSecondsMax": manifest.probes.start_s_max,
        },
    }
    if not manifest.is_party:
        # A member gives it keys and a name of its own: a template of its own asks for them.
        return known
    return {
        **known,
        "database": manifest.database,
        "files": [f"{manifest.name}.pem", *manifest.files],
        "settings": {f"SALUS_{name}": value for name, value in manifest.settings.items()},
    }


def values(text: str, manifests: Sequence[Manifest]) -> str:
    """Return values.yaml with its regions made anew."""
    services = "\n".join(_values_of(one) for one in manifests if one.is_party)
    regions = {
        "accounts": "\n".join(f"{account}: salus-s3-{account}" for account in accounts(manifests)),
        "buckets": "\n".join(f"{bucket}: salus-{bucket}" for bucket in buckets(manifests)),
        "services": services,
    }
    for name, content in regions.items():
        text = with_region(VALUES, text, name, content)
    for one in manifests:
        if not one.is_party:
            text = with_region(VALUES, text, one.name, f"storage: {one.disk}\n{_resources(one)}")
    return text


def _values_of(manifest: Manifest) -> str:
    lines = [] if manifest.instances == "shard" else [f"replicas: {manifest.replicas}"]
    if manifest.database:
        lines.append(f'database: {{existingSecret: "", storage: {manifest.disk}}}')
    if _asks_witnesses(manifest):
        lines += [
            "# Where members' witnesses are reached from here, by key name, if not at the URL in the policy;",
            '# that of this chart is added. For example {b.example/witness: "https://witness.b.example"}.',
            "witnesses: {}",
        ]
    lines += [*_resources(manifest).splitlines(), "extraEnv: []"]
    return "\n".join([f"{manifest.name}:", *(f"  {line}" for line in lines)])


def _resources(manifest: Manifest) -> str:
    asked = manifest.resources
    requests = f"{{cpu: {asked.cpu}, memory: {asked.memory}}}"
    return f"resources:\n  requests: {requests}\n  limits: {{memory: {asked.memory_max}}}"


def schema(text: str, manifests: Sequence[Manifest]) -> str:
    """Return values.schema.json with what it says of services, accounts and buckets made anew."""
    document = json.loads(text)
    known = document["properties"]
    known["services"] = _object({one.name: _schema_of(one) for one in manifests if one.is_party})
    store = known["s3"]["properties"]
    store["buckets"] = _object(dict.fromkeys(buckets(manifests), _BUCKET))
    store["secrets"] = _object({account: {**_NAME, "minLength": 1} for account in accounts(manifests)})
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _object(properties: dict[str, Any], required: Sequence[str] | None = None) -> dict[str, Any]:
    needed = list(properties) if required is None else list(required)
    made = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**made, "required": needed} if needed else made


def _schema_of(manifest: Manifest) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    if manifest.instances != "shard":
        properties["replicas"] = {"type": "integer", "minimum": 0, "maximum": 50}
    if manifest.database:
        properties["database"] = _DATABASE
    required = list(properties)
    if _asks_witnesses(manifest):
        properties["witnesses"] = _WITNESSES
    properties["resources"] = {"type": "object"}
    properties["extraEnv"] = {"type": "array", "items": {"type": "object", "required": ["name"]}}
    return _object(properties, required)


def _asks_witnesses(manifest: Manifest) -> bool:
    return any("{witnesses}" in value for value in manifest.settings.values())


def accounts(manifests: Sequence[Manifest]) -> list[str]:
    """Return every account in the object store; the last is no service's."""
    return [*(one.name for one in manifests if one.buckets), READER]


def buckets(manifests: Sequence[Manifest]) -> list[str]:
    """Return every bucket, in the order in which services name them."""
    return list(dict.fromkeys(bucket for one in manifests for bucket in one.buckets))
