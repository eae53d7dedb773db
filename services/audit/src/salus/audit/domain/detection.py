"""What a SOC should look at: rules over entries of the trail, each giving at most one finding for one cause.

Findings are OCSF Detection Findings (2004) whose uid is made from the rule and its cause, so that seeing the
same entries again gives the same finding again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, get_args

from salus.audit.domain.blocks import BlockRefusedError
from salus.audit.domain.comparison import Difference
from salus.audit.domain.entry import REPEATED, Activity, Damage, Severity, TrailEntry
from salus.audit.domain.network import Surroundings
from salus.audit.domain.ocsf import (
    OCSF_VERSION,
    RESOURCE_UID,
    USER_UID,
    Shape,
    class_of,
    milliseconds,
    product_of,
    severity_of,
)
from salus.events.effect import NoEffect
from salus.events.errors import Reason
from salus.events.requests import SIGNED
from salus.ledger.block import REJECTED_PREFIX

_CREATE = Shape(2004, 1, "Create")
RULE_ANALYTIC, BEHAVIOURAL_ANALYTIC = 1, 2
# A service waits until what it states is on the ledger; with this much between, it wrote another time or
# the ledger stood still.
LATE = timedelta(minutes=10)
# What a finding quotes of an event is cut off there: its words are partly their author's.
TEXT_CHARS_MAX = 1000

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EntryRule:
    """A rule that one entry alone is enough for: whether it applies, and the finding of the OCSF event."""

    name: str
    applies: Callable[[TrailEntry], bool]
    finding: Callable[[Json], Json]


def has_effect(entry: TrailEntry) -> bool:
    """Tell whether an entry states what counts: what was repeated, or changed nothing, may be anybody's."""
    return entry.facts.outcome not in {"without-effect", "rejected"}


def is_glass_broken(entry: TrailEntry) -> bool:
    """Tell whether emergency access was used."""
    return entry.facts.activity is Activity.GLASS_BROKEN and has_effect(entry)


def glass_finding(event: Json) -> Json:
    """Return the finding of one use of emergency access, at once."""
    unmapped = event["unmapped"]
    return finding_of(
        rule="break-glass",
        cause=unmapped.get("decision") or event["metadata"]["uid"],
        title="Emergency access was used",
        text=f"{event['message']} A privacy officer has to review it.",
        severity=Severity.HIGH,
        analytic=RULE_ANALYTIC,
        last=event,
        related=(event["metadata"]["uid"],),
    )


def is_unjustified(entry: TrailEntry) -> bool:
    """Tell whether a privacy officer found that an emergency access was not justified."""
    return entry.facts.activity is Activity.ACCESS_UNJUSTIFIED and has_effect(entry)


def unjustified_finding(event: Json) -> Json:
    """Return the finding of an emergency access that its review blames somebody for."""
    return finding_of(
        rule="unjustified-access",
        cause=event["unmapped"].get("decision") or event["metadata"]["uid"],
        title="An emergency access was not justified",
        text=f"{event['message']} The patient is told. Whose access it was answers for it.",
        severity=Severity.HIGH,
        analytic=RULE_ANALYTIC,
        last=event,
        related=(event["metadata"]["uid"],),
    )


def is_overdue(entry: TrailEntry) -> bool:
    """Tell whether nobody looked in time at what waits for a person."""
    return entry.facts.activity is Activity.REVIEW_OVERDUE and has_effect(entry)


def overdue_finding(event: Json) -> Json:
    """Return the finding of what waits too long for a person."""
    return finding_of(
        rule="review-overdue",
        cause=event["unmapped"].get("decision") or event["metadata"]["uid"],
        title="What waits for a privacy officer is overdue",
        text=f"{event['message']} An officer of the patient's steward has to.",
        severity=Severity.HIGH,
        analytic=RULE_ANALYTIC,
        last=event,
        related=(event["metadata"]["uid"],),
    )


def is_stated_late(entry: TrailEntry) -> bool:
    """Tell whether a service stated what somebody asked for under a time long before the fact was appended.

    The caller's token and keys are judged at the time that the service writes, so an earlier one lets it use
    a request later, or one that was signed with a key that was revoked meanwhile.
    """
    is_late = entry.place.appended_at - entry.time > LATE
    return is_late and entry.facts.authentication == SIGNED and has_effect(entry)


def late_finding(event: Json) -> Json:
    """Return the finding of a fact that was stated under a time long past."""
    minutes = (event["metadata"]["logged_time"] - event["time"]) // 60_000
    return finding_of(
        rule="stated-late",
        cause=event["metadata"]["uid"],
        title="A service stated a request under a time long past",
        text=f"{event['message']} It was appended {minutes} minutes after the time that the service wrote. "
        "If Kafka did not stand still, the service kept the request back or wrote an earlier time.",
        severity=Severity.HIGH,
        analytic=RULE_ANALYTIC,
        last=event,
        related=(event["metadata"]["uid"],),
    )


