"""Puts consent together: what its handlers use, what it adopts at a start, its routes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import partial

from fastapi import FastAPI

from salus.access.cedar import ENGINE
from salus.access.policy_check import usable
from salus.access.policy_files import files_of, read_policies
from salus.access.state import PatientState
from salus.consent import api, authzen_api, decision_api
from salus.consent.adapters.fhir.identifier_marks import IdentifierMarks
from salus.consent.adapters.folded import (
    PATIENTS,
    POLICIES,
    POLICY_TEXTS,
    REVIEW,
    FoldedDecisions,
    FoldedFacts,
)
from salus.consent.adapters.folded_permits import PERMITS, FoldedPermits
from salus.consent.adapters.freshness import Freshness
from salus.consent.adapters.policy_sets import FoldedPolicySets
from salus.consent.adapters.release import contract_digest, policies_folder
from salus.consent.adapters.review_table import FoldedReviews
from salus.consent.adapters.tokens import DecisionTokens
from salus.consent.domain.policies import Founding
from salus.consent.domain.reviews import escalation
from salus.consent.fhir_creation import FhirApi
from salus.consent.handlers import adopt_policies
from salus.consent.overdue import OverdueReviews
from salus.consent.ports import World
from salus.consent.routes import install_routes
from salus.consent.settings import Settings
from salus.contracts.dependencies import Dependencies
from salus.contracts.queues import Queues
from salus.contracts.reactor_host import Obligation
from salus.contracts.service import BackgroundTask
from salus.events.requests import Request
from salus.runtime.request_lanes import install_lanes
from salus.runtime.service import Check


async def open_world(around: Dependencies[Settings]) -> World:
    """Return what the handlers use."""
    around.reactor(
        REVIEW,
        work=_tell,
        outcome=partial(escalation, request=Request.of_service(around.signer.did)),
    )
    return World(
        patients=around.host(PATIENTS),
        facts=FoldedFacts(around.follower, around.store, service=around.signer.did),
        decisions=FoldedDecisions(around.follower, around.store),
        reviews=FoldedReviews(around.follower, around.store),
        permits=around.host(PERMITS),
        permit_source=FoldedPermits(around.follower, around.store),
        freshness=Freshness(age_s_max=around.settings.state_age_ms_max / 1000, clock=time.monotonic),
        statements=around.writer,
        policies=FoldedPolicySets(around.host(POLICY_TEXTS)),
        policy_states=around.host(POLICIES),
        policy_texts=around.host(POLICY_TEXTS),
        service=around.signer.did,
        tokens=DecisionTokens(around.signer, network=around.network.origin),
        ring=around.ring,
        limits=around.settings.limits(),
        queues=Queues(),
        now=around.now,
    )


async def _tell(_: Obligation[PatientState]) -> None:
    """Do nothing: the event that a review is overdue is what tells the trail, and by it the SOC."""


async def adopt(around: Dependencies[Settings], world: World) -> None:
    """State which code decides from here on, and the first policy set.

    Raises:
        PolicySetError: the first policy set cannot be used. One in force that cannot does not end the
            service, by which another one is activated: it answers no question until then (`checks`).
    """
    first = read_policies(policies_folder(around.settings.policies_folder))
    usable(first)
    await around.wait_for("signing-key", around.own_key.check)
    service, host = around.signer.did, around.host(POLICIES)
    text = await world.policy_texts.state((await host.state(service)).policy_set)
    founding = Founding(contract_digest(), ENGINE, files_of(first), is_stated=bool(text.files))
    await adopt_policies(founding, service=service, host=host)


def checks(world: World) -> Mapping[str, Check]:
    """Return what /readyz looks at: whether the policy set in force can be used, and what is overdue."""

    async def policies() -> None:
        await world.policies.of((await world.policy_states.state(world.service)).policy_set)

    return {"policies": policies, "reviews": OverdueReviews(world.reviews, now=world.now).check}


def tasks(_: Dependencies[Settings], world: World) -> Iterable[BackgroundTask]:
    """Return what goes on beside the requests."""
    overdue = OverdueReviews(world.reviews, now=world.now)
    return (BackgroundTask(name="overdue-reviews", run=overdue.run),)


def install(app: FastAPI, around: Dependencies[Settings], world: World) -> None:
    """Add the routes."""
    settings = around.settings
    shared = api.Api(world=world, authenticate=around.authenticate, now=around.now)
    deciding = decision_api.DecisionApi(shared, questions_max=settings.questions_max)
    fhir = FhirApi(shared, IdentifierMarks(around.signer))
    install_routes(app, deciding, fhir, public_url=settings.public_url)
    install_lanes(app, {**api.lanes(shared), **decision_api.lanes(deciding), **authzen_api.lanes(deciding)})
