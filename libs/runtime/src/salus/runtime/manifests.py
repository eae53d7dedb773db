"""The manifests of the services: what each is, owns, reads and needs, in its own `service.toml`.

Whoever has to know which services there are asks here. A manifest lies in the service's package, beside its
code, so that an installed service brings its own; none of its code is imported.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from salus.runtime.errors import ManifestError

FILE_NAME = "service.toml"
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9]{0,30}$")]
TopicName = Annotated[str, msgspec.Meta(pattern=r"^salus\.[a-z*-]+\.[a-z-]+$", max_length=249)]
SettingName = Annotated[str, msgspec.Meta(pattern=r"^[A-Z][A-Z0-9_]*$")]
# As Kubernetes writes them.
Cpu = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+m?$")]
Bytes = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(Mi|Gi|Ti)$")]
UrlPath = Annotated[str, msgspec.Meta(pattern=r"^/[a-z]+$")]
Text = Annotated[str, msgspec.Meta(min_length=1)]
_PLACE = re.compile(r"\{([a-z_]+)\}")
# What may stand in a setting; each deployment has its own. `{<service>_url}` is where that service listens.
PLACES = frozenset(
    {"creates_state", "data", "keys", "network", "shard", "witness", "witness_name", "witnesses"}
)


class Right(StrEnum):
    """What a service may do in a bucket. One that somebody may only append to is made with object lock."""

    READ = "read"
    APPEND = "append"
    WRITE = "write"
    ERASE = "erase"

    @property
    def meaning(self) -> str:
        """Its words in the documentation's table."""
        return _MEANINGS[self]


_MEANINGS = {
    Right.READ: "reads",
    Right.APPEND: "reads, adds; removes nothing but probes",
    Right.WRITE: "reads, writes, removes",
    Right.ERASE: "reads, writes, removes every version",
}


class Role(StrEnum):
    """What kind of service it is."""

    CONTRACT = "contract"
    LEDGER = "ledger"
    PROJECTION = "projection"
    WITNESS = "witness"


class Topics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a service does with which topics: from this follows what its account at Kafka may do.

    `owns`: written by nobody else. `writes`: written by others too. A `*` in the others is any context.
    """

    owns: tuple[TopicName, ...] = ()
    writes: tuple[TopicName, ...] = ()
    reads: tuple[TopicName, ...] = ()
    # Of which it looks at the partitions, and at the settings.
    describes: tuple[TopicName, ...] = ()
    describes_configs: tuple[TopicName, ...] = ()


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one instance asks for, and how much memory it gets at most."""

    cpu: Cpu = "100m"
    memory: Bytes = "192Mi"
    memory_max: Bytes = "512Mi"


class Probes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where it says that it lives and that it is ready, and how long a start may take."""

    alive: UrlPath = "/healthz"
    ready: UrlPath = "/readyz"
    start_s_max: Annotated[int, msgspec.Meta(ge=2, le=3600)] = 120


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One service. docs/decisions/one-manifest-a-service.md says what is made of which field."""

    name: Name
    role: Role
    owns: Text
    does: Text
    # Where docker-compose.yml publishes it; its place in every list, too.
    port: Annotated[int, msgspec.Meta(ge=1024, le=65535)]
    # The context of its events' types; none: it has no events.
    context: Name | None = None
    # One chain a shard has a sequencer of its own, each member its own witness.
    instances: Literal["single", "shard", "member"] = "single"
    replicas: Annotated[int, msgspec.Meta(ge=1, le=50)] = 1
    # Whether it listens to outsiders.
    public: bool = True
    # Whether it keeps its state in SQL: embedded SQLite on a volume, or PostgreSQL.
    database: bool = False
    # The volume of what it must not lose; none: it keeps nothing.
    disk: Bytes | None = None
    # Private files that it is given besides <name>.pem.
    files: tuple[Text, ...] = ()
    topics: Topics = Topics()
    buckets: dict[Name, Right] = {}
    # Values of SALUS_<NAME>, besides those that follow from the rest.
    settings: dict[SettingName, str] = {}
    resources: Resources = Resources()
    probes: Probes = Probes()
    # All its modules, from higher to lower, as import-linter writes layers; none: the usual ones are checked.
    layers: tuple[Text, ...] = ()
    # Libraries that no other package of ours imports.
    exclusive_imports: tuple[Text, ...] = ()

    @property
    def is_party(self) -> bool:
        """Whether it is a party of the network, with a signing key. What a member runs alone is none."""
        return self.instances != "member"

    @property
    def own_topic(self) -> str:
        """The topic of its events; raises ManifestError unless it owns exactly one."""
        if len(self.topics.owns) != 1:
            raise ManifestError(
                f"{self.name}: topics.owns has {len(self.topics.owns)} topics, and one is needed"
            )
        return self.topics.owns[0]

    @property
    def keeps_data(self) -> bool:
        """Whether it writes files that are to outlive it."""
        return self.database or any("{data}" in value for value in self.settings.values())

    def values(self, places: Mapping[str, str]) -> dict[str, str]:
        """Return its settings with each place named; one that is not in `places` stays as it is."""
        return {
            name: _PLACE.sub(lambda found: places.get(found[1], found[0]), value)
            for name, value in self.settings.items()
        }


