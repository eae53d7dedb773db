"""A row has a case exactly if type and signer are known, its source is its signer and its key its subject."""

from __future__ import annotations

from array import array
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.events import fitting
from salus.events.canonical import Attributes
from salus.events.contexts import CATALOGUE
from salus.events.fitting import NO_ONE, Case, Facts, cases_of
from salus.events.recognizers import Mark
from salus.ledger.records import cells_of

TYPES = CATALOGUE.types()[:3]
DIDS = ["did:key:a", "did:key:ab", "did:key:b"]
TEXTS = st.sampled_from(["", "p", "pq", "q", *DIDS])
Made = tuple[int, str, str, str | None, int]
# The last batch is by nobody.
SIGNERS = [2, 0, 1, NO_ONE]


@st.composite
def rows(draw: st.DrawFn) -> Made:
    """A row that fits, but for one thing perhaps."""
    batch, subject = draw(st.integers(0, 2)), draw(TEXTS)
    made = [draw(st.integers(0, len(TYPES) - 1)), DIDS[SIGNERS[batch]], subject, subject, batch]
    spoilt = draw(st.none() | st.integers(0, 4))
    if spoilt is not None:
        made[spoilt] = draw([st.just(-1), TEXTS, TEXTS, st.none() | TEXTS, st.sampled_from([-1, 3])][spoilt])
    return cast("Made", tuple(made))


ROWS = st.lists(rows(), max_size=12)

pytestmark = pytest.mark.skipif(fitting._cases is None, reason="no C compiler")


def facts_of(runs: list[list[Made]]) -> Facts:
    events, spans, rows = b"", array("Q"), [row for run in runs for row in run]
    for _, source, subject, _, _ in rows:
        at, mid = len(events), len(events) + len(source)
        marks = dict.fromkeys(Mark, at) | {Mark.SOURCE_END: mid, Mark.SUBJECT: mid}
        marks |= {Mark.SUBJECT_END: mid + len(subject)}
        spans.extend(marks[mark] for mark in Mark)
        events += source.encode() + subject.encode()
    numbers = array("i", [row[0] for row in rows])
    attributes = Attributes(TYPES, events, numbers, spans, array("q", [0] * len(rows)))
    ends = [sum(map(len, runs[: n + 1])) for n in range(len(runs))]
    keys = cells_of(None if row[3] is None else row[3].encode() for row in rows)
    batches = array("i", [row[4] for row in rows])
    topics = [f"topic-{n}" for n in range(len(runs))]
    return Facts(topics, ends, keys, attributes, batches, array("i", SIGNERS), DIDS)


def expected(topic: str, made: Made) -> Case | None:
    type_, source, subject, key, batch = made
    signer = NO_ONE if batch < 0 else SIGNERS[batch]
    if type_ < 0 or signer < 0 or source != DIDS[signer] or key != subject:
        return None
    return Case(topic, TYPES[type_], signer)


@given(st.lists(ROWS, max_size=4))
def test_a_case_says_topic_type_and_signer_of_what_fits(runs: list[list[Made]]) -> None:
    facts = facts_of(runs)

    found = [None if number == NO_ONE else facts.case(number) for number in cases_of(facts)]

    assert found == [expected(f"topic-{n}", made) for n, run in enumerate(runs) for made in run]


@pytest.mark.parametrize("key", [None, "pq", "", "q"])
def test_a_key_that_is_not_exactly_the_subject_does_not_fit(key: str | None) -> None:
    subjects = ["p", ""] if key != "" else ["p"]

    for subject in subjects:
        assert [*cases_of(facts_of([[(0, DIDS[0], subject, key, 1)]]))] == [NO_ONE]
        assert [*cases_of(facts_of([[(0, DIDS[0], subject, subject, 1)]]))] != [NO_ONE]


def test_a_source_that_only_begins_like_the_signer_does_not_fit() -> None:
    assert [*cases_of(facts_of([[(0, DIDS[1], "p", "p", 1)]]))] == [NO_ONE]
    assert [*cases_of(facts_of([[(0, DIDS[0], "p", "p", 2)]]))] == [NO_ONE]


def test_without_the_library_nothing_is_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_cases", fitting.load("/nowhere"))

    assert [*cases_of(facts_of([[(0, DIDS[0], "p", "p", 1)] * 3]))] == [NO_ONE] * 3
