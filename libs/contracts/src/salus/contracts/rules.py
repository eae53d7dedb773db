"""Which rules a service decides by: the digest of their code, stated as an event before it serves.

With it, and with the positions that a decision names, anybody can decide again by the rules of that day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Protocol, TypeVar

import msgspec

from salus.contracts.projection import Contract
from salus.events.event_types import EventData, type_of
from salus.events.requests import Request
from salus.events.rules import RulesAdopted
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)


class RulesState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The digest of the code that was adopted last; empty: none yet."""

    contract: str = ""


class RulesHost(Protocol[S_co]):
    """Executes commands on which rules are in force; `ContractHost` is the real one."""

    async def execute(self, aggregate: str, decide: Callable[[S_co], EventData]) -> EventData:
        """Decide, publish and return once the event has taken effect; raises Refusal or ProblemError."""


@dataclass(frozen=True)
class Rules:
    """The event by which a service adopts rules, and the files of its package that they are in."""

    event: type[RulesAdopted]
    code: tuple[str, ...]

    def contract(self) -> Contract[RulesState]:
        """Return the fold that tells which rules are in force, of each service by its DID."""

        def evolve(state: RulesState, event: EventData) -> RulesState:
            return RulesState(event.contract) if isinstance(event, self.event) else state

        def service_of(subject: str, event: EventData) -> str | None:
            return subject if isinstance(event, self.event) else None

        return Contract("rules", type_of(self.event).topic, RulesState, evolve, service_of)

    def adopted(self, state: RulesState, *, package: str, service: str) -> RulesAdopted:
        """Return that these rules are in force; raises Refusal `already-adopted` if they are already."""
        digest = code_digest(package, self.code)
        if state.contract == digest:
            raise Refusal("already-adopted", "this code is in force")
        return self.event(contract=digest, request=Request.of_service(service))


def code_digest(package: str, names: Iterable[str]) -> str:
    """Return the SHA-256, in hex, over `<name> <length>LF<bytes>` of source files of a package."""
    digest = hashlib.sha256()
    for name in names:
        source = files(package).joinpath(name).read_bytes()
        digest.update(f"{name} {len(source)}\n".encode())
        digest.update(source)
    return digest.hexdigest()


async def adopt(host: RulesHost[S], decide: Callable[[S], EventData], *, service: str) -> bool:
    """State the rules that decide from here on, unless `decide` refuses: they are in force; return which.

    Replicas of one release may all try; one is first and the others find it done.
    """
    while True:
        try:
            await host.execute(service, decide)
        except Refusal:
            return False
        except ProblemError as problem:
            if problem.code != "conflict":
                raise
        else:
            return True
