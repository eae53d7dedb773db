"""The middle chapters: consent, revocation, break-glass, and what the SOC sees of them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.table import Table

from salus.cli.demo.cast import Answer, Player
from salus.cli.demo.stage import Stage

TRAIL_S_MAX = 30.0
TAIL_ROWS = 12


async def consent_opens(stage: Stage) -> None:
    """She consents to one clinician: that one reads, another is refused."""
    cast = stage.cast
    stage.chapter(
        "4 · She consents, and only that opens her record",
        f"{cast.patient.title} lets {cast.treating.title} read for treatment, for a month. Access "
        "is decided by Cedar policies, denied by default; each decision is an event and comes "
        "with a token that is good for one person, one object, one purpose and one minute.",
    )
    grant = {
        "patient": stage.her.pseudonym,
        "grantee": cast.treating.did,
        "actions": ["read"],
        "purposes": ["TREAT"],
        "valid_until": (datetime.now(UTC) + timedelta(days=30)).isoformat(),
    }
    granted = await stage.caller.call("POST", "consent", "/consents", by=cast.patient.signer, body=grant)
    stage.facts["consent"] = stage.require(granted, 201).json["consent"]
    decision = await decide(stage, cast.treating)
    stage.show(
        f"{cast.treating.title} may read",
        decision["allowed"],
        evidence=f"policy {', '.join(decision['reasons'])}",
    )
    with stage.timed() as taken:
        read = await read_record(stage, cast.treating, decision["token"])
    stage.show(
        "what comes back is her record, bit for bit",
        read.content == stage.her.person.record,
        evidence=f"{len(read.content):,} bytes, checked against the ledger first",
    )
    stage.measured("one verified read of her record", f"{taken[0] * 1000:.0f} ms")
    other = await decide(stage, cast.covering)
    stage.show(
        f"{cast.covering.title} may not",
        not other["allowed"],
        evidence=f"denied: {', '.join(other['reasons'])}",
    )
    borrowed = await read_record(stage, cast.covering, decision["token"])
    stage.show("a borrowed token does not help", borrowed.status == 403, evidence=borrowed.code)


async def revocation_closes(stage: Stage) -> None:
    """She takes it back, and the very next read is refused, token or not."""
    cast = stage.cast
    stage.chapter(
        "5 · She changes her mind",
        "A token from before the revocation is still within its minute. It does not matter: "
        "storage folds the consent topic up to its end before it looks at a token.",
    )
    token = (await decide(stage, cast.treating))["token"]
    path = f"/consents/{stage.facts['consent']}/revoke"
    with stage.timed() as taken:
        stage.require(await stage.caller.call("POST", "consent", path, by=cast.patient.signer), 200)
        read = await read_record(stage, cast.treating, token)
    stage.show("the very next read is refused", read.status == 403, evidence=read.code)
    stage.measured("revoke, and refuse the next read", f"{taken[0] * 1000:.0f} ms")
    again = await decide(stage, cast.treating)
    stage.show(
        "and no new token is given", not again["allowed"], evidence=f"denied: {', '.join(again['reasons'])}"
    )


async def glass_breaks(stage: Stage) -> None:
    """An emergency: access without consent, short, loud, and reviewed."""
    cast = stage.cast
    stage.chapter(
        "6 · Night, emergency: the glass is broken",
        f"{cast.patient.title} arrives unconscious. {cast.covering.title} has no consent, states a "
        "reason, and reads. That is possible, short, and loud: it is an event of its own, an "
        "alert for the SOC, and waits for review.",
    )
    decision = await decide(
        stage, cast.covering, purpose="ETREAT", break_glass={"reason": "unable-to-consent"}
    )
    stage.show(
        "the emergency read is allowed",
        decision["allowed"] and decision["break_glass"],
        evidence=f"obligations: {', '.join(decision['obligations'])}",
    )
    read = await read_record(stage, cast.covering, decision["token"])
    stage.show(
        "and gives the record", read.content == stage.her.person.record, evidence=f"status {read.status}"
    )
    queue = await stage.caller.call("GET", "consent", "/reviews", by=cast.officer.signer)
    waiting = stage.require(queue, 200).json["reviews"]
    stage.show(
        "the privacy officer has it on the desk",
        [one["decision"] for one in waiting] == [decision["decision"]],
        evidence=f"due {waiting[0]['review_due']}" if waiting else "",
    )
    review = await stage.caller.call(
        "POST",
        "consent",
        f"/glass-breaks/{decision['decision']}/review",
        by=cast.officer.signer,
        body={"outcome": "justified", "ground": "emergency-confirmed"},
    )
    stage.require(review, 204)
    stage.facts["decision"] = decision["decision"]


async def the_soc_sees_it_all(stage: Stage) -> None:
    """Search the trail as the SOC does: who did what, whose, why, by which rule."""
    cast = stage.cast
    stage.chapter(
        "7 · The SOC sees it all",
        "Audit reads the ledger itself, so the trail is the ledger: nothing that was sealed is "
        "missing. The same facts go out as OCSF and as FHIR AuditEvent.",
    )
    wanted = {
        "consent-granted",
        "consent-revoked",
        "glass-broken",
        "object-read",
        "read-refused",
        "access-decided",
    }
    entries = await _trail(stage, wanted)
    table = Table("time", "severity", "who", "what", "outcome", "by rule", "proof", box=None, padding=(0, 1))
    titles = {player.did: player.title.partition(",")[0] for player in vars(cast).values()}
    for entry in entries[:TAIL_ROWS]:
        style = "bold red" if entry["break_glass"] else "yellow" if entry["outcome"] != "success" else ""
        place = entry["ledger"]
        table.add_row(
            entry["time"][11:19],
            str(entry["severity"]),
            titles.get(entry["actor"], "a service"),
            entry["type"].split(".")[2].replace("-", " "),
            entry["outcome"],
            ", ".join(entry["rules"]),
            f"block {place['height']} leaf {place['index']}",
            style=style,
        )
    stage.console.print(table)
    seen = {kind for kind in wanted if any(kind in (entry["type"] or "") for entry in entries)}
    stage.show(
        "every access, refusal and change is there",
        seen == wanted,
        evidence=f"{len(entries)} entries about her",
    )
    loud = [entry for entry in entries if entry["break_glass"] and entry["severity"] >= 4]
    stage.show(
        "the broken glass is loud", loud, evidence=f"severity {max(e['severity'] for e in entries)} of 5"
    )
    curious = await stage.caller.call(
        "GET", "audit", "/trail", by=stage.cast.laboratory.signer, patient=stage.her.pseudonym
    )
    others = [
        e for e in curious.json.get("entries", []) if e["member"] not in {None, stage.cast.laboratory.did}
    ]
    stage.show("others see only their own part of it", not others, evidence=f"status {curious.status}")


async def _trail(stage: Stage, wanted: set[str]) -> list[dict[str, Any]]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TRAIL_S_MAX
    while True:
        entries: list[dict[str, Any]] = []
        for kind in sorted(wanted):
            context = "storage" if kind in {"object-read", "read-refused"} else "consent"
            answer = await stage.caller.call(
                "GET",
                "audit",
                "/trail",
                by=stage.cast.analyst.signer,
                patient=stage.her.pseudonym,
                type=f"salus.{context}.{kind}.v1",
                limit=50,
            )
            entries += stage.require(answer, 200).json["entries"]
        if all(any(kind in (e["type"] or "") for e in entries) for kind in wanted) or loop.time() > deadline:
            return sorted(entries, key=lambda entry: str(entry["time"]))
        await asyncio.sleep(0.2)


async def decide(
    stage: Stage, player: Player, *, purpose: str = "TREAT", break_glass: dict[str, str] | None = None
) -> dict[str, Any]:
    """Ask consent whether the player may read her record; return the answer."""
    question = {
        "action": "read",
        "object": stage.her.object,
        "patient": stage.her.pseudonym,
        "purpose": purpose,
        **({"break_glass": break_glass} if break_glass else {}),
    }
    answer = await stage.caller.call("POST", "consent", "/decisions", by=player.signer, body=question)
    decision: dict[str, Any] = stage.require(answer, 200).json
    return decision


async def read_record(stage: Stage, player: Player, token: str | None) -> Answer:
    """Ask storage for her record, with a decision token if there is one."""
    headers = {"Salus-Decision": token} if token else {}
    return await stage.caller.call(
        "GET",
        "storage",
        f"/objects/{stage.her.object}",
        by=player.signer,
        headers=headers,
        patient=stage.her.pseudonym,
    )
