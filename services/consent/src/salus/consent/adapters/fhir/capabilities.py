"""What this server can do: its CapabilityStatement, and the Bundle that a search answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

FHIR_VERSION = "4.0.1"
# Of this statement, not of the release: it changes when what is stated below changes.
_STATED = "2026-11-29"


def capability_statement(*, version: str) -> dict[str, Any]:
    """Return the statement that `GET /fhir/metadata` answers."""
    consent = {
        "type": "Consent",
        "documentation": "Which elements are kept and which are refused: docs/fhir.md of Salus.",
        "interaction": [{"code": "create"}, {"code": "read"}, {"code": "search-type"}],
        "versioning": "no-version",
        "conditionalCreate": True,
        "referencePolicy": ["logical"],
        "searchParam": [
            {"name": "patient", "type": "reference", "documentation": "Needed: urn:uuid:… of the patient."},
            {"name": "identifier", "type": "token", "documentation": "system|value"},
            {"name": "status", "type": "token", "documentation": "active or inactive"},
        ],
    }
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _STATED,
        "kind": "instance",
        "software": {"name": "Salus consent", "version": version},
        "implementation": {"description": "Consents of a Salus network"},
        "fhirVersion": FHIR_VERSION,
        "format": ["json", "application/fhir+json"],
        "rest": [
            {
                "mode": "server",
                "security": {
                    "description": "Authorization: Bearer, a JWT signed with the caller's own DID key."
                },
                "resource": [consent],
            }
        ],
    }


def searchset(resources: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the Bundle of the resources that a search found."""
    entries = [{"resource": resource, "search": {"mode": "match"}} for resource in resources]
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "total": len(resources)}
    # FHIR's JSON has no empty lists.
    return {**bundle, "entry": entries} if entries else bundle
