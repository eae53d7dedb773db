"""Wires a witness and runs it: `python -m salus.witness`."""

from __future__ import annotations

from salus.runtime.garbage import collect_rarely

if __name__ == "__main__":
    collect_rarely()

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from fastapi import FastAPI

from salus.crypto.private_files import read_private
from salus.crypto.signing_keys import KeyPlace, key_place
from salus.crypto.text_files import plain_text
from salus.ledger.cosignature import CosignatureSigner
from salus.runtime.service import create_app, serve
from salus.runtime.supervisor import Supervisor
from salus.runtime.telemetry import set_up
from salus.witness.adapters.following import FollowedFiles
from salus.witness.adapters.sqlite import SqliteMemory
from salus.witness.api import Answers, install_witness
from salus.witness.handlers import Witness
from salus.witness.settings import Settings, read_logs

_log = structlog.get_logger()


def open_signers(settings: Settings, place: KeyPlace) -> list[CosignatureSigner]:
    """Read the keys, all of which cosign: a new one takes over once everybody knows it.

    Raises:
        ValueError, CryptoError, OSError: a file is not what it should be; the message names it.
    """
    signers = [CosignatureSigner(settings.witness_name, key) for key in place.read()]
    if settings.mldsa_key_file is not None:
        pem = plain_text(read_private(settings.mldsa_key_file))
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{settings.mldsa_key_file} is not an unencrypted PEM key") from error
        if not isinstance(key, MLDSA44PrivateKey):
            raise ValueError(f"{settings.mldsa_key_file} is not an ML-DSA-44 key")
        signers.append(CosignatureSigner(settings.witness_name, key))
    return signers


def build_app(settings: Settings) -> FastAPI:
    """Read the files and return the app."""
    memory = SqliteMemory.open(settings.state_file, create=settings.create_state)
    place = key_place(settings.note_key)
    trusted, signers = read_logs(settings.logs_file), open_signers(settings, place)
    _log.info("witnessing", logs=sorted(trusted), verifier_keys=[signer.vkey for signer in signers])
    witness = Witness(trusted, signers, memory, seconds=lambda: int(time.time()))
    files = FollowedFiles(
        lambda: read_logs(settings.logs_file), lambda: open_signers(settings, place), witness.go_by
    )

    supervisor = Supervisor()

    async def remember() -> None:
        await memory.last("")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with supervisor.running(files.follow(), name="files"):
            yield
        memory.close()

    app = create_app(
        settings,
        title="Salus witness",
        checks={"memory": remember},
        lifespan=lifespan,
        supervisor=supervisor,
    )
    install_witness(app, Answers(witness))
    return app


async def main(settings: Settings) -> None:
    """Witness until told to stop."""
    set_up(settings)
    await serve(build_app(settings), settings)


if __name__ == "__main__":
    asyncio.run(main(Settings()))
