"""The routes of storage with a stand-in for all that is behind them, for its OpenAPI document."""

from __future__ import annotations

from fastapi import FastAPI

from salus.runtime.openapi import StandIn
from salus.storage.api import Desk
from salus.storage.routes import install_routes
from salus.storage.transfers import Limits


def add_routes(app: FastAPI, stand_in: StandIn) -> None:
    """Add every route of the service."""
    behind = stand_in.behind
    limits = Limits(
        object_bytes_max=1,
        transfers_max=1,
        transfers_of_one_max=1,
        verifications_max=1,
        body_idle_s_max=1,
        transfer_s_max=1,
    )
    desk = Desk(
        subjects=behind,
        storing=behind,
        reading=behind,
        sealed=behind,
        authenticate=stand_in.authenticate,
        limits=limits,
        verifications=behind,
        registrations=behind,
        now=stand_in.now,
    )
    install_routes(app, desk, behind, behind)
