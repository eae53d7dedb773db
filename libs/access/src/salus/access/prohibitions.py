"""What a patient forbids, and which of it is about a question. Pure.

A question is met by prohibitions of its principal, of the principal's member, of the principal's roles there
and of everybody. They are found by whom they name, so that many of them about others cost a question nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from salus.events.contexts.consent import Action
from salus.events.contexts.consent_prohibitions import AccessProhibited, ProhibitionLifted
from salus.events.fields import Purpose
from salus.events.recipients import Recipient, RecipientRole


class Prohibition(msgspec.Struct, frozen=True, omit_defaults=True):
    """One prohibition; without party, actions or purposes it is about each. Once lifted it stays.

    With a role it is about those who hold it at the party, a member.
    """

    id: str
    valid_from: datetime
    party: str | None = None
    actions: tuple[Action, ...] = ()
    purposes: tuple[Purpose, ...] = ()
    valid_until: datetime | None = None
    lifted: bool = False
    role: RecipientRole | None = None

    @property
    def recipient(self) -> Recipient | None:
        """Whom it is about; None: everybody. A role of no party is no one's, so that forbids everybody."""
        return None if self.party is None else Recipient(self.party, self.role)

    def is_over(self, at: datetime) -> bool:
        """Tell whether it forbids nothing from that moment on."""
        return self.lifted or (self.valid_until is not None and self.valid_until <= at)

    def is_about(self, action: Action, purpose: Purpose, *, is_emergency: bool) -> bool:
        """Tell whether it forbids this; an emergency access only if it names emergency treatment."""
        named = purpose in self.purposes
        return (not self.actions or action in self.actions) and (
            named if is_emergency else named or not self.purposes
        )


@dataclass(frozen=True, slots=True)
class Forbidden:
    """What prohibitions say of a question: whether it is forbidden now, and when it will be if it is not."""

    now: bool = False
    begins: datetime | None = None


NOT_FORBIDDEN = Forbidden()


class ProhibitionIndex:
    """The prohibitions of one patient that were not lifted; belongs to one version of her state."""

    def __init__(self, prohibitions: Sequence[Prohibition]) -> None:
        self._by_recipient: dict[Recipient | None, list[Prohibition]] = {}
        for prohibition in prohibitions:
            if not prohibition.lifted:
                self._by_recipient.setdefault(prohibition.recipient, []).append(prohibition)

    def forbidden(
        self,
        recipients: Iterable[Recipient],
        *,
        action: Action,
        purpose: Purpose,
        at: datetime,
        is_emergency: bool = False,
    ) -> Forbidden:
        """Return what they say of these recipients; those about everybody are always among them."""
        if not self._by_recipient:
            return NOT_FORBIDDEN
        begins: datetime | None = None
        for prohibition in self._about({None, *recipients}):
            if prohibition.is_over(at) or not prohibition.is_about(
                action, purpose, is_emergency=is_emergency
            ):
                continue
            if prohibition.valid_from <= at:
                return Forbidden(now=True)
            begins = prohibition.valid_from if begins is None else min(begins, prohibition.valid_from)
        return Forbidden(begins=begins)

    def _about(self, recipients: set[Recipient | None]) -> Iterator[Prohibition]:
        for recipient in recipients:
            yield from self._by_recipient.get(recipient, ())


def prohibition_of(event: AccessProhibited) -> Prohibition:
    """Return the prohibition that was stated."""
    return Prohibition(
        id=event.prohibition,
        valid_from=event.valid_from,
        party=event.party,
        actions=event.actions,
        purposes=event.purposes,
        valid_until=event.valid_until,
        role=event.role,
    )


def after_prohibition(known: tuple[Prohibition, ...], event: AccessProhibited) -> tuple[Prohibition, ...]:
    """Return the prohibitions after one more, without the one whose place it takes: one that was lifted.

    Who may lift is judged by everybody. Whoever holds the service's key chooses what is displaced, and may
    choose when this one begins, so that another one has ended by then counts for nothing.
    """
    kept = tuple(one for one in known if not (one.lifted and one.id == event.displaces))
    return (*kept, prohibition_of(event))


def after_lifting(known: tuple[Prohibition, ...], event: ProhibitionLifted) -> tuple[Prohibition, ...]:
    """Return the prohibitions after one was lifted: the one of that id, if it is about that party.

    Who may lift is judged by the party that the event names.
    """
    return tuple(
        msgspec.structs.replace(prohibition, lifted=True)
        if (prohibition.id, prohibition.party) == (event.prohibition, event.party)
        else prohibition
        for prohibition in known
    )
