"""Which rules this release decides by: the digest of the code that decides, and the policies it ships."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from salus.contracts.rules import code_digest

_CODE = (
    (
        "salus.consent",
        (
            "domain/cases.py",
            "domain/consents.py",
            "domain/permits.py",
            "domain/policies.py",
            "domain/prohibitions.py",
            "domain/rights.py",
        ),
    ),
    (
        "salus.access",
        (
            "actors.py",
            "cases.py",
            "cedar.py",
            "decisions.py",
            "emergencies.py",
            "grant_use.py",
            "grants.py",
            "known_verdicts.py",
            "law.py",
            "parsed_policies.py",
            "permits.py",
            "policy_check.py",
            "policy_files.py",
            "policy_slices.py",
            "policy_texts.py",
            "prohibitions.py",
            "state.py",
        ),
    ),
    ("salus.events", ("patient_rights.py", "permit_rights.py")),
)


def contract_digest() -> str:
    """Return the digest of the source files that decide: the SHA-256 over the digests of the packages'."""
    digests = (code_digest(package, names) for package, names in _CODE)
    return sha256("".join(digests).encode()).hexdigest()


def policies_folder(chosen: Path | None) -> Traversable:
    """Return the operator's folder, or the policies of this release."""
    return chosen if chosen is not None else files("salus.access").joinpath("policies")
