"""Puts storage together: buckets, vault and handlers, its checks, its background task, its routes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import structlog
from fastapi import FastAPI

from salus.contracts.dependencies import Dependencies
from salus.contracts.service import BackgroundTask
from salus.messaging import MessagingError
from salus.objects import ObjectsError, S3Objects
from salus.runtime.service import Check
from salus.runtime.supervisor import AGE_S_MAX, failed, succeeded
from salus.storage.adapters.facts import SUBJECTS, FoldedFacts
from salus.storage.adapters.problems import install as install_problems
from salus.storage.adapters.vault import BucketVault
from salus.storage.api import Desk, routes
from salus.storage.handlers.reading import Reading
from salus.storage.handlers.refusals import Refusals
from salus.storage.handlers.sealed_reading import SealedReading
from salus.storage.handlers.standing import Standing
from salus.storage.handlers.storing import Storing
from salus.storage.handlers.subjects import Subjects
from salus.storage.settings import Settings
from salus.storage.stores import open_buckets, open_kms

_log = structlog.get_logger()


@dataclass(frozen=True)
class World:
    """What the handlers use, opened once."""

    objects: S3Objects
    keys: S3Objects
    vault: BucketVault
    facts: FoldedFacts
    standing: Standing

    @property
    def subjects(self) -> Subjects:
        """The commands about patients' keys."""
        return Subjects(self.facts, self.facts, self.vault, self.standing)


async def open_world(around: Dependencies[Settings]) -> World:
    """Open the buckets and the KMS."""
    objects, keys = await open_buckets(around.settings)
    vault = BucketVault(keys, await open_kms(around.settings, keys))
    facts = FoldedFacts(around.follower, around.store, around.writer, around.host(SUBJECTS))
    return World(objects, keys, vault, facts, Standing(facts, around.ring, around.now))


def checks(world: World) -> Mapping[str, Check]:
    """Return what else has to answer."""
    return {"objects": world.objects.require_bucket, "keys": world.keys.require_bucket}


def tasks(around: Dependencies[Settings], world: World) -> Iterator[BackgroundTask]:
    """Finish erasures that a crash interrupted."""
    interval_s = around.settings.shred_interval_s
    shred = partial(shred_forever, world.subjects, interval_s)
    yield BackgroundTask(name="shredding", run=shred, age_s_max=interval_s + AGE_S_MAX)


async def shred_forever(subjects: Subjects, interval_s: float) -> None:
    """Finish unfinished erasures, now and every `interval_s` seconds."""
    while True:
        try:
            await subjects.shred()
            succeeded()
        except (ObjectsError, MessagingError) as error:
            failed(type(error).__name__)
            _log.warning("erasures wait", error=f"{type(error).__name__}: {error}")
        await asyncio.sleep(interval_s)


def install(app: FastAPI, around: Dependencies[Settings], world: World) -> None:
    """Add the routes, and what they answer when a part is not there."""
    settings, facts, objects, vault = around.settings, world.facts, world.objects, world.vault
    standing, recheck_s = world.standing, settings.recheck_s
    decisions, refusals = around.decisions, Refusals(facts, settings.refusals())
    install_problems(app)
    desk = Desk(
        subjects=world.subjects,
        storing=Storing(
            facts, facts, objects, vault, decisions, settings.object_bytes_max, standing, recheck_s
        ),
        reading=Reading(facts, facts, objects, vault, decisions, standing, recheck_s, refusals),
        sealed=SealedReading(facts, facts, vault, decisions, refusals, lambda: around.catalogue),
        authenticate=around.authenticate,
        limits=settings.limits(),
        verifications=settings.verifications(),
        registrations=settings.registrations(),
        now=around.now,
    )
    app.include_router(routes(desk))
