"""Header fields are read as RFC 9110 writes them, not searched for letters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.runtime.negotiation import accepts_coding, best_type, media_range, media_type, names_tag


# case L3
@pytest.mark.parametrize(
    ("accept_encoding", "accepted"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("br, gzip;q=0.5", True),
        ("br,\tgzip ; Q=1.000", True),
        ("*", True),
        ("*;q=0.1, identity", True),
        ("gzip;q=0", False),
        ("gzip;q=0, identity", False),
        ("identity, gzip; q=0.0", False),
        ("identity, gzip;q=0.000, *", False),
        ("*;q=0", False),
        ("x-notgzip", False),
        ("gzip-x", False),
        ("identity", False),
        ("", False),
        # Malformed weights say nothing.
        ("gzip;q=2", False),
        ("gzip;q=0.0001", False),
        ("gzip;x=1", False),
        ("gzip gzip", False),
        ("gzip," * 300, False),
    ],
)
def test_a_content_coding_is_used_if_it_is_asked_for(accept_encoding: str, *, accepted: bool) -> None:
    assert accepts_coding(accept_encoding, "gzip") is accepted


# case L4
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("text/x.tlog.size", "text/x.tlog.size"),
        ("Text/X.tlog.Size; charset=utf-8", "text/x.tlog.size"),
        ('text/plain ;charset="a;b"', "text/plain"),
        ("text/plain;", "text/plain"),
        ("text", ""),
        ("text/", ""),
        ("text /plain", ""),
        ("text/plain, text/html", ""),
        ("text/plain\n", ""),
        ("", ""),
    ],
)
def test_a_media_type_is_its_type_and_subtype(value: str, kind: str) -> None:
    assert media_type(value) == kind


@given(st.text(), st.sampled_from(["gzip", "br"]))
def test_whatever_is_sent_is_read(value: str, coding: str) -> None:
    assert accepts_coding(value, coding) in {True, False}
    assert media_type(value) == media_type(value).lower()


@pytest.mark.parametrize(
    ("value", "parameters"),
    [
        ("a/b", {}),
        (" A/B ; Q=0.5;x=Y ", {"q": "0.5", "x": "Y"}),
        (r'a/b;x="c;\"d\\e,f"', {"x": r'c;"d\e,f'}),
        ("a/b;;x=1;", {"x": "1"}),
        ("a/b;x=1;x=2", {"x": "1"}),
        ('a/b;x="', None),
        ("a/b;x", None),
        ("a/b;x=", None),
        ("a/b;x=1 y", None),
        ("a", None),
        (";x=1", None),
    ],
)
def test_a_media_range_has_the_parameters_of_its_grammar(
    value: str, parameters: dict[str, str] | None
) -> None:
    found = media_range(value)

    assert (None if found is None else found.parameters) == parameters
    assert found is None or found.type == "a/b"


@pytest.mark.parametrize(
    ("weight", "wanted"),
    [
        ("", True),
        (";q=1", True),
        (";q=0.001", True),
        (";q=0", False),
        (";q=0.000", False),
        # Malformed: an element like these says nothing.
        (";q=0.0000", False),
        (";q=2", False),
        (";q=-1", False),
        (";q=nan", False),
    ],
)
def test_a_media_range_is_wanted_by_its_weight(weight: str, *, wanted: bool) -> None:
    found = media_range(f"a/b{weight}")

    assert found is not None
    assert found.is_wanted is wanted


OFFERED = ("a/ld+json", "a/json", "b/json")


@pytest.mark.parametrize(
    ("accept", "best"),
    [
        ("", "a/ld+json"),
        ("*/*", "a/ld+json"),
        ("a/*", "a/ld+json"),
        ("A/JSON", "a/json"),
        ("b/json, */*;q=0.5", "b/json"),
        ("text/html, */*;q=0.1", "a/ld+json"),
        ("a/json;q=0.5, b/json;q=0.9", "b/json"),
        # The narrower range counts, whatever the wider one says.
        ("*/*, a/ld+json;q=0", "a/json"),
        ("a/*;q=0, */*", "b/json"),
        ("a/json;profile=x, b/json;q=0.2", "a/json"),
        # Nothing of these is an element: as without the field.
        ("json", "a/ld+json"),
        ("a/json;q=7", "a/ld+json"),
        ("a/json" + " " * 1100, "a/ld+json"),
        ("text/html", None),
        ("*/*;q=0", None),
    ],
)
def test_of_what_is_offered_the_best_that_is_accepted_is_sent(accept: str, best: str | None) -> None:
    assert best_type(accept, OFFERED) == best


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ('"x"', True),
        ('W/"x"', True),
        ('"a", W/"b" ,"x"', True),
        ("*", True),
        ("", False),
        ("x", False),
        ('"X"', False),
        ('"x" "x"', False),
    ],
)
def test_a_document_that_is_named_is_known(field: str, *, named: bool) -> None:
    assert names_tag(field, '"x"') is named
