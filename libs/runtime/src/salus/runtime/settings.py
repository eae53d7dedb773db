"""What an operator may choose, read from the environment; a missing setting stops the start with its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from salus.events import fields
from salus.runtime.bodies import BODY_BYTES_MAX
from salus.runtime.fields import pattern_of
from salus.runtime.kafka_settings import KafkaSettings
from salus.runtime.limits import ORGANISATION_ACCOUNTS, Rate, RequestRates

KeyId = Annotated[str, Field(pattern=pattern_of(fields.KeyId), max_length=256)]


class ProcessSettings(BaseSettings):
    """What every process that serves HTTP has, also one that knows neither Kafka nor the network."""

    model_config = SettingsConfigDict(
        env_prefix="SALUS_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    service_name: str = Field(description="The service's name, as in network.json.")
    http_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    http_port: int = Field(ge=0, le=65535, description="Port to listen on.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What goes to the log: this and what is graver."
    )
    otlp_endpoint: str | None = Field(default=None, description="OTLP/HTTP endpoint for traces; none: off.")


class ServiceSettings(KafkaSettings, ProcessSettings):
    """The settings that every service has; each service adds its own in a subclass.

    Environment names are `SALUS_` and the field's name in capitals.
    """

    network_file: Path = Field(description="The public network.json.")
    signing_key_file: Path = Field(
        description="PEM (PKCS#8) Ed25519 key of the service's DID, not readable by others."
    )
    signing_key_id: KeyId | None = Field(
        default=None,
        description="Id of that key, DID#name, if it was added later; none: the key's own did:key.",
    )


class NoteKeySettings(BaseSettings):
    """For services that sign for the ledger: a shard's headers, the log's checkpoints, a witness's word."""

    model_config = SettingsConfigDict(
        env_prefix="SALUS_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    note_key: str = Field(
        validation_alias=AliasChoices("SALUS_NOTE_KEY", "SALUS_NOTE_KEY_FILE"),
        description="Where the Ed25519 keys are that sign: a PEM file, or a file: or pkcs11: URI.",
    )


class DatabaseSettings(BaseSettings):
    """For services that fold a topic into SQL."""

    model_config = SettingsConfigDict(
        env_prefix="SALUS_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: str = Field(
        description="SQLAlchemy URL: sqlite+aiosqlite:///FILE or postgresql+asyncpg://…",
    )


class RequestSettings(BaseSettings):
    """For services whose callers' requests make events."""

    model_config = SettingsConfigDict(
        env_prefix="SALUS_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    requests_burst_max: int = Field(
        default=RequestRates().number.burst,
        ge=1,
        description="Requests of one account at once that make events or have bodies, done or not; of one "
        f"organisation {ORGANISATION_ACCOUNTS} times as many, as of all limits per account.",
    )
    requests_per_minute_max: int = Field(
        default=int(RequestRates().number.per_minute), ge=1, description="And a minute, in the long run."
    )
    request_bytes_burst_max: int = Field(
        default=RequestRates().size.burst,
        ge=2 * BODY_BYTES_MAX,
        description="Bytes of them at once: bodies, tokens and approvals, which go onto the ledger.",
    )
    request_bytes_per_minute_max: int = Field(
        default=int(RequestRates().size.per_minute), ge=1, description="And a minute, in the long run."
    )

    def requests(self) -> RequestRates:
        """Return how many requests an account may send."""
        return RequestRates(
            number=Rate(self.requests_burst_max, self.requests_per_minute_max),
            size=Rate(self.request_bytes_burst_max, self.request_bytes_per_minute_max),
        )


class ObjectSettings(BaseSettings):
    """For services that use the object store."""

    model_config = SettingsConfigDict(
        env_prefix="SALUS_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    s3_endpoint: str = Field(
        description="URL of the S3 API. Payloads are signed (SHA-256 on both sides) unless it is https:// or "
        "this machine."
    )
    s3_access_key: str = Field(description="Access key of the service's own account.")
    s3_secret_key: SecretStr = Field(description="Its secret key.")
    s3_secret_key_file: Path | None = Field(
        default=None, description="A file with the secret key, in place of s3_secret_key."
    )
    s3_region: str = Field(default="us-east-1", description="Region that requests are signed for.")
    ledger_bucket: str = Field(default="salus-ledger", description="Blocks: bodies and signed headers.")
    log_bucket: str = Field(default="salus-log", description="The network's log: tiles and checkpoint.")
    objects_bucket: str = Field(default="salus-objects", description="Encrypted objects.")
    keys_bucket: str = Field(default="salus-keys", description="The patients' wrapped keys.")

    @model_validator(mode="before")
    @classmethod
    def _read_secret_key(cls, values: Any) -> Any:
        """Take the secret key from its file, if there is one; both at once are a mistake."""
        if not isinstance(values, dict) or (file := values.get("s3_secret_key_file")) is None:
            return values
        if "s3_secret_key" in values:
            raise ValueError("give SALUS_S3_SECRET_KEY or SALUS_S3_SECRET_KEY_FILE, not both")
        try:
            secret = Path(file).read_text().strip()
        except OSError as error:
            raise ValueError(f"SALUS_S3_SECRET_KEY_FILE: {error.strerror}: {file}") from None
        return {**values, "s3_secret_key": secret}
