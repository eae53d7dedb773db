"""How many bytes of request bodies are in memory at once, of all, of one organisation and of one account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from salus.runtime.limits import LIMITED, Account, share_of
from salus.runtime.problems import ProblemError

# A body is there in two or three copies while it is read: there is room for these in a process of 512 MiB.
BODIES_BYTES_MAX = 64 * 2**20
RETRY_AFTER_S = 5


@dataclass(frozen=True)
class _Address:
    did: str
    member: None = None


def account_at(address: str) -> Account:
    """Return the account of whom nobody asks who they are: an address, of IPv6 a line's network (/64)."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return _Address(address)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return _Address(f"{IPv6Address(int(parsed) >> 64 << 64)}/64")
    return _Address(str(getattr(parsed, "ipv4_mapped", None) or parsed))


class BodyMemory:
    """The room for bodies of requests under way.

    An organisation has at most half of what the others leave it, and an account half of what the other
    accounts of its organisation leave it of that: so however much some hold, a little is left for the next.
    Patients who act for no member count as one organisation (`share_of`).
    """

    def __init__(self, most: int = BODIES_BYTES_MAX) -> None:
        self._most = most
        self._of_organisation: Counter[str] = Counter()
        self._of_account: Counter[str] = Counter()

    @contextmanager
    def opened(self, account: Account) -> Iterator[Callable[[int], None]]:
        """Yield what takes room for so many bytes more, all of which is given back at the end.

        It raises ProblemError 503 `busy` at once if the account has no room for them.
        """
        organisation = share_of(account)
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if self._of_account[account.did] + size > self._room_of(account.did, organisation):
                LIMITED.labels("bytes of bodies at once").inc()
                headers = {"Retry-After": str(RETRY_AFTER_S)}
                detail = "too many bytes of bodies are under way at once"
                raise ProblemError(503, "busy", detail, headers=headers)
            self._of_organisation[organisation] += size
            self._of_account[account.did] += size
            taken += size

        try:
            yield take
        finally:
            for counted, name in ((self._of_organisation, organisation), (self._of_account, account.did)):
                counted[name] -= taken
                if not counted[name]:
                    del counted[name]

    def _room_of(self, account: str, organisation: str) -> float:
        own = self._of_organisation[organisation]
        of_organisation = (self._most - self._of_organisation.total() + own) / 2
        return (of_organisation - own + self._of_account[account]) / 2
