"""What nobody here wrote (Go's sumdb/note and tlog, Tessera, Torchwood, go-cose) agrees with the library."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.ledger.network import SIGNATURE

from salus.ledger.block import NO_PREVIOUS, Header, Leaf, Range, sign_header
from salus.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from salus.ledger.cose import parse_cose_receipt, sign_root
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.errors import PolicyError
from salus.ledger.merkle import leaf_hash, levels_of, path_in
from salus.ledger.note import NoteSigner, add_signatures
from salus.ledger.policy import Policy
from salus.ledger.receipt import build_receipt, cose_receipt
from salus.ledger.tiles import CompactRange, TileRef, inclusion_proof, new_tiles
from salus.ledger.tlog_policy import parse_tlog_policy

FOREIGN = Path(__file__).parents[2] / "foreign"
# Sizes at which a checkpoint is made: partial tiles of many widths, full tiles, a second level.
SIZES = (1, 2, 200, 256, 257, 700, 1024, 2500, 3001)
VALUES = [b'{"id":"%d"}' % i for i in range(4)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Build the Go program once and return how to run it."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("the Go toolchain is not installed: nothing foreign can check the log")
    program = tmp_path_factory.mktemp("foreign") / "foreign"
    subprocess.run([go, "build", "-mod=readonly", "-o", str(program), "."], cwd=FOREIGN, check=True)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)

    return run


@dataclass(frozen=True)
class WrittenLog:
    """A log of real block headers in a folder, and the signers behind it."""

    folder: Path
    log: NoteSigner
    shard: NoteSigner
    witness: CosignatureSigner
    headers: list[bytes]
    leaves: list[Leaf]

    def flags(self) -> list[str]:
        """Return the flags that tell the program where the log is and whom to trust."""
        url = self.folder.as_uri()
        return ["-url", url, "-log", self.log.vkey, "-shard", self.shard.vkey, "-witness", self.witness.vkey]

    def read_tile(self, level: int, index: int, width: int) -> bytes:
        """Read a tile from the folder."""
        return (self.folder / TileRef(level, index, width).path).read_bytes()


def _key(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(seed).digest())


def _leaves(height: int) -> list[Leaf]:
    first = height * len(VALUES)
    return [
        Leaf(
            "salus.clinical.events", 0, first + i, 1_795_359_600_000, "accepted", leaf_hash(value), SIGNATURE
        )
        for i, value in enumerate(VALUES)
    ]


def _headers(signer: NoteSigner, count: int) -> list[bytes]:
    notes: list[bytes] = []
    for height in range(count):
        header = Header(
            origin=signer.name,
            height=height,
            leaves=len(VALUES),
            root=levels_of([leaf.hash() for leaf in _leaves(height)])[-1][0],
            previous=leaf_hash(notes[-1]) if notes else NO_PREVIOUS,
            time=datetime(2026, 11, 22, tzinfo=UTC) + timedelta(milliseconds=200 * height),
            accepted=len(VALUES),
            body_bytes=1,
            body_sha256=bytes(32),
            identity=("salus.identity.events", 0, 1),
            ranges=(Range("salus.clinical.events", 0, height * len(VALUES), (height + 1) * len(VALUES)),),
        )
        notes.append(sign_header(header, signer))
    return notes


@pytest.fixture
def written(tmp_path: Path) -> WrittenLog:
    """Grow a log step by step into a folder, with a checkpoint at the end of each step."""
    log = NoteSigner("salus.example/log", _key(b"log"))
    shard = NoteSigner("salus.example/shard/0", _key(b"shard"))
    witness = CosignatureSigner("witness.example/w1", _key(b"witness"))
    headers = _headers(shard, SIZES[-1])
    made = WrittenLog(tmp_path / "log", log, shard, witness, headers, _leaves(SIZES[-2]))
    tree = CompactRange()
    for size in SIZES:
        fresh = headers[tree.size : size]
        for path, data in new_tiles(tree.size, fresh, made.read_tile).items():
            place = made.folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        tree.extend(leaf_hash(entry) for entry in fresh)
        head = Checkpoint(log.name, size, tree.root())
        note = add_signatures(sign_checkpoint(head, [log]), [witness.cosign(head, seconds=1_800_000_000)])
        (made.folder / "checkpoint").write_bytes(note)
        (made.folder / f"checkpoint.{size}").write_bytes(note)
    return made


def test_foreign_programs_find_nothing_wrong_in_our_log(foreign: Run, written: WrittenLog) -> None:
    for size in SIZES:
        shutil.copy(written.folder / f"checkpoint.{size}", written.folder / "checkpoint")
        done = foreign("log", *written.flags())

        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"ok: {size} entries")


def test_foreign_programs_take_a_checkpoint_of_a_key_that_hands_over_by_either_key(
    foreign: Run, written: WrittenLog
) -> None:
    new = NoteSigner(written.log.name, _key(b"the log's new key"))
    head, _ = open_checkpoint((written.folder / "checkpoint").read_bytes(), written.log.verifier)
    (written.folder / "checkpoint").write_bytes(sign_checkpoint(head, [written.log, new]))
    flags = written.flags()

    for signer in (written.log, new):
        done = foreign("log", *(signer.vkey if flag == written.log.vkey else flag for flag in flags))
        assert done.returncode == 0, done.stderr
    (written.folder / "checkpoint").write_bytes(sign_checkpoint(head, [new]))
    assert foreign("log", *flags).returncode != 0


@pytest.mark.parametrize(
    "path", ["tile/0/005", "tile/1/000.p/11", "tile/entries/011.p/185", "tile/0/011.p/185", "checkpoint"]
)
def test_foreign_programs_see_one_flipped_bit(foreign: Run, written: WrittenLog, path: str) -> None:
    data = bytearray((written.folder / path).read_bytes())
    data[len(data) // 2] ^= 1
    (written.folder / path).write_bytes(bytes(data))

    assert foreign("log", *written.flags()).returncode != 0


def test_a_foreign_program_verifies_our_receipts(foreign: Run, written: WrittenLog, tmp_path: Path) -> None:
    height, size = SIZES[-2], SIZES[-1]
    levels = levels_of([leaf.hash() for leaf in written.leaves])
    event = tmp_path / "event"
    for index, value in enumerate(VALUES):
        receipt = build_receipt(
            written.leaves[index].data(),
            index,
            path_in(levels, index),
            written.headers[height],
            height,
            inclusion_proof(height, size, written.read_tile),
            (written.folder / "checkpoint").read_bytes(),
        )
        (tmp_path / "receipt.salus").write_bytes(receipt)
        event.write_bytes(value)
        done = foreign("receipt", *written.flags(), "-event", str(event), str(tmp_path / "receipt.salus"))

        assert done.returncode == 0, done.stderr
        assert (
            f"leaf {index} of {written.shard.name}/block/{height}, entry {height}, cosigners 1" in done.stdout
        )

        event.write_bytes(value + b" ")
        wrong_event = foreign(
            "receipt", *written.flags(), "-event", str(event), str(tmp_path / "receipt.salus")
        )
        assert wrong_event.returncode != 0
        (tmp_path / "receipt.salus").write_bytes(receipt.replace(b"index %d\n" % index, b"index 7\n"))
        assert foreign("receipt", *written.flags(), str(tmp_path / "receipt.salus")).returncode != 0


def test_a_foreign_program_verifies_our_cose_receipts_and_none_that_was_changed(
    foreign: Run, written: WrittenLog, tmp_path: Path
) -> None:
    height, size = SIZES[-2], SIZES[-1]
    levels = levels_of([leaf.hash() for leaf in written.leaves])
    trusted = ("-log", written.log.vkey, "-shard", written.shard.vkey)
    file = tmp_path / "receipt.cose"
    note = (written.folder / "checkpoint").read_bytes()
    for index in range(len(VALUES)):
        text = build_receipt(
            written.leaves[index].data(),
            index,
            path_in(levels, index),
            written.headers[height],
            height,
            inclusion_proof(height, size, written.read_tile),
            note,
        )
        file.write_bytes(cose_receipt(text, written.log.verifier, written.log))
        done = foreign("cose", *trusted, str(file))

        assert done.returncode == 0, done.stderr
        block = f"{written.shard.name}/block/{height}"
        assert done.stdout == f"ok: leaf {index} of {block}, entry {height} of {size}\n"

    parts = parse_cose_receipt(file.read_bytes())
    in_log, in_block = parts.in_log, parts.in_block
    for changed in (
        replace(parts, signature=bytes(64)),
        replace(parts, signature=sign_root(written.log, bytes(32))),
        replace(parts, key_id=bytes(4)),
        replace(parts, log="salus.example/other"),
        replace(parts, header=written.headers[height - 1]),
        replace(parts, leaf=written.leaves[0].data()),
        replace(parts, in_log=replace(in_log, index=height - 1)),
        replace(parts, in_log=replace(in_log, path=(*in_log.path[:-1], bytes(32)))),
        replace(parts, in_block=replace(in_block, index=0)),
        replace(parts, in_block=replace(in_block, path=(bytes(32), *in_block.path[1:]))),
    ):
        file.write_bytes(changed.encode())
        assert foreign("cose", *trusted, str(file)).returncode != 0, changed
    stranger = NoteSigner(written.log.name, _key(b"stranger")).vkey
    file.write_bytes(parts.encode())
    assert foreign("cose", "-log", stranger, "-shard", written.shard.vkey, str(file)).returncode != 0


# Quorums over the witnesses w0 to w4; c2sp.org/tlog-policy's own example is the last but one.
POLICIES = (
    "quorum none",
    "quorum w3",
    "group most 3 w0 w1 w2 w3 w4\nquorum most",
    "group every all w0 w1 w2 w3 w4\nquorum every",
    "group x 2 w0 w1 w2\ngroup y any w3 w4\ngroup x-and-y all x y\nquorum x-and-y",
    "group a any w0\ngroup b 2 a w1 w2\ngroup c all b w3\ngroup d any c w4\nquorum d",
)


@pytest.mark.parametrize("rule", POLICIES)
def test_foreign_programs_read_our_policies_and_come_to_the_same_verdicts(
    foreign: Run, tmp_path: Path, rule: str
) -> None:
    log = NoteSigner("salus.example/log", _key(b"log"))
    signers = [CosignatureSigner(f"w{n}.example", _key(b"w%d" % n)) for n in range(5)]
    head = Checkpoint(log.name, 5, bytes(32))
    lines = [f"witness w{n} {one.vkey} https://w{n}.example/" for n, one in enumerate(signers)]
    read = parse_tlog_policy("\n".join([f"log {log.vkey}", *lines, rule, ""]).encode())
    policy = Policy((log.verifier,), {}).under(read)
    file = tmp_path / "policy"
    file.write_bytes(read.encode())
    ours, notes = [], []
    for chosen in range(2 ** len(signers)):
        by = [one.cosign(head, seconds=7) for n, one in enumerate(signers) if chosen >> n & 1]
        note = add_signatures(sign_checkpoint(head, [log]), by)
        notes.append(tmp_path / f"checkpoint.{chosen}")
        notes[-1].write_bytes(note)
        ours.append(str(policy.open_checkpoint(note).is_final).lower())

    done = foreign("policy", str(file), *map(str, notes))

    assert done.stdout.split() == ours, done.stderr


@pytest.mark.parametrize(
    "rule", ["quorum w9", "group g 2 w0\nquorum g", "group g any w9\nquorum g", "frob w0\nquorum none", ""]
)
def test_foreign_programs_refuse_the_policies_that_we_refuse(foreign: Run, tmp_path: Path, rule: str) -> None:
    vkey = CosignatureSigner("w0.example", _key(b"w0")).vkey
    file = tmp_path / "policy"
    file.write_text(f"witness w0 {vkey} https://w0.example/\n{rule}\n")

    with pytest.raises(PolicyError):
        parse_tlog_policy(file.read_bytes())
    assert foreign("policy", str(file)).returncode != 0


def test_the_foreign_programs_agree_with_tesseras_own_log(foreign: Run, data_folder: Path) -> None:
    golden = data_folder / "tlog" / "tessera-golden"
    done = foreign("log", "-url", golden.as_uri(), "-log", (golden / "VKEY.txt").read_text().strip())

    assert done.stdout.startswith("ok: 15 entries"), done.stderr


@pytest.fixture
def data_folder() -> Path:
    return Path(__file__).parents[2] / "data"
