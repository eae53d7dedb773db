"""Checks that all shards together cover every offset of every input partition exactly once.

And that a partition changes its shard only where one block gave it and one block of the other shard took it,
or where the chain of a shard ended and another took what that one left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from salus.ledger.block import Header, parse_block_origin
from salus.ledger.findings import Finding

Place = tuple[str, int]
"""Topic and partition."""


@dataclass(slots=True)
class Span:
    """Offsets that one shard covers without a break, and the heights of its first and its last such block.

    `taken`: the first of them took the partition; `given`: the last gave it away. Both bound a span, also
    one without offsets.
    """

    origin: str
    first: int
    next: int
    begins: int
    ends: int
    given: bool = False
    taken: bool = False

    @property
    def first_block(self) -> str:
        """The origin of the block in which it begins."""
        return f"{self.origin}/block/{self.begins}"

    @property
    def last_block(self) -> str:
        """The origin of the block in which it ends."""
        return f"{self.origin}/block/{self.ends}"


@dataclass(frozen=True, slots=True)
class Taking:
    """A block took a partition at an offset from the block `giver`."""

    block: str
    place: Place
    offset: int
    giver: str


@dataclass(slots=True)
class CoverageChecker:
    """Collects what headers cover, in any order of shards; a shard's own headers in order of height.

    Memory: one span and two lines for each time that a partition changed its shard, and what each shard goes
    on with after its last block.
    """

    spans: dict[Place, list[Span]] = field(default_factory=dict)
    gave: dict[tuple[str, Place], tuple[int, str]] = field(default_factory=dict)
    took: list[Taking] = field(default_factory=list)
    tops: dict[str, int] = field(default_factory=dict)
    left: dict[str, Mapping[Place, int]] = field(default_factory=dict)
    places: set[Place] = field(default_factory=set)

    def add(self, header: Header) -> None:
        """Add what one block covers and hands over."""
        gave, took = header.handed("gave"), header.handed("took")
        if header.height > self.tops.get(header.origin, -1):
            self.tops[header.origin], self.left[header.origin] = header.height, header.next_offsets
        for covered in header.ranges:
            place = covered.topic, covered.partition
            self.places.add(place)
            if covered.first < covered.next or place in gave or place in took:
                span = Span(header.origin, covered.first, covered.next, header.height, header.height)
                span.given, span.taken = place in gave, place in took
                self._add_span(place, span)
        for line in header.handovers:
            place = line.topic, line.partition
            if line.way == "gave":
                self.gave[header.block_origin, place] = line.offset, line.other
            else:
                self.took.append(Taking(header.block_origin, place, line.offset, line.other))

    def merge(self, later: CoverageChecker) -> None:
        """Add what another checker collected; of a shard both know, it has the later headers."""
        for place, spans in later.spans.items():
            for span in spans:
                self._add_span(place, span)
        self.gave |= later.gave
        self.took += later.took
        self.places |= later.places
        for origin, top in later.tops.items():
            if top > self.tops.get(origin, -1):
                self.tops[origin], self.left[origin] = top, later.left.get(origin, {})

    def findings(
        self, *, growing: Collection[str] = (), ended: Mapping[str, int] | None = None
    ) -> list[Finding]:
        """Return every gap, overlap and broken hand-over, each partition from offset 0 on.

        `growing` are the origins of chains that may have gone on since they were looked at: nothing is said
        of what depends on a block beyond them, see `unseen`. `ended` has the height before which a chain
        ended, by origin.
        """
        unseen = self.unseen(growing)
        found = [*self._broken_takings(unseen, ended or {})]
        for place, spans in sorted(self.spans.items()):
            covering = sorted((s for s in spans if s.first < s.next), key=lambda s: (s.first, s.next))
            beyond = {t.block for t in unseen if t.place == place}
            found += [*_gaps(place, covering, beyond), *self._stolen(place, spans)]
        return found

    def unseen(self, growing: Collection[str]) -> list[Taking]:
        """Return what was taken from blocks that came after those of their chain that were looked at."""
        givers = [(taking, *parse_block_origin(taking.giver)) for taking in self.took]
        return [t for t, origin, height in givers if origin in growing and height > self.tops.get(origin, -1)]

    def pending(self) -> list[tuple[str, Place, int, str]]:
        """Return what was given and is not taken yet: giving block, partition, offset, receiving shard."""
        taken = {(taking.giver, taking.place) for taking in self.took}
        return [
            (block, place, offset, to)
            for (block, place), (offset, to) in sorted(self.gave.items())
            if (block, place) not in taken
        ]

    def abandoned(self, ended: Mapping[str, int]) -> list[tuple[str, Place, int]]:
        """Return what chains left by their end and nobody has taken yet: last block, partition, offset."""
        taken = {(taking.giver, taking.place) for taking in self.took}
        return [
            (block, place, offset)
            for origin, end in sorted(ended.items())
            if self.tops.get(origin) == end - 1
            for place, offset in sorted(self.left[origin].items())
            if ((block := f"{origin}/block/{end - 1}"), place) not in taken
        ]

    def _add_span(self, place: Place, span: Span) -> None:
        spans = self.spans.setdefault(place, [])
        for before in reversed(spans):
            if before.origin == span.origin:
                if before.next == span.first and not before.given and not span.taken:
                    before.next, before.ends, before.given = span.next, span.ends, span.given
                    return
                break
        spans.append(span)

    def _broken_takings(self, unseen: Collection[Taking], ended: Mapping[str, int]) -> Iterator[Finding]:
        taken: dict[tuple[str, Place], str] = {}
        for taking in self.took:
            what = f"{_named(taking.place)} at {taking.offset} from {taking.giver}"
            key = taking.giver, taking.place
            if taking not in unseen and not self._is_right(taking, ended):
                detail = f"it takes {what}, which did not give it to this shard there"
                yield Finding("handover-broken", taking.block, detail)
            elif key in taken:
                yield Finding("handover-broken", taking.block, f"it takes {what}, as {taken[key]} does")
            taken.setdefault(key, taking.block)

    def _is_right(self, taking: Taking, ended: Mapping[str, int]) -> bool:
        """Tell whether the giver gave it to this shard, or to one that ended before, or ended and left it."""
        gave = self.gave.get((taking.giver, taking.place))
        if gave is not None:
            receiver, _ = parse_block_origin(taking.block)
            return gave[0] == taking.offset and (gave[1] == receiver or gave[1] in ended)
        origin, height = parse_block_origin(taking.giver)
        is_end = self.tops.get(origin) == height and ended.get(origin) == height + 1
        return is_end and self.left[origin].get(taking.place) == taking.offset

    def _stolen(self, place: Place, spans: Iterable[Span]) -> Iterator[Finding]:
        """Find where a shard begins to cover a partition that it did not take.

        One may, at offset 0, and if the partition was given there, then that one gave it. Of what begins
        later and has offsets, `_gaps` tells.
        """
        untaken = sorted((s for s in spans if not s.taken), key=lambda s: (s.first, s.next, s.begins))
        moved = any(at == place and offset == 0 for (_, at), (offset, _) in self.gave.items())
        founder = next((s for s in untaken if s.first == 0 and (s.given or not moved)), None)
        for span in untaken:
            if span is not founder and ((span.first == 0 and moved) or span.first == span.next):
                yield _untaken(place, span)


def _gaps(
    place: Place,
    spans: Iterable[Span],
    beyond: Collection[str],
) -> Iterator[Finding]:
    reached: Span | None = None
    for span in spans:
        end = reached.next if reached else 0
        before = reached.last_block if reached else "the beginning"
        if span.first > end and span.first_block not in beyond:
            between = f"between {before} and {span.first_block}"
            detail = f"offsets {end} to {span.first - 1} of {_named(place)}, {between}, are in no block"
            yield Finding("coverage-gap", span.first_block, detail)
        elif span.first < end and reached is not None:
            last = min(end, span.next) - 1
            detail = f"offsets {span.first} to {last} of {_named(place)} are covered by {reached.origin} too"
            yield Finding("coverage-overlap", span.first_block, detail)
        if 0 < span.first == end and not span.taken:
            yield _untaken(place, span)
        if reached is None or span.next > reached.next:
            reached = span


def _untaken(place: Place, span: Span) -> Finding:
    detail = f"it goes on with {_named(place)} at {span.first}, which it did not take"
    return Finding("handover-broken", span.first_block, detail)


def _named(place: Place) -> str:
    return f"{place[0]} {place[1]}"
