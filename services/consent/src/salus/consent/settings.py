"""What the operator of consent chooses."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from salus.consent.ports import Limits
from salus.contracts.settings import ContractSettings
from salus.events.contexts.consent import QUESTIONS_MAX
from salus.runtime.limits import AccountLimit, Rate


class Settings(ContractSettings):
    """Consent needs Kafka, its signing key, the network file, a database and a port."""

    service_name: str = "consent"
    policies_folder: Path | None = Field(
        default=None,
        description="Folder with *.cedar and one *.cedarschema: the network's first policy set, which "
        "operators change then. None: the policies of the release.",
    )
    decisions_batch_max: int = Field(
        default=20,
        ge=1,
        le=QUESTIONS_MAX,
        description="Questions in one request; a burst of denials at most.",
    )
    state_age_ms_max: int = Field(
        default=5000,
        ge=100,
        le=30_000,
        description="How old what is known may be when a decision rests on it.",
    )
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#]+(/[^/?#]+)*$",
        description="Where callers find this service, for /.well-known/authzen-configuration; "
        "none: nobody is told there.",
    )
    denials_burst_max: int = Field(default=60, ge=1, description="Denials of one account at once.")
    denials_per_minute_max: int = Field(default=30, ge=1, description="And a minute, in the long run.")
    glass_breaks_burst_max: int = Field(default=20, ge=1, description="Emergencies of one account at once.")
    glass_breaks_per_minute_max: int = Field(default=6, ge=1, description="And a minute, in the long run.")
    commands_burst_max: int = Field(
        default=600, ge=1, description="Grants, links and reviews of one account at once."
    )
    commands_per_minute_max: int = Field(default=120, ge=1, description="And a minute, in the long run.")
    revocations_burst_max: int = Field(
        default=600, ge=1, description="Revocations and unlinkings of one account at once."
    )
    revocations_per_minute_max: int = Field(default=600, ge=1, description="And a minute, in the long run.")

    @property
    def questions_max(self) -> int:
        """How many questions one request has: of more than may be denied at once none would be answered."""
        return min(self.decisions_batch_max, self.denials_burst_max)

    def limits(self) -> Limits:
        """Return how often an account may do what leaves something on the ledger."""
        return Limits(
            denials=AccountLimit("denials", Rate(self.denials_burst_max, self.denials_per_minute_max)),
            glass_breaks=AccountLimit(
                "emergency accesses", Rate(self.glass_breaks_burst_max, self.glass_breaks_per_minute_max)
            ),
            commands=AccountLimit(
                "consent commands", Rate(self.commands_burst_max, self.commands_per_minute_max)
            ),
            revocations=AccountLimit(
                "revocations", Rate(self.revocations_burst_max, self.revocations_per_minute_max)
            ),
        )
