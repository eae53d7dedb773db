"""Which rules this release decides by: the digest of the contract's code and the policies it ships."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

_CODE = (
    "domain/consents.py",
    "domain/decisions.py",
    "domain/rights.py",
    "domain/state.py",
    "adapters/cedar.py",
)


def contract_digest() -> str:
    """Return the SHA-256, in hex, over `<name> <length>LF<bytes>` of the source files that decide."""
    digest = hashlib.sha256()
    for name in _CODE:
        source = files("salus.consent").joinpath(name).read_bytes()
        digest.update(f"{name} {len(source)}\n".encode())
        digest.update(source)
    return digest.hexdigest()


def policies_folder(chosen: Path | None) -> Traversable:
    """Return the operator's folder, or the policies of this release."""
    return chosen if chosen is not None else files("salus.consent").joinpath("policies")
