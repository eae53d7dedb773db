"""What thieves of session keys, of services' keys and readers of the topic come to: cases of red team C8."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import NETWORK, UNASKED, truly_asked
from tests.logins import Login
from tests.unit.events.samples import ROOT, Row, records_of, row, verdict
from tests.unit.events.test_sessions import (
    LATER,
    NOON,
    NORA,
    NORTH,
    SUSI,
    SVEN,
    WIM,
    Town,
    exchanged,
    logged_in,
    login,
    signer,
    unpadded,
)

from salus.client.auth import RequestLine, make_bearer
from salus.events.accountability import LATE_MAX, verify_request
from salus.events.batch_judging import BatchJudging
from salus.events.bearer import CLOCKS, audience_of
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import PolicyFile, PolicySetActivated, PolicySetProposed, policy_body
from salus.events.contexts.identity import KeyRevoked, MemberSuspended, RoleGranted
from salus.events.contexts.identity_login import ProviderWithdrawn
from salus.events.contexts.storage import ReadRefused
from salus.events.did import LocalSigner
from salus.events.dpop import base64url
from salus.events.envelope import decode_event, encode_event
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import EventData, type_of
from salus.events.judging import judge_batch
from salus.events.keyring import KeyRing
from salus.events.requests import RequestedData
from salus.events.sessions import LoginError
from salus.events.token_exchange import form_of
from salus.ledger.records import timestamp_at

HELD = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def jws(header: Any, payload: Any, sign: Any) -> str:
    begin = ".".join(base64url(json.dumps(part).encode()) for part in (header, payload))
    return f"{begin}.{urlsafe_b64encode(sign(begin.encode())).rstrip(b'=').decode()}"


def proof(one: Login, **claims: Any) -> str:
    header = {
        "typ": "dpop+jwt",
        "alg": "EdDSA",
        "jwk": {"kty": "OKP", "crv": "Ed25519", "x": base64url(one.key.public_key().public_bytes_raw())},
    }
    said = {"jti": "a", "htm": "POST", "htu": "https://x/token", "iat": int(NOON.timestamp())} | claims
    return jws(header, said, one.key.sign)


# --- C8-1: what judges raise ---------------------------------------------------------------------------


def verdicts(rows: list[Row], ring: KeyRing) -> Iterator[list[bool]]:
    """Yield which rows are refused: one by one, together as the sequencer, together as a fold."""
    yield [isinstance(verdict(each, at=NOON, ring=ring), RejectedError) for each in rows]
    refused = judge_batch(records_of(rows), ring=ring).refused
    yield [number in refused for number in range(len(rows))]
    together = BatchJudging([record for part in records_of(rows) for record in part], ring=ring)
    while together.judge(1):
        pass
    together.verify()
    yield [isinstance(said, RejectedError) for said in together.verdicts()]


def refused(town: Town, data: EventData) -> bool:
    """Tell whether all judges refuse a record of identity's key; whatever else they raise is a failure."""
    place: dict[str, Any] = {"topic": "salus.identity.events", "key": NORA.encode(), "signer": ROOT}
    one = row(town.value(data, at=NOON), **place, timestamp_ms=timestamp_at(NOON))
    said = [each for (each,) in verdicts([one], town.ring)]
    assert len(set(said)) == 1, said
    return said[0]


@pytest.mark.parametrize("host", ["[", "]", "[x]", "[1", "x]", "[::1]:123456", ""])
def test_a_proof_for_an_address_that_is_none_is_refused_by_all_who_judge(host: str) -> None:
    """Case C8-1: `urlsplit` raised ValueError at it, and every judge stood there for ever."""
    town, one = Town(), login()
    opened = one.session()
    sent = proof(one, htu=f"https://{host}/token")
    with pytest.raises(LoginError) as answered:
        exchanged(one, form_of(one.id_token()), sent)

    assert answered.value.code == "invalid-dpop-proof"
    assert refused(town, msgspec.structs.replace(opened, request=with_(opened, proof=sent)))


def with_(data: RequestedData, **changes: Any) -> Any:
    return msgspec.structs.replace(data.request, **changes)


@pytest.mark.parametrize("address", ["https://[::1]:8443/token", "http://127.0.0.1:80/identity/token"])
def test_a_proof_for_an_address_is_taken(address: str) -> None:
    one = login()

    assert exchanged(one, form_of(one.id_token()), proof(one, htu=address)).did == NORA


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_WORDS = st.sampled_from(["", "a", "[", "]", "::", "%", "//", "@", NORA, "ES256", "2", "\n", "é", "ID"])
_VALUES = _JSON | st.lists(_WORDS, max_size=5).map("".join)
_NAMES = st.sampled_from(
    ["iss", "sub", "aud", "iat", "exp", "nbf", "nonce", "acr", "amr", "salus_did", "jti"]
)
_COMPACT = st.lists(st.text("ab_-", min_size=1), min_size=3, max_size=3).map(".".join)
_PROOF_CLAIMS = st.dictionaries(st.sampled_from(["jti", "htm", "htu", "iat", "ath"]), _VALUES, max_size=2)
_URLS = st.lists(_WORDS, max_size=4).map(lambda parts: f"https://{''.join(parts)}/token")


