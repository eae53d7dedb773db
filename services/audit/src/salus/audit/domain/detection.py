"""What a SOC should look at: rules over OCSF events, each giving at most one finding for one cause.

Findings are OCSF Detection Findings (2004) whose uid is made from the rule and its cause, so that seeing the
same events again gives the same finding again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from salus.audit.domain.blocks import BlockRefusedError
from salus.audit.domain.comparison import Difference
from salus.audit.domain.entry import REPEATED, Activity, Severity
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
from salus.events.requests import SIGNED

_CREATE = Shape(2004, 1, "Create")
_RULE_ANALYTIC, _BEHAVIOURAL_ANALYTIC = 1, 2
# Kept of one actor: some windows full, so that a burst is whole though its refusals come late.
WINDOW_REFUSALS_MIN = 64
WINDOWS_KEPT = 4
FINDINGS_CATEGORY = 2
# A service waits until what it states is on the ledger; with this much between, it wrote another time or
# the ledger stood still.
LATE_MS = 600_000

Json = dict[str, Any]


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """One refusal of an actor: when it was appended, in milliseconds since the epoch, and the event's uid."""

    at_ms: int
    uid: str


class Window(msgspec.Struct, frozen=True):
    """An actor's latest refusals as they were appended, and whether this burst of them was reported."""

    refusals: tuple[Refusal, ...] = ()
    reported: bool = False


@dataclass(frozen=True, slots=True)
class ProbingRule:
    """So many refusals of one actor within so many seconds are probing."""

    refusals: int
    window_s: int


def actor_of(event: Json) -> str | None:
    """Return who acted in an OCSF event, if that was proven."""
    uid = event.get("actor", {}).get("user", {}).get("uid")
    return None if uid in {None, "unproven"} else str(uid)


def uid_of(event: Json) -> str:
    """Return the uid of the leaf that an event is about; a correction is of the one that it corrects."""
    return str(event.get("unmapped", {}).get("corrects") or event["metadata"]["uid"])


def is_finding(event: Json) -> bool:
    """Tell whether an event is a finding itself, which no detector looks at."""
    category: object = event.get("category_uid")
    return category == FINDINGS_CATEGORY


def is_refusal(event: Json) -> bool:
    """Tell whether somebody was refused access to data."""
    outcome: object = event.get("unmapped", {}).get("outcome")
    return outcome == "refused" and event.get("class_uid") in {3003, 6005}


def has_effect(event: Json) -> bool:
    """Tell whether an event states what counts: what was repeated, or changed nothing, may be anybody's."""
    outcome: object = event.get("unmapped", {}).get("outcome")
    return outcome not in {"without-effect", "rejected"}


def is_glass_broken(event: Json) -> bool:
    """Tell whether emergency access was used."""
    activity: object = event.get("unmapped", {}).get("activity")
    return activity == Activity.GLASS_BROKEN and has_effect(event)


def glass_finding(event: Json) -> Json:
    """Return the finding of one use of emergency access, at once."""
    unmapped = event["unmapped"]
    return _finding(
        rule="break-glass",
        cause=unmapped.get("decision") or event["metadata"]["uid"],
        title="Emergency access was used",
        text=f"{event['message']} A privacy officer has to review it.",
        severity=Severity.HIGH,
        analytic=_RULE_ANALYTIC,
        last=event,
        related=(event["metadata"]["uid"],),
    )


def is_stated_late(event: Json) -> bool:
    """Tell whether a service stated what somebody asked for under a time long before the fact was appended.

    The caller's token and keys are judged at the time that the service writes, so an earlier one lets it use
    a request later, or one that was signed with a key that was revoked meanwhile.
    """
    unmapped = event.get("unmapped", {})
    late: bool = event["metadata"]["logged_time"] - event["time"] > LATE_MS
    return late and unmapped.get("authentication") == SIGNED and has_effect(event)


def late_finding(event: Json) -> Json:
    """Return the finding of a fact that was stated under a time long past."""
    minutes = (event["metadata"]["logged_time"] - event["time"]) // 60_000
    return _finding(
        rule="stated-late",
        cause=event["metadata"]["uid"],
        title="A service stated a request under a time long past",
        text=f"{event['message']} It was appended {minutes} minutes after the time that the service wrote. "
        "If Kafka did not stand still, the service kept the request back or wrote an earlier time.",
        severity=Severity.HIGH,
        analytic=_RULE_ANALYTIC,
        last=event,
        related=(event["metadata"]["uid"],),
    )


def is_repeated(event: Json) -> bool:
    """Tell whether an event has the bytes of one that was accepted before."""
    reason: object = event.get("unmapped", {}).get("no_effect")
    return reason == REPEATED


def repeated_finding(event: Json) -> Json:
    """Return the finding of an event that was accepted again: a late retry, or somebody's replay."""
    return _finding(
        rule=REPEATED,
        cause=event["metadata"]["uid"],
        title="An event was accepted again",
        text=f"{event['message']} Whoever may write to the topic can have sent it again.",
        severity=Severity.LOW,
        analytic=_RULE_ANALYTIC,
        last=event,
        related=(event["metadata"]["uid"],),
    )


def is_unentitled(event: Json) -> bool:
    """Tell whether identity stated what the asker had no right to, so that it had no effect."""
    reason: object = event.get("unmapped", {}).get("no_effect")
    return reason == NoEffect.NOT_ENTITLED.value


