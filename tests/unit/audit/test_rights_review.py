"""What consent or storage did for somebody without a right is found as it is sealed, and said everywhere.

Case threat model, second attack: the thief of a service's key serves an account of his own. Until now the
trail showed it as done until somebody ran a deep fsck.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from math import inf
from typing import Any, get_args

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from tests.asking import UNASKED
from tests.unit.archive.served_ledger import (
    CONSENT,
    DOCTOR,
    HOSPITAL,
    OFFICER,
    OTHER_PATIENT,
    THIEF,
    ServedLedger,
    identifier,
)
from tests.unit.archive.small_ledger import SHARD_SIGNERS
from tests.unit.archive.test_deep_rights import honest
from tests.unit.audit.people import nobody
from tests.unit.audit.samples import AROUND
from tests.unit.audit.test_indexing import EVERYTHING, FakeOutputs
from tests.unit.audit.test_mappings import FHIR, OCSF

from salus.archive.building import BEGIN, IDENTITY, ChainBuilder
from salus.archive.entitlements import Entitlements
from salus.archive.served_requests import CONSENT_TOPIC
from salus.audit import rights_review
from salus.audit.adapters.archive import ArchivedLedger
from salus.audit.adapters.sql import SqlTrail
from salus.audit.detectors import Detectors
from salus.audit.domain.entry import RightsVerdict
from salus.audit.domain.identity_history import IdentityHistory, stamped
from salus.audit.domain.probing import ProbingRule
from salus.audit.domain.search import Question
from salus.audit.handlers import Alarm, Bell, Follower, Indexer
from salus.audit.identity_chain import IdentityChain, IdentityTopic
from salus.audit.ports import Message
from salus.audit.publication import Publisher
from salus.audit.publication_mark import Marks
from salus.audit.reconciliation import Reconciler
from salus.audit.rights_publication import RightsPublication
from salus.audit.rights_review import PENDING_S, SETTLED_S, MissingRunError, RightsReview
from salus.events.contexts.identity import RoleWithdrawn
from salus.objects.memory import MemoryObjects

KEYS = {shard: signer.verifier for shard, signer in SHARD_SIGNERS.items()}


class Topics(FakeOutputs):
    """The topics in memory; `alarmed` is set once a finding stands there."""

    def __init__(self) -> None:
        super().__init__()
        self.alarmed = asyncio.Event()

    async def publish(self, messages: Sequence[Message]) -> None:
        await super().publish(messages)
        if any(b'"class_uid":2004' in each.value for each in messages):
            self.alarmed.set()


class Network:
    """Consent's topic is sealed by shard 1, storage's and identity's by shard 0, whenever a test says so."""

    def __init__(self, trail: SqlTrail, ledger: ServedLedger) -> None:
        self.trail = trail
        self.served = ledger
        self.now = 0.0
        objects = MemoryObjects()
        self.chains = {n: ChainBuilder(objects, SHARD_SIGNERS[n], CONSENT, shard=n) for n in (0, 1)}
        self.chains[0].cover([(IDENTITY, 0)])
        self.outputs = Topics()
        self.archive = ArchivedLedger(objects)
        self.topic = IdentityTopic((IDENTITY, 0), SHARD_SIGNERS[0].name, lambda: ledger.ring)
        self._sealed: dict[int, int] = defaultdict(int)
        self.start()

    def start(self) -> None:
        """Begin with the processes' memory empty, as after a restart."""
        identity = IdentityChain(self.archive, KEYS, self.topic, self.trail.identity)
        indexer = Indexer(self.archive, self.trail, KEYS, identity)
        alarm = Alarm(self.outputs, AROUND, lambda: BEGIN)
        self.follower = Follower(
            indexer, alarm, announced=Bell(), grown=Bell(), poll_s=1, clock=lambda: self.now
        )
        marks = Marks(self.trail, self.outputs, AROUND, _nothing)
        detectors = Detectors(self.trail, ProbingRule(refusals=3, window_s=60), AROUND)
        self.publisher = Publisher(self.archive, self.trail, KEYS, self.outputs, AROUND, marks, detectors)
        self.review = RightsReview(
            self.trail,
            identity.read_on,
            self.follower,
            RightsPublication(self.trail, self.publisher, alarm),
            clock=lambda: self.now,
        )

    async def seal(self, *shards: int) -> None:
        """Let shards seal what was stated and is theirs, in blocks of two."""
        for shard in shards:
            mine = [each for each in self.served.records if (each.topic == CONSENT_TOPIC) == bool(shard)]
            for start in range(self._sealed[shard], len(mine), 2):
                await self.chains[shard].seal(mine[start : min(start + 2, len(mine))])
            self._sealed[shard] = len(mine)

    async def index(self) -> None:
        while await self.follower.round():
            pass

    async def judge(self, *, after_s: float = 0.0, publish: bool = True) -> None:
        """Index and publish what is sealed, and judge it, after so many seconds once more."""
        await self.index()
        if publish:
            while await self.publisher.round():
                pass
        while await self.review.take():
            pass
        await self.review.say()
        if after_s:
            self.now += after_s
            await self.judge(publish=publish)

    async def outcomes(self) -> dict[str, str]:
        """Return what is not plainly done, by the event's id."""
        found = await self.trail.search(Question(), EVERYTHING, limit=1000)
        entries = [each.entry for each in found]
        return {str(e.id): e.facts.outcome for e in entries if e.facts.outcome not in {"success", "refused"}}

    def messages(self, topic: str, *, of: str | None = None) -> list[dict[str, Any]]:
        found = [json.loads(each.value) for each in self.outputs.messages if each.topic == topic]
        return [each for each in found if of is None or each["unmapped"].get("corrects") == of]

    def findings(self) -> list[tuple[str, int]]:
        all_ = self.messages(AROUND.ocsf_topic)
        return [
            (each["metadata"]["event_code"], each["severity_id"])
            for each in all_
            # The detectors find more in what honest services did, as an emergency access.
            if each["class_uid"] == 2004 and each["metadata"]["event_code"] in get_args(RightsVerdict)
        ]


