# ruff: noqa: INP001  # a script
"""Publishes a document of a patient with `salus-client`, and keeps the receipt.

python publish_with_salus.py NETWORK.json BOOTSTRAP RECEIPTS_URL KEY.pem DID#KEY PATIENT OBJECT
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from salus.client import Publisher
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.did import LocalSigner
from salus.ledger.policy import Policy


async def publish(name: str, *, patient: str, publisher: Publisher) -> None:
    """Say that a document exists, and keep what proves that it was said."""
    data = DocumentRegistered(patient=patient, object=name, media_type="application/fhir+json")
    async with publisher:
        handle = await publisher.publish(data, subject=patient)
        position = await handle.position()  # all in-sync replicas have it
        receipt = await handle.receipt(timeout_s=60)  # the ledger has it, and this proves it
    sys.stdout.write(f"{handle.id} {position.topic} {position.partition} {position.offset}\n")
    await asyncio.to_thread(Path(f"{name}.salus").write_bytes, receipt.data)


def main() -> None:
    """Read what is trusted and the key, and publish."""
    network, bootstrap, receipts_url, key, method, patient, name = sys.argv[1:]
    private = load_pem_private_key(Path(key).read_bytes(), password=None)
    assert isinstance(private, Ed25519PrivateKey)  # noqa: S101  # an example stays short
    publisher = Publisher(
        bootstrap,
        LocalSigner(private, method),
        receipts_url=receipts_url,
        policy=Policy.from_network(Path(network).read_bytes()),
    )
    asyncio.run(publish(name, patient=patient, publisher=publisher))


if __name__ == "__main__":
    main()
