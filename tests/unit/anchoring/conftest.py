"""Fixtures of anchoring's tests."""

from __future__ import annotations

import pytest
from tests.unit.anchoring.world import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def make_world() -> type[World]:
    return World
