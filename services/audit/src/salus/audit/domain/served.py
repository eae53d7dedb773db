"""What a block holds of consent and storage by which rights are judged again, as the trail keeps it."""

from __future__ import annotations

from collections import defaultdict

import msgspec

from salus.archive.served_kinds import served_of
from salus.archive.served_requests import TOPICS, AnyServed, ServedRun, run_of, served_ranges
from salus.audit.domain.entry import Place
from salus.events.effect import Applied, Effect
from salus.events.envelope import Event
from salus.ledger.block import Header

RunKey = tuple[str, str]
"""A partition as `topic/number`, and the first offset of a run with the shard that sealed it."""

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(ServedRun)


class ServedEvents:
    """Collects what one block holds: what changes a subject only if it took effect."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, int], list[AnyServed]] = defaultdict(list)

    def take(self, event: Event, effect: Effect, place: Place) -> None:
        """Take an accepted event, if rights are judged by it."""
        if place.topic not in TOPICS or (event.type.changes and not isinstance(effect, Applied)):
            return
        served = served_of(event, offset=place.offset, row=place.index, appended=place.appended_at)
        if served is not None:
            self._of[place.topic, place.partition].append(served)

    def runs(self, shard: int, header: Header) -> dict[RunKey, bytes]:
        """Return one run for each partition that the block covers, also if there is nothing in it."""
        return {
            run_key(range_.topic, range_.partition, range_.first, shard): _ENCODER.encode(
                run_of(range_, self._of[range_.topic, range_.partition], shard=shard, height=header.height)
            )
            for range_ in served_ranges(header)
        }


def run_key(topic: str, partition: int, first: int, shard: int) -> RunKey:
    """Return the key of a run: those of one partition sort by their offsets."""
    return f"{topic}/{partition}", f"{first:019d}/{shard}"


def decoded_run(kept: bytes) -> ServedRun:
    """Return a run as it was kept; raises msgspec.DecodeError."""
    return _DECODER.decode(kept)
