"""Policy sets by their digest, from the texts that were folded; each is parsed once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import structlog

from salus.access.cedar import CedarPolicies
from salus.access.parsed_policies import PolicySetError
from salus.access.policy_check import usable
from salus.access.policy_files import contents_of
from salus.access.state import PolicyText
from salus.runtime.problems import ProblemError

# The one in force, those that decisions under way began with, and what somebody looks at.
PARSED_MAX = 8
_log = structlog.get_logger()


class Texts(Protocol):
    """The folded texts of policy sets; `ContractHost` is the real one."""

    async def state(self, aggregate: str) -> PolicyText:
        """Return the text of a policy set, with everything folded that was published before the call."""


class FoldedPolicySets:
    """Policy sets that are on the ledger. Whoever asks for one that cannot be used here gets no answer."""

    def __init__(
        self, texts: Texts, *, parse: Callable[[Mapping[str, bytes]], CedarPolicies] = usable
    ) -> None:
        """`parse` runs in a thread; it raises PolicySetError."""
        self._texts = texts
        self._parse = parse
        self._parsed: OrderedDict[str, CedarPolicies] = OrderedDict()
        # A thousand policies take a second of a core. Who asks meanwhile waits for the same one, and who
        # gives up ends nobody else's.
        self._parsing: dict[str, asyncio.Task[CedarPolicies]] = {}

    async def of(self, policy_set: str) -> CedarPolicies:
        """Return a policy set.

        Raises:
            ProblemError: 503 `policies-unusable`: its text is not on the ledger, or this release cannot use
                it. Then nothing is decided, until another set is activated or this release replaced.
        """
        known = self._parsed.get(policy_set)
        if known is not None:
            self._parsed.move_to_end(policy_set)
            return known
        text = await self._texts.state(policy_set)
        try:
            return await asyncio.shield(self._one_parsing(policy_set, text))
        except PolicySetError as error:
            _log.error("the policy set in force cannot be used", policy_set=policy_set, error=str(error))
            why = f"policy set {policy_set[:12]} cannot be used here, so nothing is decided"
            raise ProblemError(503, "policies-unusable", why) from None

    def _one_parsing(self, policy_set: str, text: PolicyText) -> asyncio.Task[CedarPolicies]:
        parsing = self._parsing.get(policy_set)
        if parsing is None:
            parsing = asyncio.create_task(self._parse_once(policy_set, text), name="policies")
            self._parsing[policy_set] = parsing
            parsing.add_done_callback(partial(self._ended, policy_set))
        return parsing

    async def _parse_once(self, policy_set: str, text: PolicyText) -> CedarPolicies:
        parsed = await asyncio.to_thread(self._parse, contents_of(text.files))
        self._parsed[policy_set] = parsed
        while len(self._parsed) > PARSED_MAX:
            self._parsed.popitem(last=False)
        return parsed

    def _ended(self, policy_set: str, parsing: asyncio.Task[CedarPolicies]) -> None:
        del self._parsing[policy_set]
        if not parsing.cancelled():
            # Whoever waits hears it; nobody may be left who does.
            parsing.exception()
