"""Which checkpoint a check goes by: who cosigned it, and whether it extends one that somebody kept.

A log that shows two histories can sign both. Which one everybody sees is what witnesses say, so without their
cosignatures the answer "all as signed" is about the history that whoever serves the bucket chose.
"""

from __future__ import annotations

from datetime import UTC, datetime

from salus.archive.check_log import LogState
from salus.archive.errors import DamagedError
from salus.archive.log import CHECKPOINT_KEY
from salus.archive.report import CosignedBy, Finding, JudgedCheckpoint
from salus.archive.trust import Trust
from salus.ledger.checkpoint import Checkpoint, open_checkpoint
from salus.ledger.errors import LedgerError
from salus.ledger.policy import SeenCheckpoint
from salus.ledger.tiles import CompactRange


def judged(log: LogState, trust: Trust) -> tuple[JudgedCheckpoint | None, list[Finding]]:
    """Return the checkpoint that was read, judged by the network's policy, and what is wrong with it."""
    if log.checkpoint is None:
        return None, []
    size, root = log.checkpoint.size, log.checkpoint.root.hex()
    if trust.policy is None:
        return JudgedCheckpoint(size=size, root=root), []
    try:
        seen = trust.policy.open_checkpoint(log.note)
    except LedgerError as error:
        return JudgedCheckpoint(size=size, root=root, final=False), [_not_final(size, str(error))]
    cosigners = [CosignedBy(c.name, _time(c.seconds), c.seconds) for c in seen.cosigners]
    found = JudgedCheckpoint(size=size, root=root, final=seen.is_final, cosigners=cosigners)
    return found, [] if seen.shortfall is None else [_not_final(size, seen.shortfall)]


def require_final(note: bytes, trust: Trust) -> Checkpoint:
    """Return the checkpoint of a log's note.

    Raises:
        DamagedError: the network has a policy, and the checkpoint does not meet it.
        LedgerError: the log did not sign it.
    """
    checkpoint, _ = open_checkpoint(note, trust.log)
    if trust.policy is not None:
        seen: SeenCheckpoint = trust.policy.open_checkpoint(note)
        if seen.shortfall is not None:
            raise DamagedError(CHECKPOINT_KEY, f"size {checkpoint.size} is not final: {seen.shortfall}")
    return checkpoint


def check_extends(log: LogState, kept: Checkpoint) -> list[Finding]:
    """Return a finding unless the log extends a checkpoint that its key signed before.

    Entries that could not be established are findings already; they are not told once more.
    """
    before = [leaf for leaf in log.hashes[: kept.size] if leaf is not None]
    if log.size >= kept.size:
        tree = CompactRange()
        tree.extend(before)
        if len(before) < kept.size or kept.size == 0 or tree.root() == kept.root:
            return []
    detail = (
        f"it does not extend the checkpoint of size {kept.size} and root {kept.root.hex()} that was given"
    )
    return [_wrong("log-rewritten", detail)]


def _not_final(size: int, why: str) -> Finding:
    return _wrong("not-final", f"the checkpoint of size {size} does not meet the network's policy: {why}")


def _wrong(code: str, detail: str) -> Finding:
    return Finding(severity="error", code=code, bucket="log", key=CHECKPOINT_KEY, detail=detail)


def _time(seconds: int) -> datetime | None:
    """Return what a witness stated; None if it is beyond what a calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
