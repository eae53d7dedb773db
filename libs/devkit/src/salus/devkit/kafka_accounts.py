"""Accounts at a Kafka that refuses whoever has none: an authority, certificates, and names with passwords.

An account's principal is the subject of its certificate, `CN=<name>`; a name with a password is `<name>`.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from salus.crypto.private_files import write_private
from salus.devkit.free_ports import HOST
from salus.messaging import Account, Protocol

BROKER = "broker"
ADMINISTRATOR = "administrator"
"""Who may do everything, as whoever runs this Kafka may."""
_AUTHORITY = "Salus development authority"
_VALID_FROM = datetime(2020, 1, 1, tzinfo=UTC)
_VALID = timedelta(days=36_500)

# The broker and its controller know each other by certificate as well. Nobody but they and the administrator
# may do what no ACL allows.
_LISTENERS = """\
listeners=MTLS://{host}:{port},SCRAM://{host}:{scram_port},CONTROLLER://{host}:{controller_port}
advertised.listeners=MTLS://{host}:{port},SCRAM://{host}:{scram_port}
inter.broker.listener.name=MTLS
controller.listener.names=CONTROLLER
listener.security.protocol.map=MTLS:SSL,SCRAM:SASL_SSL,CONTROLLER:SSL
ssl.client.auth=required
listener.name.scram.ssl.client.auth=none
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.scram.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:CN={broker};User:CN={administrator}
"""


class KafkaAccounts:
    """The files of a folder; what is not there yet is made when it is asked for.

    `scram` are the names that have a password. Kafka is told them when its storage is formatted, by a command
    line that other users of this machine may see: for development and tests alone.
    """

    def __init__(self, folder: Path, *, scram: Iterable[str] = ()) -> None:
        self.folder = folder
        self.scram = tuple(scram)

    @property
    def authority_file(self) -> Path:
        """Who signs all certificates."""
        return self.folder / "ca.pem"

    def account(self, name: str) -> Account:
        """Return the account that is known by its certificate."""
        folder = self.folder / name
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        if not certificate.exists():
            self._sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), folder)
        return Account(Protocol.SSL, self.authority_file, certificate, key)

    def account_of(self, subject: x509.Name, *, folder: str) -> Account:
        """Return an account whose certificate has this subject, with its files in this folder below ours."""
        place = self.folder / folder
        self._sign(subject, place)
        return Account(Protocol.SSL, self.authority_file, place / "certificate.pem", place / "key.pem")

    def scram_account(self, name: str) -> Account:
        """Return the account that is known by its password."""
        file = self.folder / name / "password"
        if not file.exists():
            write_private(file, secrets.token_urlsafe(24).encode())
        self._ensure_authority()
        return Account(Protocol.SASL_SSL, self.authority_file, user=name, password_file=file)

    def listeners(self, *, port: int, scram_port: int, controller_port: int) -> str:
        """Return the broker's properties that make it so."""
        broker = self.account(BROKER)
        assert broker.certificate_file is not None  # noqa: S101  # as `account` makes it
        assert broker.key_file is not None  # noqa: S101
        keystore = self.folder / BROKER / "keystore.pem"
        write_private(keystore, broker.key_file.read_bytes() + broker.certificate_file.read_bytes())
        return _LISTENERS.format(
            host=HOST,
            port=port,
            scram_port=scram_port,
            controller_port=controller_port,
            keystore=keystore,
            authority=self.authority_file,
            broker=BROKER,
            administrator=ADMINISTRATOR,
        )

    def format_arguments(self) -> list[str]:
        """Return what Kafka's formatter is told of the names with passwords."""
        said: list[str] = []
        for name in self.scram:
            said += ["-S", f"SCRAM-SHA-512=[name={name},password={self.scram_account(name).password()}]"]
        return said

    def _ensure_authority(self) -> ec.EllipticCurvePrivateKey:
        file = self.folder / "ca.key"
        if file.exists():
            known = load_pem_private_key(file.read_bytes(), None)
            assert isinstance(known, ec.EllipticCurvePrivateKey)  # noqa: S101  # we made it
            return known
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _AUTHORITY)])
        made = _certificate(name, key.public_key(), name, key, is_authority=True)
        write_private(self.authority_file, made.public_bytes(Encoding.PEM))
        write_private(file, _pem(key))
        return key

    def _sign(self, subject: x509.Name, folder: Path) -> None:
        authority = self._ensure_authority()
        issuer = x509.load_pem_x509_certificate(self.authority_file.read_bytes()).subject
        key = ec.generate_private_key(ec.SECP256R1())
        made = _certificate(subject, key.public_key(), issuer, authority, is_authority=False)
        write_private(folder / "key.pem", _pem(key))
        write_private(folder / "certificate.pem", made.public_bytes(Encoding.PEM))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuers_key: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
) -> x509.Certificate:
    here = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_VALID_FROM)
        .not_valid_after(_VALID_FROM + _VALID)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuers_key.public_key()), critical=False
        )
    )
    if not is_authority:
        builder = builder.add_extension(here, critical=False)
    return builder.sign(issuers_key, hashes.SHA256())
