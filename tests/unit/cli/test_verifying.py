from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from salus.cli.__main__ import run
from salus.cli.exits import Exit
from salus.devkit.network import NetworkFolder, Plan, load_key
from salus.ledger.block import Header, Leaf, Range, sign_header
from salus.ledger.checkpoint import Checkpoint
from salus.ledger.merkle import leaf_hash
from salus.ledger.note import NoteSigner, sign_note
from salus.ledger.receipt import build_receipt

EVENT = b'{"specversion":"1.0"}'
TOPIC = "salus.clinical.events"


@pytest.fixture
def files(tmp_path):
    """A network, and the receipt of the only event of its only block."""
    folder = NetworkFolder(tmp_path)
    folder.create(Plan())
    shard = NoteSigner("salus.local/dev/shard/0", load_key(folder.key_file("shard-0")))
    log = NoteSigner("salus.local/dev/log", load_key(folder.key_file("log")))
    leaf = Leaf(
        topic=TOPIC, partition=0, offset=5, status="accepted", digest=leaf_hash(EVENT), signature=None
    )
    header = Header(
        origin="salus.local/dev/shard/0",
        height=0,
        leaves=1,
        root=leaf.hash(),
        previous=bytes(32),
        time=datetime(2026, 11, 22, 15, tzinfo=UTC),
        accepted=1,
        body_bytes=1,
        body_sha256=sha256(b"x").digest(),
        identity=("salus.identity.events", 0, 1),
        ranges=(Range(topic=TOPIC, partition=0, first=5, next=6),),
    )
    note = sign_header(header, shard)
    checkpoint = sign_note(Checkpoint("salus.local/dev/log", 1, leaf_hash(note), ()).text(), [log])
    (tmp_path / "a.salus").write_bytes(build_receipt(leaf.data(), 0, [], note, 0, [], checkpoint))
    (tmp_path / "event").write_bytes(EVENT)
    (tmp_path / "other").write_bytes(EVENT + b" ")
    return tmp_path


def verify(files, *more):
    return run(["verify", str(files / "a.salus"), "--policy", str(files / "network.json"), *more])


def test_a_receipt_is_verified_with_the_policy_alone(files, capsys):
    assert verify(files, "--event", str(files / "event"), "--json") == Exit.OK

    facts = json.loads(capsys.readouterr().out)
    assert facts["valid"]
    assert facts["event_checked"]
    assert facts["leaf"]["offset"] == 5
    assert facts["log"] | {"root": ""} == {"origin": "salus.local/dev/log", "index": 0, "size": 1, "root": ""}


def test_a_receipt_of_another_event_is_a_no(files, capsys):
    assert verify(files, "--event", str(files / "other"), "--json") == Exit.NO

    assert json.loads(capsys.readouterr().out)["code"] == "event-digest"


def test_a_changed_receipt_is_a_no(files, capsys):
    receipt = files / "a.salus"
    receipt.write_bytes(receipt.read_bytes().replace(b"accepted 1", b"accepted 0"))

    assert verify(files) == Exit.NO

    assert "header-signature" in capsys.readouterr().err


def test_another_network_s_policy_is_a_no(files, tmp_path):
    NetworkFolder(tmp_path / "other-network").create(Plan())
    policy = str(tmp_path / "other-network" / "network.json")

    assert run(["verify", str(files / "a.salus"), "--policy", policy]) == Exit.NO


@pytest.mark.parametrize("content", [b"", b"not a receipt", b"\xff\xfe", b"c2sp.org/tlog-proof@v1\n" * 1000])
def test_what_is_no_receipt_is_a_no(files, content):
    (files / "a.salus").write_bytes(content)

    assert verify(files) == Exit.NO


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff"])
def test_what_is_no_policy_is_usage(files, content):
    (files / "network.json").write_bytes(content)

    assert verify(files) == Exit.USAGE


def test_the_people_s_form_says_what_was_not_checked(files, capsys):
    assert verify(files) == Exit.OK

    shown = capsys.readouterr().out
    assert "not given" in shown
    assert f"{TOPIC} 0 5" in shown


def test_a_receipt_that_is_not_there_is_usage(tmp_path):
    assert run(["verify", str(tmp_path / "none.salus")]) == Exit.USAGE
