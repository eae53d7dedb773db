"""What each service is given of a network's folder: network.json, and of the private files its own alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from salus.crypto.private_files import write_private
from salus.devkit.network import SERVICES, NetworkFolder
from salus.devkit.public_files import write_public
from salus.devkit.store_accounts import ACCESS

# Beside <service>.pem, by pattern: the keys of what the service signs, and the key that wraps patients' keys.
_OTHER_KEYS = {
    "storage": "kms",
    "sequencer": "shard-*.pem",
    "anchoring": "log.pem",
    "witness": "witness-*.pem",
}


def private_files(network: NetworkFolder, service: str) -> Iterator[tuple[str, Path]]:
    """Yield the private files of a service and the names that they have in its own folder."""
    keys = network.folder / "keys"
    if service in SERVICES:
        yield f"{service}.pem", keys / f"{service}.pem"
    if pattern := _OTHER_KEYS.get(service):
        yield from ((file.name, file) for file in sorted(keys.glob(pattern)))
    if service in ACCESS:
        for name in ("access-key", "secret-key"):
            yield f"s3-{name}", network.store_secrets.folder / service / name


def hand_out(network: NetworkFolder, target: Path) -> None:
    """Give each service a folder of its own in `target`; what changed since is replaced file by file."""
    for service in (*SERVICES, "witness"):
        for name, file in private_files(network, service):
            write_private(target / service / name, file.read_bytes())
        write_public(target / service / network.file.name, network.file.read_bytes())
