"""What tests/unit/contracts promises of reactors, on real PostgreSQL, and of replicas on one database."""

from __future__ import annotations

import pytest
from tests.databases import Databases
from tests.integration.postgres import PostgresDatabases, Server
from tests.unit.contracts import test_reactors
from tests.unit.contracts.replicas import Topic, erased, replica
from tests.unit.contracts.test_reactors import Work, migrated

from salus.events.contexts.storage import SubjectKeyDestroyed


@pytest.fixture
async def databases(postgres_server: Server) -> Databases:
    """Databases of one test; with SQLite these tests run where they are."""
    return PostgresDatabases(postgres_server)


async def test_two_replicas_share_what_is_owed_and_mostly_do_it_once(databases: Databases) -> None:
    url, topic, work = await migrated(databases), Topic(), Work()
    patients = [erased(topic, number) for number in range(10)]
    async with replica(url, topic, work) as here, replica(url, topic, work) as there:
        await here.settled(*patients)
        await there.settled(*patients)

    assert set(work.done) == set(patients)
    assert work.done.total() <= len(patients) + 2
    assert all(topic.told(SubjectKeyDestroyed, patient) == 1 for patient in patients)


globals().update({name: value for name, value in vars(test_reactors).items() if name.startswith("test_")})
