"""How many bytes of request bodies are in memory at once, of all, of one organisation and of one account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from salus.runtime.limits import LIMITED, Account, organisation_of
from salus.runtime.problems import ProblemError

# A body is there in two or three copies while it is read: there is room for these in a process of 512 MiB.
BODIES_BYTES_MAX = 64 * 2**20
RETRY_AFTER_S = 5


@dataclass(frozen=True)
class _Anybody:
    did: str = "anybody"
    member: None = None


# Those of whom nobody asks who they are, together.
ANYBODY: Account = _Anybody()


class BodyMemory:
    """The room for bodies of requests under way, taken by declared size before anything of one is read.

    An organisation has at most half of what the others leave it, and an account half of what the other
    accounts of its organisation leave it of that: so however much some hold, a little is left for the next.
    """

    def __init__(self, most: int = BODIES_BYTES_MAX) -> None:
        self._most = most
        self._of_organisation: Counter[str] = Counter()
        self._of_account: Counter[str] = Counter()

    @contextmanager
    def taken(self, account: Account, size: int) -> Iterator[None]:
        """Hold so many bytes; raises ProblemError 503 `busy` at once if the account has no room for them."""
        organisation = organisation_of(account)
        if self._of_account[account.did] + size > self._room_of(account.did, organisation):
            LIMITED.labels("bytes of bodies at once").inc()
            headers = {"Retry-After": str(RETRY_AFTER_S)}
            raise ProblemError(503, "busy", "too many bytes of bodies are under way at once", headers=headers)
        held = ((self._of_organisation, organisation), (self._of_account, account.did))
        for counted, name in held:
            counted[name] += size
        try:
            yield
        finally:
            for counted, name in held:
                counted[name] -= size
                if not counted[name]:
                    del counted[name]

    def _room_of(self, account: str, organisation: str) -> float:
        own = self._of_organisation[organisation]
        of_organisation = (self._most - self._of_organisation.total() + own) / 2
        return (of_organisation - own + self._of_account[account]) / 2
