"""Checks the identity positions of headers against one another, and against what is sealed of that topic.

Bodies are not needed: what the times of records show, `salus ledger fsck --deep` finds (`archive.deep`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from salus.archive.report import Finding, about_header, note_of
from salus.events.identity_position import UNSEALED_MAX
from salus.ledger.block import Header, header_key


class IdentityPositions:
    """Collects what headers name, in a run of fsck; each shard's come by ascending height."""

    def __init__(self) -> None:
        self._named: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._sealed_to = 0

    def take(self, shard: int, headers: Iterable[Header]) -> None:
        """Take headers of a shard."""
        for header in headers:
            topic, partition, position = header.identity
            self._named[shard].append((header.height, position))
            ends = [r.next for r in header.ranges if (r.topic, r.partition) == (topic, partition)]
            self._sealed_to = max(self._sealed_to, *ends, 0)

    def findings(self, found: Collection[Finding]) -> list[Finding]:
        """Return what is wrong or pending, but for headers of which `found` says the same."""
        said = {(finding.code, finding.shard, finding.height) for finding in found}
        return [
            finding
            for shard in sorted(self._named)
            for finding in self._of_shard(shard)
            if (finding.code, finding.shard, finding.height) not in said
        ]

    def _of_shard(self, shard: int) -> list[Finding]:
        found: list[Finding] = []
        pending: list[int] = []
        known = 0
        for height, position in self._named[shard]:
            if position > self._sealed_to + UNSEALED_MAX:
                detail = f"it names position {position}, and of that topic only {self._sealed_to} is sealed"
                found.append(about_header(shard, height, "identity-ahead", detail))
            elif position < known:
                detail = f"it names position {position}, a block before it {known}: one of them is false"
                found.append(about_header(shard, height, "identity-behind", detail))
            elif position > self._sealed_to:
                pending.append(height)
            else:
                known = position
        if pending:
            key = header_key(shard, pending[0])
            detail = f"{len(pending)} blocks name identity events beyond {self._sealed_to}, this is the first"
            found.append(note_of("identity-pending", key, detail, shard=shard))
        return found
