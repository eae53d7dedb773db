"""Reads a whole ledger, decides again what a range of it decided, and says what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from salus.access.cedar import CedarPolicies
from salus.archive.decision_replay import IDENTITY, DecisionReplay
from salus.archive.deep import IdentityEvent, IdentityTopic, Judge, identity_rows, rightly_accepted
from salus.archive.finality import require_final
from salus.archive.fsck import Stores
from salus.archive.log import LogReader
from salus.archive.replay import ReplayError, logged_headers, replay
from salus.archive.replayed_decision import Replayed
from salus.archive.report import OnProgress, Progress
from salus.archive.trust import Trust
from salus.events.contexts import CATALOGUE

# More are counted and not listed, so that a report has a size.
LISTED_MAX = 1000
PROGRESS_EVERY = 100


class DecisionReport(msgspec.Struct, kw_only=True):
    """What came of replaying decisions; `ok` means that every one was replayed and follows.

    `listed` has those that differ, then those that were not replayed, at most LISTED_MAX of each. `unread`
    are accepted records that no event type here reads. With another policy set, `denied` and `permitted`
    count what `becomes_denied` and `becomes_permitted` by it, each by the reasons that it gives, and
    `changed` lists those decisions.
    """

    ok: bool
    size: int
    decisions: int = 0
    same: int = 0
    differs: int = 0
    not_replayed: int = 0
    unread: int = 0
    reasons: dict[str, int] = {}
    listed: list[Replayed] = []
    with_policies: str | None = None
    becomes_denied: int = 0
    becomes_permitted: int = 0
    denied: dict[str, int] = {}
    permitted: dict[str, int] = {}
    changed: list[Replayed] = []


async def replay_decisions(  # noqa: PLR0913  # what is read, by whose keys, and what of it is replayed
    stores: Stores,
    trust: Trust,
    *,
    within: Callable[[int, datetime], bool] = lambda _height, _appended: True,
    other: CedarPolicies | None = None,
    known_sets: Sequence[Mapping[str, bytes]] = (),
    on_progress: OnProgress = lambda _: None,
    folder: Path | None = None,
) -> DecisionReport:
    """Read every block under the log's checkpoint, and replay what `within` says of it.

    Nothing but the two buckets and network.json is needed. Signatures of records are not judged again:
    `fsck --deep` does.

    Raises:
        ArchiveError, LedgerError: the ledger is not as signed, or not all there; nothing is concluded then.
        ObjectsError: the store is away.
        ValueError: the network file names no root of identity.
    """
    log = LogReader(stores.log)
    note = await log.checkpoint()
    if note is None:
        raise ReplayError("the log has no checkpoint")
    checkpoint = require_final(note, trust)
    logged = await logged_headers(log, checkpoint, trust)
    replayed = DecisionReplay(CATALOGUE, within=within, known_sets=known_sets, folder=folder)
    try:
        identities: list[IdentityEvent] = []
        sealed_to = done = 0
        async with aclosing(replay(stores.ledger, trust, logged)) as blocks:
            async for block in blocks:
                for r in block.header.ranges:
                    if (r.topic, r.partition) == IDENTITY and r.first < r.next:
                        sealed_to = r.next
                        identities += identity_rows(block.body)
                replayed.take(block)
                done += 1
                if done % PROGRESS_EVERY == 0:
                    on_progress(Progress("blocks", done, len(logged)))
        topic = rightly_accepted(trust, IdentityTopic(identities, sealed_to), CATALOGUE)
        judge = Judge(trust, topic, CATALOGUE)
        total = replayed.counted()
        results = _told(replayed.results(judge.ring_at, other=other), total, on_progress)
        return report_of(results, size=checkpoint.size, unread=lambda: replayed.unread, other=other)
    finally:
        replayed.close()


def report_of(
    results: Iterator[Replayed], *, size: int, unread: Callable[[], int], other: CedarPolicies | None = None
) -> DecisionReport:
    """Return what results come to, one after the other."""
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    denied: Counter[str] = Counter()
    permitted: Counter[str] = Counter()
    listed: dict[str, list[Replayed]] = {"differs": [], "not-replayed": []}
    changed: list[Replayed] = []
    for each in results:
        outcomes[each.outcome] += 1
        if each.outcome != "same" and len(listed[each.outcome]) < LISTED_MAX:
            listed[each.outcome].append(each)
        if each.outcome == "not-replayed":
            reasons[each.why or ""] += 1
        if each.instead is not None and each.instead.allowed != each.allowed:
            outcomes["permitted" if each.instead.allowed else "denied"] += 1
            (permitted if each.instead.allowed else denied).update(each.instead.reasons)
            if len(changed) < LISTED_MAX:
                changed.append(each)
    total = sum(outcomes[name] for name in ("same", "differs", "not-replayed"))
    return DecisionReport(
        ok=outcomes["same"] == total and not unread(),
        size=size,
        decisions=total,
        same=outcomes["same"],
        differs=outcomes["differs"],
        not_replayed=outcomes["not-replayed"],
        unread=unread(),
        reasons=dict(reasons.most_common(LISTED_MAX)),
        listed=[*listed["differs"], *listed["not-replayed"]],
        with_policies=other.digest if other else None,
        becomes_denied=outcomes["denied"],
        becomes_permitted=outcomes["permitted"],
        denied=dict(denied),
        permitted=dict(permitted),
        changed=changed,
    )


def _told(results: Iterator[Replayed], total: int, on_progress: OnProgress) -> Iterator[Replayed]:
    for number, each in enumerate(results, start=1):
        if number % PROGRESS_EVERY == 0 or number == total:
            on_progress(Progress("decisions", number, total))
        yield each


def described(report: DecisionReport) -> dict[str, Any]:
    """Return a report as JSON has it."""
    described: dict[str, Any] = msgspec.to_builtins(report)
    return described
