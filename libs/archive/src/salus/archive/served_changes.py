"""Follows which changes on a topic took effect: the rule of `salus.events.effect`, by versions and claims."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from salus.archive.served_requests import AnyServed, ServedRun, ServedUpload
from salus.archive.served_store import ServedStore, Stated


class ServedChanges:
    """The changes on one topic; `newest` is the latest time that is stated on it, once all were followed."""

    def __init__(self, store: ServedStore, topic: str) -> None:
        self._store = store
        self._topic = topic
        self._versions: dict[str, int] = {}
        # Uploads that took no effect, by partition and offset: they are few.
        self._idle: set[tuple[int, int]] = set()
        self.newest = float("-inf")

    def is_idle(self, run: ServedRun, served: AnyServed) -> bool:
        """Tell whether it is an upload that took no effect."""
        return (run.partition, served.offset) in self._idle

    def in_effect(self) -> Iterator[Stated]:
        """Yield the changes that took effect, those of one subject in their order.

        A subject may have changes on several partitions: they were added, or a thief chose another.
        Partitions are followed one after the other, so what expects a version that is to come waits for it.
        """
        early: dict[str, list[Stated]] = {}
        for run, served in self._store.served(self._topic):
            self.newest = max(self.newest, served.time)
            if served.expected is None:
                continue
            if served.expected > self._versions.get(served.patient, 0):
                alone = structs.replace(run, served=b"")
                early.setdefault(served.patient, []).append((alone, served))
            elif self._takes_effect(run, served):
                yield run, served
        for waiting in early.values():
            for run, served in sorted(waiting, key=lambda one: one[1].expected or 0):
                if self._takes_effect(run, served):
                    yield run, served

    def _takes_effect(self, run: ServedRun, served: AnyServed) -> bool:
        version = self._versions.get(served.patient, 0)
        if served.expected == version and self._store.claim(self._topic, served.claims):
            self._versions[served.patient] = version + 1
            return True
        if isinstance(served, ServedUpload):
            self._idle.add((run.partition, served.offset))
        return False
