"""Follows which changes on a topic took effect, by the rule of `salus.events.effect`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import assert_never

from msgspec import structs

from salus.archive.served_requests import AnyServed, ServedRun, ServedUpload
from salus.archive.served_store import ServedStore, Stated
from salus.events.effect import Applied, WithoutEffect, effect_by


class ServedChanges:
    """The changes on one topic."""

    def __init__(self, store: ServedStore, topic: str) -> None:
        self._store = store
        self._topic = topic
        self._versions: dict[str, int] = {}
        # Uploads that took no effect, by partition and offset: they are few.
        self._idle: set[tuple[int, int]] = set()

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
        effect = effect_by(
            served.expected,
            version=self._versions.get(served.patient, 0),
            claims=served.claims,
            is_claimed=partial(self._store.is_claimed, self._topic),
            # Who asked had the right or not: with consent and storage it has its effect.
            is_entitled=lambda: True,
        )
        match effect:
            case Applied():
                self._versions[served.patient] = effect.version
                self._store.claim(self._topic, served.claims)
                return True
            case WithoutEffect():
                if isinstance(served, ServedUpload):
                    self._idle.add((run.partition, served.offset))
                return False
            case _:
                assert_never(effect)
