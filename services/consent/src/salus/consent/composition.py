"""Puts consent together: what its handlers use, what it adopts at a start, its routes."""

from __future__ import annotations

from fastapi import FastAPI

from salus.access.cedar import CedarPolicies, read_policies
from salus.access.state import PolicyState
from salus.consent import api, fhir_api
from salus.consent.adapters.fhir.identifier_marks import IdentifierMarks
from salus.consent.adapters.folded import PATIENTS, POLICIES, FoldedFacts
from salus.consent.adapters.release import contract_digest, policies_folder
from salus.consent.adapters.tokens import DecisionTokens
from salus.consent.handlers import adopt_policies
from salus.consent.ports import World
from salus.consent.settings import Settings
from salus.contracts.dependencies import Dependencies
from salus.contracts.queues import Queues
from salus.runtime.request_lanes import install_lanes


async def open_world(around: Dependencies[Settings]) -> World:
    """Return what the handlers use."""
    return World(
        patients=around.host(PATIENTS),
        facts=FoldedFacts(around.follower, around.store),
        statements=around.writer,
        policies=CedarPolicies(read_policies(policies_folder(around.settings.policies_folder))),
        tokens=DecisionTokens(around.signer, network=around.network.origin),
        ring=around.ring,
        limits=around.settings.limits(),
        queues=Queues(),
        now=around.now,
    )


async def adopt(around: Dependencies[Settings], world: World) -> None:
    """State which policies and code decide from here on."""
    await around.wait_for("signing-key", around.own_key.check)
    version = PolicyState(policy_set=world.policies.digest, contract=contract_digest())
    await adopt_policies(version, service=around.signer.did, host=around.host(POLICIES))


def install(app: FastAPI, around: Dependencies[Settings], world: World) -> None:
    """Add the routes."""
    shared = api.Api(world=world, authenticate=around.authenticate, now=around.now)
    app.include_router(api.routes(shared))
    install_lanes(app, api.lanes(shared))
    fhir_api.install(app, fhir_api.FhirApi(shared, IdentifierMarks(around.signer)))
