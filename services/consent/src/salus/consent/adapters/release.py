"""Which rules this release decides by: the digest of the contract's code and the policies it ships."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from salus.contracts.rules import code_digest

_CODE = (
    "domain/consents.py",
    "domain/decisions.py",
    "domain/rights.py",
    "domain/state.py",
    "adapters/cedar.py",
)


def contract_digest() -> str:
    """Return the digest of the source files that decide."""
    return code_digest("salus.consent", _CODE)


def policies_folder(chosen: Path | None) -> Traversable:
    """Return the operator's folder, or the policies of this release."""
    return chosen if chosen is not None else files("salus.consent").joinpath("policies")
