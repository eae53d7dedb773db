"""Whether the manifests say what the code does: its settings classes, and the catalogue of events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic_settings import BaseSettings
from tools.service_files.documents import SettingsOf, variables

from salus.events.catalogue import Catalogue
from salus.events.contexts import CATALOGUE
from salus.events.event_types import EventType
from salus.runtime.manifests import Manifest
from salus.runtime.settings import DatabaseSettings, ObjectSettings, ServiceSettings

# A deployment says it of every process.
_OF_PROCESS = ("SERVICE_NAME", "HTTP_PORT", "HTTP_HOST")
_OF_PARTY = ("KAFKA_BOOTSTRAP", "NETWORK_FILE", "SIGNING_KEY_FILE")
_OF_STORE = ("S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY")


def disagreements(
    manifests: Sequence[Manifest], settings_of: SettingsOf, catalogue: Catalogue = CATALOGUE
) -> Iterator[str]:
    """Yield a sentence for each thing in which a manifest and the code differ."""
    types = catalogue.types()
    topics = {kind.topic for kind in types} | {topic for one in manifests for topic in one.topics.owns}
    for one in manifests:
        yield from (f"{one.name}: {fault}" for fault in _of_settings(one, settings_of(one.name)))
        yield from (f"{one.name}: {fault}" for fault in _of_topics(one, types, topics))
    roles, parties = catalogue.roles_of("service"), {one.name for one in manifests if one.is_party}
    yield from (
        f"the catalogue has the role {role}, which has no manifest" for role in sorted(roles - parties)
    )
    yield from (f"{name}: no context of the catalogue has its role" for name in sorted(parties - roles))


def folders_without(root: Path, manifests: Iterable[Manifest]) -> Iterator[str]:
    """Yield a sentence for each folder under services/ that has no manifest."""
    known = {one.name for one in manifests}
    for folder in sorted(path for path in (root / "services").iterdir() if path.is_dir()):
        if folder.name not in known:
            yield f"services/{folder.name} has no src/salus/{folder.name}/service.toml"


def _of_settings(one: Manifest, known: type[BaseSettings]) -> Iterator[str]:
    for base, said, field in (
        (ServiceSettings, one.is_party, "instances"),
        (DatabaseSettings, one.database, "database"),
        (ObjectSettings, bool(one.buckets), "buckets"),
    ):
        if issubclass(known, base) != said:
            has = "has" if issubclass(known, base) else "has not"
            yield f"its settings class {has} {base.__name__}, and its manifest says otherwise in {field}"
    for bucket in one.buckets:
        setting = known.model_fields.get(f"{bucket}_bucket")
        if setting is None or setting.default != f"salus-{bucket}":
            yield f"no setting SALUS_{bucket.upper()}_BUCKET has the default salus-{bucket}"
    accepted = {name for field in known.model_fields for name in variables(known, field)}
    yield from (f"nothing reads SALUS_{name}" for name in one.settings if f"SALUS_{name}" not in accepted)
    given = {f"SALUS_{name}" for name in _given(one)}
    for field, info in known.model_fields.items():
        if info.is_required() and given.isdisjoint(variables(known, field)):
            yield f"{variables(known, field)[0]} is required, and nothing gives it"


def _given(one: Manifest) -> list[str]:
    return [
        *_OF_PROCESS,
        *(_OF_PARTY if one.is_party else ()),
        *(["DATABASE_URL"] if one.database else []),
        *(_OF_STORE if one.buckets else ()),
        *one.settings,
    ]


def _of_topics(one: Manifest, types: Sequence[EventType], topics: Iterable[str]) -> Iterator[str]:
    writing = {*one.topics.owns, *one.topics.writes}
    owned = {kind.topic for kind in types if kind.owner == one.name}
    others = {kind.topic for kind in types if kind.owner != one.name}
    yield from (f"it owns types of {topic}, which is not in its topics" for topic in sorted(owned - writing))
    yield from (f"{topic} is another's, too" for topic in one.topics.owns if topic in others)
    yield from (f"{topic} has no types of it" for topic in one.topics.writes if topic not in owned)
    for topic in one.topics.owns:
        if topic.split(".")[1] != one.context:
            yield f"{topic} is not of its context, {one.context}"
    for pattern in {*one.topics.reads, *one.topics.describes, *one.topics.describes_configs}:
        if not any(fnmatchcase(topic, pattern) for topic in topics):
            yield f"nobody writes {pattern}"
