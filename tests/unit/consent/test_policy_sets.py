"""A policy set that cannot be used answers nothing: who cannot know, refuses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

import pytest
from tests.unit.archive.decided_ledger import RELEASED, policies

from salus.access.cedar import CedarPolicies
from salus.access.policy_check import usable
from salus.access.policy_files import contents_of, digest_of
from salus.access.state import PolicyText
from salus.consent.adapters.policy_sets import PARSED_MAX, FoldedPolicySets
from salus.events.contexts.consent import PolicyFile
from salus.runtime.problems import ProblemError


class Texts:
    """What is folded of policy texts, and how often it was asked for."""

    def __init__(self, *sets: tuple[PolicyFile, ...]) -> None:
        self.known = {digest_of(contents_of(files)): files for files in sets}
        self.asked = 0

    async def state(self, aggregate: str) -> PolicyText:
        self.asked += 1
        return PolicyText(aggregate, self.known.get(aggregate, ()))


async def test_each_set_is_parsed_once_and_some_are_kept() -> None:
    many = [policies(f'@id("p{n}") permit (principal, action, resource);') for n in range(PARSED_MAX)]
    texts = Texts(RELEASED, *many)
    sets = FoldedPolicySets(texts)
    for digest in (*texts.known, *list(texts.known)[1:]):
        assert (await sets.of(digest)).digest == digest

    assert texts.asked == PARSED_MAX + 1


async def test_who_asks_while_a_set_is_parsed_waits_for_that_one_also_if_the_first_gives_up() -> None:
    may_end, parsed = threading.Event(), []

    def parse(contents: Mapping[str, bytes]) -> CedarPolicies:
        parsed.append(contents)
        assert may_end.wait(60)
        return usable(contents)

    texts = Texts(RELEASED)
    (digest,) = texts.known
    sets = FoldedPolicySets(texts, parse=parse)
    first, *others = (asyncio.create_task(sets.of(digest)) for _ in range(5))
    async with asyncio.timeout(60):
        while texts.asked < 5 or not parsed:  # noqa: ASYNC110  # a thread sets nothing that can be awaited
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        later = asyncio.create_task(sets.of(digest))
        while texts.asked < 6:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0)
        may_end.set()
        found = await asyncio.gather(*others, later)

    assert len(parsed) == 1
    assert {id(one) for one in found} == {id(found[0])}


LAWLESS = '@id("patient-erased") permit (principal, action, resource);'


@pytest.mark.parametrize("text", ["permit (principal", LAWLESS])
async def test_one_that_this_release_cannot_use_answers_nothing(text: str) -> None:
    texts = Texts(policies(text))
    (digest,) = texts.known
    for asked in (digest, "0" * 64, ""):
        with pytest.raises(ProblemError, match="policies-unusable") as refused:
            await FoldedPolicySets(texts).of(asked)

        assert refused.value.status == 503
