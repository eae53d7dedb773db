"""Whatever request storage admits, the event that it states because of it is acceptable to everybody.

A caller chooses times, headers and target of a request. None of them keeps what was done out of the trail.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs
from tests.asking import NETWORK, UNASKED, calling

from salus.client.auth import RequestLine, make_approval, make_bearer
from salus.contracts.testing.memory import MemoryTopics
from salus.events.accountability import STATING_S_MAX, TRANSFER_S_MAX
from salus.events.bearer import CLOCK_SKEW_S, LIFETIME_S_MAX, audience_of
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import ConsentRevoked
from salus.events.contexts.identity import KeyRevoked, PartyRegistered, PublicKey
from salus.events.contexts.storage import (
    ObjectRead,
    ObjectStored,
    ReadBrokenOff,
    ReadRefused,
    SealedOpened,
    SubjectErased,
    SubjectKeyDestroyed,
    SubjectRegistered,
)
from salus.events.did import LocalSigner, multibase_of
from salus.events.envelope import encode_event
from salus.events.errors import RejectedError
from salus.events.event_types import EventData, type_of
from salus.events.judging import judge
from salus.events.keyring import KeyRing
from salus.events.parties import Party
from salus.events.requests import Request
from salus.events.signature import sign_values
from salus.runtime import problems
from salus.runtime.auth import Authenticator
from salus.runtime.problems import ProblemError
from salus.runtime.publishing import Stated
from salus.storage.adapters.facts import STORAGE_TOPIC
from salus.storage.adapters.problems import install
from salus.storage.api import Desk, routes
from salus.storage.handlers.storing import Upload

from .conftest import FOLDED, PATIENT, Bench, Topic, limits_of, pieces
from .test_sealed_reading import SOURCE, observation

STORAGE, HOSPITAL, DOCTOR = (LocalSigner.from_seed(bytes([n]) * 32) for n in range(1, 4))
OWN = Request.of_service(STORAGE.did)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
NEW = PATIENT[:-1] + "7"
CONTENT = bytes(200_000)
_EVENT = f"patient={PATIENT}&source={SOURCE}&id=event-1&field=content"


@dataclass
class Trick:
    """What a caller may choose: times of its token and key, in seconds from now; headers; the target."""

    issued_s: float = 0
    lifetime_s: int = LIFETIME_S_MAX
    key_from_s: float | None = None
    key_until_s: float | None = None
    revoked_s: float | None = None
    headers: Callable[[RequestLine], list[tuple[str, str]]] = lambda _: []
    target: Callable[[str], str] = lambda target: target


def _approval(line: RequestLine) -> list[tuple[str, str]]:
    now = datetime.now(UTC)
    return [("Salus-Approval", make_approval(HOSPITAL, line, network=NETWORK, now=now, lifetime_s=1))]


ENDING = LIFETIME_S_MAX + CLOCK_SKEW_S - 3
TRICKS = {
    "nothing": Trick(),
    "a token at its end": Trick(issued_s=-ENDING),
    "a short token": Trick(issued_s=-8, lifetime_s=1),
    "a clock ahead": Trick(issued_s=CLOCK_SKEW_S - 2),
    "a token before its key": Trick(issued_s=-200, key_from_s=-1),
    "an approval that ends": Trick(headers=_approval),
    "no approval at all": Trick(headers=lambda _: [("Salus-Approval", "x")]),
    "a decision twice": Trick(headers=lambda _: [("Salus-Decision", "x" * 4000)]),
    "another token as well": Trick(headers=lambda _: [("Authorization", "Bearer x.y.z")]),
    "a patient twice": Trick(target=lambda t: f"{t}{'&' if '?' in t else '?'}patient={PATIENT}"),
    "another patient": Trick(target=lambda t: t.replace("?", f"?patient={NEW}&") if "?" in t else t),
    "a name that is not UTF-8": Trick(target=lambda t: f"{t}{'&' if '?' in t else '?'}x=%ff%C3"),
    "a name without a value": Trick(target=lambda t: f"{t}{'&' if '?' in t else '?'}x&&=&;y"),
    "every colon encoded": Trick(target=lambda t: t.replace(":", "%3A").replace("-", "%2d")),
    "a slash encoded": Trick(target=lambda t: "/" + t[1:].replace("/", "%2F", 1)),
    "letters encoded": Trick(target=lambda t: t.replace("/o", "/%6F").replace("patient", "p%61tient")),
    "a long target": Trick(target=lambda t: f"{t}{'&' if '?' in t else '?'}x={'%41' * 700}"),
    "a fragment": Trick(target=lambda t: f"{t}%23{t}"),
}
# These are good requests.
ADMITTED = {
    "nothing",
    "a token at its end",
    "a short token",
    "a clock ahead",
    "a token before its key",
    "every colon encoded",
}
# What only reports is stated after these, too; what gives something is not given any more.
KEY_ENDS = {
    "a key that ends": Trick(key_until_s=CLOCK_SKEW_S),
    "a token after its key": Trick(issued_s=CLOCK_SKEW_S - 2, key_until_s=4),
    "a key that is revoked": Trick(revoked_s=CLOCK_SKEW_S),
    "a token after its key was revoked": Trick(issued_s=CLOCK_SKEW_S - 2, revoked_s=4),
}


@dataclass
class Case:
    """A request, and the events that storage states because of it; without a body it is the observation."""

    method: str
    target: str
    states: tuple[type[EventData], ...]
    body: bytes | None = b""
    by: LocalSigner = DOCTOR
    decision: str | None = None


# At the door, and an upload without the right to it: it is no read, and nothing is stated of it.
REFUSED = {
    "PUT": {401, 403, 404, 422},
    **{method: {401, 404, 422} for method in ("GET", "POST", "DELETE")},
}
CASES = [
    Case("POST", "/subjects", (SubjectRegistered,), json.dumps({"nonce": "7" * 32}).encode(), HOSPITAL),
    Case("PUT", f"/objects/o-2?patient={PATIENT}", (ObjectStored,), CONTENT, HOSPITAL),
    Case("POST", f"/objects?patient={PATIENT}", (ObjectStored,), CONTENT, HOSPITAL),
    Case("GET", f"/objects/o-1?patient={PATIENT}", (ObjectRead, ReadBrokenOff), decision="right"),
    Case("GET", f"/objects/o-1?patient={PATIENT}", (ReadRefused,)),
    Case("POST", f"/sealed/open?{_EVENT}", (SealedOpened, ReadBrokenOff), None, decision="of-event"),
    Case("POST", f"/sealed/open?{_EVENT}", (ReadRefused,), None),
    Case(
        "DELETE",
        f"/subjects/{PATIENT}/key",
        (SubjectErased, SubjectKeyDestroyed),
        b'{"basis": "court-order"}',
        HOSPITAL,
    ),
]


REPORTS = (ReadRefused, ReadBrokenOff)


class JudgedTopics(MemoryTopics):
    """Topics whose events everybody judges, and storage states as late as it may."""

    def __init__(self) -> None:
        super().__init__(FOLDED, catalogue=CATALOGUE, network=NETWORK)
        self.ring: KeyRing | None = None
        self.trick = Trick()
        self.acts_late = True
        self.judged: list[type[EventData]] = []
        self.rejected: list[str] = []

    async def publish(
        self, data: EventData, *, subject: str, expected_version: int | None = None, event_id: str = ""
    ) -> Stated:
        if self.ring is not None:
            self._judge(data, subject, self.ring)
        stated = await super().publish(
            data, subject=subject, expected_version=expected_version, event_id=event_id
        )
        if isinstance(data, ObjectRead | SealedOpened):
            # So the read breaks off.
            revoked = ConsentRevoked(consent="c", patient=subject, epoch=1, request=UNASKED)
            self.append(revoked, subject=subject)
        return stated

    def _delay(self, data: EventData) -> timedelta:
        if not self.acts_late and not isinstance(data, REPORTS):
            return timedelta()
        transfers = isinstance(data, (ObjectStored, ObjectRead, *REPORTS))
        return timedelta(seconds=STATING_S_MAX + (TRANSFER_S_MAX if transfers else 0))

    def _judge(self, data: EventData, patient: str, ring: KeyRing) -> None:
        if type(data) in REPORTS and self.trick.revoked_s is not None:
            revoked = KeyRevoked(
                did=DOCTOR.did, key_id=DOCTOR.verification_method, reason="left", request=UNASKED
            )
            ring.apply(revoked, at=seconds_from_now(self.trick.revoked_s))
        at, version = datetime.now(UTC) + self._delay(data), 0 if type_of(data).changes else None
        value = encode_event(
            data, id="e", source=STORAGE.did, subject=patient, time=at, expected_version=version
        )
        (signature,) = sign_values([value], STORAGE)
        key = patient.encode()
        try:
            judge(topic=STORAGE_TOPIC, key=key, value=value, signature=signature, ring=ring, at=at)
        except RejectedError as error:
            self.rejected.append(str(error))
            raise ProblemError(503, "not-accepted", error.detail) from None
        self.judged.append(type(data))


def seconds_from_now(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def registered(signer: LocalSigner, kind: Any, **facts: Any) -> PartyRegistered:
    key = {"valid_from": LONG_AGO, "valid_until": None} | facts.pop("key", {})
    public = PublicKey(signer.verification_method, multibase_of(signer.public_key), **key)
    return PartyRegistered(did=signer.did, kind=kind, keys=(public,), request=UNASKED, **facts)


def ring_with(trick: Trick) -> KeyRing:
    begins, ends = trick.key_from_s, trick.key_until_s
    key = {
        "valid_from": LONG_AGO if begins is None else seconds_from_now(begins),
        "valid_until": None if ends is None else seconds_from_now(ends),
    }
    ring = KeyRing(CATALOGUE, NETWORK)
    ring.apply(registered(STORAGE, "service", roles=("storage",)))
    ring.apply(registered(HOSPITAL, "member", key=key))
    ring.apply(registered(DOCTOR, "person", roles=("clinician",), member=HOSPITAL.did, key=key))
    return ring


async def bench_of(trick: Trick, *, acts_late: bool) -> tuple[Bench, JudgedTopics]:
    """Storage with an object, and nothing judged yet."""
    bench, topics = Bench(), JudgedTopics()
    bench.topic = Topic(topics, own=OWN)
    bench.restart()
    hospital = Party(did=HOSPITAL.did, kind="member", roles=frozenset(), member=None)
    bench.ring.known.parties[hospital.did] = hospital
    await bench.subjects.register(patient=PATIENT, steward=hospital.did, number="1", caller=calling(hospital))
    upload = Upload("o-1", PATIENT, "text/plain", pieces(CONTENT))
    await bench.storing.store(upload, caller=calling(hospital), token=None, at=datetime.now(UTC))
    bench.ring.known = topics.ring = ring_with(trick)
    topics.trick, topics.acts_late = trick, acts_late
    bench.now = lambda: datetime.now(UTC)
    bench.restart()
    later = datetime.now(UTC) + timedelta(hours=1)
    for name, about in (("right", "o-1"), ("of-event", "event-1")):
        # A token names the roles of its holder.
        held = topics.ring.parties[DOCTOR.did].roles
        bench.tokens.grant(name, object=about, principal=DOCTOR.did, roles=held, expires=later)
    return bench, topics


def app_of(bench: Bench) -> FastAPI:
    app = FastAPI()
    problems.install(app)
    install(app)
    desk = Desk(
        subjects=bench.subjects,
        storing=bench.storing,
        reading=bench.reading,
        sealed=bench.sealed,
        authenticate=Authenticator(bench.ring, service="storage"),  # type: ignore[arg-type]  # a fake
        limits=limits_of(),
        verifications=bench.refused,
        registrations=bench.refused,
        now=lambda: datetime.now(UTC),
    )
    app.include_router(routes(desk))
    return app


async def answer_to(case: Case, trick: Trick, bench: Bench) -> int:
    """Send the request with what the caller chose; return the status of the answer."""
    body = observation(bench) if case.body is None else case.body
    target = trick.target(case.target)
    line = RequestLine(case.method, target, body or None)
    issued = seconds_from_now(trick.issued_s)
    token = make_bearer(
        case.by, audience_of("storage", NETWORK), now=issued, lifetime_s=trick.lifetime_s, request=line
    )
    headers = [("Authorization", f"Bearer {token}"), ("Content-Type", "application/json")]
    if case.decision is not None:
        headers.append(("Salus-Decision", case.decision))
    url = httpx.URL("http://storage").copy_with(raw_path=target.encode())
    transport = httpx.ASGITransport(app=app_of(bench), raise_app_exceptions=False)
    # The traceback of a read that broke off takes seconds to render.
    with capture_logs():
        async with httpx.AsyncClient(transport=transport) as client:
            request = httpx.Request(case.method, url, headers=[*headers, *trick.headers(line)], content=body)
            return (await client.send(request)).status_code


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.states[-1].__name__)
async def test_what_is_admitted_can_be_stated(case: Case, trick: str) -> None:
    bench, topic = await bench_of(TRICKS[trick], acts_late=True)

    status = await answer_to(case, TRICKS[trick], bench)
    # It is refused at the door, and nothing was done, or every event of it is acceptable.
    assert not topic.rejected
    assert topic.judged or trick not in ADMITTED
    assert tuple(topic.judged) == (case.states if topic.judged else ())
    assert status in ({200, 201, 403, 500} if topic.judged else REFUSED[case.method])


@pytest.mark.parametrize("trick", KEY_ENDS)
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.states[-1] in REPORTS], ids=lambda case: case.states[-1].__name__
)
async def test_a_key_that_ends_meanwhile_hides_no_read(case: Case, trick: str) -> None:
    bench, topic = await bench_of(KEY_ENDS[trick], acts_late=False)

    await answer_to(case, KEY_ENDS[trick], bench)
    assert tuple(topic.judged) == case.states


def test_every_event_that_somebody_asks_storage_for_is_in_the_table() -> None:
    stated = {entry.data for entry in CATALOGUE.types() if entry.owner == "storage"}

    assert {kind for case in CASES for kind in case.states} == stated
