"""The tables of the documentation that list services, and docs/settings.md from the settings classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings
from tools.service_files.chart import buckets
from tools.service_files.regions import with_region

from salus.devkit.store_accounts import OF_READER, READER
from salus.events.contexts import CATALOGUE
from salus.events.event_types import OPERATOR
from salus.events.parties import Party
from salus.messaging import Operation
from salus.runtime.kafka_acls import Known, rights_of_party
from salus.runtime.kafka_settings import KafkaSettings
from salus.runtime.manifests import Manifest, Role
from salus.runtime.settings import (
    DatabaseSettings,
    NoteKeySettings,
    ObjectSettings,
    ProcessSettings,
    ServiceSettings,
)

ARCHITECTURE, OPERATORS, SETTINGS = (
    Path("docs", f"{n}.md") for n in ("architecture", "operators", "settings")
)
_ANYBODY = "did:web:anybody.example"
SettingsOf = Callable[[str], type[BaseSettings]]
_SHARED: tuple[tuple[str, type[BaseSettings]], ...] = (
    ("Every process", ProcessSettings),
    ("Kafka", KafkaSettings),
    ("Parties of the network", ServiceSettings),
    ("State in SQL", DatabaseSettings),
    ("The object store", ObjectSettings),
    ("Keys that sign for the ledger", NoteKeySettings),
)
_HEAD = """# Settings

Generated from the settings classes by `make generate`.

Every setting is an environment variable. One that is required and missing, or has a wrong value, stops the
start with its name. A variable that a service does not know is ignored.
"""
# The command reads its own where it needs them; there is no class of them.
_OF_THE_COMMAND = (
    (
        "`SALUS_STATE`",
        "folder",
        "`.salus` of the checkout, else of where it is run",
        "Where `up` keeps keys, data and logs, and the other commands look for the platform that runs.",
    ),
    (
        "`SALUS_PARTS`",
        "`given`, `engine`, `local`",
        "the first that is there",
        "Kafka and the object store: those that the environment names, containers, or processes.",
    ),
)


def architecture(text: str, manifests: Sequence[Manifest]) -> str:
    """Return docs/architecture.md with its table of services made anew."""
    rows = [
        (f"[{one.name}](../services/{one.name}/README.md)", one.role.value, one.owns, one.does)
        for one in manifests
    ]
    return with_region(ARCHITECTURE, text, "services", _table(("service", "kind", "owns", "does"), rows))


def operators(text: str, manifests: Sequence[Manifest]) -> str:
    """Return docs/operators.md with its tables of topics and accounts made anew."""
    text = with_region(OPERATORS, text, "topics", _topics(manifests))
    return with_region(OPERATORS, text, "accounts", _accounts(manifests))


def _topics(manifests: Sequence[Manifest]) -> str:
    rows = [
        (
            one.name,
            _codes([*one.topics.owns, *one.topics.writes]),
            _codes(one.topics.reads),
            _others(one),
        )
        for one in manifests
        if one.is_party
    ]
    member, operator = Party(_ANYBODY, "member", frozenset(), None), frozenset({OPERATOR})
    for who, party in (
        ("a member, and who acts for one", member),
        ("an operator of no member", Party(_ANYBODY, "person", operator, None)),
    ):
        rights = list(rights_of_party(party, Known(manifests, CATALOGUE, {})))
        written, read = (
            _codes([name for _, name, _, operation in rights if operation is wanted])
            for wanted in (Operation.WRITE, Operation.READ)
        )
        rows.append((who, written, read, ""))
    published = [topic for one in manifests if one.role is Role.PROJECTION for topic in one.topics.owns]
    rows.append(("soc", "", _codes(published), ""))
    return _table(("who", "`Write`", "`Read`", "more"), rows)


def _others(one: Manifest) -> str:
    said = (("Describe", one.topics.describes), ("DescribeConfigs", one.topics.describes_configs))
    return ", ".join(f"`{operation}` on {_codes(topics)}" for operation, topics in said if topics)


def _accounts(manifests: Sequence[Manifest]) -> str:
    named = buckets(manifests)
    access = {**{one.name: one.buckets for one in manifests if one.buckets}, READER: OF_READER}
    rows = [
        (f"`{account}`", *(rights[bucket].meaning if bucket in rights else "" for bucket in named))
        for account, rights in access.items()
    ]
    return _table(("account", *(f"`salus-{bucket}`" for bucket in named)), rows)


def settings(manifests: Sequence[Manifest], settings_of: SettingsOf) -> str:
    """Return docs/settings.md."""
    classes = {one.name: settings_of(one.name) for one in manifests}
    parts = [_HEAD]
    seen: set[str] = set()
    for title, shared in _SHARED:
        users = {name: known for name, known in classes.items() if issubclass(known, shared)}
        told = "all services" if len(users) == len(classes) else ", ".join(users)
        table = _settings(shared, list(users.values()), leave_out=seen)
        parts.append(f"## {title}\n\nFor {told}.\n\n{table}\n")
        seen |= set(shared.model_fields)
    for name, known in classes.items():
        own = [field for field in known.model_fields if field not in seen]
        said = _settings(known, [known], leave_out=seen) if own else "Nothing besides."
        parts.append(f"## {name}\n\n{said}\n")
    command = _table(("variable", "value", "default", "meaning"), _OF_THE_COMMAND)
    also = "Some commands also take the variables of [Kafka](#kafka) and [the store](#the-object-store)."
    parts.append(f"## The salus command\n\nFor `salus` itself. {also}\n\n{command}\n")
    return "\n".join(parts)


def _settings(known: type[BaseSettings], users: Sequence[type[BaseSettings]], *, leave_out: set[str]) -> str:
    schema = known.model_json_schema(by_alias=False)
    fields, named = schema["properties"], schema.get("$defs", {})
    rows = [
        (
            "<br>".join(f"`{name}`" for name in variables(known, field)),
            _form(fields[field], named),
            _default([user.model_fields[field] for user in users]),
            info.description or "",
        )
        for field, info in known.model_fields.items()
        if field not in leave_out
    ]
    return _table(("variable", "value", "default", "meaning"), rows)


def variables(known: type[BaseSettings], field: str) -> list[str]:
    """Return the environment variables that set a field."""
    alias = known.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [f"SALUS_{field.upper()}"]


def _form(schema: dict[str, Any], named: dict[str, Any]) -> str:
    """Return which values a field takes: its type with its bounds, or its words."""
    [one] = [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
    one = named.get(one.get("$ref", "").rpartition("/")[2], one)
    if "enum" in one:
        return ", ".join(f"`{word}`" for word in one["enum"])
    kind = {"object": "JSON object"}.get(one["type"], one["type"])
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤"}
    return ", ".join([kind, *(f"{sign} {one[word]}" for word, sign in bounds.items() if word in one)])


def _default(fields: Sequence[FieldInfo]) -> str:
    """Return what a field is if nobody sets it, in each of the classes that have it."""
    if any(field.is_required() for field in fields):
        return "**required**"
    value, *others = (field.default for field in fields)
    if any(other != value for other in others):
        return "the service's own"
    if value is None or value in ("", {}):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _codes(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(_lines([head, ["---"] * len(head), *rows]))


def _lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
