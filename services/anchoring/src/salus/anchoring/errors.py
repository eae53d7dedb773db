"""What can go wrong in anchoring; one class per case a caller treats differently."""

from __future__ import annotations


class AnchoringError(Exception):
    """Base of all errors of this service."""


class HeadError(AnchoringError):
    """The log's head or what it stands on is not what was signed; appending would spoil the log.

    It does not heal by itself: an operator must look (`salus ledger fsck`).
    """
