from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from tests.unit.ledger.network import make_world
from tests.unit.ledger.spoiled import network_json, spoiled

from salus.cli.application import run
from salus.cli.exits import Exit
from salus.crypto.keys import load_ed25519
from salus.devkit.key_files import KeyFiles, Owner
from salus.devkit.network import NetworkFolder, Plan
from salus.ledger.block import Header, Leaf, Range, sign_header
from salus.ledger.checkpoint import Checkpoint
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.merkle import leaf_hash
from salus.ledger.note import NoteSigner, sign_note
from salus.ledger.receipt import build_receipt, cose_receipt
from salus.ledger.tlog_policy import parse_tlog_policy

EVENT = b'{"specversion":"1.0"}'
TOPIC = "salus.clinical.events"


@pytest.fixture
def files(tmp_path):
    """A network, and the receipt of the only event of its only block."""
    return network_with(tmp_path)


def network_with(tmp_path, status="accepted"):
    folder = NetworkFolder(tmp_path)
    folder.create(Plan())
    shard = NoteSigner("salus.local/dev/shard/0", load_ed25519(folder.key_file("shard-0")))
    log = NoteSigner("salus.local/dev/log", load_ed25519(folder.key_file("log")))
    leaf = Leaf(TOPIC, 0, 5, 1_795_359_600_000, status, digest=leaf_hash(EVENT), signature=None)
    header = Header(
        origin="salus.local/dev/shard/0",
        height=0,
        leaves=1,
        root=leaf.hash(),
        previous=bytes(32),
        time=datetime(2026, 11, 22, 15, tzinfo=UTC),
        accepted=1 if status == "accepted" else 0,
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
    assert facts["outcome"] == "accepted"
    assert facts["event_checked"]
    assert facts["leaf"]["offset"] == 5
    assert facts["log"] | {"root": ""} == {"origin": "salus.local/dev/log", "index": 0, "size": 1, "root": ""}


def test_it_says_whom_it_trusts(files, capsys, monkeypatch):
    """Case redB8 3: what somebody sent may have a `.salus` of its own, which is meant where none is named."""
    file = files / "network.json"
    told = {"logs": ["salus.local/dev/log"], "files": [str(file)]}
    assert verify(files, "--json") == Exit.OK
    assert json.loads(capsys.readouterr().out)["trusted"] == told
    sent = files / "sent" / ".salus"
    sent.mkdir(parents=True)
    (sent / "network.json").write_bytes(file.read_bytes())
    monkeypatch.setenv("SALUS_STATE", str(sent))

    for receipts in (1, 2):
        assert run(["verify", *[str(files / "a.salus")] * receipts]) == Exit.OK
        assert f"trusted: salus.local/dev/log, as in {sent}/network.json" in capsys.readouterr().out


def test_each_step_that_fails_is_named(tmp_path, capsys):
    world = make_world()
    (tmp_path / "network.json").write_bytes(network_json(world))
    (tmp_path / "a.salus").write_bytes(world.receipt())
    assert verify(tmp_path) == Exit.OK

    for one in spoiled(world):
        (tmp_path / "a.salus").write_bytes(one.receipt)
        capsys.readouterr()
        assert verify(tmp_path, "--json") == Exit.NO
        told = capsys.readouterr()
        assert json.loads(told.out)["code"] == one.code
        assert f"the receipt does not verify: {one.code}: " in " ".join(told.err.split())


def test_a_cose_receipt_is_verified_like_the_other_form(tmp_path, capsys):
    world = make_world()
    (tmp_path / "network.json").write_bytes(network_json(world))
    (tmp_path / "a.salus").write_bytes(world.receipt())
    assert verify(tmp_path, "--json") == Exit.OK
    text = json.loads(capsys.readouterr().out)

    cose = cose_receipt(world.receipt(), world.log.verifier, world.log)
    (tmp_path / "a.salus").write_bytes(cose)
    assert verify(tmp_path, "--json") == Exit.OK
    assert json.loads(capsys.readouterr().out) == text

    (tmp_path / "a.salus").write_bytes(cose[:-1] + bytes([cose[-1] ^ 1]))
    assert verify(tmp_path, "--json") == Exit.NO
    assert json.loads(capsys.readouterr().out)["code"] == "checkpoint-signature"


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


def test_a_policy_file_of_one_s_own_takes_the_place_of_the_network_s(files, capsys):
    witness = CosignatureSigner("hospital.example/witness", load_ed25519(files / "keys" / "log.pem")).vkey
    policy = files / "policy"
    policy.write_text(f"witness hospital {witness}\nquorum hospital\n")
    with_network = ["verify", str(files / "a.salus"), "--network", str(files / "network.json"), "--policy"]

    assert run([*with_network, str(policy), "--json"]) == Exit.NO
    assert json.loads(capsys.readouterr().out)["code"] == "quorum"

    policy.write_text(f"witness hospital {witness}\nquorum none\n")
    assert run([*with_network, str(policy)]) == Exit.OK


def test_the_network_s_policy_is_printed_as_a_file_that_verifies(files, capsys):
    assert run(["network", "policy", "--directory", str(files)]) == Exit.OK
    printed = capsys.readouterr().out

    assert printed.splitlines() == [
        f"log {json.loads((files / 'network.json').read_text())['log']['verifier_key']}",
        "quorum none",
    ]
    (files / "policy").write_text(printed)
    network = str(files / "network.json")
    assert (
        run(["verify", str(files / "a.salus"), "--network", network, "--policy", str(files / "policy")])
        == Exit.OK
    )


def test_the_printed_policy_says_as_a_comment_which_keys_do_not_sign_everywhere(files, capsys):
    keys = KeyFiles(NetworkFolder(files))
    new = keys.add(Owner("log"), first=7)
    old = keys.of(Owner("log"))[0]
    keys.retire(old, end=9)
    assert run(["network", "policy", "--directory", str(files)]) == Exit.OK
    printed = capsys.readouterr().out
    comments = [line for line in printed.splitlines() if line.startswith("#")]

    assert "also after it was retired" in " ".join(comments)
    assert f"# {old.name} {old.key_id} from 0 until 9" in comments
    assert f"# {new.name} {new.key_id} from 7" in comments
    assert {log.verifier.vkey for log in parse_tlog_policy(printed.encode()).logs} == {
        old.verifier_key,
        new.verifier_key,
    }


def test_a_wrong_line_of_a_policy_file_is_named(files, capsys):
    (files / "policy").write_text("# whom I trust\ngroup all any nobody\nquorum all\n")
    network = str(files / "network.json")

    assert (
        run(["verify", str(files / "a.salus"), "--network", network, "--policy", str(files / "policy")])
        == Exit.USAGE
    )
    assert "nor a tlog-policy (line 2: nobody in group all is not defined" in " ".join(
        capsys.readouterr().err.split()
    )


def test_an_earlier_network_file_is_usage_and_says_what_to_write(files, capsys):
    network = json.loads((files / "network.json").read_text())
    del network["policy"]
    (files / "network.json").write_text(json.dumps(network | {"witnesses": {"quorum": 0, "keys": []}}))

    assert verify(files) == Exit.USAGE
    assert 'write "policy": ["quorum none"]' in " ".join(capsys.readouterr().err.split())


def test_two_network_files_are_usage(files):
    assert verify(files, "--network", str(files / "network.json")) == Exit.USAGE


def test_the_people_s_form_says_what_was_not_checked(files, capsys):
    assert verify(files) == Exit.OK

    shown = capsys.readouterr().out
    marks = {line.split()[1]: line.split()[0] for line in shown.splitlines()[1:]}
    # "A green tick before `event: not given`".
    assert marks == {"event": "•", "leaf": "✓", "block": "✓", "log": "✓", "witnesses": "•"}
    assert "not given" in shown
    assert f"{TOPIC} 0 5" in shown


def test_without_a_platform_the_policy_is_asked_for(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SALUS_STATE", str(tmp_path / "none"))

    assert run(["verify", str(files / "a.salus")]) == Exit.USAGE
    assert "give the network.json to go by as --policy" in " ".join(capsys.readouterr().err.split())


def test_a_receipt_that_is_not_there_is_usage(tmp_path):
    assert run(["verify", str(tmp_path / "none.salus")]) == Exit.USAGE


def with_bom(path):
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    return str(path)


def test_a_network_file_is_read_whichever_editor_saved_it(files):
    """Case D2: one with a byte order mark was `.salus/network.json: No such file or directory`."""
    with_bom(files / "network.json")

    assert verify(files) == Exit.OK


def test_a_tlog_policy_is_read_whichever_editor_saved_it(files):
    policy = files / "policy"
    policy.write_bytes(b"quorum none\n")

    told = run(
        [
            "verify",
            str(files / "a.salus"),
            "--policy",
            with_bom(policy),
            "--network",
            str(files / "network.json"),
        ]
    )
    assert told == Exit.OK


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"quorum", b"\xff\xfe{\x00}\x00", b"<html>\n"])
def test_an_error_is_about_the_file_that_was_given(files, content, capsys, monkeypatch):
    """Case D2: the file's type was guessed by its first byte, and the error named another file."""
    monkeypatch.setenv("SALUS_STATE", str(files / "nowhere"))
    (files / "trust").write_bytes(content)

    assert run(["verify", str(files / "a.salus"), "--policy", str(files / "trust")]) == Exit.USAGE
    told = capsys.readouterr().err
    assert str(files / "trust") in told
    assert "nowhere" not in told


