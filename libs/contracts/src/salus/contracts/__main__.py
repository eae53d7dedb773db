"""`python -m salus.contracts compare|rebuild PACKAGE`: looks after the database of a contract service.

It runs with the settings of the service, beside it or while it is stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from importlib import import_module
from typing import Any

from salus.contracts.comparison import compare_with_topics
from salus.contracts.fold_store import rebuild
from salus.contracts.service import ContractService
from salus.contracts.settings import ContractSettings
from salus.runtime.network import Network

SAME, DIFFERS = 0, 1


async def compare(service: ContractService[Any, Any], settings: ContractSettings) -> int:
    """Say whether the database is what the topics come to, and return the exit code."""
    found = await compare_with_topics(
        settings.database_url,
        contracts=service.all_folds,
        reactors=service.reactors,
        network=Network.read(settings.network_file),
        bootstrap=settings.kafka,
    )
    for (topic, partition), offset in sorted(found.positions.items()):
        sys.stdout.write(f"{topic} {partition}: folded up to {offset}\n")
    if found.difference is None:
        sys.stdout.write(f"{found.rows} rows are what the topics come to\n")
        return SAME
    sys.stdout.write(f"{found.difference.sentence}\n")
    return DIFFERS


async def fold_anew(_: ContractService[Any, Any], settings: ContractSettings) -> int:
    """Empty the database, so that the service folds it anew, at once or at its next start."""
    await rebuild(settings.database_url)
    sys.stdout.write("the database is empty; a service that runs folds it anew now, another at its start\n")
    return SAME


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m salus.contracts", description=__doc__)
    parser.add_argument("action", choices=("compare", "rebuild"))
    parser.add_argument("package", help="as salus.identity")
    given = parser.parse_args(arguments)
    service: ContractService[Any, Any] = import_module(f"{given.package}.__main__").SERVICE
    action = compare if given.action == "compare" else fold_anew
    return asyncio.run(action(service, service.settings()))


if __name__ == "__main__":
    sys.exit(main())
