"""Every route of anchoring: what the service serves, and what its OpenAPI document describes."""

from __future__ import annotations

from fastapi import FastAPI

from salus.anchoring.api import log_routes, status_routes
from salus.anchoring.receipt_api import ReceiptService, receipt_routes
from salus.anchoring.runner import Runner
from salus.archive.log import LogReader


def install_routes(app: FastAPI, runner: Runner, log: LogReader, receipts: ReceiptService) -> None:
    """Add every route of the service."""
    app.include_router(log_routes(runner, log))
    app.include_router(receipt_routes(receipts))
    app.include_router(status_routes(runner))
