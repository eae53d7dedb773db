"""Topics in memory keep the promises of a host; see tests/integration/contracts for the real ones."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from tests.parties import Parties, founded

from salus.contracts.contract import ContractHost
from salus.contracts.testing.faults import Fault
from salus.contracts.testing.host_promises import HELD_KEYS, HeldKeys, HostBench, HostPromises
from salus.contracts.testing.memory import SERVICE, MemoryTopics
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import KeyAdded
from salus.runtime.identity_view import IDENTITY_TOPIC


class MemoryBench(HostBench):
    """Hosts on topics in memory."""

    def __init__(self) -> None:
        self.topics = MemoryTopics([HELD_KEYS], catalogue=CATALOGUE)
        self.topics.holds_late = True
        self.parties = Parties()

    async def replica(self) -> ContractHost[HeldKeys]:
        return self.topics.host(HELD_KEYS)

    async def refolded(self, parties: Collection[str]) -> dict[str, HeldKeys]:
        return await self.topics.refolded().host(HELD_KEYS).states(parties)

    async def party(self) -> str:
        party = self.parties.made()
        self.topics.append(founded(party, root=SERVICE), subject=party.did)
        return party.did

    def event(self, party: str, name: str) -> KeyAdded:
        return self.parties.key_added(party, name)

    def meet(self, fault: Fault, *, times: int = 1) -> None:
        self.topics.faults.add(fault, times=times)

    async def arrive(self) -> None:
        self.topics.arrive()

    async def end(self) -> int:
        return len(self.topics.records[IDENTITY_TOPIC])


class TestMemoryHost(HostPromises):
    @pytest.fixture
    def bench(self) -> HostBench:
        return MemoryBench()
