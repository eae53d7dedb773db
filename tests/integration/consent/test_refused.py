"""What consent says and does when the ledger would refuse what it states."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import pytest
from tests.asking import UNASKED
from tests.integration.consent.town import Town, signing

from salus.events.contexts.identity import KeyRevoked, RoleWithdrawn
from salus.runtime.own_key import OwnKey


def key_revoked(town: Town) -> KeyRevoked:
    consent = town.network.signer("consent")
    return KeyRevoked(
        did=consent.did, key_id=consent.verification_method, reason="compromised", request=UNASKED
    )


def role_lost(town: Town) -> RoleWithdrawn:
    return RoleWithdrawn(did=town.network.signer("consent").did, role="consent", request=UNASKED)


async def every_command(town: Town, client: httpx.AsyncClient, consent: str) -> Sequence[httpx.Response]:
    """Send each kind of command, as somebody who may."""
    parties = f"/patients/{town.pseudonym}/parties"
    emergency = town.question(purpose="ETREAT", break_glass={"reason": "other"})
    return [
        await client.post("/consents", json=town.grant(), auth=signing(town.hospital)),
        await client.post(f"/consents/{consent}/revoke", auth=signing(town.hospital)),
        await client.post(parties, json={"did": town.patient.did}, auth=signing(town.hospital)),
        await client.post("/decisions", json=town.question(), auth=signing(town.clinician)),
        await client.post("/decisions", json=emergency, auth=signing(town.clinician)),
    ]


@pytest.mark.parametrize("lost", [key_revoked, role_lost])
async def test_a_service_whose_key_does_not_sign_does_nothing_and_says_so(town: Town, lost: object) -> None:
    """Cases SEC1 and F4: a refused event is taken for done."""
    async with town.replica() as client:
        granted = (await client.post("/consents", json=town.grant(), auth=signing(town.hospital))).json()
        before = await client.get("/readyz")
        await town.identity_says(lost(town))  # type: ignore[operator]  # one of the above
        answers = await every_command(town, client, granted["consent"])
        listed = await client.get(f"/patients/{town.pseudonym}/consents", auth=signing(town.hospital))
        ready = await client.get("/readyz")
        events = await town.events()

    assert {(a.status_code, a.json()["code"]) for a in (*answers, listed)} == {(503, "service-key-invalid")}
    assert (before.status_code, ready.status_code) == (200, 503)
    assert "signing-key" in ready.text
    # Nothing was even tried.
    assert [event.type.name for event in events] == ["salus.consent.consent-granted.v1"]


@pytest.mark.parametrize("lost", [key_revoked, role_lost])
async def test_what_the_ledger_refuses_is_not_shown_as_done(
    town: Town, lost: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cases SEC1 and F4, for whatever reason: the service believes that its key signs."""
    async with town.replica() as client:
        granted = (await client.post("/consents", json=town.grant(), auth=signing(town.hospital))).json()
        monkeypatch.setattr(OwnKey, "require", lambda _: None)
        await town.identity_says(lost(town))  # type: ignore[operator]  # one of the above
        answers = await every_command(town, client, granted["consent"])
        listed = await client.get(f"/patients/{town.pseudonym}/consents", auth=signing(town.hospital))
        parties = await client.get(f"/patients/{town.pseudonym}/parties", auth=signing(town.hospital))

    assert {(a.status_code, a.json()["code"]) for a in answers} == {(503, "not-accepted")}
    assert [(c["consent"], c["revoked"]) for c in listed.json()["consents"]] == [(granted["consent"], False)]
    assert (listed.json()["epoch"], parties.json()) == (0, [])