def is_repeated(entry: TrailEntry) -> bool:
    """Tell whether an entry has the bytes of one that was accepted before."""
    return entry.facts.no_effect == REPEATED


def repeated_finding(event: Json) -> Json:
    """Return the finding of an event that was accepted again: a late retry, or somebody's replay."""
    return finding_of(
        rule=REPEATED,
        cause=event["metadata"]["uid"],
        title="An event was accepted again",
        text=f"{event['message']} Whoever may write to the topic can have sent it again.",
        severity=Severity.LOW,
        analytic=RULE_ANALYTIC,
        last=event,
        related=(event["metadata"]["uid"],),
    )


def is_unentitled(entry: TrailEntry) -> bool:
    """Tell whether identity stated what the asker had no right to, so that it had no effect."""
    return entry.facts.no_effect == NoEffect.NOT_ENTITLED.value


def unentitled_finding(event: Json) -> Json:
    """Return the finding of a fact that identity's key signed and nobody may believe."""
    lacking = ", ".join(event["unmapped"].get("rules", ())) or "no right"
    return finding_of(
        rule=NoEffect.NOT_ENTITLED.value,
        cause=event["metadata"]["uid"],
        title="Somebody tried what they had no right to",
        text=f"{event['message']} It lacks: {lacking}. Identity's key signed it though identity refuses such "
        "requests: unless a right ended at that moment, that key is in other hands.",
        severity=Severity.HIGH,
        analytic=RULE_ANALYTIC,
        last=event,
        related=(event["metadata"]["uid"],),
    )


def damage_rule(damage: Damage) -> EntryRule:
    """Return the rule about entries with this damage."""
    return EntryRule(damage, lambda entry: entry.facts.damage == damage, damage_finding)


def damage_finding(event: Json) -> Json:
    """Return the finding of a row, or its block, that is not what its shard sealed it as."""
    damage, uid = event["unmapped"]["damage"], event["metadata"]["uid"]
    return finding_of(
        rule=damage,
        cause=uid,
        title="A shard sealed what is not so",
        text=f"{event['message']} The key of that shard is in other hands, or its sequencer is broken. "
        "Run `salus ledger fsck --deep`.",
        severity=Severity.CRITICAL,
        analytic=RULE_ANALYTIC,
        last={**event, "actor": {"app_name": "sequencer"}},
        related=(uid,),
    )


def rights_finding(event: Json) -> Json:
    """Return the finding of what consent or storage did for somebody who is not known to have had a right."""
    verdict = event["unmapped"]["outcome"]
    is_pending = verdict == "rights-pending"
    hint = (
        "What would give the right is not on the ledger yet: does a shard stand still?"
        if is_pending
        else "Unless a right ended at that moment, the service's key is in other hands."
    )
    return finding_of(
        rule=verdict,
        cause=event["metadata"]["uid"],
        title="Something was done without a right to it",
        text=f"{event['message']} {hint}",
        severity=Severity.MEDIUM if is_pending else Severity.HIGH,
        analytic=RULE_ANALYTIC,
        last=event,
        related=(event["metadata"]["uid"],),
    )


def is_sender_dated(entry: TrailEntry) -> bool:
    """Tell whether a record was refused because its sender dated it."""
    return entry.status == f"{REJECTED_PREFIX}{Reason.CREATE_TIME}"


def sender_dated_finding(event: Json) -> Json:
    """Return the finding of a topic whose settings somebody altered, one for each block and partition."""
    place = event["enrichments"][0]["data"]
    return finding_of(
        rule=Reason.CREATE_TIME.value,
        cause=f"{place['topic']} {place['partition']} {place['shard']} {place['height']}",
        title="Somebody let senders date the records of a topic",
        text=f"{event['message']} The topic's message.timestamp.type was CreateTime, if for a moment: who "
        "may alter settings can have tried to have a record judged as if it were older than a revocation.",
        severity=Severity.HIGH,
        analytic=RULE_ANALYTIC,
        last=event,
        related=(event["metadata"]["uid"],),
    )


RULES = (
    EntryRule("break-glass", is_glass_broken, glass_finding),
    EntryRule("unjustified-access", is_unjustified, unjustified_finding),
    EntryRule("review-overdue", is_overdue, overdue_finding),
    EntryRule("stated-late", is_stated_late, late_finding),
    EntryRule(NoEffect.NOT_ENTITLED.value, is_unentitled, unentitled_finding),
    EntryRule(REPEATED, is_repeated, repeated_finding),
    EntryRule(Reason.CREATE_TIME.value, is_sender_dated, sender_dated_finding),
    *(damage_rule(damage) for damage in get_args(Damage)),
)


