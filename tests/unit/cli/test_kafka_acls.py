"""`salus kafka`, without a Kafka: what it asks for, what it says, and how it ends."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509 import NameAttribute
from cryptography.x509.oid import NameOID

from salus.cli import application, kafka_acls
from salus.cli.exits import Exit
from salus.devkit.kafka_accounts import KafkaAccounts
from salus.devkit.network import NetworkFolder, Plan
from salus.messaging import Acl, BrokerAwayError, Operation, Pattern, RefusedByBrokerError, ResourceType

SERVICES = '[[principal]]\nname = "CN=storage"\nparty = "storage"\n'
SURPLUS = Acl("User:CN=storage", ResourceType.TOPIC, "salus.lab.events", Pattern.LITERAL, Operation.READ)
GRAVE = Acl("User:x", ResourceType.CLUSTER, "kafka-cluster", Pattern.LITERAL, Operation.ALL)
Salus = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SALUS_STATE", str(tmp_path / "nothing-runs"))
    monkeypatch.setenv("SALUS_KAFKA_BOOTSTRAP", "kafka:9092")
    NetworkFolder(tmp_path).create(Plan())
    (tmp_path / "kafka-principals.toml").write_text(SERVICES)
    return tmp_path


@pytest.fixture
def salus(folder: Path, capsys: pytest.CaptureFixture[str]) -> Salus:
    def run(*words: str) -> tuple[int, str, str]:
        code = application.run(["kafka", "acls", "--directory", str(folder), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> set[Acl]:
    """The ACLs of brokers on which there are no topics yet."""
    there: set[Acl] = set()

    async def partitions(*_: Any) -> dict[str, list[int]]:
        return {}

    async def in_force(_: Any) -> frozenset[Acl]:
        return frozenset(there)

    async def add(_: Any, acls: Iterable[Acl]) -> None:
        there.update(acls)

    async def remove(_: Any, acls: Iterable[Acl]) -> None:
        there.difference_update(acls)

    for name, fake in (
        ("partitions_of", partitions),
        ("acls_in_force", in_force),
        ("add_acls", add),
        ("remove_acls", remove),
    ):
        monkeypatch.setattr(kafka_acls, name, fake)
    return there


def test_the_plan_of_services_alone_needs_no_kafka(salus: Salus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SALUS_KAFKA_BOOTSTRAP")

    code, said, _ = salus("--json")

    assert code == 0
    acls = json.loads(said)["acls"]
    assert {(one["name"], one["operation"]) for one in acls} == {
        ("salus.storage.events", "Write"),
        ("salus.storage.events", "Read"),
        ("salus.consent.events", "Read"),
        ("salus.identity.events", "Read"),
    }
    assert {one["principal"] for one in acls} == {"User:CN=storage"}


@pytest.mark.usefixtures("brokers")
def test_a_party_that_is_not_on_the_key_ring_is_named_and_gets_nothing(salus: Salus, folder: Path) -> None:
    (folder / "kafka-principals.toml").write_text('[[principal]]\nname = "x"\nparty = "did:web:x.example"\n')

    code, said, complaint = salus("--json")

    assert code == 0
    assert json.loads(said) == {
        "acls": [],
        "unknown": [{"principal": "User:x", "party": "did:web:x.example"}],
        "barred": [],
    }
    assert "not on the key ring, so it gets nothing: User:x of did:web:x.example" in complaint


def test_what_is_missing_is_named_made_and_then_there(salus: Salus, brokers: set[Acl]) -> None:
    before, made, again = salus("--check"), salus("--apply"), salus("--check")

    assert [code for code, *_ in (before, made, again)] == [Exit.DIFFERS, 0, 0]
    assert "missing User:CN=storage may Write Topic salus.storage.events" in before[1]
    assert "lack 4 ACLs of the plan and have 0 beyond it" in before[2]
    assert "added User:CN=storage may Write Topic salus.storage.events" in made[1]
    assert len(brokers) == 4


def test_what_is_beyond_the_plan_goes_only_if_that_is_asked_for(salus: Salus, brokers: set[Acl]) -> None:
    salus("--apply")
    brokers.add(SURPLUS)

    kept = salus("--apply")
    assert SURPLUS in brokers
    gone = salus("--apply", "--prune")

    assert [code for code, *_ in (kept, gone)] == [Exit.DIFFERS, 0]
    assert SURPLUS not in brokers
    assert "removed User:CN=storage may Read Topic salus.lab.events" in gone[1]


def test_rights_on_the_cluster_are_named_and_never_removed(salus: Salus, brokers: set[Acl]) -> None:
    salus("--apply")
    brokers.add(GRAVE)

    code, said, complaint = salus("--apply", "--prune")

    assert code == Exit.DIFFERS
    assert "surplus User:x may All Cluster kafka-cluster" in said
    assert "is named as administrator" in complaint
    assert GRAVE in brokers


# readC6, 9
def test_of_others_what_is_of_an_unknown_kind_is_named_and_stops_nothing(
    salus: Salus, brokers: set[Acl]
) -> None:
    salus("--apply")
    brokers.add(Acl("User:x", ResourceType(99), "orders", Pattern.LITERAL, Operation.READ))

    code, _, complaint = salus("--check")

    assert code == 0
    assert "does not know: User:x may Read Unknown99 orders" in complaint.replace("\n", " ")


@pytest.mark.parametrize(
    "words", [("--check", "--apply"), ("--script", "--check"), ("--prune",), ("--check", "--prune")]
)
def test_two_things_at_once_are_a_mistake(salus: Salus, words: tuple[str, ...]) -> None:
    code, _, complaint = salus(*words)

    assert code == Exit.USAGE
    assert "give one of --script, --check and --apply" in complaint.replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "`salus down`, `salus up --kafka-accounts`"),
        ("[[principal]]\nname = 'a'\nparty = 'storrage'", "storrage is no DID and none of"),
        ("[[principal]]\nname = 'a'\nparty = 'bloodbank'", "of a service, install its package here"),
    ],
)
def test_a_file_of_principals_that_cannot_be_used_is_named(
    salus: Salus, folder: Path, text: str | None, why: str
) -> None:
    file = folder / "kafka-principals.toml"
    file.unlink() if text is None else file.write_text(text)

    code, _, complaint = salus()

    assert code == Exit.USAGE
    assert why in complaint.replace("\n", " ")


@pytest.mark.parametrize(
    ("error", "code"), [(BrokerAwayError("away"), Exit.NOT_RUNNING), (RefusedByBrokerError("no"), Exit.NO)]
)
@pytest.mark.usefixtures("brokers")
def test_a_kafka_that_is_away_or_refuses_is_told_apart(
    salus: Salus, monkeypatch: pytest.MonkeyPatch, error: Exception, code: Exit
) -> None:
    async def fail(_: Any) -> frozenset[Acl]:
        raise error

    monkeypatch.setattr(kafka_acls, "acls_in_force", fail)

    assert salus("--check")[0] == code


def test_half_an_account_in_the_environment_is_a_mistake(
    salus: Salus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALUS_KAFKA_PROTOCOL", "SASL_SSL")

    code, _, complaint = salus("--check")

    assert code == Exit.USAGE
    assert "SASL_SSL needs a user" in complaint


def test_the_script_means_the_plan_to_a_shell(salus: Salus) -> None:
    _, said, _ = salus("--script")

    commands = [shlex.split(line) for line in said.splitlines() if line.startswith("kafka-acls.sh")]
    assert [words[words.index("--allow-principal") + 1] for words in commands] == ["User:CN=storage"] * 3
    topics = [words[words.index("--topic") + 1] for words in commands]
    assert topics == ["salus.consent.events", "salus.identity.events", "salus.storage.events"]


def test_a_certificates_name_is_shown_as_kafka_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = x509.Name(
        [NameAttribute(NameOID.ORGANIZATION_NAME, "A, B"), NameAttribute(NameOID.COMMON_NAME, "x")]
    )
    account = KafkaAccounts(tmp_path).account_of(subject, folder="x")

    code = application.run(["kafka", "principal", str(account.certificate_file)])

    assert (code, capsys.readouterr().out) == (0, "CN=x,O=A\\, B\n")


def test_what_is_no_certificate_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.pem").write_text("nothing")

    code = application.run(["kafka", "principal", str(tmp_path / "x.pem")])

    assert code == Exit.USAGE
    assert "x.pem" in capsys.readouterr().err.replace("\n", "")
