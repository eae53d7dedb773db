"""Which events took effect, as the trail follows the ledger: `salus.events.effect`, with what it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from salus.events.effect import Applied, Effect, claims_of, effect_of
from salus.events.envelope import Event

Subject = tuple[str, str]
"""A topic and the subject of an event on it."""
Name = tuple[str, str]
"""A topic and a name that was claimed on it."""


class Effects:
    """The versions of subjects, and the names that were claimed, up to some point of the ledger.

    It knows only those that it was made with and those that it has seen since; `changed` and `claimed` are
    the ones that are new.
    """

    def __init__(self, versions: Mapping[Subject, int] | None = None, claims: Iterable[Name] = ()) -> None:
        self._versions = dict(versions or {})
        self._claims = set(claims)
        self.changed: dict[Subject, int] = {}
        self.claimed: set[Name] = set()

    def of(self, topic: str, event: Event) -> Effect:
        """Return what the next event of a topic does, and keep what follows from it."""
        subject = topic, event.envelope.subject
        version = self._versions.get(subject, 0)
        effect = effect_of(
            event,
            version=version,
            is_claimed=lambda name: (topic, name) in self._claims,
            is_entitled=lambda: True,
        )
        if isinstance(effect, Applied):
            if effect.version != version:
                self._versions[subject] = self.changed[subject] = effect.version
            names = {(topic, name) for name in claims_of(event)}
            self._claims |= names
            self.claimed |= names
        return effect


def needs_of(events: Iterable[tuple[str, Event]]) -> tuple[set[Subject], set[Name]]:
    """Return whose versions, and which names, the effects of these events depend on, each by its topic."""
    subjects, names = set[Subject](), set[Name]()
    for topic, event in events:
        if event.type.changes:
            subjects.add((topic, event.envelope.subject))
        names.update((topic, name) for name in claims_of(event))
    return subjects, names
