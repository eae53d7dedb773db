"""What can go wrong with keys and ciphertexts, one class per case that callers treat differently."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal


class CryptoError(Exception):
    """Base of every error of this package; none of them carries key material or plaintext."""


class UnsealError(CryptoError):
    """A sealed value does not open: another key, another context, or altered bytes."""

    def __init__(self, key: str) -> None:
        super().__init__(f"a value sealed to {key} does not open with the key and context given")
        self.key = key


class UnknownSuiteError(CryptoError):
    """A value names a suite that this version does not know."""

    def __init__(self, suite: str) -> None:
        super().__init__(f"unknown sealing suite {suite[:64]!r}")
        self.suite = suite


class InvalidKeyError(CryptoError):
    """Bytes or a file that should hold a key hold something else."""


class ExposedKeyError(CryptoError):
    """Others than its owner may read a private key file, so it is not used."""

    def __init__(self, path: Path, mode: int) -> None:
        super().__init__(f"{path} has mode {mode:04o}: others may read this private key; chmod 600 it")
        self.path = path
        self.mode = mode


class LockedError(CryptoError):
    """Another process changes the same file at the moment; nothing was changed here."""

    def __init__(self, path: Path, waited_s: float) -> None:
        super().__init__(f"another process has been changing {path} for {waited_s:.0f} s; try again later")
        self.path = path


class KeyUriError(CryptoError):
    """A URI that should name signing keys does not, or the secret that it points to is not there."""


SegmentFault = Literal["altered", "truncated", "extended"]


class SegmentError(CryptoError):
    """A segment of an encrypted object is not what was written.

    `altered`: its bytes, its place or its header are not the ones it was sealed with. `truncated`: the
    object ends with it, but more followed. `extended`: it was the last, but something follows.
    """

    def __init__(self, *, segment: int, fault: SegmentFault) -> None:
        super().__init__(f"segment {segment} is {fault}")
        self.segment = segment
        self.fault: SegmentFault = fault


class HeaderError(CryptoError):
    """An encrypted object does not begin with a header of a form that we know."""

    def __init__(self, why: str) -> None:
        super().__init__(f"not the header of a sealed object: {why}")
        self.why = why


class CommitmentError(CryptoError):
    """Content is not what its commitment says."""

    def __init__(self) -> None:
        super().__init__("the content does not match its commitment")


class KmsError(CryptoError):
    """Base of what a KMS may answer."""


class UnwrapError(KmsError):
    """A wrapped key does not unwrap: altered, wrapped for another use, or its root key is gone."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the wrapped key does not unwrap: {why}")
        self.why = why


class KmsAwayError(KmsError):
    """The KMS or HSM cannot be reached or opened; nothing is known about the key."""


class KmsUnusableError(KmsError):
    """The KMS is there and does not serve us as it is set up: no waiting mends it; it was left as it is."""


class RootInUseError(KmsError):
    """Keys are still wrapped under root keys that were to go; none went."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(
            f"keys are still wrapped under {', '.join(sorted(names))}, so no root key was retired: "
            "wrap them anew first"
        )
        self.names = frozenset(names)


class KmsExistsError(KmsError):
    """There is a KMS file already; a new root key could not open what the old one wrapped."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists; a new root key cannot open what the old one wrapped")
        self.path = path