async def _nothing() -> None:
    pass


@pytest.fixture
def network(trail: SqlTrail) -> Network:
    served = ServedLedger()
    served.register()
    return Network(trail, served)


async def test_an_act_without_a_right_is_shown_published_alarmed_and_counted(network: Network) -> None:
    network.served.grant(OFFICER, DOCTOR)
    network.served.grant(THIEF, THIEF, number=2)
    await network.seal(0, 1)
    await network.judge(after_s=SETTLED_S)

    assert await network.outcomes() == {"consent-1": "unentitled"}
    [found] = await network.trail.search(Question(outcome="unentitled"), EVERYTHING, limit=9)
    entry = found.entry
    assert entry.facts.summary.startswith("Without a right (grant a consent: who asked had no right to it")
    assert (entry.actor, entry.facts.severity) == (THIEF.did, 4)
    done = await network.trail.search(Question(outcome="success"), EVERYTHING, limit=9)
    assert [each.entry.id for each in done] == ["consent-0", "storage-0"]
    [told] = network.messages(AROUND.ocsf_topic, of=entry.uid)
    assert (told["unmapped"]["outcome"], told["severity_id"], told["status_code"]) == (
        "unentitled",
        4,
        "unentitled",
    )
    OCSF[told["class_uid"]].validate(told)
    resource = network.messages(AROUND.fhir_topic)[-1]
    assert (resource["id"], resource["outcome"], "meta" in resource) == (entry.uid, "4", False)
    assert resource["outcomeDesc"].startswith("Without a right")
    FHIR.validate(resource)
    assert network.findings() == [("unentitled", 4)]
    OCSF[2004].validate(network.messages(AROUND.ocsf_topic)[-1])
    assert REGISTRY.get_sample_value("salus_audit_unentitled_entries") == 1
    assert "1 done without a right, the first at salus.consent.events 0 1" in (
        await network.review.check() or ""
    )


async def test_nothing_is_said_of_what_honest_services_did(network: Network) -> None:
    network = Network(network.trail, honest())
    await network.seal(1)
    await network.judge()
    await network.seal(0)
    await network.judge(after_s=SETTLED_S)
    await network.judge(after_s=PENDING_S)

    assert set((await network.outcomes()).values()) <= {"without-effect"}
    assert network.findings() == []
    assert await network.review.check() is None


