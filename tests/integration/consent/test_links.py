"""Links to a patient on real Kafka: unlinking, and the loss of the role patient, stop her at once."""

from __future__ import annotations

import httpx
from tests.asking import UNASKED
from tests.integration.consent.town import Town, signing

from salus.events.contexts.identity import RoleWithdrawn


async def as_patient(town: Town, client: httpx.AsyncClient) -> tuple[bool, int, int]:
    """Try what a patient may: tell whether she reads, and how granting and listing are answered."""
    own = town.question(purpose="PATRQT")
    asked = (await client.post("/decisions", json=own, auth=signing(town.patient))).json()
    granted = await client.post("/consents", json=town.grant(), auth=signing(town.patient))
    listed = await client.get(f"/patients/{town.pseudonym}/parties", auth=signing(town.patient))
    return asked["allowed"], granted.status_code, listed.status_code


async def test_a_party_that_is_unlinked_reads_and_grants_no_more(town: Town) -> None:
    """Case security.md, medium: no unlink."""
    url = f"/patients/{town.pseudonym}/parties/{town.patient.did}"
    async with town.replica("a.db") as client, town.replica("b.db") as other:
        await town.link(client)
        before = await as_patient(town, client)
        foreign = await client.delete(url, auth=signing(town.clinician))
        unlinked = await client.delete(url, auth=signing(town.officer))
        after = await as_patient(town, other)
        again = await client.delete(url, auth=signing(town.officer))
        epoch = (await town.ask(signing(town.clinician), client))["epoch"]
        events = await town.events()

    assert before == (True, 201, 200)
    assert (foreign.status_code, unlinked.status_code, again.status_code) == (403, 204, 404)
    assert after == (False, 403, 403)
    assert epoch == 1
    said = next(event.data for event in events if event.type.name == "salus.consent.patient-unlinked.v1")
    assert said.request.by == town.officer.did  # type: ignore[attr-defined]  # of that type


async def test_who_loses_the_role_patient_reads_and_grants_no_more(town: Town) -> None:
    """Case security.md, medium: withdrawing the role patient stops neither reading nor granting."""
    async with town.replica() as client:
        await town.link(client)
        before = await as_patient(town, client)
        await town.identity_says(RoleWithdrawn(did=town.patient.did, role="patient", request=UNASKED))
        after = await as_patient(town, client)
        # The link is still there, and has its way out.
        linked = await client.get(f"/patients/{town.pseudonym}/parties", auth=signing(town.hospital))

    assert before == (True, 201, 200)
    assert after == (False, 403, 403)
    assert [link["did"] for link in linked.json()] == [town.patient.did]
