"""What the services' accounts may do at a Kafka that is started here: the plan of ACLs, as anywhere else."""

from __future__ import annotations

import asyncio
from pathlib import Path

from salus.devkit.kafka_accounts import ADMINISTRATOR
from salus.devkit.public_files import write_public
from salus.events.contexts import CATALOGUE
from salus.messaging import Bootstrap, acls_in_force, add_acls
from salus.runtime.kafka_acls import Known, plan
from salus.runtime.kafka_principals import Principal, read_principals
from salus.runtime.manifests import services


async def allow_services(kafka: Bootstrap, principals: Path) -> None:
    """Give each service what it needs; one that the file of principals does not name yet is put there.

    What the file says of members is left to `salus kafka acls --apply`, which knows the key ring.

    Raises:
        PrincipalFileError: somebody made something else of the file.
        MessagingError: Kafka is away, or refuses.
    """
    listed = await asyncio.to_thread(_listed, principals)
    made = plan([one for one in listed if not one.is_of_party], Known(services(), CATALOGUE, {}))
    await add_acls(kafka, made.missing(await acls_in_force(kafka)))


def _listed(principals: Path) -> tuple[Principal, ...]:
    names = [manifest.name for manifest in services() if manifest.is_party]
    found = read_principals(principals, services=names) if principals.exists() else ()
    new = {ADMINISTRATOR, *names}.difference(one.party for one in found)
    if not new:
        return found
    entries = (f'[[principal]]\nname = "CN={name}"\nparty = "{name}"\n' for name in sorted(new))
    before = principals.read_text() + "\n" if found else ""
    write_public(principals, (before + "\n".join(entries)).encode())
    return read_principals(principals, services=names)
