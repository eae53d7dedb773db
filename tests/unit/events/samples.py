"""Parties, keys and valid events of every type, for the tests of this folder."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect
from tests.asking import NETWORK, UNASKED
from tests.effort import tries

from salus.events import names, permit_rights
from salus.events.contexts import CATALOGUE
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.contexts.identity import (
    KeyRevoked,
    MemberExpelled,
    MemberSuspended,
    PartyRegistered,
    PublicKey,
)
from salus.events.did import LocalSigner, multibase_of
from salus.events.envelope import decode_event, encode_event
from salus.events.errors import RejectedError
from salus.events.event_types import OPERATOR, EventData, EventType, type_of
from salus.events.fields import SEALED_CHARS_MIN, Sealed, Suite, portable
from salus.events.judging import Judged, judge
from salus.events.keyring import KeyRing
from salus.events.sealed_fields import sealed_in
from salus.events.signature import sign_values
from salus.ledger import records
from salus.ledger.records import Records

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MORNING = datetime(2026, 11, 22, 6, tzinfo=UTC)
EVENING = datetime(2026, 11, 22, 18, tzinfo=UTC)
PATIENT = "urn:uuid:00000000-0000-4000-8000-000000000001"
OTHER_PATIENT = "urn:uuid:00000000-0000-4000-8000-000000000002"

SEALED = Sealed(suite=get_args(Suite)[0], key=f"{PATIENT}#1", ciphertext="A" * SEALED_CHARS_MIN)
"""As short as a sealed value may be."""

ROOT = LocalSigner.from_seed(b"root" * 8)
MEMBER = LocalSigner.from_seed(b"memb" * 8)
OTHER_MEMBER = LocalSigner.from_seed(b"othr" * 8)
REVOKED = LocalSigner.from_seed(b"revo" * 8)
EXPIRED = LocalSigner.from_seed(b"expi" * 8)
FUTURE = LocalSigner.from_seed(b"futu" * 8)
SUSPENDED = LocalSigner.from_seed(b"susp" * 8)
EXPELLED = LocalSigner.from_seed(b"expl" * 8)
REVIEWER, RESEARCHER, OFFICER = (LocalSigner.from_seed(seed * 8) for seed in (b"revi", b"rese", b"offi"))
GOVERNOR, OTHER_GOVERNOR = (LocalSigner.from_seed(seed * 8) for seed in (b"gov1", b"gov2"))
STRANGER = LocalSigner.from_seed(b"stra" * 8)
SERVICES = {
    owner: LocalSigner.from_seed(owner.encode().ljust(32, b"."))
    for owner in (OPERATOR, *CATALOGUE.roles_of("service"))
}
SERVICES["identity"] = ROOT


def public_key(signer: LocalSigner, **changes: Any) -> PublicKey:
    facts: dict[str, Any] = {
        "id": signer.verification_method,
        "multibase": multibase_of(signer.public_key),
        "valid_from": MORNING,
    }
    return PublicKey(**(facts | changes))


def party(
    signer: LocalSigner, kind: Any = "member", roles: Sequence[Any] = (), **changes: Any
) -> PartyRegistered:
    return PartyRegistered(
        did=signer.did,
        kind=kind,
        keys=(public_key(signer, **changes),),
        roles=tuple(roles),
        request=UNASKED,
    )


def network_ring() -> KeyRing:
    """The ring after a few identity events."""
    ring = KeyRing.rooted(CATALOGUE, network=NETWORK, did=ROOT.did, key=public_key(ROOT))
    for owner, signer in SERVICES.items():
        if owner != "identity":
            ring.apply(party(signer, "service", [owner]))
    for signer in (MEMBER, OTHER_MEMBER, REVOKED, SUSPENDED, EXPELLED):
        ring.apply(party(signer))
    for signer in (GOVERNOR, OTHER_GOVERNOR):
        ring.apply(party(signer, "person", ["operator"]))
    ring.apply(party(REVIEWER, "person", [permit_rights.REVIEWER]))
    for signer, role in ((RESEARCHER, permit_rights.RESEARCHER), (OFFICER, "privacy-officer")):
        ring.apply(msgspec.structs.replace(party(signer, "person", [role]), member=MEMBER.did))
    ring.apply(party(EXPIRED, valid_until=NOON))
    ring.apply(party(FUTURE, valid_from=EVENING))
    ring.apply(
        KeyRevoked(did=REVOKED.did, key_id=REVOKED.verification_method, reason="compromised", request=UNASKED)
    )
    ring.apply(MemberSuspended(did=SUSPENDED.did, reason="inquiry", request=UNASKED))
    ring.apply(MemberExpelled(did=EXPELLED.did, reason="left", request=UNASKED))
    return ring


RING = network_ring()


@dataclass(frozen=True)
class Row:
    """A record of a topic."""

    topic: str
    key: bytes | None
    value: bytes | None
    signature: bytes | None
    timestamp_ms: int = records.timestamp_at(NOON)
    flaw: records.Flaw | None = None

    def but(self, **changes: Any) -> Row:
        return replace(self, **changes)


def document(number: int = 0, patient: str = PATIENT) -> DocumentRegistered:
    return DocumentRegistered(patient=patient, object=f"object-{number}", media_type="application/fhir+json")


def encoded(data: EventData, *, source: str = MEMBER.did, number: int = 0, **changes: Any) -> bytes:
    facts: dict[str, Any] = {
        "id": f"event-{number}",
        "source": source,
        "subject": subject_of(data),
        "time": NOON,
        "expected_version": 0 if type_of(data).changes else None,
    }
    return encode_event(data, **(facts | changes))


def subject_of(data: EventData) -> str:
    field = type_of(data).subject_field
    return getattr(data, field) if field is not None else PATIENT


def row(value: bytes, /, *, signer: LocalSigner = MEMBER, **changes: Any) -> Row:
    facts: dict[str, Any] = {
        "topic": "salus.clinical.events",
        "key": PATIENT.encode(),
        "value": value,
        "signature": sign_values([value], signer)[0],
    }
    return Row(**(facts | changes))


def rows_of(values: Sequence[bytes], *, signer: LocalSigner = MEMBER) -> list[Row]:
    """The rows of one signed batch."""
    headers = sign_values(values, signer)
    return [row(value, signature=header) for value, header in zip(values, headers, strict=True)]


def records_of(rows: Sequence[Row]) -> list[Records]:
    """The rows as they come from a log."""
    singles = [
        records.Row(row.topic, 0, offset, row.timestamp_ms, row.key, row.value, row.signature, flaw=row.flaw)
        for offset, row in enumerate(rows)
    ]
    return records.records_of(singles)


def verdict(record: Row, *, at: datetime = NOON, ring: KeyRing = RING) -> Judged | RejectedError:
    """What `judge` says or raises; anything else that it raises fails the test."""
    try:
        return judge(
            topic=record.topic,
            key=record.key,
            value=record.value,
            signature=record.signature,
            ring=ring,
            at=at,
            flaw=record.flaw,
        )
    except RejectedError as error:
        return error


def refusal_of(value: bytes) -> RejectedError | None:
    """Why an event is not decoded, if it is not; anything else that is raised fails the test."""
    try:
        decode_event(value, CATALOGUE)
    except RejectedError as error:
        return error
    return None


def as_json(value: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(value)
    return decoded


Alphabet = st.SearchStrategy[str]
ANY_TEXT = st.characters(exclude_categories=("Cs", "Cc"))
NAMES = st.text(string.ascii_letters + string.digits + "._:/@+#-", min_size=1, max_size=40)
# What JSON escapes is not in it.
PLAIN_TEXT = st.characters(min_codepoint=ord(" "), max_codepoint=ord("~"), exclude_characters='"\\')


def _of(kind: inspect.Type, alphabet: Alphabet) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911  # one per kind of type
    match kind:
        case inspect.Metadata() if names.is_of_names(kind):
            return NAMES
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            return (
                _text(inner, (extra or {}).get("pattern"), alphabet)
                if isinstance(inner, inspect.StrType)
                else _of(inner, alphabet)
            )
        case inspect.StrType():
            return _text(kind, kind.pattern, alphabet)
        case inspect.IntType():
            return st.integers(kind.ge or 0, kind.le)
        case inspect.BoolType():
            return st.booleans()
        case inspect.DateTimeType():
            return st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # Hypothesis adds the zone
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
        case inspect.NoneType():
            return st.none()
        case inspect.UnionType():
            return st.one_of([_of(each, alphabet) for each in kind.types])
        case inspect.VarTupleType():
            return st.lists(_of(kind.item_type, alphabet), min_size=kind.min_length or 0, max_size=3).map(
                tuple
            )
        case inspect.StructType(cls=cls, fields=fields):
            # Of an object, the ids that an API takes are names, whatever an event says that may be about one.
            return st.fixed_dictionaries(
                {f.name: NAMES if f.name == "object" else _of(f.type, alphabet) for f in fields}
            ).map(lambda found: cls(**found))
    raise TypeError(kind)


def _text(kind: inspect.StrType, pattern: str | None, alphabet: Alphabet) -> st.SearchStrategy[str]:
    sizes = {"min_size": kind.min_length or 0, "max_size": min(kind.max_length or 40, 40)}
    if pattern is None or pattern.startswith("^[^"):
        texts = st.text(alphabet, **sizes)
        return texts.filter(re.compile(pattern or ".*", re.DOTALL).fullmatch)
    shape = re.compile(
        portable(pattern).removesuffix("$").removeprefix("^").replace("]+", "]{1,30}"), re.ASCII
    )
    # What has to be long is made so by what its alphabet has, too.
    longer = "A" * (kind.min_length or 0) if (kind.min_length or 0) > 40 else ""
    return st.from_regex(shape, fullmatch=True, alphabet=alphabet).map(lambda text: longer + text)


def data_of(entry: EventType, alphabet: Alphabet = ANY_TEXT) -> st.SearchStrategy[EventData]:
    """Any valid data of a type, its texts of these characters."""
    return _data_of(entry.data, alphabet)


@cache
def _data_of(kind: type[EventData], alphabet: Alphabet) -> st.SearchStrategy[EventData]:
    # Made once: Hypothesis takes a third of a second for the patterns of some.
    found: st.SearchStrategy[EventData] = _of(inspect.type_info(kind), alphabet)
    return found.map(sealed_to_its_subject)


def sealed_to_its_subject(data: EventData) -> EventData:
    """The same data, with what is sealed in it sealed to keys of its subject."""
    subject = subject_of(data)
    changes = {
        name: msgspec.structs.replace(sealed, key=f"{subject}#{sealed.key.rpartition('#')[2]}")
        for name, sealed in sealed_in(data).items()
    }
    return msgspec.structs.replace(data, **changes)


def any_data() -> st.SearchStrategy[EventData]:
    """Any valid data of any catalogued type."""
    return st.sampled_from(CATALOGUE.types()).flatmap(data_of)


def for_each_type(
    *others: st.SearchStrategy[Any],
    of: Iterable[EventType] = CATALOGUE.types(),
    drawn: Callable[[EventType], st.SearchStrategy[Any]] = data_of,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Try a law on what is drawn of each type, any data of it; `others` are what the law takes besides.

    A law that drew the type as well would find one that breaks it in one run of three.
    """

    def tried_on_each(law: Callable[..., None]) -> Callable[..., None]:
        @pytest.mark.parametrize("entry", of, ids=lambda entry: entry.name)
        def tried(entry: EventType) -> None:
            settings(max_examples=tries(3, long=100))(given(drawn(entry), *others)(law))()

        return tried

    return tried_on_each
