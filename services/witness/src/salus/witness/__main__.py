"""Wires a witness and runs it: `python -m salus.witness`."""

from __future__ import annotations

import asyncio
import time

import structlog
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from fastapi import FastAPI

from salus.crypto.keys import load_ed25519, read_private
from salus.ledger.cosignature import CosignatureSigner
from salus.runtime.service import create_app, serve
from salus.runtime.telemetry import set_up
from salus.witness.adapters.sqlite import SqliteMemory
from salus.witness.api import witness_routes
from salus.witness.handlers import Witness
from salus.witness.settings import Settings, read_logs

_log = structlog.get_logger()


def open_signers(settings: Settings) -> list[CosignatureSigner]:
    """Read the keys.

    Raises:
        ValueError, CryptoError, OSError: a file is not what it should be; the message names it.
    """
    signers = [CosignatureSigner(settings.witness_name, load_ed25519(settings.note_key_file))]
    if settings.mldsa_key_file is not None:
        key = load_pem_private_key(read_private(settings.mldsa_key_file), password=None)
        if not isinstance(key, MLDSA44PrivateKey):
            raise ValueError(f"{settings.mldsa_key_file} is not an ML-DSA-44 key")
        signers.append(CosignatureSigner(settings.witness_name, key))
    return signers


def build_app(settings: Settings) -> FastAPI:
    """Read the files and return the app."""
    trusted = read_logs(settings.logs_file)
    memory = SqliteMemory.open(settings.state_file, create=settings.create_state)
    signers = open_signers(settings)
    _log.info("witnessing", logs=sorted(trusted), verifier_keys=[signer.vkey for signer in signers])

    async def remember() -> None:
        await memory.last("")

    app = create_app(settings, title="Salus witness", checks={"memory": remember})
    app.include_router(witness_routes(Witness(trusted, signers, memory, seconds=lambda: int(time.time()))))
    return app


async def main(settings: Settings) -> None:
    """Witness until told to stop."""
    set_up(settings)
    await serve(build_app(settings), settings)


if __name__ == "__main__":
    asyncio.run(main(Settings()))
