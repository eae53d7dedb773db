"""Reads the witness's files again every second, so that keys change over without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from salus.crypto.errors import CryptoError
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.errors import LedgerError
from salus.ledger.key_periods import Keys
from salus.runtime.supervisor import failed, succeeded

LOOK_EVERY_S = 1.0

_log = structlog.get_logger()
_Logs = Mapping[str, Sequence[Keys]]
_Signers = Sequence[CosignatureSigner]


class FollowedFiles:
    """The logs to trust and the keys to sign with, as their files say now.

    What cannot be read is reported, once, and changes nothing.
    """

    def __init__(
        self,
        read_logs: Callable[[], _Logs],
        read_signers: Callable[[], _Signers],
        go_by: Callable[[_Logs, _Signers], None],
    ) -> None:
        self._read_logs = read_logs
        self._read_signers = read_signers
        self._go_by = go_by
        self._trouble: str | None = None
        self._keys: list[str] | None = None

    async def follow(self) -> None:
        """Look every second until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Read the files again and go by what they say."""
        try:
            logs, signers = await asyncio.to_thread(lambda: (self._read_logs(), self._read_signers()))
        except (OSError, ValueError, LedgerError, CryptoError) as error:
            if str(error) != self._trouble:
                _log.error("keys cannot be read, those before stay", error=str(error))
            self._trouble = str(error)
            failed(error)
            return
        self._trouble = None
        keys = [signer.vkey for signer in signers]
        if keys != self._keys and self._keys is not None:
            _log.info("cosigning with other keys", verifier_keys=keys)
        self._keys = keys
        self._go_by(logs, signers)
        succeeded()
