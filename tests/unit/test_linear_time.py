"""Whoever reads text of others takes time in proportion to its length, whatever is in it (red team 3, 1).

No clock is asked: a reader's own processor time on a text is compared with that on one of four times the
length. A pass over the text takes four times as long and a quadratic one sixteen times; the test fails beyond
ten, in each of several tries.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.requests import Request
from tests.asking import NETWORK, UNASKED
from tests.own_types import schema_of

from salus.archive.blocks import parse_key
from salus.archive.log import parse_tile_path
from salus.archive.trust import Trust
from salus.cli.display import shown, shown_lines
from salus.cli.event_stream import events_of
from salus.consent import fhir_exchange
from salus.consent.adapters.fhir import consent as fhir
from salus.consent.adapters.fhir.elements import PRIMITIVES
from salus.crypto import sealed_object, sealed_object_v1
from salus.events.attribution import attribution_of
from salus.events.bearer import audience_of, read_bearer
from salus.events.contexts import CATALOGUE, identity
from salus.events.contexts.identity import PublicKey
from salus.events.did import LocalSigner, key_of, multibase_of
from salus.events.envelope import decode_event, encode_event
from salus.events.errors import Reason
from salus.events.event_types import EventData, schema_file
from salus.events.jws import parse_jws
from salus.events.possession import verify_possession
from salus.events.schemas.plain_patterns import pattern_fault
from salus.events.signed_request import Asked
from salus.events.type_definition import definition, faults_of_definition
from salus.events.type_names import is_own_name
from salus.identity import did_web
from salus.ledger import (
    base,
    block,
    checkpoint,
    cose,
    cosignature,
    leaf_grammar,
    note,
    quorum,
    receipt,
    tiles,
)
from salus.ledger import policy as policies
from salus.ledger.json_reader import PLACE_CHARS_MAX, JsonError, read_json
from salus.ledger.signature_header import parse_signature_header
from salus.ledger.times import read_time
from salus.ledger.tlog_policy import parse_tlog_policy
from salus.runtime import auth, negotiation
from salus.runtime.request_headers import refusal_of
from salus.storage.domain import ObjectState
from salus.storage.handlers.byte_ranges import range_asked
from salus.witness import domain as witness

NOW = datetime(2026, 11, 29, tzinfo=UTC)
SIGNER = LocalSigner.from_seed(b"l" * 32)
DID = SIGNER.did
KEY = PublicKey(SIGNER.verification_method, multibase_of(SIGNER.public_key), NOW)
REVOKED = identity.KeyRevoked(did=DID, key_id=KEY.id, reason="unspecified", request=UNASKED)
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"

Reader = Callable[[bytes], Any]


def text(read: Callable[[str], Any]) -> Reader:
    return lambda value: read(value.decode("utf-8", "surrogateescape"))


def latin(read: Callable[[str], Any]) -> Reader:
    return lambda value: read(value.decode("latin-1"))


def request(method: str = "GET", path: bytes = b"/x", query: bytes = b"", **headers: bytes) -> Request:
    """Return a request; the names of its headers are written with underscores."""
    return Request(
        {
            "type": "http",
            "method": method,
            "path": path.decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query,
            "headers": [(name.replace("_", "-").encode(), value) for name, value in headers.items()],
        }
    )


def exchange(asked: Request) -> None:
    with suppress(StopIteration):
        fhir_exchange.require_json_exchange(asked).send(None)


def asking(method: str, path: str, data: EventData) -> Reader:
    return lambda body: CATALOGUE.asks_for(Asked.of(method=method, target=path, body=body, digest=None), data)


def receipt_of(value: bytes) -> None:
    head = b"c2sp.org/tlog-proof@v1\n"
    receipt.parse_receipt(head + b"extra " + value + b"\nindex 0\n\n" + value)


OWN_TYPE = definition(schema_file(schema_of(DID)))
OWN = CATALOGUE.with_types([OWN_TYPE])


def own_faults(words: str) -> object:
    """Read a schema of a member with these words in it, as a pattern and elsewhere."""
    schema = schema_of(DID, fields={words: True}, title=words, description=words)
    schema["properties"]["ward"] = {"type": "string", "maxLength": 9, "pattern": f"^{words}$"}
    topics = CATALOGUE.topics_of_members()
    return faults_of_definition(schema, size=0, member=DID, topics=topics)


def own_event(words: bytes) -> bytes:
    """An event of a member's own type with these words in it."""
    data = OWN_TYPE.data(patient=PATIENT, ward="A")
    value = encode_event(data, id="1", source=DID, subject=PATIENT, time=NOW)
    return value.replace(b'"ward":"A"', b'"ward":"' + words + b'"')


