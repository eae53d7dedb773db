"""What nobody reviewed in time is told once, by whichever process is there then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.asking import UNASKED, truly_asked
from tests.integration.consent.town import Town, signing

from salus.consent.domain.consents import identifier_under
from salus.devkit.waiting import until
from salus.events.contexts.consent import GlassBroken
from salus.events.contexts.consent_oversight import ReviewOverdue
from salus.runtime.publishing import open_publisher

DEADLINE_S = 60


async def told(town: Town) -> list[ReviewOverdue]:
    return [event.data for event in await town.events() if isinstance(event.data, ReviewOverdue)]


async def test_a_review_that_is_overdue_is_told_once_by_replicas_that_race_and_start_again(
    town: Town,
) -> None:
    """The access was three days ago, when no process was there."""
    now = datetime.now(UTC)
    broken = GlassBroken(
        decision=identifier_under(town.pseudonym, suffix="00000001"),
        principal=town.clinician.did,
        object="object-1",
        patient=town.pseudonym,
        reason="other",
        valid_until=now,
        broken_at=now - timedelta(hours=72),
        review_due=now,
        steward=town.hospital.did,
        request=UNASKED,
    )
    async with open_publisher(town.parts.kafka_bootstrap, town.network.signer("consent")) as publisher:
        asked = truly_asked(broken, town.clinician, at=now)
        await publisher.publish(asked, subject=town.pseudonym, expected_version=0)
    async with town.replica("a.db") as a, town.replica("b.db"):

        async def is_told() -> bool:
            page = (await a.get("/reviews?overdue=true", auth=signing(town.officer))).json()
            return [one["decision"] for one in page["reviews"]] == [broken.decision]

        assert await until(is_told, deadline_s=DEADLINE_S)
        ready = (await a.get("/readyz")).json()
        url = f"/patients/{town.pseudonym}/glass-breaks"
        late = (await a.get(url, auth=signing(town.hospital))).json()
    async with town.replica("a.db"), town.replica("anew.db") as anew:
        url = f"/glass-breaks/{broken.decision}/review"
        reviewed = await anew.post(url, json={"outcome": "justified"}, auth=signing(town.officer))
        after = (await anew.get("/reviews?overdue=true", auth=signing(town.officer))).json()

    assert [one["overdue"] for one in late] == [True]
    assert "overdue reviews and cases: 1" in str(ready)
    assert (reviewed.status_code, after["reviews"]) == (204, [])
    assert [(one.decision, one.due) for one in await told(town)] == [(broken.decision, broken.review_due)]