def unentitled_finding(event: Json) -> Json:
    """Return the finding of a fact that identity's key signed and nobody may believe."""
    lacking = ", ".join(event["unmapped"].get("rules", ())) or "no right"
    return _finding(
        rule=NoEffect.NOT_ENTITLED.value,
        cause=event["metadata"]["uid"],
        title="Somebody tried what they had no right to",
        text=f"{event['message']} It lacks: {lacking}. Identity's key signed it though identity refuses such "
        "requests: unless a right ended at that moment, that key is in other hands.",
        severity=Severity.HIGH,
        analytic=_RULE_ANALYTIC,
        last=event,
        related=(event["metadata"]["uid"],),
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
    return _finding(
        rule=verdict,
        cause=event["metadata"]["uid"],
        title="Something was done without a right to it",
        text=f"{event['message']} {hint}",
        severity=Severity.MEDIUM if is_pending else Severity.HIGH,
        analytic=_RULE_ANALYTIC,
        last=event,
        related=(event["metadata"]["uid"],),
    )


def note_refusal(window: Window, event: Json, rule: ProbingRule) -> tuple[Window, Json | None]:
    """Return the actor's window with this refusal in it, and a finding if it now is probing.

    A refusal is dated by the broker (`logged_time`), not by the service that stated it, and what counts are
    the refusals around it: one that a clock dated elsewhere hides no others. A burst gives one finding, when
    it reaches the rule's number; a new burst gives a new one. Events seen before change nothing, and what was
    appended long ago takes the place of nothing that came since: it may be sent again by anybody.
    """
    uid, at_ms = uid_of(event), event["metadata"]["logged_time"]
    if any(refusal.uid == uid for refusal in window.refusals):
        return window, None
    latest = sorted((*window.refusals, Refusal(at_ms, uid)), key=lambda each: (each.at_ms, each.uid))
    kept = tuple(latest[-kept_of(rule) :])
    if not any(refusal.uid == uid for refusal in kept):
        # Appended long before all that is kept: whoever sends it again learns nothing and hides nothing.
        return window, None
    burst = _densest_around(at_ms, kept, rule)
    is_probing = len(burst) >= rule.refusals
    finding = None
    if is_probing and not window.reported:
        finding = _probing(event, burst, rule)
    return Window(kept, is_probing), finding


def kept_of(rule: ProbingRule) -> int:
    """Return how many of an actor's refusals are kept: those that were appended last."""
    return max(WINDOW_REFUSALS_MIN, WINDOWS_KEPT * rule.refusals)


def _densest_around(at_ms: int, refusals: tuple[Refusal, ...], rule: ProbingRule) -> tuple[Refusal, ...]:
    """Return the most refusals within one window of the rule that holds `at_ms`, oldest first."""
    span_ms = rule.window_s * 1000
    near = sorted((r for r in refusals if abs(r.at_ms - at_ms) < span_ms), key=lambda r: (r.at_ms, r.uid))
    windows = [
        tuple(r for r in near if first.at_ms <= r.at_ms < first.at_ms + span_ms)
        for first in near
        if first.at_ms <= at_ms
    ]
    return max(windows, key=len)


def block_finding(refusal: BlockRefusedError, around: Surroundings, *, at: datetime) -> Json:
    """Return the finding of a block that does not verify: somebody or something changed the ledger."""
    place = f"shard {refusal.shard} block {refusal.height}"
    told = {
        "time": milliseconds(at),
        "metadata": {"uid": place, "product": product_of(around)},
        "actor": {"app_name": "sequencer", "app_uid": around.services.get("sequencer", "sequencer")},
        "unmapped": {},
    }
    return _finding(
        rule="ledger-block-refused",
        cause=f"{place} {refusal.code}",
        title="A block of the ledger does not verify",
        text=f"{place}: {refusal.code}. Nothing of it was indexed; run `salus ledger fsck`.",
        severity=Severity.CRITICAL,
        analytic=_RULE_ANALYTIC,
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
    return _finding(
        rule="trail-differs",
        cause=f"{difference} {milliseconds(at)}",
        title="The audit trail differs from the ledger",
        text=f"{difference}. Run `salus audit reconcile`; the ledger itself is not affected.",
        severity=Severity.CRITICAL,
        analytic=_RULE_ANALYTIC,
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
    return _finding(
        rule="trail-repaired",
        cause=f"{first} {milliseconds(at)}",
        title="The audit trail was put right from the ledger",
        text=f"An operator asked for it; first: {first}. Find out who could write to the database.",
        severity=Severity.HIGH,
        analytic=_RULE_ANALYTIC,
        last=told,
        related=(first.key,),
    )


def _probing(event: Json, refusals: tuple[Refusal, ...], rule: ProbingRule) -> Json:
    return _finding(
        rule="denied-access-probing",
        cause=refusals[0].uid,
        title="Somebody probes for access",
        text=f"{len(refusals)} refusals of one actor within {rule.window_s} s.",
        severity=Severity.HIGH,
        analytic=_BEHAVIOURAL_ANALYTIC,
        last=event,
        related=tuple(refusal.uid for refusal in refusals),
    )


def _finding(  # noqa: PLR0913  # a finding's own parts
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
    actor = actor_of(last)
    uid = hashlib.sha256(f"salus.health/finding/v1\n{rule}\n{actor}\n{cause}\n".encode()).hexdigest()
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


def key_of(event: Json) -> str:
    """Return the topic key of an event or finding: the actor, so that all about one comes in order."""
    actor = event["evidences"][0]["actor"] if is_finding(event) else event.get("actor", {})
    return actor_of({"actor": actor}) or str(event["metadata"]["uid"])
