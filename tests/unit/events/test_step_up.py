"""What a session asks for only right after a login: emergencies, erasures, links. Everybody judges it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from tests.asking import NETWORK, UNASKED, truly_asked
from tests.logins import Login
from tests.unit.events.samples import SERVICES, records_of, row, verdict
from tests.unit.events.test_sessions import NOON, NORA, NORTH, SUSI, Town, logged_in, login, signer

from salus.events.accountability import LATE_MAX, STATING_S_MAX, missing_step_up
from salus.events.batch_judging import BatchJudging
from salus.events.bearer import CLOCK_SKEW_S, CLOCKS
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import (
    AccessDecided,
    ConsentRevoked,
    GlassBroken,
    PatientLinked,
    PatientUnlinked,
)
from salus.events.contexts.identity import PartyRegistered, PublicKey
from salus.events.contexts.storage import SubjectErased
from salus.events.did import LocalSigner, multibase_of
from salus.events.envelope import encode_event
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import type_of
from salus.events.judging import judge_batch
from salus.events.requests import RequestedData
from salus.events.sessions import session_of
from salus.events.step_up import AUTHENTICATED_S_MAX, LOGIN_S_MAX, StepUp
from salus.events.token_exchange import form_of
from salus.ledger.records import timestamp_at

PATIENT = "urn:uuid:00000000-0000-4000-8000-000000000001"
DECISION = "00000000-0000-4000-8000-000000000001.0123456789abcdef0123"
_ASKED: dict[str, Any] = {"patient": PATIENT, "request": UNASKED}
_EMERGENCY: dict[str, Any] = {
    **_ASKED,
    "decision": DECISION,
    "principal": NORA,
    "object": "scan-1",
    "valid_until": NOON + timedelta(hours=1),
}
_DECIDED: dict[str, Any] = {
    **_EMERGENCY,
    "action": "read",
    "purpose": "ETREAT",
    "allowed": True,
    "reasons": ("emergency",),
    "policy_set": "a" * 64,
    "inputs": "b" * 64,
    "decided_at": NOON,
    "state_positions": (),
    "epoch": 1,
    "emergency": "life-threatening",
}
# What changes a patient's facts, and is asked for at any time of a session.
AT_ANY_TIME: tuple[RequestedData, ...] = (
    AccessDecided(**_DECIDED),
    PatientUnlinked(did=SUSI, epoch=1, **_ASKED),
    ConsentRevoked(consent=DECISION, epoch=1, **_ASKED),
)
STEPPED_UP: tuple[tuple[RequestedData, StepUp], ...] = (
    (GlassBroken(reason="life-threatening", **_EMERGENCY), StepUp.EMERGENCY),
    (AccessDecided(break_glass=True, **_DECIDED), StepUp.EMERGENCY),
    (SubjectErased(key="k", requested_by=NORA, basis="gdpr-art-17", objects=1, **_ASKED), StepUp.ERASURE),
    (PatientLinked(did=SUSI, **_ASKED), StepUp.LINK),
)
# Right after a login anybody may; the service looks, and states a moment later.
EDGE = timedelta(seconds=CLOCK_SKEW_S + STATING_S_MAX)
JUST = timedelta(seconds=1)


def entered(*, signed_on_s_ago: int = 0, acr: str | None = None, **provider: Any) -> tuple[Town, LocalSigner]:
    """Return a network, and the signer of a session that was opened at noon."""
    town, one = Town(), login(claims={"auth_time": int(NOON.timestamp()) - signed_on_s_ago, "acr": acr})
    for role, service in SERVICES.items():
        key = PublicKey(
            service.verification_method, multibase_of(service.public_key), NOON - timedelta(days=9)
        )
        joined = PartyRegistered(service.did, "service", (key,), (role,), request=UNASKED)
        town.ring.apply(joined, at=NOON - timedelta(days=1))
    assert town.add_provider(one, **provider) == "done"
    session = one.session(provider=town.ring.logins.providers["north-login"])
    assert town.state(session) == "done"
    return town, LocalSigner(one.key, session.key.id)


def asked(data: RequestedData, by: LocalSigner, *, at: datetime) -> RequestedData:
    made = truly_asked(data, by, at=at)
    return msgspec.structs.replace(made, request=msgspec.structs.replace(made.request, behalf=NORTH))


def is_taken(
    town: Town,
    data: RequestedData,
    by: LocalSigner,
    *,
    at: datetime,
    asked_at: datetime | None = None,
    appended: datetime | None = None,
) -> bool:
    """Tell whether everybody takes an event that a service states at that moment; all say the same."""
    data, appended = asked(data, by, at=asked_at or at), appended or at
    entry, subject = type_of(data), PATIENT
    owner = SERVICES[entry.owner]
    facts: dict[str, Any] = {"expected_version": 0} if entry.changes else {}
    value = encode_event(data, id="e1", source=owner.did, subject=subject, time=at, **facts)
    one = row(
        value, topic=entry.topic, key=subject.encode(), signer=owner, timestamp_ms=timestamp_at(appended)
    )
    alone = verdict(one, at=appended, ring=town.ring)
    together = BatchJudging([record for part in records_of([one]) for record in part], ring=town.ring)
    while together.judge(1):
        pass
    together.verify()
    [folded] = together.verdicts()
    sealed = judge_batch(records_of([one]), ring=town.ring).refused
    said = {isinstance(alone, RejectedError), isinstance(folded, RejectedError), bool(sealed)}
    assert len(said) == 1
    if isinstance(alone, RejectedError):
        assert alone.reason is Reason.INVALID_REQUEST, alone.detail
    return not said.pop()


@pytest.mark.parametrize(("data", "act"), STEPPED_UP, ids=lambda x: type(x).__name__)
def test_it_takes_a_login_of_a_moment_ago(data: RequestedData, act: StepUp) -> None:
    town, session = entered()
    last = NOON + timedelta(seconds=AUTHENTICATED_S_MAX[act]) + EDGE

    assert is_taken(town, data, session, at=NOON + JUST)
    assert is_taken(town, data, session, at=last)
    assert not is_taken(town, data, session, at=last + JUST)


@pytest.mark.parametrize(("data", "act"), STEPPED_UP, ids=lambda x: type(x).__name__)
def test_a_session_that_was_opened_now_by_an_older_sign_on_is_not_fresh(
    data: RequestedData, act: StepUp
) -> None:
    town, session = entered(signed_on_s_ago=AUTHENTICATED_S_MAX[act] + 60)

    assert not is_taken(town, data, session, at=NOON + JUST)


@pytest.mark.parametrize(("data", "act"), STEPPED_UP, ids=lambda x: type(x).__name__)
def test_it_takes_one_of_the_levels_that_the_provider_names(data: RequestedData, act: StepUp) -> None:
    levels = ("two-factors", "token")
    for acr, enough in ((None, False), ("password", False), ("token", True)):
        town, session = entered(acr=acr, step_up_acr=levels)
        assert is_taken(town, data, session, at=NOON + JUST) is enough
        needed = missing_step_up(asked(data, session, at=NOON), ring=town.ring, at=NOON)
        assert (needed is None) is enough
        if needed is not None:
            assert (needed.max_age, needed.acr_values) == (AUTHENTICATED_S_MAX[act], levels)


@pytest.mark.parametrize(("data", "act"), STEPPED_UP, ids=lambda x: type(x).__name__)
def test_a_service_refuses_before_others_would(data: RequestedData, act: StepUp) -> None:
    town, session = entered()
    said, last = asked(data, session, at=NOON), NOON + timedelta(seconds=AUTHENTICATED_S_MAX[act])
    last += timedelta(seconds=CLOCK_SKEW_S)

    assert missing_step_up(said, ring=town.ring, at=last) is None
    assert missing_step_up(said, ring=town.ring, at=last + JUST) is not None
    assert is_taken(town, data, session, at=last + timedelta(seconds=STATING_S_MAX))


@pytest.mark.parametrize(("data", "act"), STEPPED_UP, ids=lambda x: type(x).__name__)
def test_who_has_a_services_key_dates_it_back_no_further_than_an_event_may_be_late(
    data: RequestedData, act: StepUp
) -> None:
    town, session = entered()
    last = NOON + timedelta(seconds=AUTHENTICATED_S_MAX[act]) + EDGE + LATE_MAX

    assert is_taken(town, data, session, at=NOON, appended=last)
    assert not is_taken(town, data, session, at=NOON, appended=last + JUST)


@pytest.mark.parametrize("data", [data for data, _ in STEPPED_UP], ids=lambda x: type(x).__name__)
def test_a_key_of_a_party_and_a_provider_of_before_need_no_login(data: RequestedData) -> None:
    town, session = entered(sign_on_s_max=None, signed_on_s_ago=7 * 86_400)
    late = NOON + timedelta(seconds=3000)

    assert is_taken(town, data, signer(NORA), at=late)
    assert is_taken(town, data, session, at=late)


@pytest.mark.parametrize("data", AT_ANY_TIME, ids=lambda x: type(x).__name__)
def test_what_opens_nothing_is_asked_for_at_any_time_of_a_session(data: RequestedData) -> None:
    town, session = entered(step_up_acr=("token",))

    assert is_taken(town, data, session, at=NOON + timedelta(seconds=3000))


def test_a_login_of_a_step_up_is_fresh_enough_for_every_act() -> None:
    assert min(AUTHENTICATED_S_MAX.values()) >= LOGIN_S_MAX
    assert {act for _, act in STEPPED_UP} == set(StepUp)


def test_every_event_that_takes_a_login_is_tried_here() -> None:
    declared = {
        entry.data
        for entry in CATALOGUE.types()
        if issubclass(entry.data, RequestedData) and entry.data.step_up is not RequestedData.step_up
    }

    assert declared == {type(data) for data, _ in STEPPED_UP}


def test_identity_states_no_session_of_an_old_sign_on_that_others_would_take() -> None:
    """Everybody looks at `auth_time`: the thief of identity's key has no easier rule."""
    town, one = Town(), login(claims={"auth_time": int(NOON.timestamp()) - 601})
    assert town.add_provider(one, sign_on_s_max=600) == "done"
    known = town.ring.logins.providers["north-login"]
    lenient = msgspec.structs.replace(known, sign_on_s_max=601)
    stated = session_of(
        body=form_of(one.id_token()), proof=one.proof(), providers=[lenient], network=NETWORK, at=NOON
    )

    assert town.state(stated) == "sign-on-too-old"
    assert not town.ring.logins.keys


def test_a_token_that_tells_an_older_sign_on_than_its_session_is_refused() -> None:
    town, one = Town(), login()
    logged_in(town, one)
    again = Login(NORA, NORTH, NOON, claims={"auth_time": int(NOON.timestamp()) - 3000})
    opened = again.session()

    with pytest.raises(RejectedError, match="another moment"):
        town.state(msgspec.structs.replace(opened, authenticated=NOON))
    assert town.state(opened, appended=NOON + CLOCKS) == "done"