READERS: dict[str, Reader] = {
    "JSON": read_json,
    "JSON: a string": lambda v: read_json(b'"' + v),
    "JSON: an object": lambda v: read_json(b'{"a":{' + v + b'"z":1e999}}'),
    "JSON: below a long name": lambda v: read_json(b'{"' + b"A" * len(v) + b'":[' + v + b"1e999]}"),
    "event": lambda v: decode_event(v, CATALOGUE),
    "own type: its name": latin(lambda t: is_own_name("example." + t)),
    "own type: a pattern": latin(lambda t: pattern_fault(f"^{t}$")),
    "own type: a schema": lambda v: own_faults(v.decode("latin-1")),
    "own type: an event": lambda v: decode_event(own_event(v), OWN),
    "attribution": lambda v: attribution_of(value=v, signature=v, reason=Reason.MALFORMED_JSON),
    "signature header": parse_signature_header,
    "JWS": latin(parse_jws),
    "JWS: header": lambda v: parse_jws(f"{_base64url(v)}.e30.AA"),
    "bearer": latin(lambda t: read_bearer(t, audience=audience_of("identity", NETWORK))),
    "proof of possession": latin(
        lambda t: verify_possession(t, key=KEY, member=None, network=NETWORK, at=NOW)
    ),
    "Authorization": lambda v: auth._token_of(request(authorization=v)),  # no public name
    "target": lambda v: auth.target_of(request(path=b"/" + v, query=v)),
    "target: one reading": lambda v: auth._require_one_reading(request(path=b"/" + v, query=v)),
    "request: path": latin(lambda t: Asked.of(method="GET", target="/" + t, body=None, digest=None)),
    "request: query": latin(lambda t: Asked.of(method="GET", target="/?" + t, body=None, digest=None)),
    "request: body": asking("POST", f"/parties/{DID}/keys/revoke", REVOKED),
    "multibase": latin(key_of),
    "multibase: z": latin(lambda t: key_of("z" + t)),
    "headers": lambda v: refusal_of("PUT", request(content_encoding=v).headers),
    "media type": latin(negotiation.media_type),
    "media range": latin(negotiation.media_range),
    "media range: parameters": latin(lambda t: negotiation.media_range('a/b; x="' + t)),
    "Accept": latin(lambda t: negotiation.best_type(t, ("a/b", "a/c"))),
    "If-None-Match": latin(lambda t: negotiation.names_tag(t, '"a"')),
    "did:web: host": latin(lambda t: did_web.did_at(t, "/a/did.json")),
    "did:web: path": latin(lambda t: did_web.did_at("h.example", f"/{t}/did.json")),
    "Accept-Encoding": latin(lambda t: negotiation.accepts_coding(t, "gzip")),
    "FHIR: Accept": lambda v: exchange(request(accept=v)),
    "FHIR: Accept, a parameter": lambda v: exchange(request(accept=b'a/b; x="' + v)),
    "FHIR: Content-Type": lambda v: exchange(request("POST", content_type=b'a/b; x="' + v)),
    "FHIR: _format": lambda v: exchange(request(query=b"_format=" + v)),
    "FHIR: Prefer": lambda v: fhir_exchange.preferred_return(request(prefer=v)),
    "FHIR: search": latin(lambda t: fhir_exchange.read_search(f"patient={PATIENT}&identifier={t}")),
    "FHIR: condition": latin(fhir_exchange.read_condition),
    "FHIR: resource": lambda v: fhir.parse(read_json(b'{"resourceType":"Consent",' + v + b'"a":0}')),
    **{f"FHIR: {kind}": latin(pattern.fullmatch) for kind, pattern in PRIMITIVES.items()},
    "time": latin(read_time),
    "time: fraction": latin(lambda t: read_time("2026-11-29T12:00:00." + t)),
    "decimal": latin(base.int_of_decimal),
    "base64": latin(base.bytes_of_base64),
    "note": note.split_note,
    "note: signatures": lambda v: note.split_note(b"x\n\n\xe2\x80\x94 x " + v),
    "verifier key": text(note.parse_vkey),
    "verifier key: cosigner": text(cosignature.CosignatureVerifier.from_vkey),
    "checkpoint": text(checkpoint.parse_checkpoint),
    "checkpoint: lines": text(lambda t: checkpoint.parse_checkpoint("x\n1\n" + t)),
    "block header": text(block.parse_header),
    "block origin": text(block.parse_block_origin),
    "leaf": block.parse_leaf,
    "leaf: status": text(leaf_grammar.is_status),
    "leaf: signature": leaf_grammar.is_signature,
    "receipt": receipt.parse_receipt,
    "receipt: parts": receipt_of,
    "COSE receipt": cose.parse_cose_receipt,
    "tile bundle": tiles.decode_bundle,
    "tile path": text(parse_tile_path),
    "block key": text(parse_key),
    "policy file": parse_tlog_policy,
    "policy file: a group": lambda v: parse_tlog_policy(b"group x 1 " + v + b"\nquorum none\n"),
    "network file: policy": policies.Policy.from_network,
    "network file: trust": Trust.from_network,
    "quorum word": text(quorum.is_word),
    "sealed object": sealed_object.parse_header,
    "sealed object of the first form": sealed_object_v1.parse_header,
    "range": text(lambda value: range_asked(value, None)(ObjectState(plaintext_bytes=9))),
    "request to a witness": witness.parse_request,
    "server-sent events, byte by byte": lambda v: asyncio.run(_heard(v)),
    "terminal": text(shown),
    "terminal: lines": text(shown_lines),
}
# What a grammar repeats, and what ends, escapes or nests something; a text is made of one of them.
UNITS = [
    *(b'"', b'\\"', b"\\\\", b"\\u0041", b"\\ud800", b"\\", b"a", b"0", b"9", b"z", b"A=", b"1.", b"=", b"+"),
    *(b" ", b"\t", b"\n", b"\r", b"\r\n", b"\n\n", b" \n", b"\0", b"[", b"{", b"[[]],", b'{"a":', b'"a":0,'),
    *(
        b";",
        b",",
        b";,",
        b'";',
        b"a/b,",
        b"a/b;q=0,",
        b"x=1&",
        b"&",
        b"%",
        b"%25",
        b"%3A",
        b"/",
        b"did:web:",
        b":",
    ),
    *(
        b"\xe2\x80\x94 x A\n",
        b"# x\n",
        b"group x any y\n",
        b"-",
        b"x\n",
        b"\xc3\xa9",
        b"\xff",
        b"\x80",
        b"x1x002/",
    ),
    *(b'"extension":[{"url":"a"}],', b'{"url":"a","url":1},', b'"provision":{"x":0},', b"\x1b[0m"),
]
SHORT, FACTOR, BEYOND, TRIES = 6_000, 4, 10, 6
# What takes less than this is not measured: a quadratic pass over the longer text takes many times as long.
FLOOR_S = 0.001


