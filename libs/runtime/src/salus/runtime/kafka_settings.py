"""Where Kafka is and as whom to speak to it, read from the environment, for services and for commands."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from salus.crypto.errors import CryptoError
from salus.crypto.private_files import read_private
from salus.messaging import Account, AccountFileError, Bootstrap, Brokers, Mechanism, Protocol


class KafkaSettings(BaseSettings):
    """Where Kafka is and as whom to speak to it; for services and for commands."""

    model_config = SettingsConfigDict(
        env_prefix="SALUS_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    kafka_bootstrap: str = Field(description="host:port of Kafka brokers, separated by commas.")
    kafka_protocol: Protocol = Field(
        default=Protocol.PLAINTEXT, description="What the brokers speak there, as Kafka calls it."
    )
    kafka_ca_file: Path | None = Field(
        default=None,
        description="PEM file of who signs the brokers' certificates; none: the system's authorities.",
    )
    kafka_certificate_file: Path | None = Field(
        default=None, description="PEM file of the account's certificate, for mTLS."
    )
    kafka_key_file: Path | None = Field(
        default=None, description="PEM file of its key, not encrypted, not readable by others."
    )
    kafka_user: str | None = Field(default=None, description="The account's name, for SASL.")
    kafka_password_file: Path | None = Field(
        default=None, description="File of its password, not readable by others."
    )
    kafka_mechanism: Mechanism = Field(
        default=Mechanism.SCRAM_SHA_512, description="How the password is proven, for SASL."
    )

    @model_validator(mode="after")
    def _require_account(self) -> Self:
        """Stop the start if the account's settings do not belong together, or a file cannot be used."""
        account = self._account()
        try:
            for secret in (self.kafka_key_file, self.kafka_password_file):
                if secret is not None:
                    read_private(secret)
            account.ssl_context()
            account.password()
        except (AccountFileError, CryptoError, OSError) as error:
            raise ValueError(f"SALUS_KAFKA_*: {error}") from None
        return self

    def _account(self) -> Account:
        try:
            return Account(
                protocol=self.kafka_protocol,
                ca_file=self.kafka_ca_file,
                certificate_file=self.kafka_certificate_file,
                key_file=self.kafka_key_file,
                mechanism=self.kafka_mechanism,
                user=self.kafka_user,
                password_file=self.kafka_password_file,
            )
        except ValueError as error:
            raise ValueError(f"SALUS_KAFKA_*: {error}") from None

    @property
    def kafka(self) -> Bootstrap:
        """Where the brokers are, with the account."""
        account = self._account()
        is_open = account.protocol is Protocol.PLAINTEXT
        return self.kafka_bootstrap if is_open else Brokers(self.kafka_bootstrap, account)


def kafka_of_environment() -> Bootstrap:
    """Return the Kafka that SALUS_KAFKA_* name, for commands.

    Raises:
        ValueError: they name none; the sentence is for whoever runs the command.
    """
    try:
        return KafkaSettings().kafka
    except ValidationError as error:
        raise ValueError("; ".join(map(_sentence_of, error.errors()))) from None


def _sentence_of(fault: ErrorDetails) -> str:
    sentence = fault["msg"].removeprefix("Value error, ")
    return f"SALUS_{str(fault['loc'][0]).upper()}: {sentence}" if fault["loc"] else sentence