async def test_what_another_shard_seals_a_moment_later_gives_the_right(network: Network) -> None:
    network.served.read(DOCTOR, network.served.decide(DOCTOR))
    await network.seal(0)
    await network.judge(after_s=SETTLED_S)
    assert await network.outcomes() == {}
    assert REGISTRY.get_sample_value("salus_audit_rights_pending_entries") == 1
    await network.seal(1)
    await network.judge(after_s=PENDING_S)

    assert await network.outcomes() == {}
    assert network.findings() == []


async def test_what_stays_without_its_right_is_pending_and_then_found_or_cleared(network: Network) -> None:
    network.served.read(THIEF, identifier(OTHER_PATIENT, 99))
    await network.seal(0)
    await network.judge(after_s=PENDING_S)

    assert await network.outcomes() == {"storage-1": "rights-pending"}
    assert network.findings() == [("rights-pending", 3)]
    network.served.now += timedelta(minutes=2)
    network.served.decide(DOCTOR)
    await network.seal(1)
    await network.judge(after_s=SETTLED_S)

    assert await network.outcomes() == {"storage-1": "unentitled"}
    assert network.findings() == [("rights-pending", 3), ("unentitled", 4)]


async def test_a_mark_is_taken_away_when_the_right_turns_up(network: Network) -> None:
    network.served.read(DOCTOR, network.served.decide(DOCTOR))
    await network.seal(0)
    await network.judge(after_s=PENDING_S)
    assert await network.outcomes() == {"storage-1": "rights-pending"}
    await network.seal(1)
    await network.judge()

    assert await network.outcomes() == {}
    found = await network.trail.entry(network.served.ring.parties[CONSENT.did].did, "consent-0")
    assert found is not None
    corrections = [m for m in network.messages(AROUND.ocsf_topic) if "corrects" in m["unmapped"]]
    assert [each["unmapped"]["outcome"] for each in corrections] == ["rights-pending", "success"]


async def test_a_right_that_was_taken_back_elsewhere_ends_what_was_judged_before(network: Network) -> None:
    served = network.served
    served.grant(HOSPITAL, DOCTOR)
    decision = served.decide(DOCTOR, valid_until=served.now + timedelta(minutes=9))
    await network.seal(1)
    served.revoke(HOSPITAL)
    served.now += timedelta(minutes=2)
    served.read(DOCTOR, decision)
    await network.seal(0)
    await network.judge(after_s=SETTLED_S)
    assert await network.outcomes() == {}
    await network.seal(1)
    await network.judge(after_s=SETTLED_S)

    assert await network.outcomes() == {"storage-1": "unentitled"}


async def test_nothing_is_said_before_its_entry_is_published(network: Network) -> None:
    network.served.grant(THIEF, THIEF)
    await network.seal(0, 1)
    await network.judge(after_s=SETTLED_S, publish=False)
    assert network.outputs.messages == []
    await network.judge()
    codes = [each["unmapped"].get("outcome") for each in network.messages(AROUND.ocsf_topic)]

    assert codes == ["success", "unentitled", "unentitled", None]


@pytest.mark.parametrize("fault", ["LOST", "LATE"])
async def test_what_could_not_be_corrected_is_corrected_later(network: Network, fault: str) -> None:
    """Case readC6, 4: the mark was gone before the correction was published, and nobody published it."""
    network.served.read(DOCTOR, network.served.decide(DOCTOR))
    await network.seal(0)
    await network.judge(after_s=PENDING_S)
    await network.seal(1)
    network.outputs.fault = fault
    with pytest.raises(Exception, match=fault.lower()):
        await network.judge(publish=False)
    assert await network.outcomes() == {}
    done = await network.trail.search(Question(outcome="success"), EVERYTHING, limit=9)
    assert {each.entry.id for each in done} == {"storage-0", "storage-1", "consent-0"}
    network.start()
    await network.judge()

    corrections = [m for m in network.messages(AROUND.ocsf_topic) if "corrects" in m["unmapped"]]
    told = {each["metadata"]["uid"]: each["unmapped"]["outcome"] for each in corrections}
    assert list(told.values()) == ["rights-pending", "success"]
    assert await network.trail.rights.marks() == {}


