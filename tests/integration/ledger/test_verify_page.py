"""The verification page in a real browser: a valid receipt, and a changed one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from base64 import b64encode
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.ledger.network import SIGNATURE, make_world
from tests.unit.ledger.spoiled import SENTENCES, network_json, spoiled

from salus.cli.display import shown as shown_text
from salus.ledger.block import NO_PREVIOUS, Header, Leaf, Range, sign_header
from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.merkle import leaf_hash
from salus.ledger.note import NoteSigner, encode_vkey
from salus.ledger.receipt import build_receipt

EVENT = b'{"id":"1","type":"salus.lab.result-released.v1"}'
# Hands the files to the page as if they had been dropped onto it.
DROP = """
<script>(async () => {
  for (const [name, text] of FILES) {
    const slot = name === "my-policy" ? "policy" : null;
    await take(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name), slot);
  }
})();</script>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    """Return a Chromium, whatever it is called here."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if (found := shutil.which(name)) is not None:
            return found
    pytest.skip("no Chromium is installed: the page's script is tested with Node only")


def _network_and_receipt(event: bytes = EVENT, status: str = "accepted") -> tuple[bytes, bytes]:
    log = NoteSigner("salus.example/log", Ed25519PrivateKey.generate())
    shard = NoteSigner("salus.example/shard/0", Ed25519PrivateKey.generate())
    leaf = Leaf("salus.lab.events", 0, 0, 1_795_359_600_000, status, leaf_hash(event), SIGNATURE)
    header = Header(
        origin=shard.name,
        height=0,
        leaves=1,
        root=leaf.hash(),
        previous=NO_PREVIOUS,
        time=datetime(2026, 11, 22, 15, tzinfo=UTC),
        accepted=1 if status == "accepted" else 0,
        body_bytes=1,
        body_sha256=bytes(32),
        identity=("salus.identity.events", 0, 1),
        ranges=(Range("salus.lab.events", 0, 0, 1),),
    )
    note = sign_header(header, shard)
    checkpoint = sign_checkpoint(Checkpoint(log.name, 1, leaf_hash(note)), [log])
    network = {
        "log": {"origin": log.name, "verifier_key": log.vkey},
        "shards": [{"origin": shard.name, "verifier_key": shard.vkey}],
        "policy": ["quorum none"],
    }
    return json.dumps(network).encode(), build_receipt(leaf.data(), 0, [], note, 0, [], checkpoint)


def _shown(browser: str, folder: Path, dropped: dict[str, bytes]) -> str:
    page = (files("salus.ledger") / "verify.html").read_text(encoding="utf-8")
    named = [[name, b64encode(data).decode()] for name, data in dropped.items()]
    place = folder / "verify.html"
    place.write_text(
        page.replace("</body>", DROP.replace("FILES", json.dumps(named)) + "</body>"), encoding="utf-8"
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run(
        [browser, *options, "--virtual-time-budget=5000", "--dump-dom", place.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL)


def test_a_valid_receipt_is_shown_as_valid_with_its_event(browser: str, tmp_path: Path) -> None:
    network, receipt = _network_and_receipt()
    shown = _shown(browser, tmp_path, {"network.json": network, "one.salus": receipt, "event": EVENT})

    assert "The receipt is valid" in shown
    assert "salus.lab.events, partition 0, offset 0" in shown
    assert '"salus.lab.result-released.v1"' in shown.replace("&quot;", '"')


# case people.md: a proof that a record was refused must not look like success
def test_the_receipt_of_a_refused_record_is_red_and_has_no_tick(browser: str, tmp_path: Path) -> None:
    network, receipt = _network_and_receipt(status="rejected:unknown-key")
    shown = _shown(browser, tmp_path, {"network.json": network, "one.salus": receipt, "event": EVENT})

    assert "<strong>REFUSED: unknown-key</strong>" in shown
    assert 'id="verdict" class="bad"' in shown
    assert 'class="ok"' not in shown
    assert 'class="refused"' in shown
    assert "The receipt is valid" not in shown


def test_what_a_stranger_wrote_is_shown_to_its_last_character(browser: str, tmp_path: Path) -> None:
    """Case O1: controls, separators, marks of direction and characters without width."""
    said = "a\x7fb\x9bc\u2028d\u202ee\u2066f\u200bg\u00adh\U000e0041i\ufe0fj<b>é"
    event = json.dumps({"id": said}, ensure_ascii=False).encode()
    network, receipt = _network_and_receipt(event)
    shown = _shown(browser, tmp_path, {"network.json": network, "one.salus": receipt, "ev\u202eent": event})

    written = shown_text(said).replace("<b>", "&lt;b&gt;")
    assert written.startswith("a\\u007fb\\u009bc\\u2028d\\u202ee")
    assert f'"id": "{written}"' in shown.replace("&quot;", '"')
    assert "ev\\u202eent" in shown


def test_a_log_whose_key_anybody_has_is_nobody_to_trust(browser: str, tmp_path: Path) -> None:
    """Case SEC11."""
    network, receipt = _network_and_receipt()
    described = json.loads(network)
    described["log"]["verifier_key"] = encode_vkey(described["log"]["origin"], 0x01, bytes([1, *bytes(31)]))
    files = {"network.json": json.dumps(described).encode(), "one.salus": receipt}

    assert "does not hold its owner to a signature" in _shown(browser, tmp_path, files)


@pytest.mark.parametrize("number", range(6))
def test_each_step_that_fails_is_shown_as_the_one(browser: str, tmp_path: Path, number: int) -> None:
    world = make_world()
    one = spoiled(world)[number]
    shown = _shown(browser, tmp_path, {"network.json": network_json(world), "one.salus": one.receipt})

    assert "The receipt proves nothing" in shown
    assert re.findall(r'<li class="no"><span>([^<]*)', shown) == [SENTENCES[one.code]]


def test_a_policy_of_one_s_own_takes_the_place_of_the_network_s(browser: str, tmp_path: Path) -> None:
    world = make_world()
    policy = f"witness silent {world.witnesses[2].vkey}\nquorum silent\n".encode()
    dropped = {"network.json": network_json(world), "one.salus": world.receipt()}

    assert "The receipt is valid" in _shown(browser, tmp_path, dropped)
    shown = _shown(browser, tmp_path, {**dropped, "my-policy": policy})
    assert "silent has not cosigned" in shown
    assert re.findall(r'<li class="no"><span>([^<]*)', shown) == [SENTENCES["quorum"]]


def test_a_changed_receipt_is_shown_with_the_step_that_failed(browser: str, tmp_path: Path) -> None:
    network, receipt = _network_and_receipt()
    changed = receipt.replace(b"accepted 1\n", b"accepted 0\n")
    shown = _shown(browser, tmp_path, {"network.json": network, "one.salus": changed})

    assert "The receipt proves nothing" in shown
    assert re.search(r'<li class="no"><span>The block is signed by its sequencer', shown)
