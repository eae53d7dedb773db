"""fsck finds every damage, names the object that is damaged, and accuses no other."""

from __future__ import annotations

import asyncio
import copy
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from salus.archive.fsck import fsck

LONG = os.environ.get("SALUS_LONG_TESTS") == "1"


async def test_a_whole_ledger_is_clean(small_ledger: Any) -> None:
    report = await fsck(small_ledger.stores, small_ledger.trust)

    assert report.ok
    assert report.findings == []
    assert report.size == report.counts.log_entries == report.counts.blocks == 8
    assert report.counts.rows == 3 + 1 + 4 + 6 + 3 + 1 + 4 + 3
    assert report.counts.tiles > 0


def keys_of(ledger: Any) -> list[tuple[str, str]]:
    return [("ledger", key) for key in sorted(ledger.ledger.objects)] + [
        ("log", key) for key in sorted(ledger.log.objects)
    ]


@settings(
    max_examples=20_000 if LONG else 400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_one_flipped_bit_anywhere_is_found_and_blamed_on_its_object(small_ledger: Any, data: Any) -> None:
    damaged = copy.deepcopy(small_ledger)
    bucket, key = data.draw(st.sampled_from(keys_of(damaged)), label="object")
    size = len(damaged.bucket(bucket).objects[key][0])
    byte = data.draw(st.integers(0, size - 1), label="byte")
    bit = data.draw(st.integers(0, 7), label="bit")
    damaged.flip(bucket, key, byte, bit)

    report = asyncio.run(fsck(damaged.stores, damaged.trust))

    assert {(f.bucket, f.key) for f in report.errors} == {(bucket, key)}
