"""A patient's consents and prohibitions by whom they are about: a question costs the same with one and many.

A question can rest on consents to its principal, the principal's member or a role that it holds there, for
its action and purpose, that are active at its moment. Those are found here; what the index says never
differs from a look at all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import merge
from itertools import islice

from salus.access.prohibitions import ProhibitionIndex
from salus.access.state import Consent, PatientState
from salus.events.recipients import Recipient

# A decision that more consents cover names the first of them.
CONSENTS_NAMED_MAX = 64
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Covering:
    """The consents that cover a question: the first of their ids, and to whom they are.

    `until` is when the last of them ends; None if there is none.
    """

    grantees: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    until: datetime | None = None


NONE = Covering()


@dataclass(slots=True)
class _Alike:
    """Consents that allow one recipient one action for one purpose, and which of them are active.

    Between two moments at which one of them begins or ends, the same ones are.
    """

    consents: list[Consent] = field(default_factory=list)
    begins: datetime = _LATEST
    ends: datetime = _EARLIEST
    active: Covering = NONE

    def covering(self, at: datetime) -> Covering:
        if not self.begins <= at < self.ends:
            self._look(at)
        return self.active

    def _look(self, at: datetime) -> None:
        moments = [moment for c in self.consents for moment in (c.valid_from, c.valid_until)]
        self.begins = max((moment for moment in moments if moment <= at), default=_EARLIEST)
        self.ends = min((moment for moment in moments if moment > at), default=_LATEST)
        active = [consent for consent in self.consents if consent.is_active(at)]
        self.active = NONE
        if active:
            ids = tuple(sorted(consent.id for consent in active)[:CONSENTS_NAMED_MAX])
            self.active = Covering((active[0].grantee,), ids, max(consent.valid_until for consent in active))


class GrantIndex:
    """What one patient grants and was not revoked, and what she forbids; of one version of her state."""

    def __init__(self, state: PatientState) -> None:
        self.prohibitions = ProhibitionIndex(state.prohibitions)
        self._alike: dict[tuple[Recipient, str, str], _Alike] = {}
        for consent in state.consents:
            if consent.revoked_epoch is None:
                for action in set(consent.actions):
                    for purpose in set(consent.purposes):
                        key = consent.recipient, action, purpose
                        self._alike.setdefault(key, _Alike()).consents.append(consent)

    def covering(
        self, recipients: Iterable[Recipient], *, action: str, purpose: str, at: datetime
    ) -> Covering:
        """Return what covers this action for this purpose at that moment, of consents to these recipients."""
        found = [
            covering
            for recipient in set(recipients)
            if (alike := self._alike.get((recipient, action, purpose))) is not None
            and (covering := alike.covering(at)) is not NONE
        ]
        if len(found) <= 1:
            return found[0] if found else NONE
        return Covering(
            # A member is named once, whether it or several roles there are the recipients.
            grantees=tuple(sorted({grantee for each in found for grantee in each.grantees})),
            ids=tuple(islice(merge(*(each.ids for each in found)), CONSENTS_NAMED_MAX)),
            until=max(each.until for each in found if each.until is not None),
        )
