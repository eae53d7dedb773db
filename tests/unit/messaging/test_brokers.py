"""Which account of Kafka is spoken to as, and that its secrets are nowhere but in their files."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from salus.messaging import Account, AccountFileError, Brokers, Protocol
from salus.messaging.brokers import ACCOUNT_OPTION, options, silence_of


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("s3cret\n")
    return file


def test_a_text_alone_is_brokers_that_speak_to_everybody() -> None:
    assert options("kafka:9092") == {"bootstrap_servers": "kafka:9092"}


def test_a_name_with_a_password_speaks_scram_over_tls(password_file: Path) -> None:
    account = Account(Protocol.SASL_SSL, user="lab", password_file=password_file)

    said = options(Brokers("kafka:9093", account))

    assert isinstance(said.pop("ssl_context"), ssl.SSLContext)
    assert said.pop(ACCOUNT_OPTION) is account
    assert said == {
        "bootstrap_servers": "kafka:9093",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "lab",
        "sasl_plain_password": "s3cret",
    }


def test_the_brokers_name_is_checked(password_file: Path) -> None:
    account = Account(Protocol.SASL_SSL, user="lab", password_file=password_file)

    context = account.ssl_context()

    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_a_changed_password_counts_from_the_next_client_on(password_file: Path) -> None:
    account = Account(Protocol.SASL_PLAINTEXT, user="lab", password_file=password_file)
    password_file.write_text("another")

    assert options(Brokers("kafka:9093", account))["sasl_plain_password"] == "another"


def test_no_secret_is_in_what_is_shown_of_the_account(password_file: Path) -> None:
    brokers = Brokers("kafka:9093", Account(Protocol.SASL_PLAINTEXT, user="lab", password_file=password_file))

    shown = (str(brokers), repr(brokers), silence_of(brokers))

    assert [text for text in shown if "s3cret" in text] == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"protocol": Protocol.SASL_SSL}, "SASL_SSL needs a user"),
        ({"protocol": Protocol.SSL, "user": "lab", "password_file": Path("p")}, "SSL has no user"),
        ({"protocol": Protocol.SASL_SSL, "user": "lab"}, "a user and a password belong together"),
        ({"protocol": Protocol.SSL, "key_file": Path("k")}, "a certificate and its key belong together"),
        ({"protocol": Protocol.PLAINTEXT, "ca_file": Path("c")}, "PLAINTEXT has no certificates"),
    ],
)
def test_settings_that_do_not_belong_together_are_refused(given: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Account(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff"])
def test_a_password_that_cannot_be_read_names_its_file(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    account = Account(Protocol.SASL_PLAINTEXT, user="lab", password_file=file)

    with pytest.raises(AccountFileError, match=str(file)):
        account.password()


def test_authorities_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")

    with pytest.raises(AccountFileError, match=r"ca\.pem"):
        Account(Protocol.SSL, ca_file=tmp_path / "ca.pem").ssl_context()
