"""How a service says in /readyz that it stands still until somebody acts: waiting for it would not help."""

from __future__ import annotations

import msgspec


class HaltedError(Exception):
    """A service stands still until somebody acts; the sentence is shown in /readyz."""


_PREFIX = f"{HaltedError.__name__}: "


class _Readiness(msgspec.Struct, frozen=True):
    checks: dict[str, str] = {}


def halt_in(answer: str) -> str | None:
    """Return why a service stands still, by what its /readyz answered; None if it does not say so."""
    try:
        checks = msgspec.json.decode(answer, type=_Readiness).checks
    except msgspec.MsgspecError:
        return None
    halts = (line.removeprefix(_PREFIX) for line in checks.values() if line.startswith(_PREFIX))
    return next(halts, None)
