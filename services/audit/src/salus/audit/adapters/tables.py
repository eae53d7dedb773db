"""The tables of the trail, and an entry as a row of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, String, Table, Text

from salus.audit.domain.entry import TrailEntry

METADATA = MetaData()
TRAIL = Table(
    "audit_trail",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("uid", String(64)),
    Column("shard", BigInteger),
    Column("height", BigInteger),
    Column("index", Integer),
    Column("time_us", BigInteger),
    Column("appended_us", BigInteger),
    Column("activity", String(32)),
    Column("action", String(1)),
    Column("outcome", String(16)),
    Column("severity", Integer),
    Column("damage", String(32)),
    Column("type", String(256)),
    Column("source", String(256)),
    Column("id", String(256)),
    Column("actor", String(256)),
    Column("member", String(256)),
    Column("party", String(256)),
    Column("approver", String(256)),
    Column("patient", String(256)),
    Column("object", String(512)),
    Column("key_ids", Text),
    Column("words", Text),
    Column("entry", LargeBinary),
)
SHARDS = Table(
    "audit_shards",
    METADATA,
    Column("shard", BigInteger, primary_key=True, autoincrement=False),
    Column("next_height", BigInteger),
    Column("last_header", LargeBinary),
)
PUBLISHED = Table(
    "audit_published",
    METADATA,
    Column("shard", BigInteger, primary_key=True, autoincrement=False),
    Column("next_height", BigInteger),
    Column("proof", LargeBinary),
)
IDENTITY = Table(
    "audit_identity",
    METADATA,
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("value", LargeBinary),
)
IDENTITY_PLACE = Table(
    "audit_identity_place",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("shard", BigInteger),
    Column("last_header", LargeBinary),
)
PATIENTS = Table(
    "audit_patients",
    METADATA,
    Column("did", String(256), primary_key=True),
    Column("pseudonym", String(256), primary_key=True),
)
VERSIONS = Table(
    "audit_versions",
    METADATA,
    Column("topic", String(249), primary_key=True),
    Column("subject", String(256), primary_key=True),
    Column("version", LargeBinary),
)
CLAIMS = Table(
    "audit_claims",
    METADATA,
    Column("topic", String(249), primary_key=True),
    Column("name", String(512), primary_key=True),
)
SERVED = Table(
    "audit_served",
    METADATA,
    Column("place", String(300), primary_key=True),
    Column("first", String(64), primary_key=True),
    Column("run", LargeBinary),
)
UNENTITLED = Table(
    "audit_unentitled",
    METADATA,
    Column("uid", String(64), primary_key=True),
    Column("verdict", String(16)),
    Column("why", String(512)),
    Column("proof", LargeBinary),
)
COMPARISON = Table(
    "audit_comparison", METADATA, Column("name", String(64), primary_key=True), Column("outcome", LargeBinary)
)
CONSENTS = Table(
    "audit_consents",
    METADATA,
    Column("patient", String(256), primary_key=True),
    Column("id", String(256), primary_key=True),
    Column("consent", LargeBinary),
)


def row_of(seq: int, entry: TrailEntry) -> dict[str, Any]:
    """Return an entry as it is stored: every column follows from the entry and its position."""
    place, facts = entry.place, entry.facts
    return {
        "seq": seq,
        "uid": entry.uid,
        "shard": place.shard,
        "height": place.height,
        "index": place.index,
        "time_us": microseconds_of(entry.time),
        "appended_us": microseconds_of(place.appended_at),
        "activity": facts.activity.value,
        "action": facts.action,
        "outcome": facts.outcome,
        "severity": int(facts.severity),
        "damage": facts.damage,
        "type": entry.type,
        "source": entry.source,
        "id": entry.id,
        "actor": entry.actor,
        "member": entry.member,
        "party": facts.party,
        "approver": facts.approver,
        "patient": facts.patient,
        "object": facts.object,
        "key_ids": keys_text(entry.keys),
        "words": entry.words,
        "entry": msgspec.json.encode(entry),
    }


def keys_text(keys: Iterable[str]) -> str:
    """Return ids of keys as they are stored and looked for: no id has a space."""
    return "".join(f" {key} " for key in keys)


def version_text(version: int) -> bytes:
    """Return a version as it is stored."""
    return str(version).encode("ascii")


def microseconds_of(moment: datetime) -> int:
    """Return whole microseconds since 1970."""
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def changed_columns(stored: Mapping[str, Any], derived: Mapping[str, Any]) -> list[str]:
    """Return the columns in which a stored row is not what its entry makes it."""
    return [name for name, value in derived.items() if stored[name] != value]