def test_a_receipt_with_carriage_returns_says_what_happened_to_it(files, capsys):
    """Case D2: the sentence said `malformed`, which sounds like forged."""
    receipt = files / "a.salus"
    receipt.write_bytes(receipt.read_bytes().replace(b"\n", b"\r\n"))

    assert verify(files) == Exit.NO
    assert "an editor or a transfer changed the file" in capsys.readouterr().err


# case people.md: an unregistered key: a tick, and 0
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_the_receipt_of_a_refused_record_is_no_success(tmp_path, capsys, more):
    files = network_with(tmp_path, "rejected:unknown-key")

    assert verify(files, "--event", str(files / "event"), *more) == Exit.REFUSED
    told = capsys.readouterr()
    assert "✓" not in told.out + told.err
    assert "REFUSED: unknown-key; this proves that it was refused" in " ".join(told.err.split())
    if more:
        facts = json.loads(told.out)
        assert (facts["outcome"], facts["reason"]) == ("refused", "unknown-key")
    else:
        assert "✗ REFUSED" in told.out


def many(tmp_path, *statuses):
    """A folder of receipts, all under one policy."""
    (tmp_path / "receipts" / "deeper").mkdir(parents=True)
    for number, status in enumerate(statuses):
        world = make_world()
        (tmp_path / "network.json").write_bytes(network_json(world))
        content = world.receipt() if status == "accepted" else b"damaged"
        (tmp_path / "receipts" / "deeper" / f"{number}.salus").write_bytes(content)
    (tmp_path / "receipts" / "stray.txt").write_text("not a receipt")
    return tmp_path


