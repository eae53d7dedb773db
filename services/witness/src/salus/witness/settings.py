"""What a member may choose for its witness."""

from __future__ import annotations

from pathlib import Path

import msgspec
from pydantic import Field

from salus.ledger.cosignature import CosignatureVerifier
from salus.ledger.note import ED25519, NoteVerifier, Verifier, parse_vkey
from salus.runtime.settings import ProcessSettings


class Settings(ProcessSettings):
    """Neither Kafka nor an object store: a disk is all that a witness needs."""

    service_name: str = "witness"
    witness_name: str = Field(description="The witness's key name, such as hospital-a.example/witness.")
    note_key_file: Path = Field(description="PEM (PKCS#8) Ed25519 key that cosigns, used for nothing else.")
    mldsa_key_file: Path | None = Field(
        default=None, description="PEM (PKCS#8) ML-DSA-44 key; with it each checkpoint is cosigned twice."
    )
    logs_file: Path = Field(description="The logs to watch: a network.json, or a list of its `log` members.")
    state_file: Path = Field(description="SQLite file of what was cosigned. Never restore it from a backup.")
    create_state: bool = Field(
        default=False,
        description="Make the state file if there is none. Only for a key that has never cosigned anything.",
    )


class _Log(msgspec.Struct):
    origin: str
    verifier_key: str


class _Network(msgspec.Struct):
    log: _Log


def read_logs(path: Path) -> dict[str, list[Verifier]]:
    """Return the keys of each log by its origin; a log that is listed twice has two keys.

    Raises:
        ValueError, KeyTextError: the file is something else; the message names it.
    """
    try:
        read = msgspec.json.decode(path.read_bytes(), type=_Network | list[_Log])
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {error}") from error
    trusted: dict[str, list[Verifier]] = {}
    for log in [read.log] if isinstance(read, _Network) else read:
        trusted.setdefault(log.origin, []).append(_verifier(log.verifier_key))
    return trusted


def _verifier(vkey: str) -> Verifier:
    _, algorithm, _ = parse_vkey(vkey)
    return NoteVerifier.from_vkey(vkey) if algorithm == ED25519 else CosignatureVerifier.from_vkey(vkey)
