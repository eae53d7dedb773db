"""What the services' accounts may do at a Kafka that is started here: the plan of ACLs, as anywhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from salus.devkit.kafka_accounts import ADMINISTRATOR
from salus.devkit.public_files import write_public
from salus.events.contexts import CATALOGUE
from salus.messaging import Bootstrap, acls_in_force, add_acls
from salus.runtime.kafka_acls import Known, plan
from salus.runtime.kafka_principals import read_principals
from salus.runtime.manifests import services


async def allow_services(kafka: Bootstrap, principals: Path) -> None:
    """Give each service what it needs; a file of principals that is not there yet names their certificates.

    What it says of members is left to `salus kafka acls --apply`, which knows the key ring.

    Raises:
        PrincipalFileError: somebody made something else of the file.
        MessagingError: Kafka is away, or refuses.
    """
    names = [manifest.name for manifest in services() if manifest.is_party]
    await asyncio.to_thread(_ensure_file, principals, (ADMINISTRATOR, *names))
    listed = [one for one in read_principals(principals, services=names) if not one.is_of_party]
    made = plan(listed, Known(services(), CATALOGUE, {}))
    await add_acls(kafka, made.missing(await acls_in_force(kafka)))


def _ensure_file(principals: Path, names: Iterable[str]) -> None:
    if not principals.exists():
        entries = (f'[[principal]]\nname = "CN={name}"\nparty = "{name}"\n' for name in names)
        write_public(principals, "\n".join(entries).encode())
