"""Patterns in published schemas compile in every engine, and mean the same in each as they do here."""

# case formats.md 10

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect
from tests.unit.events.samples import SEALED, as_json, document, encoded, refusal_of
from tools.openapi_documents import apps

from salus.events import asyncapi, schemas
from salus.events.contexts import CATALOGUE
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.envelope import Envelope
from salus.events.fields import BASE64_PATTERN, PLAIN_PATTERN, TEXT_PATTERN, Sealed, portable, unplain_fields

# What engines do not have in common: look-around, back references, modes, classes by name, possessive or lazy
# repetition, and other ends of a text than `$`.
NOT_PORTABLE = re.compile(r"\(\?(?!:)|\\[1-9AbBdDGkKpPRsSwWXzZ]|\[\[:|&&|[+*?}][+?]")


def patterns_in(part: Any) -> Iterator[str]:
    """Yield the pattern of every schema in a document."""
    if isinstance(part, dict):
        if isinstance(part.get("pattern"), str):
            yield part["pattern"]
        for value in part.values():
            yield from patterns_in(value)
    elif isinstance(part, list):
        for value in part:
            yield from patterns_in(value)


def published() -> dict[str, list[str]]:
    """Return every published pattern, with the documents that it is in."""
    documents = {name: json.loads(content) for name, content in schemas.files(CATALOGUE).items()}
    documents["asyncapi.json"] = json.loads(asyncapi.document(CATALOGUE))
    documents |= {f"openapi/{name}.json": app.openapi() for name, app in apps().items()}
    found: dict[str, list[str]] = {}
    for name, described in documents.items():
        for pattern in patterns_in(described):
            found.setdefault(pattern, []).append(name)
    return found


PUBLISHED = published()


def strings_of(kind: inspect.Type) -> Iterator[tuple[inspect.StrType, str | None]]:
    """Yield each kind of text in a class, with the pattern that only its schema has."""
    match kind:
        case inspect.Metadata(type=inspect.StrType() as text, extra_json_schema=extra):
            yield text, (extra or {}).get("pattern")
        case inspect.Metadata(type=inner) | inspect.VarTupleType(item_type=inner):
            yield from strings_of(inner)
        case inspect.StrType():
            yield kind, None
        case inspect.StructType(fields=fields):
            for field in fields:
                yield from strings_of(field.type)
        case inspect.UnionType(types=types):
            for each in types:
                yield from strings_of(each)


KINDS = [inspect.type_info(kind) for kind in (Envelope, *(entry.data for entry in CATALOGUE.types()))]
TEXTS = sorted({text.pattern for kind in KINDS for text, _ in strings_of(kind) if text.pattern})
ONLY_IN_SCHEMA = {pattern for kind in KINDS for _, pattern in strings_of(kind) if pattern}


@pytest.mark.parametrize("pattern", PUBLISHED)
def test_a_published_pattern_compiles_in_re2_and_uses_what_all_engines_have(pattern: str) -> None:
    assert re2.compile(pattern)
    assert NOT_PORTABLE.search(pattern) is None
    assert pattern.startswith("^")
    assert pattern.endswith("$")


def test_the_patterns_of_events_are_those_looked_at() -> None:
    assert len(TEXTS) >= 5
    assert {*map(portable, TEXTS), *ONLY_IN_SCHEMA} <= PUBLISHED.keys()
    assert {PLAIN_PATTERN, TEXT_PATTERN, BASE64_PATTERN} >= ONLY_IN_SCHEMA


@pytest.mark.parametrize("pattern", TEXTS)
def test_a_pattern_of_a_class_lets_no_final_newline_pass(pattern: str) -> None:
    # msgspec searches, and Python's `$` matches before a final newline as well.
    assert pattern.startswith("^")
    assert pattern.endswith(r"\Z")
    assert portable(pattern) == pattern.removesuffix(r"\Z") + "$"


@given(st.data())
def test_re2_and_the_class_agree_on_every_text(data: st.DataObject) -> None:
    pattern = data.draw(st.sampled_from(TEXTS))
    text = data.draw(
        st.one_of(
            st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True),
            st.text(max_size=20),
        )
    ) + data.draw(st.sampled_from(["", "", "\n", "\r", "\u2028", "\n\n", " ", "é"]))
    try:
        msgspec.convert(text, Annotated[str, msgspec.Meta(pattern=pattern)])
        accepted = True
    except msgspec.ValidationError:
        accepted = False

    assert accepted == (re2.compile(portable(pattern)).search(text) is not None)


@pytest.mark.parametrize("end", ["\n", "\r", "\x85", "\x7f", "\n\n"])
def test_texts_that_are_checked_by_code_let_no_final_newline_pass_either(end: str) -> None:
    document = DocumentRegistered(patient="p", object=f"o{end}", media_type="a/b")
    whole = msgspec.to_builtins(SEALED)

    assert list(unplain_fields(document, DocumentRegistered)) == ["$.object"]
    assert msgspec.convert(whole, Sealed) == SEALED
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**whole, "ciphertext": SEALED.ciphertext + end}, Sealed)
    assert re2.compile(PLAIN_PATTERN).search(f"o{end}") is None
    assert re2.compile(BASE64_PATTERN).search(f"AAAA{end}") is None


UUID = "6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"


@pytest.mark.parametrize("uuid", ["-" * 36, "0" * 36, UUID.upper(), f"{UUID[:7]}-2{UUID[9:]}", f"{UUID}\n"])
def test_a_pseudonym_is_a_uuid_in_its_one_form(uuid: str) -> None:
    data = {"patient": f"urn:uuid:{UUID}", "object": "o", "media_type": "a/b"}

    assert msgspec.convert(data, DocumentRegistered).patient.endswith(UUID)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(data | {"patient": f"urn:uuid:{uuid}"}, DocumentRegistered)


BLANKS = " \u00a0\u00ad\u1680\u2000\u2003\u200b\u200f\u202f\u2060\u3000\ufeff"


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_text_says_something(blank: str, *, ascii_only: bool) -> None:  # case formats 9
    for text, accepted in (
        (blank, False),
        (f"{blank}scan", False),
        (f"scan{blank}", True),
        (f"a{blank}b", True),
    ):
        event = as_json(encoded(document())) | {"id": text}
        of_id = json.dumps(event, ensure_ascii=ascii_only, separators=(",", ":")).encode()
        event = as_json(encoded(document()))
        event["data"]["object"] = text
        of_data = json.dumps(event, ensure_ascii=ascii_only, separators=(",", ":")).encode()

        assert (refusal_of(of_id) is None, refusal_of(of_data) is None) == (accepted, accepted)
        assert (re2.compile(TEXT_PATTERN).search(text) is not None) is accepted
