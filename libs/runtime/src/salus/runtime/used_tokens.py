"""Which tokens were used: one that names a request is good for that request alone, and once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256

from salus.events.bearer import CLOCK_SKEW_S, Bearer
from salus.runtime.problems import ProblemError

# Tokens that were used and have not expired, of all issuers and of one; each takes some 200 bytes.
USED_TOKENS_MAX = 200_000
USED_TOKENS_OF_ONE_MAX = 50_000
# What each issuer has room for, whatever the others have taken.
USED_TOKENS_OF_ONE_MIN = 1_000
# Looking for those that expired takes some 20 ms where all have room for no more.
FORGET_INTERVAL_S = 1


class UsedTokens:
    """The tokens of this process that were used and could be used again, by issuer and `jti`.

    Replicas do not know each other's: what a request made is looked up in what was folded (`has_stated`).
    An organisation may have half of what the others leave, and an issuer as many as there is room left, so no
    number of them takes all of it; and a few always: issuers are registered parties.
    """

    def __init__(
        self,
        *,
        most: int = USED_TOKENS_MAX,
        most_of_one: int = USED_TOKENS_OF_ONE_MAX,
        least_of_one: int = USED_TOKENS_OF_ONE_MIN,
    ) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._least_of_one = least_of_one
        # By issuer: until when each of its tokens is good, by the digest of `jti`, which may be long.
        self._until: dict[str, dict[bytes, float]] = {}
        # How many are remembered, by issuer and organisation, and of all.
        self._organisations: dict[str, str] = {}
        self._held: Counter[str] = Counter()
        self._total = 0
        self._forget_at = 0.0
        # By issuer and digest of `jti`: of the requests with bodies that are under way.
        self._under_way: set[tuple[str, bytes]] = set()

    @contextmanager
    def under_way(self, claims: Bearer) -> Iterator[None]:
        """Hold a token while a request with it is under way: it is used once it is known to fit the body.

        Raises ProblemError 401 `token-used` if another request with it is under way.
        """
        name = (claims.iss, _name_of(claims))
        if name in self._under_way:
            raise token_used()
        self._under_way.add(name)
        try:
            yield
        finally:
            self._under_way.remove(name)

    def require_unused(self, claims: Bearer, *, now: datetime) -> None:
        """Raise ProblemError 401 `token-used` if a token was used before."""
        if self._until.get(claims.iss, {}).get(_name_of(claims), 0) > now.timestamp():
            raise token_used()

    def require_new(self, claims: Bearer, *, organisation: str, now: datetime) -> None:
        """Take note of a token; raises ProblemError 401 `token-used` if it was used before.

        It raises 429 `too-many-tokens` while too many of that issuer or organisation are remembered.
        """
        moment = now.timestamp()
        self.require_unused(claims, now=now)
        if not self._has_room(claims.iss, organisation):
            self._forget(moment)
            if not self._has_room(claims.iss, organisation):
                detail = "too many requests were signed by this account lately; try later"
                raise ProblemError(429, "too-many-tokens", detail, headers={"Retry-After": "10"})
        tokens, name = self._until.setdefault(claims.iss, {}), _name_of(claims)
        if name not in tokens:
            # An account that came to another organisation is counted there once its tokens are forgotten.
            self._held[self._organisations.setdefault(claims.iss, organisation)] += 1
            self._total += 1
        tokens[name] = claims.exp + CLOCK_SKEW_S

    def _has_room(self, issuer: str, organisation: str) -> bool:
        own, left = len(self._until.get(issuer, ())), self._most - self._total
        # While as many are left as it has, an organisation has less than half of what the others leave.
        return own < self._least_of_one or (
            own < min(self._most_of_one, left) and self._held[organisation] < left
        )

    def _forget(self, moment: float) -> None:
        if moment < self._forget_at:
            return
        self._forget_at = moment + FORGET_INTERVAL_S
        left = {
            issuer: {name: until for name, until in tokens.items() if until > moment}
            for issuer, tokens in self._until.items()
        }
        self._until = {issuer: tokens for issuer, tokens in left.items() if tokens}
        self._organisations = {issuer: self._organisations[issuer] for issuer in self._until}
        self._held = Counter()
        for issuer, tokens in self._until.items():
            self._held[self._organisations[issuer]] += len(tokens)
        self._total = self._held.total()


def token_used() -> ProblemError:
    """Return the answer to a token that was used before."""
    return ProblemError(401, "token-used", "a token signs one request: make a new one, with a new jti")


def _name_of(claims: Bearer) -> bytes:
    return sha256(claims.jti.encode()).digest()
