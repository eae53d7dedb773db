"""Checks what the chains come to together: their order in the log, and that they cover every offset once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from salus.archive.check_assigned import check_assigned
from salus.archive.check_log import LogState
from salus.archive.listing import Listing
from salus.archive.report import Finding, about_header, note_of
from salus.archive.trust import Founder
from salus.ledger.base import base64_of
from salus.ledger.block import body_key, header_key, parse_block_origin
from salus.ledger.check_coverage import CoverageChecker
from salus.ledger.tiles import ENTRIES, TILE_WIDTH, entries_path, tile_width


def check_order(
    log: LogState, hashes: dict[tuple[int, int], bytes], shards: dict[str, int], listing: Listing
) -> list[Finding]:
    """Check that the log holds each chain from height 0 on, in order, once; and the head's account of it."""
    found: list[Finding] = []
    by_hash = {leaf: at for at, leaf in hashes.items()}
    following: dict[int, int] = defaultdict(int)
    last: dict[int, bytes] = {}
    for index, (place, leaf) in enumerate(zip(log.places, log.hashes, strict=True)):
        if leaf is None:
            continue
        at = (shards.get(place[0], -1), place[1]) if place else by_hash.get(leaf)
        if at is None:
            continue
        shard, height = at
        if shard < 0 or height != following[shard]:
            key = entries_path(index // TILE_WIDTH, tile_width(ENTRIES, index // TILE_WIDTH, log.size))
            detail = f"entry {index} is block {height} of shard {shard}, where {following[shard]} is next"
            found.append(Finding(severity="error", code="entry-order", bucket="log", key=key, detail=detail))
        following[shard] = height + 1
        last[shard] = leaf
    found += _check_chains(log, following, last)
    for shard, heights in listing.headers.items():
        newer = sorted(h for h in heights if h >= following[shard])
        if newer:
            detail = f"blocks {newer[0]} to {newer[-1]} are not in the log yet"
            found.append(note_of("not-anchored", header_key(shard, newer[0]), detail, shard=shard))
    found += _unreferenced(listing)
    return found


def check_coverage(
    stretches: Sequence[CoverageChecker | None],
    shards: dict[str, int],
    log: LogState,
    founders: Sequence[Founder] = (),
    *,
    ended: Mapping[str, int] | None = None,
) -> list[Finding]:
    """Check that the shards together cover every offset once, and every hand-over between them.

    In the log the block that gave comes first. Nothing is said if a header is unknown. What was given and
    not taken yet is worth knowing, no error. `ended` has the height before which a chain ended, by origin.
    """
    checker, ended = CoverageChecker(), ended or {}
    growing = shards.keys() - ended.keys()
    for stretch in stretches:
        if stretch is None:
            return []
        checker.merge(stretch)
    found = [*check_assigned(checker, founders, shards)]
    found += [
        _about_block("error", f.code, f.where, f.detail, shards)
        for f in checker.findings(growing=growing, ended=ended)
    ]
    for block, (topic, partition), offset, to in checker.pending():
        detail = f"{topic} {partition} is given at offset {offset} to {to}, which has not taken it yet"
        found.append(_about_block("info", "handover-pending", block, detail, shards))
    for block, (topic, partition), offset in checker.abandoned(ended):
        detail = f"its chain has ended, and nobody has taken {topic} {partition} at offset {offset} yet"
        found.append(_about_block("info", "handover-pending", block, detail, shards))
    for taking in checker.unseen(growing):
        detail = f"it takes from {taking.giver}, which was sealed after this check began"
        found.append(_about_block("info", "handover-pending", taking.block, detail, shards))
    index_of = {place: index for index, place in enumerate(log.places) if place}
    for taking in checker.took:
        index = index_of.get(parse_block_origin(taking.block), -1)
        if index >= 0 and index_of.get(parse_block_origin(taking.giver), index) >= index:
            detail = f"entry {index} of the log takes from {taking.giver}, which is not before it"
            found.append(_about_block("error", "entry-order", taking.block, detail, shards))
    return found


def check_void(
    log: LogState, listing: Listing, ended: Mapping[str, int], shards: dict[str, int]
) -> list[Finding]:
    """Name what lies behind the ends of chains, in the archive and in the log, where it stays for ever."""
    found: list[Finding] = []
    for origin, end in sorted(ended.items()):
        shard = shards[origin]
        entries = [
            i for i, place in enumerate(log.places) if place and place[0] == origin and place[1] >= end
        ]
        heights = {*listing.void[shard], *(place[1] for i in entries if (place := log.places[i]))}
        if heights:
            detail = (
                f"blocks {min(heights)} to {max(heights)} lie behind the end of the chain and count nowhere"
            )
            if entries:
                detail += f"; {len(entries)} of them are entries of the log, the first is {entries[0]}"
            found.append(note_of("void-block", header_key(shard, min(heights)), detail, shard=shard))
    return found


def _about_block(
    severity: Literal["error", "info"], code: str, block: str, detail: str, shards: dict[str, int]
) -> Finding:
    origin, height = parse_block_origin(block)
    return about_header(shards[origin], height, code, detail, severity=severity)


def _check_chains(log: LogState, following: dict[int, int], last: dict[int, bytes]) -> list[Finding]:
    """The head's next heights are those that its log comes to."""
    head = log.head
    if head is None or head.size != log.size or None in log.hashes or None in log.places:
        return []
    told = {shard: (chain.next, chain.last) for shard, chain in head.chains.items()}
    counted = {str(s): (following[s], base64_of(last[s])) for s in last}
    if told == counted:
        return []
    detail = "the next heights in the head are not those of the log's entries"
    return [Finding(severity="error", code="head-wrong", bucket="log", key="_salus/head", detail=detail)]


def _unreferenced(listing: Listing) -> list[Finding]:
    """Bodies without a header are left behind by a sequencer that died or lost a race; they harm nobody."""
    return [
        note_of("unreferenced-body", body_key(shard, height, root), "no header names this body", shard=shard)
        for shard, heights in listing.bodies.items()
        for height, roots in heights.items()
        if height not in listing.headers[shard]
        for root in sorted(roots)
    ]
