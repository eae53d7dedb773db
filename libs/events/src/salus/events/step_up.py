"""What a session asks for only right after a login: acts that open, link or destroy (RFC 9470).

A session lasts a shift, and whoever finds it open acts as its person. So these acts want that the provider
looked who she is a moment ago, by `auth_time` of the ID token, and in a way (`acr`) that its member chose.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from salus.events.bearer import CLOCK_SKEW_S

# Clocks of provider and services may differ so much, as with other tokens.
_SKEW = timedelta(seconds=CLOCK_SKEW_S)


class StepUp(StrEnum):
    """An act that takes a fresh login in a session."""

    EMERGENCY = "emergency access"
    ERASURE = "erasure"
    LINK = "linking a party to a patient"


AUTHENTICATED_S_MAX: Mapping[StepUp, int] = {
    # In an emergency one login is enough to look through a patient's records.
    StepUp.EMERGENCY: 900,
    StepUp.ERASURE: 300,
    StepUp.LINK: 300,
}
"""How long ago the provider looked who it is, at most."""
LOGIN_S_MAX = min(AUTHENTICATED_S_MAX.values())
"""A login that is no older is fresh enough for all of them."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """When and how a provider looked who somebody is."""

    at: datetime
    acr: str | None


@dataclass(frozen=True, slots=True)
class StepUpNeeded:
    """What a session lacks: a login within `max_age` seconds, with one of `acr_values` if there are any."""

    act: StepUp
    max_age: int
    acr_values: tuple[str, ...]

    @property
    def why(self) -> str:
        """What is wrong, in a sentence that may be shown."""
        how = f" with one of the levels {', '.join(self.acr_values)}" if self.acr_values else ""
        return f"{self.act}: in a session it takes a login within the last {self.max_age} s{how}"


def needed_for(
    act: StepUp, authentication: Authentication, *, levels: tuple[str, ...], at: datetime
) -> StepUpNeeded | None:
    """Return what an act at that moment lacks; None: nothing. Without `levels` any level is enough."""
    max_age = AUTHENTICATED_S_MAX[act]
    is_fresh = at <= authentication.at + timedelta(seconds=max_age) + _SKEW
    return None if is_fresh and _is_enough(authentication.acr, levels) else StepUpNeeded(act, max_age, levels)


def _is_enough(acr: str | None, levels: Collection[str]) -> bool:
    return not levels or acr in levels
