"""Judges, in a deep fsck, who had the right to what consent and storage did: once all blocks were seen."""

from __future__ import annotations

from typing import Literal

from salus.archive.check_blocks import Checked
from salus.archive.entitlements import Entitlements, Unentitled
from salus.archive.report import Finding, note_of
from salus.archive.served_changes import ServedChanges
from salus.archive.served_requests import CONSENT_TOPIC, STORAGE_TOPIC, ServedRead, ServedUpload
from salus.archive.served_store import ServedStore
from salus.events.keyring import KeyRing
from salus.ledger.block import header_key

# A service whose key was stolen may have done anything; so many findings say enough.
FINDINGS_MAX = 1000


class RightsJudge:
    """Takes what all blocks hold, in any order, then judges by the parties that `ring` knows in the end."""

    def __init__(self, ring: KeyRing) -> None:
        self._store = ServedStore()
        self._ring = ring
        self._unread: Finding | None = None

    def take(self, checked: Checked) -> None:
        """Take what a stretch of blocks holds; nothing of it stays there."""
        if checked.served is None:
            self._unread = _unjudged("a block is damaged", checked.shard, checked.start)
        else:
            self._store.add(checked.served)
            checked.served.clear()

    def findings(self) -> list[Finding]:
        """Return what was done without a right, once everything was taken."""
        torn = self._store.torn()
        if torn is not None:
            # A shard that was listed before another may lack what that one goes on from.
            self._unread = _unjudged("a block between others is missing", torn.shard, torn.height)
        if self._unread is not None:
            return [self._unread]
        found: list[Finding] = []
        pending: list[Finding] = []
        for each in self._judged().unentitled():
            if not each.is_pending:
                found.append(_finding("error", "unentitled", each))
            elif len(pending) < FINDINGS_MAX:
                pending.append(_finding("info", "rights-pending", each))
            if len(found) == FINDINGS_MAX:
                break
        return found + pending

    def _judged(self) -> Entitlements:
        """Return the judge of all of it, who takes storage's changes first, then consent's, then the rest."""
        judge = Entitlements(self._ring, is_whole=True)
        storage = ServedChanges(self._store, STORAGE_TOPIC)
        consent = ServedChanges(self._store, CONSENT_TOPIC)
        for run, served in storage.in_effect():
            if not isinstance(served, ServedUpload):
                judge.take(run, served)
        for run, served in consent.in_effect():
            judge.take(run, served)
        for run, served in self._store.served(CONSENT_TOPIC):
            if served.expected is None:
                judge.take(run, served)
        for run, served in self._store.served(STORAGE_TOPIC):
            if isinstance(served, ServedUpload | ServedRead) and not storage.is_idle(run, served):
                judge.take(run, served)
        return judge


def _unjudged(why: str, shard: int, height: int) -> Finding:
    detail = f"{why}, so who had a right to what consent and storage did is not judged"
    return note_of("rights-unjudged", header_key(shard, height), detail, shard=shard)


def _finding(severity: Literal["error", "info"], code: str, each: Unentitled) -> Finding:
    run, served = each.run, each.served
    return Finding(
        severity=severity,
        code=code,
        bucket="ledger",
        key=run.key,
        detail=each.why,
        shard=run.shard,
        height=run.height,
        row=served.row,
        topic=run.topic,
        partition=run.partition,
        offset=served.offset,
        event=served.event,
    )
