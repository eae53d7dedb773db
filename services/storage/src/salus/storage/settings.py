"""What the operator of storage chooses."""

from __future__ import annotations

from pydantic import Field, field_validator

from salus.contracts.settings import ContractSettings
from salus.crypto.errors import KeyUriError
from salus.events.accountability import TRANSFER_S_MAX
from salus.runtime.limits import AccountLimit, Rate
from salus.runtime.settings import ObjectSettings
from salus.storage.handlers.uploading import UploadLimits
from salus.storage.kms_places import KmsFile, KmsPlace, kms_place
from salus.storage.transfers import Limits


class Settings(ContractSettings, ObjectSettings):
    """Storage needs Kafka, an object store, a database, a KMS, its signing key and the network file."""

    service_name: str = "storage"
    kms: str | None = Field(
        default=None,
        description="Where the root keys are: a KMS file, or a file:, pkcs11: or transit: URI; none: the file"
        " `kms` beside the signing key. A KMS file is made at the first start.",
    )
    kms_previous: str | None = Field(
        default=None,
        description="The KMS that this one takes over from: what it wrapped still opens, and is wrapped anew"
        " by `rotate --rewrap`.",
    )
    kms_cache_s: float = Field(
        default=5,
        ge=0,
        le=60,
        description="How long an unwrapped key of a patient is held, in seconds: a root key that is destroyed"
        " opens nothing after that.",
    )
    kms_deadline_s: float = Field(
        default=5,
        gt=0,
        le=60,
        description="A KMS that has not answered after so long is away, in seconds.",
    )
    object_bytes_max: int = Field(
        default=5 * 1024**3, ge=1, description="The largest object that is taken, in bytes."
    )
    transfers_max: int = Field(
        default=16, ge=1, description="Uploads and downloads at once; more wait, a minute at most."
    )
    transfers_of_one_max: int = Field(default=12, ge=1, description="And of one account.")
    verifications_max: int = Field(
        default=2, ge=1, description="Objects verified at once, of one account one; more wait, too."
    )
    verifications_burst_max: int = Field(
        default=30, ge=1, description="Verifications of one account one after the other; then 429."
    )
    verifications_per_minute_max: int = Field(default=10, ge=1, description="And a minute, in the long run.")
    registrations_burst_max: int = Field(
        default=300, ge=1, description="Patients that one account registers at once; then 429."
    )
    registrations_per_minute_max: int = Field(
        default=60, ge=1, description="And a minute, in the long run. Raise it while a member moves in."
    )
    body_idle_s_max: float = Field(
        default=30,
        gt=0,
        description="An upload that sends nothing for so long is given up, in seconds; so is a download that"
        " takes no piece of 256 KiB.",
    )
    transfer_s_max: float = Field(
        default=TRANSFER_S_MAX,
        gt=0,
        le=TRANSFER_S_MAX,
        description="A transfer that is not done after so long is given up, in seconds.",
    )
    upload_lifetime_s: int = Field(
        default=24 * 3600,
        ge=60,
        le=7 * 24 * 3600,
        description="A resumable upload that is not completed after so long is given up, in seconds.",
    )
    uploads_of_one_max: int = Field(
        default=32, ge=1, le=1000, description="Resumable uploads that one party has open; then 429."
    )
    upload_bytes_of_one_max: int = Field(
        default=100 * 1024**3, ge=1, description="And how many bytes these have together, once completed."
    )
    upload_sweep_interval_s: float = Field(
        default=600,
        gt=0,
        description="How often what is left of resumable uploads is looked for and removed, in seconds.",
    )
    recheck_s: float = Field(
        default=5,
        ge=0,
        description="How often the right to a transfer is asked for again while it goes on, in seconds.",
    )
    refused_reads_burst_max: int = Field(
        default=60, ge=1, description="Refused reads of one account at once; then its reads are 429."
    )
    refused_reads_per_minute_max: int = Field(default=30, ge=1, description="And a minute, in the long run.")
    shred_interval_s: float = Field(
        default=60,
        gt=0,
        description="An erasure that failed is tried again within this time, in seconds.",
    )

    key_sweep_interval_s: float = Field(
        default=3600,
        gt=0,
        description="How often the bucket of keys is looked through for keys that are recorded as destroyed,"
        " in seconds.",
    )

    @field_validator("kms", "kms_previous")
    @classmethod
    def _names_a_kms(cls, uri: str | None) -> str | None:
        if uri is not None:
            try:
                kms_place(uri)
            except KeyUriError as error:
                raise ValueError(str(error)) from None
        return uri

    def kms_place(self) -> KmsPlace:
        """Return where the root keys are."""
        return kms_place(self.kms) if self.kms else KmsFile(self.signing_key_file.parent / "kms")

    def previous_kms_place(self) -> KmsPlace | None:
        """Return where the root keys were, if another KMS takes over."""
        return kms_place(self.kms_previous) if self.kms_previous else None

    def limits(self) -> Limits:
        """Return what bounds transfers and verifications."""
        return Limits(
            object_bytes_max=self.object_bytes_max,
            transfers_max=self.transfers_max,
            transfers_of_one_max=self.transfers_of_one_max,
            verifications_max=self.verifications_max,
            body_idle_s_max=self.body_idle_s_max,
            transfer_s_max=self.transfer_s_max,
        )

    def verifications(self) -> AccountLimit:
        """Return how often an account may have an object verified."""
        rate = Rate(self.verifications_burst_max, self.verifications_per_minute_max)
        return AccountLimit("verifications", rate)

    def registrations(self) -> AccountLimit:
        """Return how often an account may register a patient."""
        rate = Rate(self.registrations_burst_max, self.registrations_per_minute_max)
        return AccountLimit("registrations", rate)

    def upload_limits(self) -> UploadLimits:
        """Return what bounds resumable uploads."""
        return UploadLimits(
            lifetime_s=self.upload_lifetime_s,
            open_of_one_max=self.uploads_of_one_max,
            open_bytes_of_one_max=self.upload_bytes_of_one_max,
        )

    def refusals(self) -> AccountLimit:
        """Return how often an account may be refused a read."""
        return AccountLimit(
            "refused reads", Rate(self.refused_reads_burst_max, self.refused_reads_per_minute_max)
        )
