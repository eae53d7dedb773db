"""Answers add-checkpoint: decide, sign, remember, and only then let the cosignature out of the house."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import structlog

from salus.ledger.cosignature import CosignatureSigner
from salus.witness import domain
from salus.witness.domain import (
    Cosigned,
    InconsistentError,
    RefusedError,
    Request,
    Signed,
    Trusted,
    TwoHistoriesError,
)
from salus.witness.ports import ChangedMeanwhileError, ForgetfulError, Memory

# A rival that moves the memory on makes our proof one from another size, so the second look decides.
LOOKS_MAX = 3

_log = structlog.get_logger()


class Witness:
    """One witness: whom it trusts, what it signs with, what it remembers.

    Any number of these may share one memory, so what this one remembered last is only a guess, which saves
    looking. Nothing is refused by it, and the memory replaces nothing but what it holds. `seconds` tells the
    POSIX time.
    """

    def __init__(
        self,
        trusted: Trusted,
        signers: Sequence[CosignatureSigner],
        memory: Memory,
        *,
        seconds: Callable[[], int],
    ) -> None:
        self._trusted = trusted
        self._signers = tuple(signers)
        self._memory = memory
        self._seconds = seconds
        self._guesses: dict[str, Cosigned] = {}

    def go_by(self, trusted: Trusted, signers: Sequence[CosignatureSigner]) -> None:
        """Trust and sign with these keys from the next request on."""
        self._trusted = trusted
        self._signers = tuple(signers)

    async def add_checkpoint(self, body: bytes) -> bytes:
        """Return our signature lines on the checkpoint.

        The commit point is `replace`. A crash before it has signed nothing that anyone saw; a crash after it
        leaves the checkpoint remembered and unanswered: the log asks again, from the size it is told.

        Raises:
            RefusedError: and its kinds; the checkpoint is not cosigned.
            ForgetfulError: whether it is remembered is unknown, so it is not answered either.
        """
        request = domain.parse_request(body)
        signed = domain.authenticate(request.note, self._trusted)
        origin = signed.checkpoint.origin
        guess = self._guesses.pop(origin, None)
        if guess is not None and not _grows(request, signed, guess):
            guess = None
        for _ in range(LOOKS_MAX):
            last = guess
            if last is None:
                last = await self._memory.last(origin)
                await self._require_growth(request, signed, last)
            try:
                after = await self._memory.replace(origin, last, partial(self._cosigned, signed))
            except ChangedMeanwhileError:
                guess = None
                continue
            self._guesses[origin] = after
            return after.note.removeprefix(_note(signed))
        raise ForgetfulError("others keep cosigning this log's checkpoints")

    async def last_checkpoint(self, origin_hash: str) -> bytes | None:
        """Return the last checkpoint cosigned of the log whose origin has this SHA-256, in hex."""
        for origin in self._trusted:
            if domain.origin_hash(origin) == origin_hash:
                last = await self._memory.last(origin)
                return last.note if last else None
        return None

    async def _require_growth(self, request: Request, signed: Signed, last: Cosigned | None) -> None:
        try:
            domain.require_growth(request, signed.checkpoint, last)
        except InconsistentError as error:
            await self._keep(signed, last, error)
            raise

    async def _keep(self, signed: Signed, last: Cosigned | None, error: InconsistentError) -> None:
        """Keep what was refused: as evidence if it proves itself, for then only the log can have made it."""
        origin, refused = signed.checkpoint.origin, signed.checkpoint
        facts = {
            "origin": origin,
            "cosigned_size": last.size if last else 0,
            "refused_size": refused.size,
            "refused_root": refused.root.hex(),
            "why": str(error),
        }
        if isinstance(error, TwoHistoriesError):
            if last is not None:
                await self._memory.keep_evidence(origin, cosigned=last.note, refused=_note(signed))
            _log.error("a log signed two histories", **facts)
            return
        # The last checkpoint itself, with a proof that it needs none of, is no pair of anything.
        if last is not None and (last.size, last.root) != (refused.size, refused.root):
            await self._memory.keep_unproven(origin, cosigned=last.note, refused=_note(signed))
        _log.info("somebody sent a checkpoint without a proof that it extends the one before", **facts)

    def _cosigned(self, signed: Signed) -> Cosigned:
        """Cosign; never called on the event loop, for a key may be in an HSM, which takes its time."""
        seconds, checkpoint = self._seconds(), signed.checkpoint
        lines = [signer.cosign(checkpoint, seconds=seconds).line() for signer in self._signers]
        return Cosigned(checkpoint.size, checkpoint.root, _note(signed) + "".join(lines).encode())


def _grows(request: Request, signed: Signed, last: Cosigned) -> bool:
    try:
        domain.require_growth(request, signed.checkpoint, last)
    except RefusedError:
        return False
    return True


def _note(signed: Signed) -> bytes:
    """Return the checkpoint with the signatures of its log that are trusted, and no others."""
    lines = [signature.line() for signature in signed.signatures]
    return (signed.checkpoint.text() + "\n" + "".join(lines)).encode()
