"""Asks witnesses to cosign a checkpoint (c2sp.org/tlog-witness); enough of them make it final."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from salus.anchoring.ports import OtherSizeError, Witness, WitnessError
from salus.archive.errors import ArchiveError
from salus.archive.log import LogReader
from salus.ledger.checkpoint import Checkpoint
from salus.ledger.errors import NoteError
from salus.ledger.note import NoteSignature, Verifier, add_signatures, open_note, split_note
from salus.ledger.policy import Policy
from salus.ledger.tiles import TileRef, consistency_proof, tiles_for_consistency
from salus.objects import ObjectsError

# The first try uses the size we remember, the second the one we were told; more is a rival's doing.
TRIES_MAX = 3
OK = "ok"
AtHand = Callable[[TileRef], bytes | None]

_log = structlog.get_logger()


def _nothing(_: TileRef) -> None:
    """No tile is at hand."""


class Cosigning:
    """Asks all witnesses at once and waits no longer than `deadline_s`.

    Once a checkpoint is final, the others have `stragglers_s` more. `answers` says how each did lately:
    "ok", or why not.
    """

    def __init__(
        self,
        witnesses: Mapping[str, Witness],
        policy: Policy,
        log: LogReader,
        *,
        deadline_s: float,
        stragglers_s: float,
    ) -> None:
        self._witnesses = dict(witnesses)
        self._policy = policy
        self._log = log
        self._deadline_s = deadline_s
        self._stragglers_s = stragglers_s
        self._sizes: dict[str, int] = {}
        self._shortfall: str | None = None
        self.answers = dict.fromkeys(self._witnesses, "not asked yet")

    def go_by(self, policy: Policy) -> None:
        """Go by another policy from the next checkpoint on: a witness's key took over, or was retired."""
        self._policy = policy

    def recall(self, published: bytes) -> None:
        """Take from a published checkpoint which of the witnesses cosigned it: they have its size, or more.

        So a start need not be told their sizes by a refusal.
        """
        opened = self._policy.open_checkpoint(published)
        for cosigner in opened.cosigners:
            self._sizes.setdefault(cosigner.name, opened.checkpoint.size)

    @property
    def missing(self) -> str:
        """A sentence on why the last checkpoint asked for is not final."""
        silent = "; ".join(f"{name}: {answer}" for name, answer in self.answers.items() if answer != OK)
        return "; ".join(part for part in (self._shortfall, silent) if part)

    def is_final(self, note: bytes) -> bool:
        """Tell whether those witnesses cosigned the checkpoint whom the network's policy asks for."""
        return self._policy.open_checkpoint(note).is_final

    async def cosign(self, checkpoint: Checkpoint, note: bytes, at_hand: AtHand = _nothing) -> bytes:
        """Return the checkpoint's note with the cosignatures that came in time.

        Tiles that are not `at_hand` are read from the log for the proofs. A witness that is cut off may have
        cosigned: it is told nothing, and tells us its size next time.

        Raises:
            ArchiveError, ObjectsError: the log's tiles cannot be read.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._deadline_s
        asked = {
            asyncio.create_task(self._ask(name, checkpoint, note, at_hand)): name for name in self._witnesses
        }
        pending = set(asked)
        try:
            while pending and (left := deadline - clock()) > 0:
                done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    note = add_signatures(note, task.result())
                if self.is_final(note):
                    deadline = min(deadline, clock() + self._stragglers_s)
            self.answers |= {asked[task]: "no answer in time" for task in pending}
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        self._shortfall = self._policy.open_checkpoint(note).shortfall
        return note

    async def _ask(
        self, name: str, checkpoint: Checkpoint, note: bytes, at_hand: AtHand
    ) -> Sequence[NoteSignature]:
        """Return the witness's valid cosignatures, none if it does not cosign.

        Whatever it brings about, also an error that nobody thought of, is this witness's answer: the others'
        cosignatures count. Only errors of our own log and its store are the caller's.
        """
        try:
            signatures = await self._cosignatures(name, checkpoint, note, at_hand)
        except WitnessError as error:
            self.answers[name] = str(error)
            return ()
        except (ArchiveError, ObjectsError):
            raise
        except Exception as error:  # noqa: BLE001  # of whatever kind: one witness ends nothing of the others
            _log.exception("the answer of a witness could not be handled", witness=name)
            self.answers[name] = f"its answer could not be handled: {type(error).__name__}"
            return ()
        self.answers[name] = OK
        return signatures

    async def _cosignatures(
        self, name: str, checkpoint: Checkpoint, note: bytes, at_hand: AtHand
    ) -> Sequence[NoteSignature]:
        old_size = self._sizes.get(name, 0)
        for _ in range(TRIES_MAX):
            if old_size > checkpoint.size:
                # It is not kept: nobody signed it, and who is not asked again cannot take it back.
                raise WitnessError(f"it has cosigned size {old_size}, we are at {checkpoint.size}")
            proof = await self._proof(old_size, checkpoint.size, at_hand)
            try:
                lines = await self._witnesses[name].add_checkpoint(old_size, proof, note)
            except OtherSizeError as error:
                old_size = error.size
                continue
            except WitnessError:
                # If a tile was wrong, the next proof is made of what it is by then.
                self._log.forget(tiles_for_consistency(old_size, checkpoint.size) if old_size else ())
                raise
            signatures = self._valid(name, note, lines)
            self._sizes[name] = checkpoint.size
            return signatures
        raise WitnessError(f"its size keeps changing, lately to {old_size}")

    async def _proof(self, old_size: int, size: int, at_hand: AtHand) -> list[bytes]:
        if old_size in {0, size}:
            return []
        wanted = tiles_for_consistency(old_size, size)
        found = {ref: data for ref in wanted if (data := at_hand(ref)) is not None}
        read = await self._log.tiles(ref for ref in wanted if ref not in found)
        return consistency_proof(old_size, size, lambda *ref: found.get(TileRef(*ref)) or read(*ref))

    def _valid(self, name: str, note: bytes, lines: bytes) -> Sequence[NoteSignature]:
        """Return the signatures in an answer that are by this witness's keys, all of which must be valid."""
        keys: list[Verifier] = [key for key in self._policy.quorum.verifiers if key.name == name]
        try:
            opened = open_note(note + lines, keys)
        except NoteError as error:
            raise WitnessError(f"its answer holds no valid cosignature: {error}") from None
        if opened.text != split_note(note)[0]:
            raise WitnessError("its answer is more than signature lines")
        return opened.signatures
