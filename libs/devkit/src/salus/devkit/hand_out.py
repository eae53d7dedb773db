"""What each service is given of a network's folder: network.json, and of the private files its own alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from salus.crypto.private_files import write_private
from salus.devkit.network import NetworkFolder
from salus.devkit.public_files import write_public
from salus.runtime.manifests import Manifest, services


def private_files(network: NetworkFolder, manifest: Manifest) -> Iterator[tuple[str, Path]]:
    """Yield the private files of a service and the names that they have in its own folder."""
    keys = network.folder / "keys"
    if manifest.is_party:
        yield f"{manifest.name}.pem", keys / f"{manifest.name}.pem"
    for name in manifest.files:
        # Those of all shards, or of all witnesses.
        pattern = name.format(shard="*", witness="*")
        yield from ((file.name, file) for file in sorted(keys.glob(pattern)))
    if manifest.buckets:
        for name in ("access-key", "secret-key"):
            yield f"s3-{name}", network.store_secrets.folder / manifest.name / name


def hand_out(network: NetworkFolder, target: Path) -> None:
    """Give each service a folder of its own in `target`; what changed since is replaced file by file."""
    for manifest in services():
        own = target / manifest.name
        for name, file in private_files(network, manifest):
            write_private(own / name, file.read_bytes())
        write_public(own / network.file.name, network.file.read_bytes())
