"""Accounts by password and by certificate at a real Kafka with an authorizer, and ACLs as it takes them."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop
from aiokafka.errors import NoError, TopicAuthorizationFailedError, for_code
from cryptography import x509
from cryptography.x509 import NameAttribute, RelativeDistinguishedName
from cryptography.x509.oid import NameOID

from salus.cli.kafka_acls import script_of
from salus.crypto.certificate_names import principal_of
from salus.devkit.addresses import Addresses
from salus.devkit.kafka_accounts import KafkaAccounts
from salus.devkit.kafka_server import KafkaServer, kafka_classpath, kafka_needs
from salus.devkit.narration import PlainNarrator, SilentNarrator
from salus.devkit.processes import Place
from salus.messaging import (
    Account,
    Acl,
    Bootstrap,
    BrokerAwayError,
    Brokers,
    Operation,
    Pattern,
    Permission,
    Producer,
    Reader,
    RefusedByBrokerError,
    ResourceType,
    Topic,
    acls_in_force,
    add_acls,
    ensure_topics,
    partitions_of,
    ping,
    remove_acls,
)
from salus.messaging.admin import administration

TOPIC = "accounts.one"
LARGE = 12 * 1024 * 1024
TOOL_S_MAX = 120.0
ENDED_S_MAX = 28.0
SUBJECTS = {
    "plain": [
        (NameOID.COUNTRY_NAME, "AT"),
        (NameOID.ORGANIZATION_NAME, "Anna"),
        (NameOID.COMMON_NAME, "ehr"),
    ],
    "escaped": [(NameOID.ORGANIZATION_NAME, 'A, "B" + <x>;#\\ = y'), (NameOID.COMMON_NAME, "ehr")],
    "spaces": [(NameOID.COMMON_NAME, " klinik ö  x ")],
    "numbered": [(NameOID.EMAIL_ADDRESS, "a@b.c"), (NameOID.SERIAL_NUMBER, "12"), (NameOID.COMMON_NAME, "x")],
}


@dataclass(frozen=True)
class Kafka:
    """A broker that allows nobody anything, whoever runs it, and the accounts there."""

    server: KafkaServer
    accounts: KafkaAccounts

    @property
    def administration(self) -> Bootstrap:
        return self.server.administration

    def by_certificate(self, account: Account) -> Brokers:
        return Brokers(self.server.bootstrap, account)

    def by_password(self, name: str) -> Brokers:
        return Brokers(self.server.scram_bootstrap, self.accounts.scram_account(name))


@pytest.fixture(scope="module")
async def kafka(session_folder: Path) -> AsyncIterator[Kafka]:
    if absent := kafka_needs():
        pytest.skip(f"needs a server of its own; {', '.join(absent)} is missing")
    folder = session_folder / "kafka-accounts"
    accounts = KafkaAccounts(folder / "accounts", scram=["lab"])
    server = KafkaServer(Place(folder, folder / "logs", detached=False), PlainNarrator(), accounts=accounts)
    try:
        await server.start()
        await ensure_topics(server.administration, [Topic(TOPIC, 1, {"max.message.bytes": str(2 * LARGE)})])
        yield Kafka(server, accounts)
    finally:
        await server.stop()


def allowing(principal: str, operation: Operation, name: str = TOPIC) -> Acl:
    return Acl(principal, ResourceType.TOPIC, name, Pattern.LITERAL, operation)


async def test_what_is_written_by_password_over_tls_is_read_as_it_was_however_large(kafka: Kafka) -> None:
    lab = kafka.by_password("lab")
    await add_acls(
        kafka.administration, [allowing("User:lab", it) for it in (Operation.WRITE, Operation.READ)]
    )
    value = os.urandom(LARGE)

    async with Producer(lab, client_id="lab") as producer:
        at = await (await producer.enqueue(TOPIC, key=b"k", value=value))
    async with Reader(lab, starts={(TOPIC, 0): at.offset}) as reader:
        while not (records := await reader.poll(max_records=1, timeout_ms=1000)):
            pass

    assert records[0].value == value


async def test_a_client_over_tls_that_ends_while_an_answer_is_under_way_does_not_wait(
    kafka: Kafka,
) -> None:
    lab = kafka.by_password("lab")
    await add_acls(kafka.administration, [allowing("User:lab", Operation.READ)])

    async def end_often() -> None:
        for _ in range(30):
            async with asyncio.timeout(ENDED_S_MAX):
                async with Reader(lab, starts={(TOPIC, 0): 0}) as reader:
                    await reader.end_offsets()
                    await reader.poll(max_records=1, timeout_ms=1)

    def on_the_loop_of_the_services() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(end_often())

    # One that waits for the broker to end TLS takes 30 s, now and then.
    await asyncio.to_thread(on_the_loop_of_the_services)


async def test_a_wrong_password_is_no_account(kafka: Kafka, tmp_path: Path) -> None:
    right = kafka.accounts.scram_account("lab")
    (tmp_path / "password").write_text("a guess")
    wrong = Account(right.protocol, right.ca_file, user="lab", password_file=tmp_path / "password")

    with pytest.raises(BrokerAwayError, match="to this account"):
        await ping(Brokers(kafka.server.scram_bootstrap, wrong))


async def test_a_broker_whose_certificate_is_of_nobody_we_know_is_told_nothing(
    kafka: Kafka, tmp_path: Path
) -> None:
    lab = kafka.accounts.scram_account("lab")
    KafkaAccounts(tmp_path).account("another-authority")
    deceived = Account(lab.protocol, tmp_path / "ca.pem", user="lab", password_file=lab.password_file)

    with pytest.raises(BrokerAwayError):
        await ping(Brokers(kafka.server.scram_bootstrap, deceived))


async def test_only_their_owner_reads_the_secrets_of_the_accounts(kafka: Kafka) -> None:
    kafka.accounts.account("anybody")
    secrets = [
        path
        for path in kafka.accounts.folder.rglob("*")
        if path.name in {"password", "key.pem", "ca.key", "keystore.pem"}
    ]

    assert len(secrets) > 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_kafka_calls_a_certificate_what_we_call_it(kafka: Kafka, subject: str) -> None:
    name = x509.Name([NameAttribute(oid, value) for oid, value in SUBJECTS[subject]])
    holder = kafka.by_certificate(kafka.accounts.account_of(name, folder=f"subject-{subject}"))
    with pytest.raises(RefusedByBrokerError):
        await partitions_of(holder, [TOPIC])

    await add_acls(kafka.administration, [allowing(f"User:{principal_of(name)}", Operation.DESCRIBE)])

    assert await partitions_of(holder, [TOPIC]) == {TOPIC: [0]}


# readC6, 7
async def test_a_client_shows_a_certificate_that_was_renewed_in_place_once_its_connections_end(
    kafka: Kafka,
) -> None:
    def renewed(common_name: str) -> Brokers:
        name = x509.Name([NameAttribute(NameOID.COMMON_NAME, common_name)])
        return kafka.by_certificate(kafka.accounts.account_of(name, folder="renewed"))

    await add_acls(kafka.administration, [allowing("User:CN=renewed-2", Operation.DESCRIBE)])

    # The new one is of another principal, so that the broker says which of the two it was shown.
    async with administration(renewed("renewed-1")) as client:
        before = await client.describe_topics([TOPIC])
        renewed("renewed-2")
        for connection in list(client._client._conns.values()):
            await connection.close()
        after = await client.describe_topics([TOPIC])

    assert [for_code(one["error_code"]) for one in (*before, *after)] == [
        TopicAuthorizationFailedError,
        NoError,
    ]


async def test_attributes_side_by_side_are_called_what_we_call_them(kafka: Kafka) -> None:
    pair = RelativeDistinguishedName(
        [NameAttribute(NameOID.COMMON_NAME, "b"), NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "a")]
    )
    name = x509.Name([pair, RelativeDistinguishedName([NameAttribute(NameOID.DOMAIN_COMPONENT, "org")])])
    holder = kafka.by_certificate(kafka.accounts.account_of(name, folder="subject-pair"))

    await add_acls(kafka.administration, [allowing(f"User:{principal_of(name)}", Operation.DESCRIBE)])

    assert await partitions_of(holder, [TOPIC]) == {TOPIC: [0]}


async def test_acls_are_added_listed_and_removed_exactly_and_twice_is_once(kafka: Kafka) -> None:
    before = await acls_in_force(kafka.administration)
    some = {
        allowing("User:x", Operation.READ),
        Acl("User:x", ResourceType.TOPIC, TOPIC, Pattern.PREFIXED, Operation.READ),
        Acl(
            "User:CN=a\\, b",
            ResourceType.GROUP,
            "*",
            Pattern.LITERAL,
            Operation.READ,
            Permission.DENY,
            "10.0.0.1",
        ),
        Acl("User:x", ResourceType.CLUSTER, "kafka-cluster", Pattern.LITERAL, Operation.ALTER_CONFIGS),
        Acl("User:x", ResourceType.TRANSACTIONAL_ID, "t", Pattern.LITERAL, Operation.WRITE),
    }

    for _ in range(2):
        await add_acls(kafka.administration, some)
    added = await acls_in_force(kafka.administration) - before
    literal = allowing("User:x", Operation.READ)
    for _ in range(2):
        await remove_acls(kafka.administration, [literal])
    left = await acls_in_force(kafka.administration) - before
    await remove_acls(kafka.administration, some)

    assert added == some
    # The one that begins alike stays.
    assert left == some - {literal}
    assert await acls_in_force(kafka.administration) == before


async def test_brokers_without_an_authorizer_say_so(parts: Addresses) -> None:
    with pytest.raises(RefusedByBrokerError, match="have no authorizer"):
        await acls_in_force(parts.kafka_bootstrap)


async def test_the_script_makes_the_same_acls_with_kafkas_own_tool(kafka: Kafka, tmp_path: Path) -> None:
    planned = {
        allowing('User:CN=o\'brien, \\"x\\" $HOME', Operation.READ, "script.one"),
        allowing('User:CN=o\'brien, \\"x\\" $HOME', Operation.DESCRIBE_CONFIGS, "script.one"),
        Acl("User:lab", ResourceType.TOPIC, "script.", Pattern.PREFIXED, Operation.CREATE),
        Acl("User:lab", ResourceType.GROUP, "lab-", Pattern.PREFIXED, Operation.READ),
    }
    before = await acls_in_force(kafka.administration)
    (tmp_path / "script.sh").write_text("\n".join(script_of(planned)))

    await run_script(kafka, tmp_path)

    assert await acls_in_force(kafka.administration) - before == planned


async def run_script(kafka: Kafka, folder: Path) -> None:
    """Run a script of ours as an administrator would, with Kafka's tool from its jars."""
    administrator = kafka.accounts.account("administrator")
    assert administrator.key_file is not None
    assert administrator.certificate_file is not None
    store = folder / "store.pem"
    store.write_bytes(administrator.key_file.read_bytes() + administrator.certificate_file.read_bytes())
    (folder / "client.properties").write_text(
        "security.protocol=SSL\nssl.keystore.type=PEM\nssl.truststore.type=PEM\n"
        f"ssl.keystore.location={store}\nssl.truststore.location={administrator.ca_file}\n"
    )
    tool = folder / "kafka-acls.sh"
    classpath = await kafka_classpath(SilentNarrator())
    tool.write_text(f'#!/bin/sh\nexec java -cp "{classpath}" org.apache.kafka.tools.AclCommand "$@"\n')
    tool.chmod(0o700)
    process = await asyncio.create_subprocess_exec(
        "sh",
        str(folder / "script.sh"),
        env=os.environ
        | {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "KAFKA": kafka.server.bootstrap,
            "CONFIG": str(folder / "client.properties"),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(TOOL_S_MAX):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