async def test_what_was_told_and_not_noted_is_corrected(network: Network) -> None:
    """Case readC6, 4: the process ended after it had told the SOC, and before the mark said so."""
    network.served.read(DOCTOR, network.served.decide(DOCTOR))
    await network.seal(0)
    await network.judge(after_s=PENDING_S)
    await change(network.trail, "UPDATE audit_unentitled SET proof = NULL")
    await network.seal(1)
    network.start()
    await network.judge()

    corrections = [m for m in network.messages(AROUND.ocsf_topic) if "corrects" in m["unmapped"]]
    assert [each["unmapped"]["outcome"] for each in corrections] == ["rights-pending", "success"]


@pytest.mark.parametrize("fault", ["LOST", "LATE"])
async def test_what_could_not_be_told_is_told_later_and_once(network: Network, fault: str) -> None:
    network.served.grant(THIEF, THIEF)
    await network.seal(0, 1)
    await network.judge()
    network.now += SETTLED_S
    await network.index()
    network.outputs.fault = fault
    with pytest.raises(Exception, match=fault.lower()):
        await network.review.say()
    await network.judge()
    network.start()
    await network.judge(after_s=SETTLED_S)

    assert network.findings() == [("unentitled", 4)]
    uids = {each.uid for each in network.outputs.messages if each.topic == AROUND.ocsf_topic}
    assert len(uids) == 4


async def test_a_restart_forgets_nothing_and_takes_nothing_back(network: Network) -> None:
    network.served.grant(THIEF, THIEF)
    await network.seal(0, 1)
    await network.judge(after_s=SETTLED_S)
    count = len(network.outputs.messages)
    network.start()
    await network.judge()

    assert await network.outcomes() == {"consent-0": "unentitled"}
    await network.judge(after_s=SETTLED_S)
    assert len(network.outputs.messages) == count


async def test_a_shard_that_does_not_come_to_its_end_is_waited_for_ten_minutes(network: Network) -> None:
    network.served.grant(THIEF, THIEF)
    await network.seal(0, 1)
    await network.judge()
    network.follower._ends.clear()
    network.now += rights_review.ENDS_S_MAX - 1
    await network.review.say()
    assert await network.outcomes() == {}
    network.now += 1
    await network.review.say()

    assert await network.outcomes() == {"consent-0": "unentitled"}


# --- who writes to the database -----------------------------------------------------------------------------


INNOCENT = (
    "INSERT INTO audit_unentitled "
    "SELECT uid, 'unentitled', 'because', NULL FROM audit_trail WHERE id = 'storage-0'"
)


async def change(trail: SqlTrail, statement: str) -> None:
    async with trail._engine.begin() as connection:
        await connection.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit_unentitled",
        "UPDATE audit_unentitled SET verdict = 'fine'",
        INNOCENT,
    ],
)
async def test_whoever_changes_the_marks_changes_nothing_for_long(network: Network, statement: str) -> None:
    network.served.grant(THIEF, THIEF)
    await network.seal(0, 1)
    await network.judge(after_s=SETTLED_S)
    await change(network.trail, statement)
    await network.judge()

    assert await network.outcomes() == {"consent-0": "unentitled"}


@pytest.mark.parametrize("whose", ["nobody's", "another mark's"])
async def test_who_marks_it_as_told_beforehand_silences_nothing(network: Network, whose: str) -> None:
    """Case readC6, 5: the very mark stood there already, as one that was told."""
    network.served.grant(THIEF, THIEF)
    network.served.grant(THIEF, THIEF, number=2)
    await network.seal(0, 1)
    await network.judge(after_s=SETTLED_S)
    (_, first), (uid, second) = (await network.trail.rights.marks()).items()
    assert first.proof != second.proof
    network.outputs.messages.clear()
    proof = b"" if whose == "nobody's" else first.proof
    await network.trail.rights.set_marks({uid: replace(second, proof=proof)})
    network.start()
    await network.judge()
    await network.judge(after_s=SETTLED_S)

    assert len(network.messages(AROUND.ocsf_topic, of=uid)) == 1
    assert network.findings() == [("unentitled", 4)]
    assert (await network.trail.rights.marks())[uid] == second


