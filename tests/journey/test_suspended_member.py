"""A member is suspended in the middle of what it sends, reinstated, and expelled: issue 14, identity 1.

On the whole platform: from one record to the next nothing of it is taken, its people are refused by every
service at once, others notice nothing, and the archive says so by itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from tests.asking import NETWORK
from tests.commands import Salus
from tests.integration.cli.test_two_operators import SecondOperator
from tests.journey.test_disaster import check, trail
from tests.journey.test_integrator import status_of
from tests.journey.test_own_event_types import platform, second, together
from tests.pseudonyms import patient_of

from salus.cli.callers import signer_of
from salus.client import Publisher, RequestSigner
from salus.devkit.platform import Platform
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.did import LocalSigner
from salus.messaging import Position, Reader, Record
from salus.runtime.identity_view import IDENTITY_TOPIC
from salus.runtime.network import Network

__all__ = ["platform", "second"]
pytestmark = pytest.mark.timeout(900)
WAIT_S_MAX = 240
# How many records around the suspension are looked up, each by its receipt.
AROUND = 12


class Sender:
    """A member that publishes one event after the other, and remembers where each came to stand."""

    def __init__(self, publisher: Publisher, patient: str) -> None:
        self.sent: list[Position] = []
        self._publisher, self._patient = publisher, patient
        self._more = asyncio.Condition()

    async def send(self) -> Position:
        """Publish one event and return where it stands."""
        data = DocumentRegistered(patient=self._patient, object=f"o-{len(self.sent)}", media_type="a/b")
        handle = await self._publisher.publish(data, subject=self._patient)
        position = await handle.position()
        async with self._more:
            self.sent.append(position)
            self._more.notify_all()
        return position

    async def go_on(self) -> None:
        """Publish until this is cancelled."""
        while True:
            await self.send()

    async def wait_for(self, more: int) -> None:
        """Return once so many more were sent."""
        wanted = len(self.sent) + more
        async with asyncio.timeout(WAIT_S_MAX), self._more:
            await self._more.wait_for(lambda: len(self.sent) >= wanted)


@asynccontextmanager
async def sending(platform: Platform, name: str) -> AsyncIterator[Sender]:  # the fixture's value
    signer = signer_of(platform, name, None)
    async with Publisher(platform.kafka_bootstrap, signer) as publisher:
        yield Sender(publisher, patient_of(signer.did))


@asynccontextmanager
async def going_on(*senders: Sender) -> AsyncIterator[None]:
    """Let members send all the while."""
    tasks = [asyncio.create_task(sender.go_on()) for sender in senders]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


async def records(platform: Platform, topic: str) -> list[Record]:  # the fixture's value
    """Return what a topic has now."""
    partitions = Network.read(platform.network.file).topic_partitions(topic)
    found = list[Record]()
    async with (
        asyncio.timeout(WAIT_S_MAX),
        Reader(platform.kafka_bootstrap, starts=dict.fromkeys(partitions, 0)) as reader,
    ):
        ends = await reader.end_offsets()
        while any([await reader.position(*at) < end for at, end in ends.items()]):
            found += await reader.poll(max_records=500, timeout_ms=100)
    return found


async def when_of(platform: Platform, act: str) -> list[int]:  # the fixture's value
    """Return when the broker appended the facts of that type, in order."""
    return [
        record.timestamp_ms
        for record in await records(platform, IDENTITY_TOPIC)
        if json.loads(record.value or b"{}").get("type") == f"salus.identity.{act}.v1"
    ]


async def by_time(
    platform: Platform,  # the fixture's value
    positions: Sequence[Position],
) -> list[tuple[int, Position]]:
    """Return records with the moments at which the broker appended them, in their order."""
    wanted = {(at.partition, at.offset): at for at in positions}
    found = [
        (record.timestamp_ms, wanted[record.partition, record.offset])
        for record in await records(platform, positions[0].topic)
        if (record.partition, record.offset) in wanted
    ]
    assert len(found) == len(wanted)
    return sorted(found, key=lambda one: one[0])


async def told(platform: Platform, who: LocalSigner, service: str) -> str:  # the fixture's value
    """Return what a service answers to a command, or a question, of somebody: the code of its refusal."""
    patient = patient_of(who.did)
    asked: dict[str, tuple[str, str, Any]] = {
        "identity": ("POST", f"/parties/{who.did}/roles", {"role": "patient"}),
        "consent": ("GET", f"/patients/{patient}/consents", None),
        "storage": ("GET", f"/objects/o-1?patient={patient}", None),
        "audit": ("GET", "/trail", None),
    }
    method, target, body = asked[service]
    auth = RequestSigner(who, service, network=NETWORK)
    async with httpx.AsyncClient(base_url=platform.service_url(service), timeout=60) as http:
        answer = await http.request(method, target, json=body, auth=auth)
    return "done" if answer.is_success else f"{answer.status_code} {answer.json()['code']}"


async def everywhere(platform: Platform, who: LocalSigner) -> dict[str, str]:  # the fixture's value
    return {one: await told(platform, who, one) for one in ("identity", "consent", "storage", "audit")}


async def founded(first: Salus, second: SecondOperator, folder: Any) -> None:  # the fixture's value
    """Two members, of which one has a clinician and a patient."""
    for member in ("hospital", "clinic"):
        joined = await together(first, second, folder, "party", "register", member, "--kind", "member")
        assert joined.code == 0, joined.err
    for name, role in (("doctor", "clinician"), ("pat", "patient")):
        own = ("--kind", "person", "--role", role, "--member", "hospital", "--as", "hospital")
        person = await first("party", "register", name, *own)
        assert person.code == 0, person.err


async def test_a_member_is_suspended_while_it_sends_and_reinstated_and_expelled(
    platform: Platform,  # the fixture
    second: SecondOperator,  # the fixture
    tmp_path: Any,
) -> None:
    first = Salus(platform.state.folder)
    await founded(first, second, tmp_path)
    doctor, pat = (signer_of(platform, name, None) for name in ("doctor", "pat"))
    hospital = signer_of(platform, "hospital", None).did

    async def decide(act: str, reason: str) -> None:
        done = await together(first, second, tmp_path, "member", act, hospital, "--reason", reason)
        assert done.code == 0, done.err

    alone = await first("member", "suspend", hospital, "--reason", "inquiry", "--yes")
    assert "second-operator-needed" in alone.err
    before = {who.did: await everywhere(platform, who) for who in (doctor, pat)}
    assert "member-suspended" not in str(before)

    async with sending(platform, "hospital") as mine, sending(platform, "clinic") as others:
        async with going_on(mine, others):
            await mine.wait_for(3 * AROUND)
            await decide("suspend", "key-compromised")
            # At once, at each of them: who asks, asks after the answer.
            assert set((await everywhere(platform, doctor)).values()) == {"403 member-suspended"}
            patients = await everywhere(platform, pat)
            await mine.wait_for(3 * AROUND)
            await others.wait_for(1)
        assert patients == before[pat.did]

        # From the very record on.
        [moment] = await when_of(platform, "member-suspended")
        found = await by_time(platform, mine.sent)
        number = sum(when <= moment for when, _ in found)
        assert AROUND <= number <= len(found) - AROUND
        edge = found[number - AROUND : number + AROUND]
        statuses = [await status_of(platform, at, None) for _, at in edge]
        assert statuses == ["accepted"] * AROUND + ["rejected:member-suspended"] * AROUND
        assert await status_of(platform, others.sent[-1], None) == "accepted"

        # All is as it was, for the doctor and for what is sent from now on.
        listed = await first("member", "list")
        assert ("suspended" in listed.out, "key-compromised" in listed.out) == (True, True)
        await decide("reinstate", "resolved")
        assert await everywhere(platform, doctor) == before[doctor.did]
        assert await status_of(platform, await mine.send(), None) == "accepted"

        await decide("suspend", "own-request")
        await decide("expel", "left")
        assert set((await everywhere(platform, doctor)).values()) == {"403 member-expelled"}
        assert await everywhere(platform, pat) == before[pat.did]
        assert await status_of(platform, await mine.send(), None) == "rejected:member-expelled"
        assert await status_of(platform, await others.send(), None) == "accepted"
        assert await status_of(platform, edge[0][1], None) == "accepted"

    acts = {entry["type"]: entry for entry in await trail(platform, about=hospital, object=hospital)}
    assert "expelled: left" in acts["salus.identity.member-expelled.v1"]["summary"]
    assert (await check(platform)).findings == []
