"""What the outputs must know of the network: its name, its services and where receipts are served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from salus.audit.domain.entry import Place


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The network's origin, its services' DIDs, the base URL of anchoring, and where the outputs go."""

    origin: str
    log_origin: str
    receipts_url: str
    version: str
    ocsf_topic: str = "salus.audit.ocsf"
    fhir_topic: str = "salus.audit.fhir"
    services: Mapping[str, str] = field(default_factory=dict)

    def service_named(self, did: str | None) -> str | None:
        """Return the name of the service with this DID."""
        return next((name for name, of in self.services.items() if of == did), None)

    def receipt_url(self, place: Place) -> str:
        """Return where the receipt of a leaf is served."""
        # A topic's name needs no escaping in a URL: Kafka allows letters, digits, dot, dash and underscore.
        query = f"topic={place.topic}&partition={place.partition}&offset={place.offset}"
        return f"{self.receipts_url}/receipts?{query}"
