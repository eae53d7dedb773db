"""Settings that are read from files."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from salus.crypto.private_files import write_private
from salus.messaging import Brokers
from salus.runtime.kafka_settings import KafkaSettings
from salus.runtime.settings import ObjectSettings


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("SALUS_S3_ENDPOINT", "http://minio:9000")
    monkeypatch.setenv("SALUS_S3_ACCESS_KEY", "salus-audit")
    monkeypatch.delenv("SALUS_S3_SECRET_KEY", raising=False)


def test_the_secret_key_may_be_in_a_file(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("from-a-file\n")
    monkeypatch.setenv("SALUS_S3_SECRET_KEY_FILE", str(tmp_path / "secret"))

    assert ObjectSettings().s3_secret_key.get_secret_value() == "from-a-file"


def test_two_secret_keys_are_a_mistake(tmp_path, monkeypatch):
    monkeypatch.setenv("SALUS_S3_SECRET_KEY", "from-the-environment")
    monkeypatch.setenv("SALUS_S3_SECRET_KEY_FILE", str(tmp_path / "secret"))

    with pytest.raises(ValidationError, match="not both"):
        ObjectSettings()


def test_a_file_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SALUS_S3_SECRET_KEY_FILE", str(tmp_path / "absent"))

    with pytest.raises(ValidationError, match="SALUS_S3_SECRET_KEY_FILE: No such file"):
        ObjectSettings()


def test_a_missing_secret_key_is_named():
    with pytest.raises(ValidationError, match="s3_secret_key"):
        ObjectSettings()


def test_the_account_at_kafka_is_read_from_the_environment(tmp_path, monkeypatch):
    write_private(tmp_path / "password", b"from-a-file\n")
    monkeypatch.setenv("SALUS_KAFKA_BOOTSTRAP", "kafka:9093")
    monkeypatch.setenv("SALUS_KAFKA_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("SALUS_KAFKA_USER", "storage")
    monkeypatch.setenv("SALUS_KAFKA_PASSWORD_FILE", str(tmp_path / "password"))

    kafka = KafkaSettings().kafka

    assert isinstance(kafka, Brokers)
    assert (kafka.servers, kafka.account.user) == ("kafka:9093", "storage")


@pytest.mark.parametrize(
    ("mode", "why"), [(0o644, "mode 0644: others may read this private key"), (None, "No such file")]
)
def test_a_password_that_others_may_read_or_that_is_not_there_stops_the_start(
    tmp_path, monkeypatch, mode, why
):
    file = tmp_path / "password"
    if mode is not None:
        file.write_text("a-secret")
        file.chmod(mode)
    monkeypatch.setenv("SALUS_KAFKA_BOOTSTRAP", "kafka:9093")
    monkeypatch.setenv("SALUS_KAFKA_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("SALUS_KAFKA_USER", "storage")
    monkeypatch.setenv("SALUS_KAFKA_PASSWORD_FILE", str(file))

    with pytest.raises(ValidationError, match=why) as refused:
        KafkaSettings()

    assert "a-secret" not in str(refused.value)


def test_without_a_protocol_kafka_is_an_address_alone(monkeypatch):
    monkeypatch.setenv("SALUS_KAFKA_BOOTSTRAP", "kafka:9092")

    assert KafkaSettings().kafka == "kafka:9092"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("SALUS_KAFKA_USER", "storage", "a user and a password belong together"),
        ("SALUS_KAFKA_PROTOCOL", "SASL_SSL", "SASL_SSL needs a user"),
        ("SALUS_KAFKA_PROTOCOL", "TLS", "kafka_protocol"),
        ("SALUS_KAFKA_CA_FILE", "/absent", "PLAINTEXT has no certificates"),
    ],
)
def test_half_an_account_at_kafka_stops_the_start(monkeypatch, name, value, why):
    monkeypatch.setenv("SALUS_KAFKA_BOOTSTRAP", "kafka:9092")
    monkeypatch.setenv(name, value)

    with pytest.raises(ValidationError, match=why):
        KafkaSettings()


def test_what_stops_the_start_shows_no_secret_of_the_environment(monkeypatch):
    class Both(KafkaSettings, ObjectSettings):
        """As a service's settings are."""

    monkeypatch.setenv("SALUS_KAFKA_BOOTSTRAP", "kafka:9092")
    monkeypatch.setenv("SALUS_KAFKA_USER", "storage")
    monkeypatch.setenv("SALUS_S3_SECRET_KEY", "a-secret")

    with pytest.raises(ValidationError) as refused:
        Both()

    assert "a-secret" not in str(refused.value)
