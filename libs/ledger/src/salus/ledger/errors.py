"""What can be wrong with a ledger or a proof; one class per case a caller treats differently."""


class LedgerError(Exception):
    """Base of all errors of this package; `code` is stable and may be shown to outsiders."""

    code = "ledger-error"


class InclusionError(LedgerError):
    """A path does not prove inclusion."""

    code = "inclusion-path-invalid"


class ConsistencyError(LedgerError):
    """A proof does not show that one tree extends another."""

    code = "consistency-proof-invalid"
