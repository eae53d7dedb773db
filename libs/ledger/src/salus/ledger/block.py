"""Blocks: leaves, signed headers, how one header follows another, and where both are kept.

The format is docs/ledger-format.md; every text here has exactly one form, so that parsing and formatting
are inverse to each other and a changed byte is either noticed or not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from salus.ledger.base import base64_of, hash_of_base64, int_of_decimal
from salus.ledger.checkpoint import Checkpoint, parse_checkpoint
from salus.ledger.errors import BlockError, CheckpointError, NoteError
from salus.ledger.hashing import hash_each
from salus.ledger.key_periods import Keys, history_of
from salus.ledger.leaf_grammar import LEAF_LINE, is_signature
from salus.ledger.merkle import HASH_SIZE, LEAF_PREFIX, leaf_hash
from salus.ledger.note import Signers, open_note, sign_note
from salus.ledger.records import TIMESTAMP_MS_MAX

LEAF_ORIGIN = b"salus.health/leaf/v1\n"
ACCEPTED = "accepted"
REJECTED_PREFIX = "rejected:"
NO_DIGEST = bytes(HASH_SIZE)
NO_PREVIOUS = bytes(HASH_SIZE)
# A header is an entry of a tlog-tiles bundle, whose length prefix has 16 bits.
HEADER_BYTES_MAX = 65_535
PARTITION_MAX = 2**31 - 1
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SHA256_HEX = re.compile(r"[0-9a-f]{64}")
_BLOCK_ORIGIN = re.compile(r"([^ ]+)/block/(0|[1-9][0-9]{0,18})")
# The first word of each line after the root, and how many words it has.
_FIXED_LINES = [("previous", 2), ("time", 2), ("accepted", 2), ("body", 3), ("identity", 4)]
BLOCK_CODES = (
    "malformed-leaf",
    "malformed-header",
    "header-signature",
    "key-period",
    "origin",
    "height",
    "previous",
    "time",
    "identity",
    "range-missing",
    "range-gap",
    "handover",
)

LeafRow = tuple[str, int, int, int, str, bytes, bytes | None]
"""topic, partition, offset, timestamp, status, digest, signature header: one leaf as a plain tuple."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One record of an input topic and what became of it.

    `timestamp_ms` is when the broker appended the record, by which it was judged, in milliseconds since 1970
    UTC (`salus.ledger.records.timestamp_of`). `digest` is the RFC 6962 leaf hash of the record's value (32
    zero bytes for a tombstone); `signature` is the value of its `salus-signature` header as it travelled, or
    None if it had none that can be kept.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    status: str
    digest: bytes
    signature: bytes | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether the record was accepted; otherwise `status` says why not."""
        return self.status == ACCEPTED

    def data(self) -> bytes:
        """Return the bytes that are hashed to the leaf hash."""
        signature = b"" if self.signature is None else self.signature
        length = "-" if self.signature is None else len(self.signature)
        line = f"{self.topic} {self.partition} {self.offset} {self.timestamp_ms} {self.status} {length}\n"
        return LEAF_ORIGIN + line.encode() + self.digest + signature

    def hash(self) -> bytes:
        """Return the leaf's hash in its block's tree."""
        return leaf_hash(self.data())


def parse_leaf(data: bytes) -> Leaf:
    """Return the leaf of these bytes.

    Raises:
        BlockError: `malformed-leaf`, if they are not exactly what `Leaf.data` gives, or keep no signature.
    """
    match = LEAF_LINE.match(data, len(LEAF_ORIGIN)) if data.startswith(LEAF_ORIGIN) else None
    if match is None:
        raise BlockError("malformed-leaf", "not of the form 'TOPIC PARTITION OFFSET TIMESTAMP STATUS LENGTH'")
    topic, partition, offset, timestamp, status, length = (part.decode("ascii") for part in match.groups())
    digest = data[match.end() : match.end() + HASH_SIZE]
    rest = data[match.end() + HASH_SIZE :]
    signature = None if length == "-" else rest
    leaf = Leaf(topic, int(partition), int(offset), int(timestamp), status, digest, signature)
    beyond = leaf.partition > PARTITION_MAX or leaf.timestamp_ms > TIMESTAMP_MS_MAX
    if len(digest) != HASH_SIZE or beyond or leaf.data() != data:
        raise BlockError("malformed-leaf", "lengths or numbers are not what they say")
    if signature is not None and not is_signature(signature):
        raise BlockError("malformed-leaf", "what it keeps as a signature header is none")
    return leaf


def leaf_hashes(rows: Iterable[LeafRow]) -> list[bytes]:
    """Return the leaf hash of each row: `[Leaf(*row).hash() for row in rows]`, but fast."""
    leaves = [
        f"{topic} {partition} {offset} {timestamp} {status} -\n".encode() + digest
        if signature is None
        else f"{topic} {partition} {offset} {timestamp} {status} {len(signature)}\n".encode()
        + digest
        + signature
        for topic, partition, offset, timestamp, status, digest, signature in rows
    ]
    return hash_each(LEAF_PREFIX + LEAF_ORIGIN, leaves)


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """The offsets from `first` up to, not including, `next` of one input partition.

    A header has one for every partition that its shard covers, also where first == next, so that the last
    header alone says where to go on.
    """

    topic: str
    partition: int
    first: int
    next: int


@dataclass(frozen=True, slots=True, order=True)
class Handover:
    """A partition that another shard covers up to (`took`) or from (`gave`) an offset.

    `gave` stands in the last block in which a shard covers it, `other` being the origin of the shard that
    goes on from there; `took` in the block in which that one begins to, `other` being the block that gave.
    """

    way: str
    topic: str
    partition: int
    offset: int
    other: str


@dataclass(frozen=True, slots=True)
class Header:
    """The facts of one block. `origin` is the shard's (the block's own is `ORIGIN/block/HEIGHT`).

    `time` is UTC in whole milliseconds; `identity` is (topic, partition, next offset): the position up to
    which the identity events were folded to judge the signatures; `ranges` and `handovers` are sorted.
    """

    origin: str
    height: int
    leaves: int
    root: bytes
    previous: bytes
    time: datetime
    accepted: int
    body_bytes: int
    body_sha256: bytes
    identity: tuple[str, int, int]
    ranges: tuple[Range, ...]
    handovers: tuple[Handover, ...] = ()

    def checkpoint(self) -> Checkpoint:
        """Return the header as the checkpoint of the block's own tree."""
        topic, partition, following = self.identity
        extensions = (
            f"previous {base64_of(self.previous)}",
            f"time {format_time(self.time)}",
            f"accepted {self.accepted}",
            f"body {self.body_bytes} {self.body_sha256.hex()}",
            f"identity {topic} {partition} {following}",
            *(f"range {r.topic} {r.partition} {r.first} {r.next}" for r in self.ranges),
            *(f"{h.way} {h.topic} {h.partition} {h.offset} {h.other}" for h in self.handovers),
        )
        return Checkpoint(self.block_origin, self.leaves, self.root, extensions)

    def text(self) -> str:
        """Return the note text."""
        return self.checkpoint().text()

    @property
    def block_origin(self) -> str:
        """The block's own origin, which names it in the whole network."""
        return f"{self.origin}/block/{self.height}"

    @property
    def next_offsets(self) -> dict[tuple[str, int], int]:
        """The next offset to read of each partition that the shard goes on covering."""
        given = self.handed("gave")
        places = {(r.topic, r.partition): r.next for r in self.ranges}
        return {place: following for place, following in places.items() if place not in given}

    def handed(self, way: str) -> dict[tuple[str, int], int]:
        """The partitions that were taken (`took`) or given away (`gave`), and the offset of each."""
        return {(h.topic, h.partition): h.offset for h in self.handovers if h.way == way}


