"""The small network of `network.py`, made once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from tests.unit.ledger.network import Following, World, make_world

from salus.ledger.block import NO_PREVIOUS, Header, Range
from salus.ledger.merkle import leaf_hash


@pytest.fixture(scope="session")
def header() -> Header:
    """A header that is correct by itself."""
    return Header(
        origin="salus.example/shard/0",
        height=0,
        leaves=3,
        root=sha256(b"root").digest(),
        previous=NO_PREVIOUS,
        time=datetime(2026, 11, 22, 15, 0, 0, 123000, tzinfo=UTC),
        accepted=2,
        body_bytes=4096,
        body_sha256=sha256(b"body").digest(),
        identity=("salus.identity.events", 0, 17),
        ranges=(Range("salus.clinical.events", 0, 100, 103), Range("salus.clinical.events", 1, 0, 0)),
    )


@pytest.fixture(scope="session")
def world() -> World:
    """The network, made from fixed seeds."""
    return make_world()


@pytest.fixture(scope="session")
def following(world: World) -> Following:
    """Make the header that may stand after the world's block, with some of its facts changed."""

    def make(**changes: object) -> Header:
        right = replace(
            world.header,
            height=1,
            previous=leaf_hash(world.header_note),
            leaves=1,
            accepted=1,
            ranges=(Range("salus.clinical.events", 0, 17, 18), Range("salus.clinical.events", 1, 0, 0)),
        )
        return replace(right, **changes)  # type: ignore[arg-type]  # the caller names fields

    return make


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of vectors that others made."""
    return Path(__file__).parents[2] / "data"
