"""Random ids are drawn together, and nobody gets one that another has."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from salus.client import identifiers
from salus.client.identifiers import random_uuid


def test_random_ids_are_uuids_of_version_4_and_each_is_another() -> None:
    def many(_: int) -> list[UUID]:
        return [random_uuid() for _ in range(500)]

    with ThreadPoolExecutor(8) as threads:
        drawn = [each for some in threads.map(many, range(8)) for each in some]

    assert len(set(drawn)) == len(drawn) == 4000
    assert {(each.version, each.variant) for each in drawn} == {(4, "specified in RFC 4122")}


def test_a_child_process_makes_ids_of_its_own() -> None:
    random_uuid()
    assert identifiers._random
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, b"%d" % len(identifiers._random))
        os._exit(0)
    os.waitpid(child, 0)
    said = os.read(read, 9)
    os.close(read)
    os.close(write)

    assert said == b"0"
