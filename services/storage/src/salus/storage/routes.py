"""Every route of storage: what the service serves, and what its OpenAPI document describes."""

from __future__ import annotations

from fastapi import FastAPI

from salus.storage.api import Desk, routes
from salus.storage.handlers.bucket_verification import BucketVerification
from salus.storage.handlers.uploading import Uploading
from salus.storage.upload_api import install_uploads
from salus.storage.verification_api import verification_routes


def install_routes(app: FastAPI, desk: Desk, verification: BucketVerification, uploading: Uploading) -> None:
    """Add every route of the service."""
    app.include_router(routes(desk))
    app.include_router(verification_routes(verification, desk.authenticate))
    install_uploads(app, desk, uploading)
