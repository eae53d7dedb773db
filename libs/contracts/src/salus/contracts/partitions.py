"""Which partitions a service folds: of a topic with one owner there is one."""

from __future__ import annotations

from collections.abc import Iterable

from salus.events.catalogue import Catalogue
from salus.events.sharding import Assignment
from salus.messaging import PermanentError
from salus.runtime.network import Network


class SeveralPartitionsError(PermanentError):
    """A topic with one owner is sealed in several partitions, so that its events have no order."""

    def __init__(self, topic: str, count: int) -> None:
        super().__init__(
            f"{topic} is sealed in {count} partitions, and a topic with one owner has one: what an event"
            " changes follows from those before it, and between partitions there is no before"
        )


def folded_partitions(
    topics: Iterable[str],
    *,
    network: Network,
    assignments: Iterable[tuple[int, Assignment]],
    catalogue: Catalogue,
) -> list[tuple[str, int]]:
    """Return the partitions of these topics, over all shards.

    Raises:
        LookupError: no shard seals one of the topics.
        SeveralPartitionsError: one that members do not write has more than one.
    """
    assigned, of_members = [*assignments], {*catalogue.topics_of_members()}
    found: list[tuple[str, int]] = []
    for topic in topics:
        partitions = network.topic_partitions(topic, assigned)
        if len(partitions) > 1 and topic not in of_members:
            raise SeveralPartitionsError(topic, len(partitions))
        found += partitions
    return found