async def test_what_is_no_mark_breaks_no_search(network: Network) -> None:
    network.served.grant(THIEF, THIEF)
    await network.seal(0, 1)
    await network.judge(after_s=SETTLED_S)
    await change(network.trail, "UPDATE audit_unentitled SET verdict = 'fine'")

    assert await network.outcomes() == {}


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit_served WHERE place = 'salus.consent.events/0'",
        "UPDATE audit_served SET run = '' WHERE place = 'salus.consent.events/0'",
    ],
)
async def test_what_rights_are_judged_by_is_compared_with_the_ledger(
    network: Network, statement: str
) -> None:
    network.served.grant(THIEF, THIEF)
    await network.seal(0, 1)
    await network.index()
    await change(network.trail, statement)
    told: list[str] = []

    async def step(done: Any) -> None:
        told.extend(str(each).split()[0] for each in done.differences)

    reconciler = Reconciler(network.archive, network.trail.stored, KEYS, network.topic, _correct)
    assert await reconciler.run(step, repair=True) == 1
    assert told == ["audit_served"]
    await network.judge(after_s=SETTLED_S)

    assert await network.outcomes() == {"consent-0": "unentitled"}


async def _correct(_: Any) -> None:
    pass


async def test_a_hole_in_what_rights_are_judged_by_is_named_and_nothing_after_it_is_judged(
    network: Network,
) -> None:
    for number in range(1, 7):
        network.served.grant(OFFICER, DOCTOR, number=number)
    await network.seal(0, 1)
    await network.index()
    await change(network.trail, "DELETE FROM audit_served WHERE first LIKE '%2/1'")

    with pytest.raises(MissingRunError, match=r"salus\.consent\.events/0 from 2 on"):
        await network.review.take()


async def test_the_task_goes_on_after_what_was_away(network: Network) -> None:
    network.served.grant(THIEF, THIEF)
    await network.seal(0, 1)
    await network.judge()
    network.now += SETTLED_S
    await network.index()
    network.outputs.fault = "LOST"
    task = asyncio.create_task(network.review.run(grown=Bell(), poll_s=0.01))
    await asyncio.wait_for(network.outputs.alarmed.wait(), 20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert network.findings() == [("unentitled", 4)]


# --- who is who, as the ledger says it later ----------------------------------------------------------------


async def test_a_role_that_was_lost_before_a_read_is_found_once_that_is_sealed(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, history = network.served, IdentityHistory(network.served.ring)
    decision = served.decide(DOCTOR, valid_until=served.now + timedelta(minutes=9))
    lost = served.now + timedelta(minutes=1)
    served.now += timedelta(minutes=3)
    served.read(DOCTOR, decision)
    await network.seal(0, 1)

    async def read_identity() -> IdentityHistory:
        return history

    network.review.read_identity = read_identity
    await network.judge(after_s=SETTLED_S)
    assert await network.outcomes() == {}
    served.ring.apply(RoleWithdrawn(did=DOCTOR.did, role="clinician", request=UNASKED), at=lost)
    monkeypatch.setattr(history, "_appended", [lost.timestamp()])
    await network.judge(after_s=SETTLED_S)

    assert await network.outcomes() == {"storage-1": "unentitled"}


def folded(*names: str) -> IdentityHistory:
    """A history of some events, one a second; what they say does not matter."""
    history = nobody()
    for number, name in enumerate(names):
        history.fold(number, stamped(name.encode(), 1000 * number))
    return history


async def test_by_another_history_that_goes_on_only_what_is_new_is_judged_again(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case readC6, 3: another replica noted the topic first, so all transfers were judged again."""
    histories = iter(folded(*names) for names in ("a", "a", "ab", "xbc"))
    told: list[float] = []
    monkeypatch.setattr(Entitlements, "know", lambda *_, since: told.append(since))

    async def read_identity() -> IdentityHistory:
        return next(histories)

    network.review.read_identity = read_identity
    for _ in range(4):
        await network.review.take()

    assert told == [1.0, -inf]
