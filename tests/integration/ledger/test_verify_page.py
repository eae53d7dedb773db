"""The verification page in a real browser: a valid receipt, and a changed one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Literal

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.ledger.network import SIGNATURE, make_world
from tests.unit.ledger.spoiled import SENTENCES, network_json, spoiled

from salus.cli.display import shown as shown_text
from salus.ledger.block import NO_PREVIOUS, Header, Leaf, Range, sign_header
from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.merkle import leaf_hash
from salus.ledger.note import NoteSigner, add_signatures, encode_vkey
from salus.ledger.quorum import Quorum
from salus.ledger.receipt import build_receipt
from salus.ledger.tlog_policy import TlogPolicy

EVENT = b'{"id":"1","type":"salus.lab.result-released.v1"}'
# Drops files on the page or on a slot of it, or chooses one in a slot, as a reader does, one after the other.
DROP = """
<script>(async () => {
  const original = takeAll;
  let done;
  takeAll = (...given) => done = original(...given);
  for (const [gesture, slot, files] of GESTURES) {
    const data = new DataTransfer();
    for (const [name, text] of files)
      data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
    const on = slot ? byId(`slot-${slot}`) : document.querySelector("h1");
    if (gesture === "drop")
      on.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    else {
      on.querySelector("input").files = data.files;
      on.querySelector("input").dispatchEvent(new Event("change"));
    }
    await done;
  }
})();</script>
"""
Gesture = tuple[Literal["drop", "choose"], str | None, dict[str, bytes]]


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
    """Return the page after the files were dropped onto it, and one called my-policy onto its slot."""
    policy = {name: data for name, data in dropped.items() if name == "my-policy"}
    others = {name: data for name, data in dropped.items() if name not in policy}
    return _after(browser, folder, ("drop", None, others), ("drop", "policy", policy))


def _after(browser: str, folder: Path, *gestures: Gesture) -> str:
    page = (files("salus.ledger") / "verify.html").read_text(encoding="utf-8")
    named = [
        [gesture, slot, [[name, b64encode(data).decode()] for name, data in given.items()]]
        for gesture, slot, given in gestures
        if given
    ]
    place = folder / "verify.html"
    place.write_text(
        page.replace("</body>", DROP.replace("GESTURES", json.dumps(named)) + "</body>"), encoding="utf-8"
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


# case redB8 3
def test_no_file_among_others_replaces_whom_the_reader_trusts(browser: str, tmp_path: Path) -> None:
    mine, _ = _network_and_receipt()
    forged, receipt = _network_and_receipt()
    posing = json.dumps({"id": "1", "type": "x", **json.loads(forged)}).encode()
    for name, file in {"network.json": forged, "event.json": posing}.items():
        shown = _after(
            browser,
            tmp_path,
            ("choose", "network", {"network.json": mine}),
            ("drop", None, {"one.salus": receipt, name: file}),
        )
        assert "The receipt proves nothing" in shown
        assert f"Trusted: as in network.json (SHA-256 {sha256(mine).hexdigest()[:16]}…)." in shown
        assert f"{name} was not taken: it says whom to trust, and you have that already." in shown
        assert sha256(file).hexdigest()[:16] not in shown


# case redB8 3
def test_the_page_says_whom_it_trusts_and_that_it_came_among_other_files(
    browser: str, tmp_path: Path
) -> None:
    theirs, receipt = _network_and_receipt()
    mine, _ = _network_and_receipt()
    bundle: Gesture = ("drop", None, {"network.json": theirs, "one.salus": receipt})
    digest = sha256(theirs).hexdigest()
    whose = "salus.example/log, as in network.json (SHA-256 "

    shown = _after(browser, tmp_path, bundle)
    assert "The receipt is valid" in shown
    assert f"Trusted: {whose}{digest[:16]}…, dropped among other files: is it yours?)." in shown
    assert f"<dd>{whose}{digest}, dropped among other files: is it yours?)</dd>" in shown
    chosen = _after(browser, tmp_path, bundle, ("drop", "network", {"network.json": theirs}))
    assert f"Trusted: {whose}{digest[:16]}…)." in chosen
    replaced = _after(browser, tmp_path, bundle, ("drop", "network", {"mine.json": mine}))
    assert "The receipt proves nothing" in replaced
    assert f"Trusted: as in mine.json (SHA-256 {sha256(mine).hexdigest()[:16]}…)." in replaced


# case redB8 3
def test_a_folder_dropped_on_the_slot_of_trust_replaces_nothing(browser: str, tmp_path: Path) -> None:
    mine, _ = _network_and_receipt()
    theirs, receipt = _network_and_receipt()
    folder = {"one.salus": receipt, "network.json": theirs}
    given: Gesture = ("choose", "network", {"network.json": mine})
    for slot in ("network", "policy"):
        shown = _after(browser, tmp_path, given, ("drop", slot, folder))
        assert "The receipt proves nothing" in shown
        assert "network.json was not taken" in shown


# case redB8 4
@pytest.mark.parametrize(
    ("seconds", "said"),
    [(253402300799, "9999-12-31T23:59:59.000Z"), (2**63 - 1, "second 9223372036854775807")],
)
def test_a_witness_s_time_beyond_the_calendar_is_its_number(
    browser: str, tmp_path: Path, seconds: int, said: str
) -> None:
    world = make_world()
    witness = world.witnesses[0]
    note = add_signatures(
        sign_checkpoint(world.checkpoint, [world.log]), [witness.cosign(world.checkpoint, seconds=seconds)]
    )
    network = json.loads(network_json(world)) | {
        "policy": TlogPolicy((), Quorum.of(1, [witness.verifier])).lines()
    }
    dropped = {"network.json": json.dumps(network).encode(), "one.salus": world.receipt(checkpoint_note=note)}
    shown = _shown(browser, tmp_path, dropped)

    assert "The receipt is valid" in shown
    assert f"{witness.name} ({said})" in shown
    assert 'id="proven">' in shown
