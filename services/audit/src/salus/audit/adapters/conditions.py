"""A question to the trail, and what its reader may see, as conditions in SQL."""

from __future__ import annotations

from typing import get_args

from sqlalchemy import ColumnElement, false, or_, select

from salus.audit.adapters.tables import TRAIL, UNENTITLED, keys_text, microseconds_of
from salus.audit.domain.entry import RightsVerdict
from salus.audit.domain.search import Question, Visibility
from salus.events.contexts.storage import SubjectRegistered
from salus.events.event_types import type_of

SUBJECT_REGISTERED = type_of(SubjectRegistered).name


def conditions_of(question: Question) -> list[ColumnElement[bool]]:
    """Return what a question asks of the rows of the trail."""
    columns = TRAIL.c
    exact = {
        columns.patient: question.patient,
        columns.action: question.action,
        columns.type: question.type,
        columns.object: question.object,
    }
    conditions = [column == value for column, value in exact.items() if value is not None]
    conditions += _of_outcome(question)
    if question.who is not None:
        acted = (columns.actor, columns.member, columns.approver)
        conditions.append(or_(*(column == question.who for column in acted)))
    if question.in_doubt is not None:
        signed = columns.key_ids.contains(keys_text([question.in_doubt]), autoescape=True)
        conditions.append(signed if question.doubted_since is not None else false())
    for column, since, until in (
        (columns.appended_us, question.since, question.until),
        (columns.appended_us, question.doubted_since, None),
        (columns.time_us, question.stated_since, question.stated_until),
    ):
        if since is not None:
            conditions.append(column >= microseconds_of(since))
        if until is not None:
            conditions.append(column < microseconds_of(until))
    if question.before is not None:
        conditions.append(columns.seq < question.before)
    if question.after is not None:
        conditions.append(columns.seq > question.after)
    words = (question.q or "").lower().split()
    conditions += [columns.words.contains(word, autoescape=True) for word in words]
    return conditions


def _of_outcome(question: Question) -> list[ColumnElement[bool]]:
    if question.outcome is None:
        return []
    if question.outcome in get_args(RightsVerdict):
        marked = select(UNENTITLED.c.uid).where(UNENTITLED.c.verdict == question.outcome)
        return [TRAIL.c.uid.in_(marked)]
    stored = TRAIL.c.outcome == question.outcome
    if question.is_done:
        return [stored]
    marked = select(UNENTITLED.c.uid).where(UNENTITLED.c.verdict.in_(get_args(RightsVerdict)))
    return [stored, TRAIL.c.uid.not_in(marked)]


def visible_in(visible: Visibility) -> list[ColumnElement[bool]]:
    """Return what rows must fulfil for a reader to see them."""
    if visible.everything:
        return []
    columns = TRAIL.c
    shown: list[ColumnElement[bool]] = [
        columns.actor.in_(visible.actors),
        columns.party.in_(visible.actors),
        columns.approver.in_(visible.actors),
        columns.member.in_(visible.members),
        columns.patient.in_(visible.patients),
    ]
    if visible.stewards:
        registered = TRAIL.alias()
        shown.append(
            select(registered.c.seq)
            .where(
                registered.c.patient == columns.patient,
                registered.c.type == SUBJECT_REGISTERED,
                registered.c.outcome == "success",
                registered.c.party.in_(visible.stewards),
            )
            .exists()
        )
    return [or_(*shown)]