def test_many_receipts_are_verified_in_one_go(tmp_path, capsys):
    many(tmp_path, "accepted", "accepted")
    policy = ["--policy", str(tmp_path / "network.json")]

    assert run(["verify", str(tmp_path / "receipts"), *policy]) == Exit.OK
    assert "2 accepted, 0 refused, 0 invalid" in capsys.readouterr().out
    single = str(tmp_path / "receipts" / "deeper" / "0.salus")
    assert run(["verify", single, str(tmp_path / "receipts"), *policy, "--json"]) == Exit.OK
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["outcome"] for line in lines] == ["accepted"] * 3
    assert lines[0]["file"] == single
    assert run(["verify", single, single, *policy, "--event", single]) == Exit.USAGE
    (tmp_path / "empty").mkdir()
    assert run(["verify", str(tmp_path / "empty"), *policy]) == Exit.USAGE


def test_a_pipe_in_a_folder_of_somebody_else_is_named_and_not_waited_for(tmp_path, capsys):
    many(tmp_path, "accepted", "accepted")
    odd = tmp_path / "receipts" / "b.salus"
    os.mkfifo(odd)

    assert run(["verify", str(odd.parent), "--policy", str(tmp_path / "network.json")]) == Exit.USAGE
    assert f"{odd} is neither a file nor a folder" in capsys.readouterr().err.replace("\n", "")


def test_of_many_receipts_the_worst_counts(tmp_path, capsys):
    many(tmp_path, "accepted", "damaged", "accepted")

    told = run(["verify", str(tmp_path / "receipts"), "--policy", str(tmp_path / "network.json")])
    assert told == Exit.NO
    shown = capsys.readouterr()
    assert "2 accepted, 0 refused, 1 invalid" in shown.out
    assert "1.salus: does not verify: malformed" in " ".join(shown.out.split())


def test_refused_receipts_among_accepted_ones_are_told(tmp_path, capsys):
    files = network_with(tmp_path, "rejected:bad-signature")
    receipt = str(files / "a.salus")

    assert run(["verify", receipt, receipt, "--policy", str(files / "network.json")]) == Exit.REFUSED
    shown = capsys.readouterr().out
    assert "REFUSED: bad-signature" in shown
    assert "0 accepted, 2 refused, 0 invalid" in shown


def test_a_receipt_is_not_read_beyond_its_size(files, capsys):
    # case F8: a folder is verified that anybody may have put files into
    with (files / "large.salus").open("wb") as large:
        large.truncate(1 << 36)
    (files / "b.salus").write_bytes((files / "a.salus").read_bytes())

    code = run(["verify", str(files), "--policy", str(files / "network.json"), "--json"])

    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == Exit.NO
    assert sorted(one["outcome"] for one in told) == ["accepted", "accepted", "invalid"]


def test_an_event_is_not_read_beyond_its_size(files, capsys):
    with (files / "large").open("wb") as large:
        large.truncate(1 << 36)
    receipt, policy = str(files / "a.salus"), str(files / "network.json")

    code = run(["verify", receipt, "--policy", policy, "--event", str(files / "large")])

    assert code == Exit.USAGE
    assert "more than 1048576 bytes" in " ".join(capsys.readouterr().err.split())
