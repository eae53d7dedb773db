"""Puts storage together: buckets, vault and handlers, its checks, what erasures oblige to, its routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from fastapi import FastAPI

from salus.contracts.dependencies import Dependencies
from salus.contracts.reactor_host import Pace, ReactorHost
from salus.contracts.service import BackgroundTask
from salus.events.requests import Request
from salus.objects import S3Objects
from salus.runtime.service import Check
from salus.storage.adapters.facts import ERASURE, SUBJECTS, FoldedFacts
from salus.storage.adapters.metered_kms import MeteredKms
from salus.storage.adapters.object_table import FoldedInventory
from salus.storage.adapters.problems import install as install_problems
from salus.storage.adapters.vault import BucketVault
from salus.storage.api import Desk
from salus.storage.domain import SubjectState, destruction_of
from salus.storage.handlers.bucket_verification import BucketVerification
from salus.storage.handlers.key_sweep import KeySweep
from salus.storage.handlers.reading import Reading
from salus.storage.handlers.refusals import Refusals
from salus.storage.handlers.sealed_reading import SealedReading
from salus.storage.handlers.standing import Standing
from salus.storage.handlers.storing import Storing
from salus.storage.handlers.subjects import Subjects
from salus.storage.handlers.upload_records import UploadRecords
from salus.storage.handlers.upload_sweep import UploadSweep
from salus.storage.handlers.uploading import Uploading
from salus.storage.routes import install_routes
from salus.storage.settings import Settings
from salus.storage.stores import open_buckets, open_kms

# They wait for the object store, Kafka and the database, which are checks of their own.
SWEEP_AGE_S_MAX = 600.0


@dataclass(frozen=True)
class World:
    """What the handlers use, opened once."""

    objects: S3Objects
    keys: S3Objects
    kms: MeteredKms
    vault: BucketVault
    facts: FoldedFacts
    erasures: ReactorHost[SubjectState]
    sweep: KeySweep
    uploads: UploadSweep
    standing: Standing

    @property
    def subjects(self) -> Subjects:
        """The commands about patients' keys."""
        return Subjects(self.facts, self.facts, self.vault, self.erasures, self.standing)


async def open_world(around: Dependencies[Settings]) -> World:
    """Open the buckets and the KMS."""
    objects, keys = await open_buckets(around.settings)
    kms = await open_kms(around.settings, keys)
    vault = BucketVault(keys, kms)
    facts = FoldedFacts(around.follower, around.store, around.writer, around.host(SUBJECTS))
    erasures = around.reactor(
        ERASURE,
        work=lambda owed: vault.destroy(owed.aggregate, key=owed.key),
        outcome=partial(destruction_of, request=Request.of_service(around.signer.did)),
        pace=Pace(retry_s_max=around.settings.shred_interval_s),
    )
    sweep = KeySweep(facts, vault, around.settings.key_sweep_interval_s)
    uploads = UploadSweep(UploadRecords(keys), objects, around.now, around.settings.upload_sweep_interval_s)
    standing = Standing(facts, around.ring, around.now)
    return World(objects, keys, kms, vault, facts, erasures, sweep, uploads, standing)


async def close_world(world: World) -> None:
    """Close the connections to the KMS."""
    await world.kms.close()


def checks(world: World) -> Mapping[str, Check]:
    """Return what else has to answer."""
    return {
        "objects": world.objects.require_bucket,
        "keys": world.keys.require_bucket,
        "kms": world.kms.check,
        "destroyed keys": world.sweep.check,
    }


def tasks(_: Dependencies[Settings], world: World) -> Iterable[BackgroundTask]:
    """Return what goes on beside the requests."""
    return (
        BackgroundTask(name="key-sweep", run=world.sweep.run, age_s_max=SWEEP_AGE_S_MAX),
        BackgroundTask(name="upload-sweep", run=world.uploads.run, age_s_max=SWEEP_AGE_S_MAX),
    )


def install(app: FastAPI, around: Dependencies[Settings], world: World) -> None:
    """Add the routes, and what they answer when a part is not there."""
    settings, facts, objects, vault = around.settings, world.facts, world.objects, world.vault
    standing, recheck_s = world.standing, settings.recheck_s
    decisions, refusals = around.decisions, Refusals(facts, settings.refusals())
    install_problems(app)
    storing = Storing(facts, facts, objects, vault, decisions, settings.object_bytes_max, standing, recheck_s)
    desk = Desk(
        subjects=world.subjects,
        storing=storing,
        reading=Reading(facts, facts, objects, vault, decisions, standing, recheck_s, refusals),
        sealed=SealedReading(standing, facts, vault, decisions, refusals, lambda: around.catalogue),
        authenticate=around.authenticate,
        limits=settings.limits(),
        verifications=settings.verifications(),
        registrations=settings.registrations(),
        now=around.now,
    )
    inventory = FoldedInventory(around.follower, around.store)
    uploading = Uploading(storing, world.uploads.records, objects, settings.upload_limits())
    install_routes(app, desk, BucketVerification(facts, inventory, objects, vault), uploading)