def format_time(time: datetime) -> str:
    """Return a UTC time in RFC 3339 with milliseconds and Z; finer digits are cut off."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def whole_milliseconds(time: datetime) -> datetime:
    """Return the time as a header can state it: in UTC, without microseconds."""
    return time.astimezone(UTC).replace(microsecond=time.microsecond // 1000 * 1000)


# Receipts and leaves of one block carry the same header again and again.
@lru_cache(maxsize=256)
def parse_header(text: str) -> Header:
    """Return the header of a note text; nothing is verified but the form.

    Raises:
        BlockError: `malformed-header`, if the text is not exactly what `Header.text` gives, or counts and
            ranges cannot be true.
    """
    try:
        checkpoint = parse_checkpoint(text)
        header = _header_of(checkpoint)
        _require_sense(header)
    except CheckpointError as error:
        raise BlockError("malformed-header", error.detail) from None
    except (ValueError, OverflowError) as error:
        raise BlockError("malformed-header", str(error)) from None
    if header.text() != text:
        raise BlockError("malformed-header", "not the canonical form")
    return header


def sign_header(header: Header, signers: Signers) -> bytes:
    """Return the header note: the bytes to store, announce and log.

    Raises:
        BlockError: `malformed-header`, if the header has no canonical form, is another shard's or is too
            long for a log entry.
        NoteError: `malformed`, if nobody signs at this height.
    """
    text = header.text()
    if signers.name != header.origin or parse_header(text) != header:
        raise BlockError("malformed-header", "not this signer's, or not in canonical form")
    note = sign_note(text, signers.at(header.height))
    if len(note) > HEADER_BYTES_MAX:
        raise BlockError("malformed-header", f"{len(note)} bytes, at most {HEADER_BYTES_MAX}")
    return note


def open_header(note: bytes, shard: Keys) -> Header:
    """Return the header that the shard's sequencer signed.

    Raises:
        BlockError: `header-signature` or `malformed-header`; `origin` if it is another shard's; `key-period`
            if the key that signed it does not sign at this height: it is retired, or has not taken over.
    """
    if len(note) > HEADER_BYTES_MAX:
        raise BlockError("malformed-header", f"{len(note)} bytes, at most {HEADER_BYTES_MAX}")
    keys = history_of(shard)
    try:
        opened = open_note(note, keys.verifiers)
    except NoteError as error:
        code = "malformed-header" if error.code == "malformed" else "header-signature"
        raise BlockError(code, error.detail) from None
    header = parse_header(opened.text)
    if header.origin != keys.name:
        raise BlockError("origin", "the header is another shard's")
    if not keys.counting(opened.signatures, header.height):
        raise BlockError("key-period", f"no key that signed it signs at height {header.height}")
    return header


def check_succession(previous: tuple[Header, bytes] | None, header: Header) -> None:
    """Raise BlockError unless `header` may stand right after `previous` (header, note bytes).

    `None` stands before the first block. The code names the first rule that is broken: `origin`,
    `height`, `previous`, `time` (which may not go back), `identity` (another topic), `range-missing`,
    `range-gap`, `handover`. An identity position may go back: who holds the key can name one that the topic
    never had, and the chain must go on behind it. Whether it is true, `salus.events.identity_position` says.
    """
    if previous is None:
        if header.height != 0:
            raise BlockError("height", f"a chain begins with height 0, not {header.height}")
        if header.previous != NO_PREVIOUS:
            raise BlockError("previous", "the first header names one before it")
        return
    before, note = previous
    if header.origin != before.origin:
        raise BlockError("origin", "two shards' headers in one chain")
    if header.height != before.height + 1:
        raise BlockError("height", f"{header.height} after {before.height}")
    if header.previous != leaf_hash(note):
        raise BlockError("previous", f"header {header.height} names another one before it")
    if header.time < before.time:
        raise BlockError("time", f"header {header.height} is earlier than the one before it")
    if header.identity[:2] != before.identity[:2]:
        raise BlockError("identity", f"header {header.height} was judged by another identity topic")
    _check_ranges(before, header)


def _check_ranges(before: Header, header: Header) -> None:
    firsts = {(r.topic, r.partition): r.first for r in header.ranges}
    for (topic, partition), following in before.next_offsets.items():
        first = firsts.get((topic, partition))
        if first is None:
            raise BlockError("range-missing", f"header {header.height} has no range of {topic} {partition}")
        if first != following:
            detail = f"{topic} {partition} goes on at {first} instead of {following}"
            raise BlockError("range-gap", f"header {header.height}: {detail}")
    covered, given, taken = before.next_offsets, before.handed("gave"), header.handed("took")
    for topic, partition in firsts:
        place = topic, partition
        if (place in covered and place in taken) or (place in given and place not in taken):
            detail = f"{topic} {partition} is taken while covered, or covered after it was given away"
            raise BlockError("handover", f"header {header.height}: {detail}")


def parse_block_origin(text: str) -> tuple[str, int]:
    """Return a shard's origin and the height that a block's origin names; raises ValueError."""
    named = _BLOCK_ORIGIN.fullmatch(text)
    if named is None:
        raise ValueError("not ORIGIN/block/HEIGHT")
    return named.group(1), int_of_decimal(named.group(2))


def header_key(shard: int, height: int) -> str:
    """Return the object key of a header."""
    return f"shard/{shard}/{height:012d}/header"


def body_key(shard: int, height: int, root: bytes) -> str:
    """Return the object key of a body; several may exist of one height, the header names the one."""
    return f"shard/{shard}/{height:012d}/body-{root.hex()}.parquet"


def _header_of(checkpoint: Checkpoint) -> Header:
    origin, height = parse_block_origin(checkpoint.origin)
    lines = [line.split(" ") for line in checkpoint.extensions]
    previous, time, accepted, body, identity = _fixed_lines(lines[:5])
    ranges = [line for line in lines[5:] if line[0] == "range"]
    handovers = lines[5 + len(ranges) :]
    if lines[5:] != ranges + handovers or any(len(line) != 5 for line in lines[5:]):
        raise ValueError("ranges and handovers are out of order or of the wrong shape")
    if _SHA256_HEX.fullmatch(body[2]) is None:
        raise ValueError("the body's hash is not 64 hex digits")
    return Header(
        origin=origin,
        height=height,
        leaves=checkpoint.size,
        root=checkpoint.root,
        previous=hash_of_base64(previous[1]),
        time=datetime.fromisoformat(time[1]).astimezone(UTC),
        accepted=int_of_decimal(accepted[1]),
        body_bytes=int_of_decimal(body[1]),
        body_sha256=bytes.fromhex(body[2]),
        identity=(identity[1], int_of_decimal(identity[2]), int_of_decimal(identity[3])),
        ranges=tuple(Range(r[1], *(int_of_decimal(number) for number in r[2:])) for r in ranges),
        handovers=tuple(
            Handover(h[0], h[1], int_of_decimal(h[2]), int_of_decimal(h[3]), h[4]) for h in handovers
        ),
    )


def _fixed_lines(lines: list[list[str]]) -> list[list[str]]:
    if [(line[0], len(line)) for line in lines] != _FIXED_LINES:
        raise ValueError("lines are missing, out of order or of the wrong shape")
    return lines


def _require_sense(header: Header) -> None:
    places = [(r.topic, r.partition) for r in header.ranges]
    if places != sorted(set(places)):
        raise ValueError("ranges are not sorted, or a partition is there twice")
    for topic, partition in (*places, header.identity[:2]):
        if _TOPIC.fullmatch(topic) is None or not 0 <= partition <= PARTITION_MAX:
            raise ValueError("not a Kafka topic and partition")
    if any(r.first > r.next for r in header.ranges):
        raise ValueError("a range ends before it begins")
    _require_handovers(header)
    if header.leaves > sum(r.next - r.first for r in header.ranges) or header.accepted > header.leaves:
        raise ValueError("more leaves than offsets, or more accepted than there are")


def _require_handovers(header: Header) -> None:
    known = {(h.way, h.topic, h.partition): h for h in header.handovers}
    if list(header.handovers) != sorted(known.values()):
        raise ValueError("handovers are not sorted, or a partition is handed over twice")
    ends = {("took", r.topic, r.partition): r.first for r in header.ranges}
    ends |= {("gave", r.topic, r.partition): r.next for r in header.ranges}
    for place, handover in known.items():
        shard = parse_block_origin(handover.other)[0] if place[0] == "took" else handover.other
        if ends.get(place) != handover.offset or shard in {"", header.origin}:
            raise ValueError("a handover is not at an end of its range, or is to the shard itself")