@st.composite
def _requests(draw: st.DrawFn) -> dict[str, Any]:
    """Body and proof of an exchange in which something, or all, is another thing."""
    one = login(key=HELD)
    claims = draw(_PROOF_CLAIMS) | draw(st.sampled_from([{}, {"htu": draw(_URLS)}]))
    one.claims |= draw(st.dictionaries(_NAMES, _VALUES, max_size=2))
    header = {"alg": "ES256", "kid": "ES256-0"}
    header |= draw(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit"]), _VALUES, max_size=1))
    token = draw(
        st.sampled_from([one.id_token(), jws(header, draw(_JSON), lambda _: draw(st.binary(max_size=80)))])
    )
    body = draw(st.just(form_of(token).decode()) | st.text(max_size=40))
    sent = draw(
        st.just(proof(one, **claims))
        | st.lists(st.text("ab_-", min_size=1), min_size=3, max_size=3).map(".".join)
    )
    return {"body": body, "proof": sent, "authentication": draw(st.sampled_from(["id-token", "did-jwt"]))}


@given(_requests())
def test_no_exchange_makes_who_judges_raise_anything_but_a_refusal(changes: dict[str, Any]) -> None:
    """Case C8-1: one record that a judge raises at ends everybody who folds."""
    town, one = Town(), login(key=HELD)
    town.ring.apply(one.provider(), at=NOON - timedelta(hours=1))
    opened = one.session()
    changed = msgspec.structs.replace(opened, request=with_(opened, **changes))

    if not refused(town, changed):
        assert town.state(changed) != "not-judged"


@given(
    st.dictionaries(st.sampled_from(["htm", "htu", "dig", "iat", "exp", "iss", "jti"]), _VALUES), st.text()
)
def test_no_request_makes_who_judges_raise_anything_but_a_refusal(claims: dict[str, Any], body: str) -> None:
    town = Town()
    asked = truly_asked(RoleGranted(NORA, "clinician", request=UNASKED), signer(SVEN), at=NOON)
    holder, begin = signer(SVEN), asked.request.proof.split(".")[1] if asked.request.proof else ""
    said = json.loads(unpadded(begin)) | claims
    sent = jws({"alg": "EdDSA", "kid": holder.verification_method}, said, holder.sign)

    for changes in ({"proof": sent}, {"proof": sent, "body": body}, {"approval": sent}):
        refused(town, msgspec.structs.replace(asked, request=with_(asked, **changes)))


@pytest.mark.parametrize("error", [AttributeError, KeyError, TypeError, ValueError, msgspec.ValidationError])
def test_a_request_that_a_rule_fails_on_is_refused(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("a rule did not think of this")

    monkeypatch.setattr("salus.events.accountability.require_form", fail)

    assert refused(Town(), login().session())


# --- C8-2: what a session asks for and approves ----------------------------------------------------------


def is_taken(town: Town, asked: Any, *, at: datetime, appended: datetime) -> bool:
    """Tell whether everybody takes what a service stated, whose time it chose."""
    behalf = town.ring.parties[asked.request.by].member
    asked = msgspec.structs.replace(asked, request=with_(asked, behalf=behalf))
    entry = type_of(asked)
    subject = ROOT.did if entry.subject_field is None else getattr(asked, entry.subject_field)
    value = encode_event(
        asked,
        id="g1",
        source=ROOT.did,
        subject=subject,
        time=at,
        expected_version=0 if entry.changes else None,
    )
    try:
        verify_request(decode_event(value, CATALOGUE), ring=town.ring, at=appended)
    except RejectedError:
        return False
    return True


_FILES = (PolicyFile("a.cedar", "permit (principal, action, resource);"),)
_GOVERNING: dict[str, Any] = {
    "salus.consent.policy-set-proposed.v1": PolicySetProposed(
        policy_set=sha256(policy_body(_FILES)).hexdigest(), files=_FILES, request=UNASKED
    ),
    "salus.consent.policy-set-activated.v1": PolicySetActivated(
        policy_set="0" * 64, replaces="1" * 64, version=2, engine="cedar", request=UNASKED
    ),
}


def test_the_types_that_operators_ask_for_are_these() -> None:
    assert {entry.name: entry.operators for entry in CATALOGUE.types() if entry.operators} == {
        "salus.consent.policy-set-proposed.v1": 1,
        "salus.consent.policy-set-activated.v1": 2,
    }


@pytest.mark.parametrize("backdated", [True, False])
@pytest.mark.parametrize("name", [*_GOVERNING])
def test_a_session_governs_nothing_whatever_the_times(name: str, *, backdated: bool) -> None:
    """Case C8-2: who became an operator governed with the key of a session of before, by a service's key."""
    town, data = Town(), _GOVERNING[name]
    session = logged_in(town)
    granted = NOON + timedelta(minutes=5)
    town.ring.apply(RoleGranted(NORA, "operator", request=UNASKED), at=granted)
    appended = NOON + timedelta(days=10 if backdated else 0, minutes=7)
    at = LATER if backdated else appended
    own, needs_second = signer(NORA), type_of(data).operators > 1
    wim = signer(WIM) if needs_second else None

    def taken(asker: LocalSigner, second: LocalSigner | None) -> bool:
        return is_taken(town, truly_asked(data, asker, at=at, second=second), at=at, appended=appended)

    assert taken(own, wim)
    assert not taken(session, wim)
    if needs_second:
        assert taken(signer(WIM), own)
        assert not taken(signer(WIM), session)


def test_a_session_approves_no_fact_of_identity() -> None:
    town = Town()
    session = logged_in(town)
    granted = RoleGranted(SUSI, "researcher", request=UNASKED)

    asked = truly_asked(granted, signer(SVEN), at=LATER, second=session)
    with pytest.raises(RejectedError) as barred:
        town.state(asked, at=LATER)

    assert barred.value.reason is Reason.INVALID_REQUEST
    assert "approves nothing" in barred.value.detail
    assert town.say(granted, SVEN, at=LATER, second=WIM) == "done"


# --- C8-3: when a session is over ----------------------------------------------------------------------

_ENDS: dict[str, tuple[Any, timedelta]] = {
    "its time": (None, timedelta(hours=1)),
    "it is revoked": (KeyRevoked(NORA, "", "left", request=UNASKED), timedelta(minutes=2)),
    "its provider is withdrawn": (ProviderWithdrawn("north-login", request=UNASKED), timedelta(minutes=2)),
    "its member is suspended": (MemberSuspended(NORTH, "inquiry", request=UNASKED), timedelta(minutes=2)),
}


@pytest.mark.parametrize("name", _ENDS)
def test_a_session_that_is_over_signs_nothing_that_a_service_dates_back(name: str) -> None:
    """Case C8-3: who had a service's key and an old session's stated with it for ever."""
    town, (end, after) = Town(), _ENDS[name]
    session = logged_in(town)
    if isinstance(end, KeyRevoked):
        end = msgspec.structs.replace(end, key_id=session.verification_method)
    if end is not None:
        town.ring.apply(end, at=NOON + after)
    over = NOON + after + LATE_MAX

    assert town.asks(session, at=LATER, appended=over - timedelta(seconds=1))
    assert not town.asks(session, at=LATER, appended=over + timedelta(seconds=1))
    assert not town.asks(session, at=LATER, appended=over + timedelta(days=30))


def test_a_transfer_that_began_in_a_session_is_stated_an_hour_later() -> None:
    town = Town()
    session = logged_in(town)
    refused_read = ReadRefused(
        object="o1",
        patient="urn:uuid:00000000-0000-4000-8000-000000000001",
        reader=NORA,
        reason="not-permitted",
        request=UNASKED,
    )
    asked = truly_asked(refused_read, session, at=LATER)
    over = NOON + timedelta(hours=1) + LATE_MAX

    assert is_taken(town, asked, at=LATER, appended=over + timedelta(minutes=59))
    assert not is_taken(town, asked, at=LATER, appended=over + timedelta(minutes=61))


# --- C8-5: what a session puts in doubt ----------------------------------------------------------------


def test_a_session_puts_in_doubt_what_itself_signed_and_nothing_else() -> None:
    """Case C8-5: one stolen hour put in doubt all that its person had signed in a month of logins."""
    town = Town()
    old = logged_in(town)
    day = NOON + timedelta(days=20)
    two = Login(NORA, NORTH, day)
    assert town.state(two.session(), at=day) == "done"
    stolen, at = LocalSigner(two.key, two.session().key.id), day + timedelta(minutes=5)

    def end(session: LocalSigner, since: datetime | None) -> str:
        revoked = KeyRevoked(NORA, session.verification_method, "compromised", since, request=UNASKED)
        return town.say(revoked, stolen, at=at)

    assert end(old, NOON) == "session-key"
    assert town.ring.logins.keys[old.verification_method].doubted_since is None
    assert end(old, None) == "done"
    assert end(stolen, day) == "done"


def test_a_session_ends_no_session_of_somebody_else() -> None:
    town = Town()
    session = logged_in(town)
    other = Login(SUSI, NORTH, NOON)
    town.ring.apply(other.session(provider=other.provider()), at=NOON)
    town.ring.apply(RoleGranted(NORA, "operator", request=UNASKED), at=NOON + timedelta(days=1))
    key_id = next(i for i, known in town.ring.logins.keys.items() if known.did == SUSI)

    town.ring.logins.keys[session.verification_method] = replace(
        town.ring.logins.keys[session.verification_method], revoked_at=None
    )
    assert town.say(KeyRevoked(SUSI, key_id, "left", request=UNASKED), session, at=LATER) == "session-key"


def test_an_exchange_that_somebody_kept_opens_no_session_that_is_dated_back() -> None:
    """Case C8-6: whoever had identity's key dated it back to when the exchange was of now."""
    town, one = Town(), login()
    town.add_provider(one)
    kept = one.session()

    assert town.state(kept, at=NOON, appended=NOON + CLOCKS + timedelta(minutes=2)) == "dpop-proof-expired"
    assert town.state(kept, at=NOON, appended=NOON + CLOCKS) == "done"


# --- C8-7: what an exchange tells ----------------------------------------------------------------------


@pytest.mark.parametrize("claim", ["sub", "sid", "jti", "session_state"])
def test_a_mail_address_in_other_letters_is_one_too(claim: str) -> None:
    """Case C8-7 (a)."""
    one = login()
    one.claims[claim] = "nora.north%40north.example"

    with pytest.raises(LoginError) as answered:
        one.session()
    assert answered.value.code == "id-token-invalid"


_SECONDS = int(NOON.timestamp())
_SAID = {"iss": "https://x", "sub": "a", "aud": "c", "iat": _SECONDS, "exp": _SECONDS + 60, "nonce": "n"} | {
    "auth_time": _SECONDS - 5
}
_WORDY: dict[str, tuple[dict[str, Any], dict[str, Any], bytes]] = {
    "the name of a claim": ({}, {"Nora North, born 1970, is ill": NORA}, b"x" * 64),
    "a claim more": ({}, {"Nora-North-is-ill": NORA, "d": NORA}, b"x" * 64),
    "kid": ({"kid": "Nora North is ill"}, {"d": NORA}, b"x" * 64),
    "a long kid": ({"kid": "k" * 129}, {"d": NORA}, b"x" * 64),
    "alg": ({"alg": "Nora North is ill"}, {"d": NORA}, b"x" * 64),
    "iss": ({}, {"d": NORA, "iss": "Nora North is ill"}, b"x" * 64),
    "the signature": ({}, {"d": NORA}, b"Nora North is ill " * 9),
    "a signature of RSA": ({"alg": "RS256"}, {"d": NORA}, b"Nora North is ill"),
}


def _exchange_of(header: dict[str, Any], claims: dict[str, Any], signature: bytes) -> str:
    token = jws({"alg": "ES256", "kid": "k"} | header, _SAID | claims, lambda _: signature)
    return form_of(token).decode()


@pytest.mark.parametrize("name", _WORDY)
def test_words_come_onto_the_ledger_in_no_part_of_an_exchange(name: str) -> None:
    """Case C8-7 (d): with identity's key, and with no provider at all."""
    town, opened = Town(), login().session()
    plain = _exchange_of({}, {"d": NORA}, b"x" * 64)

    assert not refused(town, msgspec.structs.replace(opened, request=with_(opened, body=plain)))
    wordy = _exchange_of(*_WORDY[name])
    assert refused(town, msgspec.structs.replace(opened, request=with_(opened, body=wordy)))


def test_a_session_is_asked_for_in_no_other_way_than_by_an_id_token() -> None:
    """Case C8-7 (d): under a bearer the ID token in the body had any payload."""
    town, opened = Town(), login().session()
    token = jws({"alg": "ES256", "kid": "k"}, {"name": "Nora North", "diagnosis": "ill"}, lambda _: b"x" * 64)
    body = form_of(token)
    line = RequestLine("POST", "/token", body)
    sent = make_bearer(signer(NORA), audience_of("identity", NETWORK), now=NOON, request=line)
    signed = with_(opened, authentication="did-jwt", proof=sent, body=body.decode())

    assert refused(town, msgspec.structs.replace(opened, request=signed))
    assert refused(town, msgspec.structs.replace(opened, request=with_(opened, by=SUSI)))
