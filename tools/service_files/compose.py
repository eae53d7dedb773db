"""The services of docker-compose.yml, and the volumes that each is given."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.service_files.regions import with_region

from salus.devkit.network import Plan
from salus.runtime.manifests import Manifest, Probes

FILE = Path("docker-compose.yml")
DATA, GIVEN = "/var/lib/salus", "/run/salus"
# All start at once here, which takes more for a moment than a service needs in a cluster.
MEMORY_MIB_MIN = 768
_MIB = {"Mi": 1, "Gi": 1024, "Ti": 1024 * 1024}


def docker_compose(text: str, manifests: Sequence[Manifest]) -> str:
    """Return docker-compose.yml with its regions made anew."""
    given = [f"- given-{one.name}:/run/hand-out/{one.name}" for one in manifests]
    kept = [one.name for one in manifests if one.keeps_data]
    volumes = [*(f"given-{one.name}: {{}}" for one in manifests), *(f"{name}: {{}}" for name in kept)]
    services = "\n\n".join("\n".join(_service(one, manifests)) for one in manifests)
    for name, content in (
        ("hand-out", "\n".join(given)),
        ("services", services),
        ("volumes", "\n".join(volumes)),
    ):
        text = with_region(FILE, text, name, content)
    return text


def _service(manifest: Manifest, manifests: Sequence[Manifest]) -> Iterator[str]:
    name = manifest.name
    yield f"{name}:"
    yield "  <<: *service"
    yield f"  command: [python, -m, salus.{name}]"
    yield f"  mem_limit: {max(_mebibytes(manifest.resources.memory_max), MEMORY_MIB_MIN)}m"
    if manifest.probes.ready != Probes().ready:
        test = ["CMD", "python", "-I", "-m", "salus.runtime.healthcheck", manifest.probes.ready]
        yield f"  healthcheck: {{<<: *health, test: {json.dumps(test)}}}"
    yield "  environment:"
    yield from (f"    {line}" for line in _environment(manifest, manifests))
    yield f'  ports: ["127.0.0.1:${{{name.upper()}_PORT:-{manifest.port}}}:8080"]'
    data = [f"{name}:{DATA}"] if manifest.keeps_data else []
    yield f"  volumes: {json.dumps([f'given-{name}:{GIVEN}:ro', *data])}"


def _environment(manifest: Manifest, manifests: Sequence[Manifest]) -> Iterator[str]:
    shared = ["*environment" if manifest.is_party else "*process", *(["*store"] if manifest.buckets else [])]
    yield f"<<: {shared[0] if len(shared) == 1 else '[' + ', '.join(shared) + ']'}"
    yield f"SALUS_SERVICE_NAME: {manifest.name}"
    if manifest.is_party:
        yield f"SALUS_SIGNING_KEY_FILE: {GIVEN}/{manifest.name}.pem"
    if manifest.buckets:
        yield f"SALUS_S3_ACCESS_KEY: salus-{manifest.name}"
    if manifest.database:
        yield f"SALUS_DATABASE_URL: sqlite+aiosqlite:///{DATA}/{manifest.name}.db"
    for setting, value in manifest.values(places(manifests)).items():
        yield f"SALUS_{setting}: {_scalar(value)}"


def places(manifests: Sequence[Manifest]) -> dict[str, str]:
    """Return what the places in a manifest's settings are in these containers: one shard and one witness."""
    witness = Plan().witness_name(1)
    members = [f"http://{one.name}:8080" for one in manifests if one.instances == "member"]
    return {
        "data": DATA,
        "keys": GIVEN,
        "network": f"{GIVEN}/network.json",
        "shard": "0",
        "witness": "1",
        # `witness-state` makes it, before `setup` makes the keys: a volume may be lost without them.
        "creates_state": "false",
        "witness_name": witness,
        "witnesses": json.dumps(dict(zip([witness], members, strict=True))),
        **{
            f"{one.name}_url": f"http://127.0.0.1:${{{one.name.upper()}_PORT:-{one.port}}}"
            for one in manifests
        },
    }


def _scalar(value: str) -> str:
    """Return a value as YAML: as it stands where that is the same text, else quoted."""
    plain = value.isascii() and value not in {"true", "false", ""} and not value.isdigit()
    if plain and not set(value) & set(" '\"#[]&*!|>%@`,") and not value.startswith("{"):
        return value
    return f"'{value}'" if "'" not in value else json.dumps(value)


def _mebibytes(quantity: str) -> int:
    return int(quantity[:-2]) * _MIB[quantity[-2:]]
