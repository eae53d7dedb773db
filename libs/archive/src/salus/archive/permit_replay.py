"""Answers again, by the ledger alone, whether a permit allowed a use that consent states. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from salus.access.actors import Asking
from salus.access.permits import Permit, UseQuestion, bar_of, reasons_against
from salus.access.state import PatientState, SubjectState
from salus.archive.decision_store import Place
from salus.archive.replayed_decision import Difference, shown
from salus.events.contexts.consent_permits import PermitUsed, PermitUseDenied
from salus.events.state_positions import Partition

StatedUse = PermitUsed | PermitUseDenied


def is_allowed(said: StatedUse) -> bool:
    """Tell whether the use was allowed."""
    return isinstance(said, PermitUsed)


def moment_of(said: StatedUse) -> datetime:
    """Return the moment by which a use was decided."""
    return said.used_at if isinstance(said, PermitUsed) else said.decided_at


def ends_of_permit(said: StatedUse, place: Place, ends: Mapping[Partition, int]) -> Mapping[Partition, int]:
    """Return up to where the permit's events count, of a use that stands at a place.

    One that was allowed took effect, so it was decided by all that changed the permit before it.
    """
    return {**ends, (place.topic, place.partition): place.offset} if isinstance(said, PermitUsed) else ends


def use_differences(
    said: StatedUse, *, permit: Permit, asking: Asking, state: PatientState, subject: SubjectState
) -> tuple[Difference, ...]:
    """Return in what a use is not what follows from the permit and from the patient that it names."""
    at = moment_of(said)
    question = UseQuestion(asking, said.owner, said.data_set, said.purpose, said.patient)
    if said.patient is not None:
        barred = bar_of(question, state=state, subject=subject, at=at)
        question = replace(question, barred=barred)
    reasons = reasons_against(permit, question, at=at)
    told: list[tuple[str, object, object]] = [("allowed", is_allowed(said), not reasons)]
    if isinstance(said, PermitUsed):
        told += [("reasons", (), reasons), ("number", said.number, permit.used + 1)]
    else:
        told.append(("reasons", said.reasons, reasons))
    return tuple(Difference(name, shown(one), shown(two)) for name, one, two in told if one != two)