def block_finding(refusal: BlockRefusedError, around: Surroundings, *, at: datetime) -> Json:
    """Return the finding of a block that does not verify: somebody or something changed the ledger."""
    place = f"shard {refusal.shard} block {refusal.height}"
    told = {
        "time": milliseconds(at),
        "metadata": {"uid": place, "product": product_of(around)},
        "actor": {"app_name": "sequencer", "app_uid": around.services.get("sequencer", "sequencer")},
        "unmapped": {},
    }
    return finding_of(
        rule="ledger-block-refused",
        cause=f"{place} {refusal.code}",
        title="A block of the ledger does not verify",
        text=f"{place}: {refusal.code}. Nothing of it was indexed; run `salus ledger fsck`.",
        severity=Severity.CRITICAL,
        analytic=RULE_ANALYTIC,
        last=told,
        related=(place,),
    )


def trail_finding(difference: Difference, around: Surroundings, *, at: datetime) -> Json:
    """Return the finding of a row of the trail that is not what the ledger makes it: somebody changed it."""
    told = {
        "time": milliseconds(at),
        "metadata": {"uid": difference.key, "product": product_of(around)},
        "actor": {"app_name": "audit", "app_uid": around.services.get("audit", "audit")},
        "unmapped": {},
    }
    return finding_of(
        rule="trail-differs",
        cause=f"{difference} {milliseconds(at)}",
        title="The audit trail differs from the ledger",
        text=f"{difference}. Run `salus audit reconcile`; the ledger itself is not affected.",
        severity=Severity.CRITICAL,
        analytic=RULE_ANALYTIC,
        last=told,
        related=(difference.key,),
    )


def repair_finding(by: str, first: Difference, around: Surroundings, *, at: datetime) -> Json:
    """Return the finding of a repair: who had the trail put right, when, and what came first."""
    told = {
        "time": milliseconds(at),
        "metadata": {"uid": first.key, "product": product_of(around)},
        "actor": {"user": {"uid": by}},
        "unmapped": {},
    }
    return finding_of(
        rule="trail-repaired",
        cause=f"{first} {milliseconds(at)}",
        title="The audit trail was put right from the ledger",
        text=f"An operator asked for it; first: {first}. Find out who could write to the database.",
        severity=Severity.HIGH,
        analytic=RULE_ANALYTIC,
        last=told,
        related=(first.key,),
    )


def finding_of(  # noqa: PLR0913  # a finding's own parts
    *,
    rule: str,
    cause: str,
    title: str,
    text: str,
    severity: Severity,
    analytic: int,
    last: Json,
    related: tuple[str, ...],
) -> Json:
    """Return the finding of a rule about `last`, an OCSF event, with what it rests on."""
    actor = actor_of(last)
    uid = finding_uid(rule, actor, cause)
    text = text if len(text) <= TEXT_CHARS_MAX else f"{text[: TEXT_CHARS_MAX - 1]}…"
    patient = last.get("unmapped", {}).get("patient")
    observables = (("actor.user.uid", USER_UID, actor), ("unmapped.patient", RESOURCE_UID, patient))
    about = {"rule": rule, "patient": patient, "decision": last["unmapped"].get("decision")}
    return {
        **class_of(_CREATE),
        **severity_of(severity),
        "time": last["time"],
        "status_id": 1,
        "status": "New",
        "is_alert": True,
        "message": f"{title}: {text}",
        "metadata": {
            "version": OCSF_VERSION,
            "product": last["metadata"]["product"],
            "profiles": ["security_control"],
            "uid": uid,
            "event_code": rule,
        },
        "finding_info": {
            "uid": uid,
            "title": title,
            "desc": text,
            "types": [rule],
            "analytic": {"name": rule, "type_id": analytic, "uid": f"salus.audit.{rule}.v1"},
            "created_time": last["time"],
            "related_events": [{"uid": each} for each in related],
            "related_events_count": len(related),
        },
        "evidences": [{"actor": last["actor"]}],
        "observables": [{"name": n, "type_id": t, "value": v} for n, t, v in observables if v],
        "unmapped": {name: value for name, value in about.items() if value is not None},
    }


def finding_uid(rule: str, actor: str | None, cause: str) -> str:
    """Return the uid of the finding of a rule about an actor, for one cause."""
    return hashlib.sha256(f"salus.health/finding/v1\n{rule}\n{actor}\n{cause}\n".encode()).hexdigest()


def actor_of(event: Json) -> str | None:
    """Return who acted in an OCSF event, if that was proven."""
    uid = event.get("actor", {}).get("user", {}).get("uid")
    return None if uid in {None, "unproven"} else str(uid)


def key_of(finding: Json) -> str:
    """Return the topic key of a finding: the actor, so that all about one comes in order."""
    return actor_of(finding["evidences"][0]) or str(finding["metadata"]["uid"])
