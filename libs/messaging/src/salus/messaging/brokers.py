"""Where the brokers are, and as whom and over what to speak to them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

from salus.messaging.errors import AccountFileError


class Protocol(StrEnum):
    """What a listener of Kafka speaks, in Kafka's words (`security.protocol`)."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted, and the broker shows a certificate."""
        return self in {Protocol.SSL, Protocol.SASL_SSL}

    @property
    def has_sasl(self) -> bool:
        """Whether the account is a name with a password."""
        return self in {Protocol.SASL_PLAINTEXT, Protocol.SASL_SSL}


class Mechanism(StrEnum):
    """How a name proves its password; never by sending it."""

    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


@dataclass(frozen=True, slots=True)
class Account:
    """As whom to speak to Kafka, and over what. Secrets stay in their files, which each new connection reads.

    `ca_file`: who signs the brokers' certificates; none: the system's authorities. `certificate_file` with
    `key_file`: the account is the certificate's subject (mTLS). `user` with `password_file`: it is that name.
    """

    protocol: Protocol
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    mechanism: Mechanism = Mechanism.SCRAM_SHA_512
    user: str | None = None
    password_file: Path | None = None

    def __post_init__(self) -> None:
        """Raise ValueError unless the fields belong together."""
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("a certificate and its key belong together")
        if (self.user is None) != (self.password_file is None):
            raise ValueError("a user and a password belong together")
        if self.protocol.has_sasl != (self.user is not None):
            raise ValueError(
                f"{self.protocol} " + ("needs a user" if self.protocol.has_sasl else "has no user")
            )
        if not self.protocol.has_tls and (self.ca_file or self.certificate_file):
            raise ValueError(f"{self.protocol} has no certificates")

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return what TLS is spoken with; None where none is.

        Raises:
            AccountFileError: a file cannot be used.
        """
        if not self.protocol.has_tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ValueError) as error:
            raise AccountFileError("certificates of the authorities", self.ca_file) from error
        if self.certificate_file is not None and self.key_file is not None:
            try:
                # With a password, for else an encrypted key would ask for one at the terminal.
                context.load_cert_chain(self.certificate_file, self.key_file, password="")
            except (OSError, ValueError) as error:
                raise AccountFileError("certificate with its key", self.certificate_file) from error
        return context

    def password(self) -> str | None:
        """Return the password, if the account has one; raises AccountFileError."""
        if self.password_file is None:
            return None
        try:
            password = self.password_file.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise AccountFileError("password", self.password_file) from error
        if not password:
            raise AccountFileError("password", self.password_file)
        return password


@dataclass(frozen=True, slots=True)
class Brokers:
    """The brokers of one Kafka, host:port separated by commas, and the account there."""

    servers: str
    account: Account

    def __str__(self) -> str:
        return self.servers


Bootstrap: TypeAlias = str | Brokers
"""Where the brokers are. A text alone: they speak to everybody (PLAINTEXT)."""

# The library hands this to each connection, and uses it with OAUTHBEARER alone, which we do not speak.
ACCOUNT_OPTION = "sasl_oauth_token_provider"


def options(bootstrap: Bootstrap) -> dict[str, Any]:
    """Return what the library's clients take for it; raises AccountFileError."""
    if isinstance(bootstrap, str):
        return {"bootstrap_servers": bootstrap}
    account = bootstrap.account
    return {
        "bootstrap_servers": bootstrap.servers,
        "security_protocol": account.protocol.value,
        ACCOUNT_OPTION: account,
        **credentials(account),
    }


def credentials(account: Account) -> dict[str, Any]:
    """Return what a connection shows of its account, as its files are now; raises AccountFileError."""
    shown: dict[str, Any] = {"ssl_context": account.ssl_context()}
    if account.user is None:
        return shown
    return shown | {
        "sasl_mechanism": account.mechanism.value,
        "sasl_plain_username": account.user,
        "sasl_plain_password": account.password(),
    }


def silence_of(bootstrap: Bootstrap) -> str:
    """Return the sentence for brokers that could not be spoken to; the library logs why."""
    if isinstance(bootstrap, str):
        return f"no broker answers at {bootstrap}"
    return f"no broker answers at {bootstrap} to this account ({bootstrap.account.protocol})"
