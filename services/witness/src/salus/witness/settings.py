"""What a member may choose for its witness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from pydantic import Field

from salus.crypto.text_files import read_text_file
from salus.ledger.cosignature import CosignatureVerifier
from salus.ledger.errors import PolicyError
from salus.ledger.json_reader import JsonError, read_json
from salus.ledger.key_periods import Keys, read_history
from salus.ledger.note import ED25519, parse_vkey
from salus.runtime.settings import NoteKeySettings, ProcessSettings


class Settings(ProcessSettings, NoteKeySettings):
    """Neither Kafka nor an object store: a disk is all that a witness needs."""

    service_name: str = "witness"
    witness_name: str = Field(description="The witness's key name, such as hospital-a.example/witness.")
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
    keys: tuple[dict[str, Any], ...] = ()

    def known(self) -> Keys:
        """Return the log's keys; one that signs as a witness does never had another."""
        if parse_vkey(self.verifier_key)[1] != ED25519:
            return CosignatureVerifier.from_vkey(self.verifier_key)
        return read_history(parse_vkey(self.verifier_key)[0], self.verifier_key, self.keys)


class _Network(msgspec.Struct):
    log: _Log


def read_logs(path: Path) -> dict[str, list[Keys]]:
    """Return the keys of each log by its origin; a log that is listed twice has two keys.

    Raises:
        ValueError, KeyTextError: the file is something else; the message names it.
    """
    try:
        read = msgspec.convert(read_json(read_text_file(path)), type=_Network | list[_Log])
        trusted: dict[str, list[Keys]] = {}
        for log in [read.log] if isinstance(read, _Network) else read:
            trusted.setdefault(log.origin, []).append(log.known())
    except JsonError as error:
        raise ValueError(f"{path}: {error.why}, in {error.place}") from error
    except (msgspec.ValidationError, PolicyError) as error:
        raise ValueError(f"{path}: {error}") from error
    return trusted
