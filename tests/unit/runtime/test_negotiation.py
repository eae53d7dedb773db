"""Header fields are read as RFC 9110 writes them, not searched for letters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.runtime.negotiation import accepts_coding, media_type


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
