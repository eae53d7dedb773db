"""What can be wrong with a ledger or a proof; one class per case a caller treats differently."""


class LedgerError(Exception):
    """Base of all errors of this package; `code` is stable and may be shown to outsiders."""

    code = "ledger-error"


class InclusionError(LedgerError):
    """A path does not prove inclusion."""

    code = "inclusion-path-invalid"


class ConsistencyError(LedgerError):
    """A proof does not show that one tree extends another.

    `refuted`: it shows that the larger tree begins with another one than the smaller. Otherwise it shows
    nothing, and anybody can make such a proof.
    """

    code = "consistency-proof-invalid"

    def __init__(self, why: str, *, refuted: bool = False) -> None:
        super().__init__(why)
        self.refuted = refuted


class CodedError(LedgerError):
    """An error whose stable `code` says which of the documented cases it is.

    `detail` can be written in UTF-8, whatever bytes it quotes.
    """

    def __init__(self, code: str, detail: str) -> None:
        detail = detail.encode("utf-8", "backslashreplace").decode()
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class NoteError(CodedError):
    """A signed note cannot be trusted: `malformed`, `unverified`, `invalid-signature` or `key-period`."""


class KeyTextError(CodedError):
    """A verifier key (vkey) is not usable: `malformed-vkey` or `unsupported-algorithm`."""


class CheckpointError(CodedError):
    """A note's text is not a checkpoint: `malformed`."""


class TileError(CodedError):
    """A tile, entry bundle or position does not fit its tree: `malformed-tile` or `out-of-range`."""


class BlockError(CodedError):
    """A leaf, header or succession of headers is not as docs/ledger-format.md says; see `BLOCK_CODES`."""


class SignatureHeaderError(LedgerError):
    """A record's signature header is not as its grammar says."""

    code = "malformed-signature"


class PolicyError(CodedError):
    """The description of whom to trust is not usable: `malformed-policy`."""


class ReceiptError(CodedError):
    """A receipt proves nothing; `code` names the first step of its verification that failed."""
