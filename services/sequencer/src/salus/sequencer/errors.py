"""Why sealing stops or starts over; one class per case a caller treats differently."""

from __future__ import annotations

from collections.abc import Collection


class SequencingError(Exception):
    """Base of all errors of this package."""


class OvertakenError(SequencingError):
    """Another sequencer sealed this height first: reload from the archive and go on after its block."""

    def __init__(self, *, height: int) -> None:
        super().__init__(f"another sequencer sealed height {height} first")
        self.height = height


class ClockTurnedError(OvertakenError):
    """The clock was set back since the block was decided: start over, and judge by the time that it is."""

    def __init__(self, *, height: int) -> None:
        SequencingError.__init__(self, f"the clock was set back before height {height} was sealed")
        self.height = height


class HaltError(SequencingError):
    """Going on would lose records or contradict the archive: stop, raise the alarm, wait for a person."""


class RecordsLostError(HaltError):
    """Retention removed records from a topic before they were sealed."""

    def __init__(self, *, topic: str, partition: int, sealed_to: int, beginning: int) -> None:
        super().__init__(
            f"{topic} {partition}: sealed up to offset {sealed_to}, but the topic now begins at {beginning}"
        )
        self.topic = topic
        self.partition = partition
        self.sealed_to = sealed_to
        self.beginning = beginning


class LogTruncatedError(HaltError):
    """A topic ends before what was already sealed: it was re-created, or the broker lost data."""

    def __init__(self, *, topic: str, partition: int, sealed_to: int, end: int) -> None:
        super().__init__(f"{topic} {partition}: sealed up to offset {sealed_to}, but the topic ends at {end}")
        self.topic = topic
        self.partition = partition
        self.sealed_to = sealed_to
        self.end = end


class LogReplacedError(HaltError):
    """A topic has another record where the last sealed one stood: it was created anew and has grown."""

    _is = "is not the one that was sealed"

    def __init__(self, *, topic: str, partition: int, offset: int) -> None:
        super().__init__(f"{topic} {partition}: the record at offset {offset} {self._is}")
        self.topic = topic
        self.partition = partition
        self.offset = offset


class SealedRecordGoneError(LogReplacedError):
    """A topic has no record where the last sealed one stood: compaction, or somebody, removed it."""

    _is = "was sealed, and is gone, and what came later is there"


class ReplayedOffsetError(HaltError):
    """The log handed out a record that is already sealed, or handed records out of order."""

    def __init__(self, *, topic: str, partition: int, expected: int, got: int) -> None:
        super().__init__(f"{topic} {partition}: expected offset {expected} or later, the log gave {got}")
        self.topic = topic
        self.partition = partition
        self.expected = expected
        self.got = got


class BeyondEndError(HaltError):
    """The log handed out records at offsets that it says it does not have."""

    def __init__(self, *, topic: str, partition: int, reached: int, end: int) -> None:
        super().__init__(
            f"{topic} {partition}: the log gave records up to offset {reached} and says that it ends at {end}"
        )
        self.topic = topic
        self.partition = partition
        self.reached = reached
        self.end = end


class ArchiveDamagedError(HaltError):
    """What the archive holds is not what this shard's key signed; `salus ledger fsck` names the place."""


class ForeignBlockError(HaltError):
    """A block that this process did not seal is none that it would have sealed: the shard's key is stolen."""

    def __init__(self, *, shard: int, height: int, why: str) -> None:
        super().__init__(
            f"block {height} of shard {shard} was sealed by another process, and wrongly: {why}; whoever did "
            "holds the shard's key, or runs another version: docs/operators.md, `A block was forged`"
        )
        self.height = height


class IdentityLostError(HaltError):
    """The identity topic ends before the position by which the chain's last block was judged."""

    def __init__(self, *, named: int, end: int) -> None:
        super().__init__(f"blocks were judged by identity position {named}, and that topic now ends at {end}")
        self.named = named
        self.end = end


class NoKeyError(HaltError):
    """We hold no key that signs the next block: another took over, and it was not brought here."""


class PackageMissingError(HaltError):
    """A service of the network has a role that no package here declares: what its events are is unknown."""

    def __init__(self, roles: Collection[str]) -> None:
        super().__init__(
            f"services of the network have the roles {', '.join(sorted(roles))}, which no installed package "
            "declares: install it here, and start again"
        )
        self.roles = roles


class LogRefusedError(HaltError):
    """The log does not have the position that was asked for."""
