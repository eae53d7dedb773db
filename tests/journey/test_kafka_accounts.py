"""Accounts at a Kafka that denies by default: the plan is enough for everybody, and allows nothing else.

Issue 14, identity 5; issue 12: what a member's ordinary account can do to others' partitions is nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.protocol.api import Request
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import JoinGroupRequest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Producer as ForeignProducer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it has no types
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from salus.cli.exits import Exit
from salus.client import Publisher
from salus.devkit.kafka_accounts import KafkaAccounts
from salus.devkit.kafka_server import kafka_needs
from salus.devkit.minio_server import minio_needs
from salus.devkit.network import output_topics
from salus.devkit.platform import Platform
from salus.events.contexts import CATALOGUE
from salus.events.contexts.clinical import DocumentRegistered
from salus.ledger.policy import Policy
from salus.messaging import (
    Account,
    Acl,
    Brokers,
    MessagingError,
    NotAuthorizedError,
    Operation,
    Pattern,
    Producer,
    Reader,
    Record,
    RefusedByBrokerError,
    acls_in_force,
    add_acls,
    partitions_of,
    remove_acls,
)
from salus.messaging import ResourceType as Resource
from salus.messaging.admin import administration

ROOT = Path(__file__).parents[2]
COMMAND_S_MAX = 280
ANSWER_S_MAX = 60.0
RECEIPT_S_MAX = 60.0
ACLS_S_MAX = 60.0
MEMBERS_TOPICS = set(CATALOGUE.topics_of_members())
READABLE = MEMBERS_TOPICS | {"salus.ledger.blocks", "salus.ledger.checkpoints", "salus.ledger.rejections"}
ALL_TOPICS = {*CATALOGUE.input_topics(), *output_topics()}
# What Kafka answers to who may not.
REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}


@dataclass(frozen=True)
class Network:
    """A platform on which the demo has been played with accounts, and a member that has an account."""

    state: Path
    platform: Platform
    member: str
    brokers: Brokers

    @property
    def foreign(self) -> dict[str, Any]:
        """The settings of the member's account for another client library."""
        account: Account = self.brokers.account
        return {
            "bootstrap.servers": self.brokers.servers,
            "security.protocol": "ssl",
            "ssl.ca.location": str(account.ca_file),
            "ssl.certificate.location": str(account.certificate_file),
            "ssl.key.location": str(account.key_file),
        }

    def salus(self, *words: str) -> subprocess.CompletedProcess[str]:
        return salus(self.state, *words)

    def acls(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.salus("kafka", "acls", *words)


def salus(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # Parts that were given have accounts of somebody else.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SALUS_")}
    return subprocess.run(
        [sys.executable, "-m", "salus.cli", *words],
        env={**environment, "SALUS_STATE": str(state)},
        capture_output=True,
        text=True,
        timeout=COMMAND_S_MAX,
        check=False,
    )


def required(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """The whole story is told first: every service does all that it does, with its planned rights alone."""
    if absent := [*kafka_needs(), *minio_needs()]:
        pytest.skip(f"needs servers of its own; {', '.join(absent)} is missing")
    folder = tmp_path_factory.mktemp("accounts")
    state, patients = folder / "state", folder / "patients"
    patients.mkdir()
    for name in ("Adrian", "Bernardo", "Concepción"):
        (file,) = (ROOT / "examples" / "patients").glob(f"{name}*.json.gz")
        shutil.copy(file, patients)
    try:
        required(salus(state, "demo", "--keep", "--kafka-accounts", "--patients", str(patients)))
        joined = json.loads(required(salus(state, "party", "register", "lab", "--kind", "member", "--json")))
        platform = Platform.attach(state / "demo")
        with (platform.network.folder / "kafka-principals.toml").open("a") as listed:
            listed.write(f'\n[[principal]]\nname = "CN=lab"\nparty = "{joined["did"]}"\ngroups = "lab-"\n')
        brokers = platform.addresses.kafka_as("lab")
        assert isinstance(brokers, Brokers)
        yield Network(state, platform, joined["did"], brokers)
    finally:
        salus(state, "down", "--erase")


@pytest.fixture(scope="module")
def before(network: Network) -> subprocess.CompletedProcess[str]:
    """What the check says of the member that joined; after that the plan is applied, its part included."""
    said = network.acls("--check", "--json")
    required(network.acls("--apply"))
    return said


@pytest.fixture(scope="module")
def allowed(network: Network, before: subprocess.CompletedProcess[str]) -> Network:  # noqa: ARG001  # it comes first
    """The plan is in force."""
    return network


# --- the command ------------------------------------------------------------------------------------------


def test_a_member_that_joined_shows_until_the_plan_is_applied_and_again_is_harmless(
    allowed: Network, before: subprocess.CompletedProcess[str]
) -> None:
    again = json.loads(required(allowed.acls("--apply", "--json")))

    assert before.returncode == Exit.DIFFERS
    missing = json.loads(before.stdout)["missing"]
    assert {one["principal"] for one in missing} == {"User:CN=lab"}
    assert {one["name"] for one in missing if one["operation"] == "Write"} == MEMBERS_TOPICS
    assert again == {"missing": [], "surplus": [], "added": [], "removed": []}
    required(allowed.acls("--check"))


async def test_what_somebody_changed_by_hand_is_named_and_removed_if_that_is_asked_for(
    allowed: Network,
) -> None:
    kafka = allowed.platform.kafka_bootstrap
    graver = Acl("User:CN=stranger", Resource.CLUSTER, "kafka-cluster", Pattern.LITERAL, Operation.ALTER)
    by_hand = [
        Acl("User:CN=lab", Resource.TOPIC, "salus.consent.events", Pattern.LITERAL, Operation.WRITE),
        Acl("User:CN=stranger", Resource.GROUP, "salus.audit", Pattern.PREFIXED, Operation.READ),
        graver,
    ]
    lost = Acl("User:CN=audit", Resource.TOPIC, "salus.audit.fhir", Pattern.LITERAL, Operation.WRITE)
    others = Acl("User:CN=shop", Resource.TOPIC, "orders", Pattern.LITERAL, Operation.ALL)
    await add_acls(kafka, [*by_hand, others])
    await remove_acls(kafka, [lost])

    found, applied, pruned = [
        await asyncio.to_thread(allowed.acls, *words)
        for words in (["--check"], ["--apply"], ["--apply", "--prune", "--json"])
    ]
    await remove_acls(kafka, [graver])
    repaired = await asyncio.to_thread(allowed.acls, "--check")
    left = await acls_in_force(kafka)

    assert found.returncode == applied.returncode == pruned.returncode == Exit.DIFFERS
    for line in (
        "missing User:CN=audit may Write Topic salus.audit.fhir",
        "surplus User:CN=lab may Write Topic salus.consent.events",
        "surplus User:CN=stranger may Read Group salus.audit*",
        "surplus User:CN=stranger may Alter Cluster kafka-cluster",
    ):
        assert line in found.stdout
    assert "added User:CN=audit may Write Topic salus.audit.fhir" in applied.stdout
    assert "orders" not in found.stdout
    told = json.loads(pruned.stdout)
    assert len(told["removed"]) == 2
    # Whoever runs the command may stand there himself.
    assert [one["resource"] for one in told["surplus"]] == ["Cluster"]
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert others in left
    await remove_acls(kafka, [others])


async def test_a_suspended_members_account_loses_its_rights_and_gets_them_back(allowed: Network) -> None:
    async def salus(*words: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(allowed.salus, *words)

    joined = json.loads(required(await salus("party", "register", "ward", "--kind", "member", "--json")))
    with (allowed.platform.network.folder / "kafka-principals.toml").open("a") as listed:
        listed.write(f'\n[[principal]]\nname = "CN=ward"\nparty = "{joined["did"]}"\n')
    required(await salus("kafka", "acls", "--apply"))
    ward = allowed.platform.addresses.kafka_as("ward")
    assert isinstance(ward, Brokers)

    async def until(*, may_write: bool) -> None:
        """Wait until the broker, which hears of ACLs a moment later, says so."""
        async with asyncio.timeout(ACLS_S_MAX):
            while await writes() is not may_write:
                pass

    async def writes() -> bool:
        async with Producer(ward, client_id="ward") as producer:
            try:
                await (await producer.enqueue("salus.lab.events", key=b"k", value=b"garbage"))
            except NotAuthorizedError:
                return False
        return True

    await until(may_write=True)
    required(await salus("member", "suspend", joined["did"], "--reason", "inquiry", "--yes"))
    found = await salus("kafka", "acls", "--check")
    pruned = json.loads(required(await salus("kafka", "acls", "--apply", "--prune", "--json")))
    await until(may_write=False)
    required(await salus("member", "reinstate", joined["did"], "--reason", "unfounded", "--yes"))
    required(await salus("kafka", "acls", "--apply"))

    assert found.returncode == Exit.DIFFERS
    assert "surplus User:CN=ward may Write Topic salus.lab.events" in found.stdout
    assert "of a suspended or expelled member, so nothing: User:CN=ward" in " ".join(found.stderr.split())
    assert {one["principal"] for one in pruned["removed"]} == {"User:CN=ward"}
    await until(may_write=True)


# --- what a member's account does -------------------------------------------------------------------------


async def test_a_member_publishes_gets_its_receipt_and_reads_what_became_of_it(allowed: Network) -> None:
    signer = allowed.platform.network.signer("parties/lab")
    patient = f"urn:uuid:{uuid4()}"
    async with Publisher(
        allowed.brokers,
        signer,
        receipts_url=allowed.platform.service_url("anchoring"),
        policy=Policy.from_network(allowed.platform.network.file.read_bytes()),
    ) as publisher:
        data = DocumentRegistered(patient=patient, object="o", media_type="a/b")
        handle = await publisher.publish(data, subject=patient)
        proven = (await handle.receipt(timeout_s=RECEIPT_S_MAX)).verified
        at = await handle.position()
    async with Reader(allowed.brokers, starts={(at.topic, at.partition): at.offset}) as reader:
        [record, *_] = await until_some(reader)

    assert proven is not None
    assert proven.leaf.is_accepted
    assert record.value == handle.value
    for topic in READABLE:
        async with Reader(allowed.brokers, starts={(topic, 0): 0}) as reader:
            assert await reader.end_offsets()


async def until_some(reader: Reader) -> list[Record]:
    async with asyncio.timeout(ANSWER_S_MAX):
        while not (records := await reader.poll(max_records=10, timeout_ms=500)):
            pass
    return records


async def test_a_member_may_use_an_idempotent_producer_without_a_right_on_the_cluster(
    allowed: Network,
) -> None:
    async with Producer(allowed.brokers, client_id="lab", idempotent=True) as producer:
        future = await producer.enqueue("salus.lab.events", key=b"k", value=b"garbage")

        assert (await future).topic == "salus.lab.events"


def test_a_member_reads_in_consumer_groups_of_its_own_name(allowed: Network) -> None:
    consumer = Consumer(allowed.foreign | {"group.id": "lab-reader", "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe(sorted(MEMBERS_TOPICS))

        message = consumer.poll(ANSWER_S_MAX)

        assert message is not None
        assert message.error() is None
    finally:
        consumer.close()


# --- what a member's account is refused -------------------------------------------------------------------


# Topic by topic, so that a topic of a service that joins later is here as well.
@pytest.mark.parametrize("topic", sorted(ALL_TOPICS - MEMBERS_TOPICS))
async def test_a_member_writes_to_no_topic_of_a_service(allowed: Network, topic: str) -> None:
    async with Producer(allowed.brokers, client_id="lab") as producer:
        with pytest.raises(NotAuthorizedError):
            await (await producer.enqueue(topic, key=b"k", value=b"v", partition=0))


@pytest.mark.parametrize("topic", sorted(ALL_TOPICS - READABLE))
async def test_a_member_neither_reads_nor_sees_what_is_not_for_members(allowed: Network, topic: str) -> None:
    with pytest.raises(RefusedByBrokerError, match=topic):
        await partitions_of(allowed.brokers, [topic])
    answer = await asked(allowed.brokers, FetchRequest(100, 1, 1024, 0, [(topic, [(0, 0, 1024)])]))

    # Of each topic its partitions, each with its error.
    [[_, [[_, code, *_]]]] = answer.topics
    assert code == KafkaError.TOPIC_AUTHORIZATION_FAILED


@pytest.mark.parametrize("group", ["salus.audit", "clinic-reader", "la"])
async def test_a_member_joins_no_group_of_others_nor_moves_its_offsets(allowed: Network, group: str) -> None:
    joined = await asked(
        allowed.brokers, JoinGroupRequest(group, 10_000, 10_000, "", "", "consumer", [("range", b"")])
    )
    moved = await asked(
        allowed.brokers, OffsetCommitRequest(group, -1, "", -1, [("salus.lab.events", [(0, 99, "")])])
    )

    assert joined.error_code == KafkaError.GROUP_AUTHORIZATION_FAILED
    [[_, [[_, code]]]] = moved.topics
    assert code == KafkaError.GROUP_AUTHORIZATION_FAILED


async def asked(brokers: Brokers, request: Request[Any]) -> Any:
    """Send what no client library would, and return Kafka's answer."""
    async with administration(brokers) as client:
        return await client._send_request(request)


def test_a_member_opens_no_transaction(allowed: Network) -> None:
    producer = ForeignProducer(allowed.foreign | {"transactional.id": "lab-1"})

    with pytest.raises(KafkaException) as refused:
        producer.init_transactions(ANSWER_S_MAX)

    assert refused.value.args[0].code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED


OWN = "salus.lab.events"
_RETENTION = ConfigEntry("retention.ms", "1", incremental_operation=AlterConfigOpType.SET)
_SETTING = ConfigResource("topic", OWN, incremental_configs=[_RETENTION])
ADMINISTERING: dict[str, Callable[[AdminClient], Any]] = {
    "make a topic": lambda it: it.create_topics([NewTopic("lab-own", 1, 1)]),
    "make a topic of Salus": lambda it: it.create_topics([NewTopic("salus.lab.more", 1, 1)]),
    "delete its topic": lambda it: it.delete_topics([OWN]),
    "add partitions": lambda it: it.create_partitions([NewPartitions(OWN, 9)]),
    "delete records": lambda it: it.delete_records([TopicPartition(OWN, 0, 1)]),
    "alter settings of its topic": lambda it: it.incremental_alter_configs([_SETTING]),
    "see settings of its topic": lambda it: it.describe_configs([ConfigResource("topic", OWN)]),
    "see settings of the broker": lambda it: it.describe_configs([ConfigResource("broker", "1")]),
    "delete another's group": lambda it: it.delete_consumer_groups(["clinic-reader"]),
    "see another's group": lambda it: it.describe_consumer_groups(["clinic-reader"]),
}


@pytest.mark.parametrize("act", ADMINISTERING)
def test_a_member_administers_nothing(allowed: Network, act: str) -> None:
    client = AdminClient(allowed.foreign)
    said = ADMINISTERING[act](client)
    answers: list[Future[Any]] = list(said.values()) if isinstance(said, dict) else [said]

    for answer in answers:
        with pytest.raises(KafkaException) as refused:
            answer.result(ANSWER_S_MAX)
        assert refused.value.args[0].code() in REFUSED


async def test_a_member_neither_sees_nor_changes_what_others_may(allowed: Network) -> None:
    mine = Acl("User:CN=lab", Resource.TOPIC, OWN, Pattern.LITERAL, Operation.ALL)

    with pytest.raises(RefusedByBrokerError, match="ClusterAuthorizationFailed"):
        await acls_in_force(allowed.brokers)
    with pytest.raises(RefusedByBrokerError, match="ClusterAuthorizationFailed"):
        await add_acls(allowed.brokers, [mine])
    with pytest.raises(RefusedByBrokerError, match="ClusterAuthorizationFailed"):
        await remove_acls(allowed.brokers, [mine])


async def test_who_shows_no_account_is_nobody(allowed: Network) -> None:
    with pytest.raises(MessagingError, match="no broker answers"):
        await partitions_of(allowed.brokers.servers, [OWN])


async def test_who_has_an_account_that_nobody_knows_may_do_nothing(allowed: Network) -> None:
    folder = allowed.platform.addresses.kafka_accounts
    assert folder is not None
    stranger = Brokers(allowed.brokers.servers, KafkaAccounts(Path(folder)).account("stranger"))

    with pytest.raises(RefusedByBrokerError):
        await partitions_of(stranger, [OWN])


async def test_services_start_again_on_what_they_have_folded_with_the_same_accounts(allowed: Network) -> None:
    contracts = ["identity", "consent", "storage"]
    for name in contracts:
        await allowed.platform.stop_service(name)

    await allowed.platform.start_services(contracts)

    assert {why for ready, why in (await allowed.platform.ready()).values() if not ready} == set()


async def test_afterwards_everything_is_ready_as_before(allowed: Network) -> None:
    assert {why for ready, why in (await allowed.platform.ready()).values() if not ready} == set()
