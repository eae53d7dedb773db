"""What the ledger bucket lists: headers and bodies by shard and height, and what is none of the ledger's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from salus.archive.blocks import parse_key
from salus.archive.check_blocks import Span
from salus.archive.report import Finding, note_of, stray_note
from salus.ledger.key_periods import Keys, is_void
from salus.objects import ObjectStore


@dataclass(slots=True)
class Listing:
    """The objects of the ledger bucket: heights with a header, and bodies, by shard.

    `void` are the heights with anything behind the end of a chain, which `headers` and `bodies` leave out.
    `marks` has, for each shard and height, a digest of how the store lists its objects; `judged_by` is one of
    the identity events by which a deep check judges.
    """

    headers: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    bodies: dict[int, dict[int, set[bytes]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )
    void: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    marks: dict[tuple[int, int], bytes] = field(default_factory=dict)
    judged_by: bytes = b""
    findings: list[Finding] = field(default_factory=list)

    def mark(self, span: Span) -> bytes:
        """Return a digest of how the store lists the objects of a stretch, and of what they are judged by."""
        shard, start, stop = span
        listed = b"".join(self.marks.get((shard, h), b"") for h in range(start, stop))
        return sha256(listed + self.judged_by).digest()


async def list_ledger(objects: ObjectStore, shards: Mapping[int, Keys]) -> Listing:
    """Return what is in the ledger bucket."""
    listing = Listing()
    strangers: dict[int, str] = {}
    async for entry in objects.list(on_stray=lambda s: listing.findings.append(stray_note("ledger", s))):
        parsed = parse_key(entry.key)
        if parsed is not None and parsed[0] not in shards:
            strangers.setdefault(parsed[0], entry.key)
            continue
        if parsed is None:
            if not entry.key.startswith("_salus/"):
                detail = "not an object of this network's ledger"
                listing.findings.append(note_of("unknown-object", entry.key, detail))
            continue
        shard, height, root = parsed
        if is_void(shards[shard], height):
            listing.void[shard].add(height)
            continue
        listed = repr((entry.key, entry.size, entry.etag)).encode()
        before = listing.marks.get((shard, height), b"")
        listing.marks[shard, height] = sha256(before + listed).digest()
        if root is None:
            listing.headers[shard].add(height)
        else:
            listing.bodies[shard][height].add(root)
    for shard, key in sorted(strangers.items()):
        detail = f"network.json does not name shard {shard}; if it was added later, take the present file"
        listing.findings.append(
            Finding(
                severity="error", code="unknown-shard", bucket="ledger", key=key, detail=detail, shard=shard
            )
        )
    return listing
