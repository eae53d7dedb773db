"""Who asked for what a service states, at the moments at which the service may have looked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from salus.archive.served_requests import Served, ServedDecision, ServedRead, ServedUpload
from salus.events.keyring import KeyRing
from salus.events.parties import Party
from salus.events.patient_rights import Somebody


class Askers:
    """Looks up who asked, by a ring that may be another one later, which knows all that this one does.

    What a party was at some moment within `leeway` before or after an event counts: a service looks first and
    states then, by its own clock.
    """

    def __init__(self, ring: KeyRing, *, leeway: timedelta) -> None:
        self.ring = ring
        self.leeway = leeway

    def who(self, served: Served) -> Somebody | None:
        """Return who asked, if its member let it ask at some moment at which a service may have looked."""
        lookup = self._lookup(served)
        if served.by not in self.ring.parties or not self.ring.might_ask(served.by, *lookup):
            return None
        return self.ring.party_between(served.by, *lookup)

    def as_they_were(self, served: Served) -> list[Party]:
        """Return what who asked was at each of those moments; it must be registered."""
        return self.ring.parties_between(served.by, *self._lookup(served))

    def has_other_roles(self, said: ServedDecision, served: ServedRead | ServedUpload) -> bool:
        """Tell whether who acted lost a role between the decision and asking to act, or was given one."""
        if said.by not in self.ring.parties:
            return False
        decided, leeway = datetime.fromtimestamp(said.time, UTC), self.leeway
        moments = (decided - leeway, decided, decided + leeway)
        held = frozenset.intersection(*(self.ring.party_at(said.by, at).roles for at in moments))
        asked = datetime.fromtimestamp(served.asked, UTC) - leeway
        stated = datetime.fromtimestamp(served.time, UTC) + leeway
        if not held <= self.ring.party_between(said.by, asked, stated).roles:
            return True
        given = frozenset.intersection(*(p.roles for p in self.ring.parties_between(said.by, asked, stated)))
        return not given <= self.ring.party_between(said.by, moments[0], moments[-1]).roles

    def _lookup(self, served: Served) -> tuple[datetime, datetime]:
        """Return between which moments a service may have looked at who asked."""
        stated = datetime.fromtimestamp(served.time, UTC)
        return stated - self.leeway, stated + self.leeway
