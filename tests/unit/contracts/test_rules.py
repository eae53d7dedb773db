"""Which rules a service decides by is an event: stated once by one replica, and again for other code."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from importlib.resources import files

import pytest

from salus.contracts.rules import Rules, adopt, code_digest
from salus.contracts.testing.faults import Fault
from salus.contracts.testing.memory import MemoryTopics
from salus.events.catalogue import Catalogue
from salus.events.context import Context
from salus.events.contexts import CONTEXTS
from salus.events.rules import rules_event
from salus.runtime.problems import ProblemError

SERVICE = "did:web:trailers.example"
PACKAGE = "salus.contracts"


def rules_of(*code: str) -> tuple[Rules, MemoryTopics]:
    """Return rules of a service of these files, and its topic in memory."""
    context = Context("trailers")
    rules = Rules(rules_event(context, owner=context.role("trailers", "service", "keeps trailers")), code)
    return rules, MemoryTopics([rules.contract()], catalogue=Catalogue([*CONTEXTS, context]))


async def adopted(rules: Rules, topics: MemoryTopics) -> bool:
    """Start a replica; return whether the rules were new."""
    decide = partial(rules.adopted, package=PACKAGE, service=SERVICE)
    return await adopt(topics.host(rules.contract()), decide, service=SERVICE)


def test_a_digest_is_of_names_sizes_and_bytes():
    digest = hashlib.sha256()
    for name in ("rules.py", "queues.py"):
        source = files(PACKAGE).joinpath(name).read_bytes()
        digest.update(f"{name} {len(source)}\n".encode() + source)

    assert code_digest(PACKAGE, ("rules.py", "queues.py")) == digest.hexdigest()
    assert code_digest(PACKAGE, ("queues.py", "rules.py")) != digest.hexdigest()


async def test_a_second_start_finds_the_rules_in_force_and_other_code_is_stated():
    rules, topics = rules_of("rules.py")
    other = Rules(rules.event, ("rules.py", "queues.py"))

    assert [await adopted(one, topics) for one in (rules, rules, other, other, rules)] == [
        *(True, False, True, False, True)
    ]
    assert topics.state(rules.contract(), SERVICE).contract == code_digest(PACKAGE, rules.code)


async def test_of_replicas_that_start_at_once_one_states_the_rules():
    rules, topics = rules_of("rules.py")

    assert sorted(await asyncio.gather(*(adopted(rules, topics) for _ in range(4)))) == [
        *(False, False, False, True)
    ]
    assert len(topics.applied) == 1


async def test_who_is_always_overtaken_goes_on_and_who_does_not_know_says_so():
    rules, topics = rules_of("rules.py")
    topics.faults.add(Fault.STALE, times=10)
    assert await adopted(rules, topics)

    rules, topics = rules_of("queues.py")
    topics.faults.add(Fault.LOST)
    with pytest.raises(ProblemError, match="outcome-unknown"):
        await adopted(rules, topics)
    assert await adopted(rules, topics)
