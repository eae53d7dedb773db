"""Policy sets over HTTP: which is in force, what is proposed, and two operators' activation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field

from salus.access.cedar import ENGINE
from salus.access.policy_check import POLICY_BYTES_MAX, problems_of
from salus.access.policy_files import contents_of, digest_of
from salus.access.state import PolicyState
from salus.consent.api import Api, asking
from salus.consent.domain.policies import activate, propose
from salus.contracts.http_fields import CommandBody
from salus.events.contexts.consent import POLICY_FILES_MAX, PolicyFile, PolicySetActivated, PolicySetProposed
from salus.events.event_types import EventData, type_of
from salus.events.governance import objection_to_governing
from salus.events.parties import Party
from salus.runtime.auth import Caller
from salus.runtime.fields import PLAIN
from salus.runtime.problems import documented
from salus.runtime.refusal import Refusal

_DIGEST = r"^[0-9a-f]{64}$"
DigestInPath = Annotated[str, Path(pattern=_DIGEST, description="The digest of a policy set, in hex.")]
PROBLEMS_TOLD_MAX = 8


class PolicyFileBody(CommandBody):
    """A file of a policy set."""

    name: str = Field(min_length=1, max_length=64, pattern=PLAIN)
    text: str = Field(max_length=POLICY_BYTES_MAX)

    def as_file(self) -> PolicyFile:
        """Return the file as events carry it."""
        return PolicyFile(self.name, self.text)


class ProposalBody(CommandBody):
    """The files of a policy set: *.cedar, and the *.cedarschema of the release.

    The body is `{"files":[{"name":…,"text":…},…]}` without blanks, in this order of names, with no character
    escaped that need not be: its digest, which the caller signs, is of the files that the event has.
    """

    files: list[PolicyFileBody] = Field(min_length=1, max_length=POLICY_FILES_MAX)


class ActivationBody(CommandBody):
    """Which policy set is replaced: the one in force, as both operators have seen it."""

    replaces: str = Field(pattern=_DIGEST)


class ProposedView(BaseModel):
    """A policy set that waits for its activation, and who proposed it."""

    policy_set: str
    by: str


class PoliciesView(BaseModel):
    """Which policy set is in force, and which may be: proposed, or in force before, the latest first."""

    policy_set: str
    version: int
    engine: str = Field(description="What evaluates policies here.")
    proposed: list[ProposedView]
    earlier: list[str]

    @classmethod
    def of(cls, state: PolicyState) -> PoliciesView:
        """Return the view of what is folded."""
        return cls(
            policy_set=state.policy_set,
            version=state.version,
            engine=ENGINE,
            proposed=[ProposedView(policy_set=p.policy_set, by=p.by) for p in state.proposed],
            earlier=list(state.earlier),
        )


class PolicyFileView(BaseModel):
    """A file of a policy set."""

    name: str
    text: str


class PolicySetView(BaseModel):
    """A policy set with its files."""

    policy_set: str
    status: Literal["in-force", "proposed", "earlier", "known"]
    files: list[PolicyFileView]


def policy_routes(api: Api) -> APIRouter:
    """Return the routes about policy sets."""
    router = APIRouter(tags=["policies"])
    _add_reads(router, api)
    _add_commands(router, api)
    return router


def _add_reads(router: APIRouter, api: Api) -> None:
    world, caller = api.world, Depends(api.authenticate)

    @router.get("/policies", responses=documented(401, 403, 429, 503))
    async def list_policies(caller: Party = caller) -> PoliciesView:  # noqa: ARG001  # it authenticates
        """Tell which policy set is in force, which are proposed, and which were in force lately."""
        return PoliciesView.of(await world.policy_states.state(world.service))

    @router.get("/policies/{policy_set}", responses=documented(401, 403, 404, 429, 503))
    async def get_policies(policy_set: DigestInPath, caller: Party = caller) -> PolicySetView:  # noqa: ARG001
        """Return the files of a policy set that is on the ledger."""
        return await _view(api, policy_set)


def _add_commands(router: APIRouter, api: Api) -> None:
    world = api.world
    proposer, activator = Depends(api.authenticate.document), Depends(api.authenticate.command)

    @router.post("/policies", status_code=201, responses=documented(401, 403, 409, 422, 429, 503))
    async def propose_policies(body: ProposalBody, caller: Caller = proposer) -> PolicySetView:
        """Propose a policy set: by an operator. It is validated, and nothing follows it yet."""
        world.limits.commands.take(asking(caller))
        await _require_right(api, PolicySetProposed, caller)
        files = tuple(file.as_file() for file in body.files)
        await _require_usable(files)
        decide = partial(propose, files=files, request=caller.request)
        await _state(api, decide, PolicySetProposed, caller)
        return await _view(api, digest_of(contents_of(files)))

    @router.post("/policies/{policy_set}/activate", responses=documented(401, 403, 404, 409, 422, 429, 503))
    async def activate_policies(
        policy_set: DigestInPath, body: ActivationBody, caller: Caller = activator
    ) -> PoliciesView:
        """Put a policy set into force: by two operators of different organisations.

        The second one's approval of this very request comes in `Salus-Approval`. What is decided after the
        event follows the new set, and each decision says which one it followed.
        """
        world.limits.commands.take(asking(caller))
        await _require_right(api, PolicySetActivated, caller)
        await _require_usable(tuple((await world.policy_texts.state(policy_set)).files) or None)
        decide = partial(
            activate, policy_set=policy_set, replaces=body.replaces, engine=ENGINE, request=caller.request
        )
        await _state(api, decide, PolicySetActivated, caller)
        return PoliciesView.of(await world.policy_states.state(world.service))


async def _view(api: Api, policy_set: str) -> PolicySetView:
    text = await api.world.policy_texts.state(policy_set)
    if not text.files:
        raise Refusal("unknown-policy-set", "there is no such policy set", status=404)
    state = await api.world.policy_states.state(api.world.service)
    status: Literal["in-force", "proposed", "earlier", "known"] = "known"
    if policy_set == state.policy_set:
        status = "in-force"
    elif any(proposal.policy_set == policy_set for proposal in state.proposed):
        status = "proposed"
    elif policy_set in state.earlier:
        status = "earlier"
    files = [PolicyFileView(name=file.name, text=file.text) for file in text.files]
    return PolicySetView(policy_set=policy_set, status=status, files=files)


async def _require_right(api: Api, kind: type[EventData], caller: Caller) -> None:
    """Raise Refusal unless as many operators ask as everybody who judges the event wants."""
    ring = await api.world.ring.catch_up()
    objection = objection_to_governing(
        type_of(kind).operators, by=caller.party.did, second=caller.second, ring=ring, at=api.now()
    )
    if objection is not None:
        raise Refusal(objection.code, objection.why, status=403)


async def _require_usable(files: tuple[PolicyFile, ...] | None) -> None:
    """Raise Refusal `policies-invalid` with what is wrong, and where; what is not known is for the law."""
    if files is None:
        return
    # It takes a second for the largest set, during which others are served.
    found = await asyncio.to_thread(problems_of, contents_of(files))
    if len({file.name for file in files}) < len(files):
        raise Refusal("policies-invalid", "files: two have one name", status=422)
    if found:
        told = "; ".join(map(str, found[:PROBLEMS_TOLD_MAX]))
        raise Refusal("policies-invalid", told, status=422)


async def _state(
    api: Api, decide: Callable[[PolicyState], EventData], kind: type[EventData], caller: Caller
) -> None:
    """State what is decided once it is its turn, if who asks may still ask for it."""

    async def decided(state: PolicyState) -> EventData:
        await _require_right(api, kind, caller)
        return decide(state)

    await api.world.policy_states.execute(api.world.service, decided)