def _base64url(value: bytes) -> str:
    import base64  # noqa: PLC0415  # the ledger has a module of this name

    return base64.urlsafe_b64encode(value).decode().rstrip("=")


async def _heard(value: bytes) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for place in range(len(value)):
            yield value[place : place + 1]

    async for _ in events_of(pieces()):
        pass


def cost(read: Reader, value: bytes) -> float:
    """Return the processor time that a reader takes for a text, whatever it says of it."""
    begun = time.process_time()
    with suppress(Exception):
        read(value)
    return time.process_time() - begun


def is_linear(read: Reader, unit: bytes) -> bool:
    short, long = (unit * (size // len(unit)) for size in (SHORT, SHORT * FACTOR))
    least_short = least_long = float("inf")
    for _ in range(TRIES):
        least_short, least_long = min(least_short, cost(read, short)), min(least_long, cost(read, long))
        if least_long <= BEYOND * max(least_short, FLOOR_S):
            return True
    return False


@pytest.mark.parametrize("name", READERS)
def test_a_text_of_four_times_the_length_takes_about_four_times_as_long(name: str) -> None:
    gc.disable()
    try:
        slow = [unit for unit in UNITS if not is_linear(READERS[name], unit)]
    finally:
        gc.enable()

    assert slow == []


def test_the_measure_tells_a_reader_that_is_not_linear() -> None:
    def slow(value: bytes) -> int:
        return sum(value.count(b'"') for _ in range(len(value) ** 2 // 40_000))

    assert not is_linear(slow, b'"')
    assert is_linear(lambda value: value.count(b'"'), b'"')


def test_what_is_said_of_a_json_text_is_bounded() -> None:
    names = b"".join(b'{"' + b"A" * 10_000 + b'":' for _ in range(60))
    with pytest.raises(JsonError) as refused:
        read_json(names + b"1e999" + b"}" * 60)

    assert len(refused.value.place) <= PLACE_CHARS_MAX
    assert len(refused.value.why) <= PLACE_CHARS_MAX