def read_manifest(path: Path) -> Manifest:
    """Read one file.

    Raises:
        ManifestError: it is no manifest.
    """
    try:
        manifest = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Manifest)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ManifestError(f"{path} is not a manifest: {error}") from None
    if manifest.name != path.parent.name:
        raise ManifestError(f"{path}: name is {manifest.name}, and the package is {path.parent.name}")
    return manifest


def manifest_of(package: str) -> Manifest:
    """Return the manifest of an installed package, as `salus.identity`; none of its code is imported.

    Raises:
        ManifestError: it has none, or none that can be read.
    """
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        raise ManifestError(f"{package} is not installed")
    return read_manifest(Path(folders[0]) / FILE_NAME)


def manifests_in(packages: Iterable[Path]) -> tuple[Manifest, ...]:
    """Return the manifests of all packages in these folders, by their ports.

    Raises:
        ManifestError: one cannot be read, or two do not go together.
    """
    found = (path for folder in packages for path in sorted(folder.glob(f"*/{FILE_NAME}")))
    files = {path: read_manifest(path) for path in found}
    manifests = sorted(files.values(), key=lambda manifest: (manifest.port, manifest.name))
    faults = [*_taken_twice(files), *_disagreements(manifests)]
    if faults:
        raise ManifestError("; ".join(faults))
    return tuple(manifests)


def services() -> tuple[Manifest, ...]:
    """Return the manifest of every service that is installed, by their ports.

    Raises:
        ManifestError: as `manifests_in`.
    """
    spec = find_spec("salus")
    folders = spec.submodule_search_locations if spec is not None else None
    return _installed(tuple(folders or ()))


@lru_cache(maxsize=8)
def _installed(folders: tuple[str, ...]) -> tuple[Manifest, ...]:
    return manifests_in(map(Path, folders))


def _taken_twice(files: Mapping[Path, Manifest]) -> Iterator[str]:
    """Yield what more than one service has and one alone may have, with each service and its file."""
    taken = defaultdict[str, list[str]](list)
    for path, manifest in sorted(files.items()):
        named = f"{manifest.name} ({path})"
        taken[f"name: {manifest.name}"].append(named)
        taken[f"port: {manifest.port}"].append(named)
        for topic in manifest.topics.owns:
            taken[f"topics.owns: {topic}"].append(named)
    for what, owners in taken.items():
        if len(owners) > 1:
            yield f"{what} is taken by {' and '.join(owners)}"


def _disagreements(manifests: Sequence[Manifest]) -> Iterator[str]:
    names = {manifest.name for manifest in manifests}
    known = PLACES | {f"{name}_url" for name in names}
    for manifest in manifests:
        for name, value in manifest.settings.items():
            for place in sorted(set(_PLACE.findall(value)) - known):
                yield f"{manifest.name}: settings.{name} names {{{place}}}, which nobody knows"
        if manifest.database and manifest.disk is None:
            yield f"{manifest.name}: database needs disk, the size of its volume"
        if manifest.role is Role.CONTRACT and not manifest.layers:
            yield f"{manifest.name}: layers is empty, and each module of a contract has its place"
        if manifest.database != (manifest.role in {Role.CONTRACT, Role.PROJECTION}):
            yield f"{manifest.name}: database is {manifest.database}, and its role is {manifest.role}"
