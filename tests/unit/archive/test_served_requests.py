"""What checks keep of the requests that services served."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.asking import NETWORK

from salus.archive.served_kinds import _object_of
from salus.client.auth import RequestLine, make_bearer
from salus.events.bearer import audience_of
from salus.events.contexts.storage import ReadBrokenOff
from salus.events.did import LocalSigner
from salus.events.requests import Request

READER = LocalSigner.from_seed(b"r" * 32)
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (RequestLine("GET", f"/objects/o-1?patient={PATIENT}"), "o-1"),
        # A decision on what is sealed in an event names it, or the object that the event names.
        (RequestLine("POST", f"/sealed/open?patient={PATIENT}&source=s&id=o-1&field=f", b"{}"), None),
    ],
)
def test_what_was_broken_off_is_an_object_or_what_is_sealed(line: RequestLine, named: str | None) -> None:
    proof = make_bearer(READER, audience_of("storage", NETWORK), now=datetime.now(UTC), request=line)
    request = Request(by=READER.did, authentication="signed", proof=proof)
    told = ReadBrokenOff(
        object="o-1",
        patient=PATIENT,
        reader=READER.did,
        decision="d",
        reason="r",
        sent_bytes=0,
        request=request,
    )

    assert _object_of(told) == named
