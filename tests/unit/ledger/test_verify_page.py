"""The page that verifies receipts in a browser comes to the same verdicts as the library."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from base64 import b64encode
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest
from tests.unit.ledger.network import SIGNATURE, World, key_of
from tests.unit.ledger.spoiled import network_json, spoiled

from salus.ledger.checkpoint import sign_checkpoint
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.errors import LedgerError, PolicyError, ReceiptError
from salus.ledger.note import NOTE_BYTES_MAX, NoteSigner, sign_note
from salus.ledger.policy import Policy
from salus.ledger.quorum import Quorum
from salus.ledger.receipt import Receipt, cose_receipt, parse_receipt, verify_receipt
from salus.ledger.tlog_policy import TlogPolicy, parse_tlog_policy

PAGE = (files("salus.ledger") / "verify.html").read_text(encoding="utf-8")
# Reads cases as JSON from stdin and writes the verdict on each.
RUNNER = """
const read = (text) => text === null ? null : Uint8Array.from(Buffer.from(text, "base64"));
(async () => {
  const verdicts = [];
  for (const [receipt, network, event, policy] of JSON.parse(require("fs").readFileSync(0, "utf8"))) {
    try {
      const proven = await Salus.verify(read(receipt), read(network), read(event), read(policy ?? null));
      const { leaf, header } = proven;
      const at = [leaf.topic, String(leaf.offset), leaf.status, String(header.height)];
      verdicts.push(["valid", ...at, String(proven.checkpoint.size), ...proven.cosigners.map((c) => c.name)]);
    } catch (error) {
      verdicts.push([error instanceof Salus.Refusal ? error.code : `broken: ${error.stack}`]);
    }
  }
  process.stdout.write(JSON.stringify(verdicts));
})();
"""
Case = tuple[bytes, bytes, bytes | None] | tuple[bytes, bytes, bytes | None, bytes]


def _core() -> str:
    found = re.search(r'<script id="core">\n(.*?)</script>', PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def _in_javascript(cases: list[Case]) -> list[list[str]]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: nothing runs the page's script")
    encoded = [[None if part is None else b64encode(part).decode() for part in case] for case in cases]
    done = subprocess.run(
        [node, "--no-warnings", "-e", _core() + RUNNER],
        input=json.dumps(encoded),
        capture_output=True,
        text=True,
        check=True,
    )
    verdicts: list[list[str]] = json.loads(done.stdout)
    return verdicts


def _in_python(case: Case) -> list[str]:
    receipt, description, event, *chosen = case
    try:
        policy = Policy.from_network(description)
        for file in chosen:
            policy = policy.under(parse_tlog_policy(file or b""))
        proven = verify_receipt(receipt, policy, event=event)
    except PolicyError:
        return ["policy"]
    except ReceiptError as error:
        return [error.code]
    leaf = proven.leaf
    place = [leaf.topic, str(leaf.offset), leaf.status, str(proven.header.height)]
    return ["valid", *place, str(proven.checkpoint.size), *(c.name for c in proven.cosigners)]


def _network(world: World, *, quorum: int = 1, witnesses: int = 1, **changes: Any) -> bytes:
    verifiers = [witness.verifier for witness in world.witnesses]
    return json.dumps(
        {
            "log": {"origin": world.log.name, "verifier_key": world.log.vkey},
            "shards": [{"origin": world.shard.name, "verifier_key": world.shard.vkey}],
            "policy": TlogPolicy((), Quorum.of(quorum, verifiers[:witnesses])).lines(),
        }
        | changes
    ).encode()


def _short(world: World) -> bytes:
    """Return a receipt whose checkpoint has no ML-DSA cosignature, which browsers cannot check."""
    receipt: bytes = world.receipt()
    return receipt[: receipt.index("— witness.example/mldsa".encode())]


def _require_same_verdicts(cases: list[Case]) -> list[list[str]]:
    verdicts = _in_javascript(cases)
    assert verdicts == [_in_python(case) for case in cases]
    return verdicts


def test_every_receipt_of_a_block_is_valid_in_the_page(world: World) -> None:
    values = [b'{"id":"%d"}' % index for index in range(7)]
    cases: list[Case] = [(world.receipt(i), _network(world), value) for i, value in enumerate(values)]

    assert {verdict[0] for verdict in _require_same_verdicts(cases)} == {"valid"}


def test_every_flipped_bit_gets_the_same_verdict_in_the_page(world: World) -> None:
    receipt, policy = _short(world), _network(world)
    cases: list[Case] = []
    for bit in range(0, len(receipt) * 8, 5):
        flipped = bytearray(receipt)
        flipped[bit // 8] ^= 1 << bit % 8
        cases.append((bytes(flipped), policy, None))

    assert "valid" not in {verdict[0] for verdict in _require_same_verdicts(cases)}


def test_the_page_reads_a_network_file_as_strictly(world: World) -> None:  # case F1
    receipt, network = _short(world), _network(world)
    deep = b'"x":' + b"[" * 64 + b"]" * 64
    refused = [
        *(
            b'"log":{"origin":"x","verifier_key":"x"}',
            rb'"l\u006fg":1',
            b'"x":{"y":1,"y":1}',
            b'"x":[{"y":1,"y":1}]',
        ),
        *(
            b'"x":"\\ud800"',
            b'"x":9007199254740992',
            b'"x":-9007199254740992',
            b'"x":1e400',
            b'"x":NaN',
            deep,
        ),
    ]
    taken = [
        *(
            rb'"\"log":1',
            rb'"x":"log\" :"',
            b'"x":9007199254740991',
            b'"x":1e300',
            b'"x":"\\ud83d\\ude00"',
            b'"L":1',
        ),
        *(
            b'"x":{"log":1}',
            b'"x":[{"y":1},{"y":1}]',
            b'"x":' + b"[" * 63 + b"]" * 63,
            b'"x":{"y":1}, "z":{"y":1}',
        ),
    ]
    spoiled = [network.replace(b"{", b"{" + one + b",", 1) for one in (*refused, *taken)]
    verdicts = _require_same_verdicts([(receipt, one, None) for one in (b"\xef\xbb\xbf" + network, *spoiled)])

    assert [verdict[0] for verdict in verdicts] == ["policy"] * (1 + len(refused)) + ["valid"] * len(taken)


# case redB8 8
@pytest.mark.parametrize("number", ["1.0", "1e0", "-0.0", "0.0"])
def test_a_position_with_a_point_or_an_exponent_is_none_in_the_page(world: World, number: str) -> None:
    receipt = _short(world)
    whole, fraction = (
        _network(world)
        .replace(b'"shards"', b'"ignored": {"1.5": ["2.5e1", 1.5]}, "shards"')
        .replace(b'"' + world.log.vkey.encode() + b'"', described.encode())
        for described in (
            json.dumps({"verifier_key": world.log.vkey, "from": 0, "until": 100}),
            f'{{"verifier_key": "{world.log.vkey}", "from": {number}}}',
        )
    )
    until = _network(world).replace(
        b'"' + world.log.vkey.encode() + b'"',
        f'{{"verifier_key": "{world.log.vkey}", "until": 9.0}}'.encode(),
    )

    verdicts = _require_same_verdicts([(receipt, one, None) for one in (whole, fraction, until)])
    assert [verdict[0] for verdict in verdicts][1:] == ["policy", "policy"]


def test_the_page_takes_no_receipt_that_the_library_calls_too_large(world: World) -> None:
    receipt = _short(world)
    # A signature line is 7 bytes and as much base64 as there is room for, in groups of four.
    groups = (NOTE_BYTES_MAX - len(parse_receipt(receipt).in_log.checkpoint) - 7) // 4
    lines = ["— x {}\n".format("AAAA" * count).encode() for count in (groups, groups + 1)]

    verdicts = _require_same_verdicts([(receipt + line, _network(world), None) for line in lines])
    assert [verdict[0] for verdict in verdicts] == ["valid", "malformed"]


def test_every_reason_of_refusal_is_the_same_in_the_page(world: World) -> None:
    receipt, policy = _short(world), _network(world)
    parsed = parse_receipt(receipt)
    alone = sign_checkpoint(world.checkpoint, [world.log])
    forged = sign_note(world.checkpoint.text(), [world.shard])
    other = sign_checkpoint(replace(world.checkpoint, origin="salus.example/other"), [world.log])
    cases: list[Case] = [
        (b"", policy, None),
        (receipt.replace(b"index 3", b"index 03"), policy, None),
        (Receipt(replace(parsed.in_block, extra=b"junk"), parsed.in_log).encode(), policy, None),
        (receipt, policy, b"another event"),
        (Receipt(replace(parsed.in_block, index=2), parsed.in_log).encode(), policy, None),
        (receipt, _network(world, shards=[]), None),
        (receipt, _network(world, shards={}), None),
        (world.receipt(checkpoint_note=forged), policy, None),
        (world.receipt(checkpoint_note=other), policy, None),
        (Receipt(parsed.in_block, replace(parsed.in_log, index=5)).encode(), policy, None),
        (world.receipt(checkpoint_note=alone), policy, None),
        (receipt, _network(world, policy=["quorum missing"]), None),
        (receipt, _network(world, witnesses=0, quorum=0) + b" ", None, b"quorum missing\n"),
        (receipt, _network(world, log={"origin": "x", "verifier_key": world.log.vkey}), None),
        (receipt, b"{}", None),
        (receipt, b"\xff", None),
        (Receipt(replace(parsed.in_block, path=(bytes(32),) * 64), parsed.in_log).encode(), policy, None),
    ]

    codes = {verdict[0] for verdict in _require_same_verdicts(cases)}
    assert codes == {
        "malformed",
        "leaf",
        "event-digest",
        "block-path",
        "header-signature",
        "checkpoint-signature",
        "log-path",
        "quorum",
        "policy",
    }


def test_a_kept_signature_is_read_as_strictly_by_the_page(world: World) -> None:
    parsed, leaf = parse_receipt(_short(world)), world.leaves[3]
    kept = [
        SIGNATURE + b" ",
        SIGNATURE + b"\n",
        SIGNATURE + b"\xe9",
        SIGNATURE.replace(b"0/1", b"1/1"),
        SIGNATURE.replace(b"0/1", b"0/1025"),
        SIGNATURE.replace(b"A==", b"B=="),
        SIGNATURE + b" AB==",
        SIGNATURE.replace(b"0/1", b"0/2"),
        SIGNATURE.replace(b"0/1", b"0/2") + b" AAAA",
        SIGNATURE.replace(b"0/1", b"2/3") + b" " + b64encode(bytes(64)),
        SIGNATURE + b" " + b"A" * 1024,
        b"",
    ]
    cases: list[Case] = []
    for signature in kept:
        extra = replace(leaf, signature=signature).data()
        receipt = Receipt(replace(parsed.in_block, extra=extra), parsed.in_log).encode()
        cases.append((receipt, _network(world), None))
    other = replace(leaf, signature=SIGNATURE.replace(b"0/1", b"2/3") + b" " + b64encode(bytes(32))).data()
    fine = Receipt(replace(parsed.in_block, extra=other), parsed.in_log).encode()

    assert {verdict[0] for verdict in _require_same_verdicts(cases)} == {"leaf"}
    assert _require_same_verdicts([(fine, _network(world), None)]) == [["block-path"]]


def test_a_header_text_is_read_as_strictly_by_the_page(world: World) -> None:
    text = world.header.text()
    parsed = parse_receipt(_short(world))
    cases: list[Case] = []
    lines = text.splitlines(keepends=True)
    variants = ["".join(lines[:i] + lines[i + 1 :]) for i in range(len(lines))]
    variants += [
        text.replace("time 2026-11-22", "time 2026-02-30"),
        text.replace("123Z", "1234Z"),
        text.replace("accepted 6", "accepted 8"),
        text.replace("accepted 6", "accepted 06"),
        text.replace(" 0 10 17", " 0 17 10"),
        text.replace(" 0 10 17", " 2 10 17"),
        text + "gave salus.clinical.events 1 0 salus.example/shard/1\n",
        text + "gave salus.clinical.events 1 1 salus.example/shard/1\n",
        text + "lent salus.clinical.events 1 0 salus.example/shard/1\n",
        text + f"gave salus.clinical.events 1 0 {world.shard.name}\n",
        text + "unknown line\n",
    ]
    for variant in variants:
        try:
            note = sign_note(variant, [world.shard])
            receipt = Receipt(replace(parsed.in_block, checkpoint=note), parsed.in_log).encode()
        except LedgerError:
            continue
        cases.append((receipt, _network(world), None))

    codes = {verdict[0] for verdict in _require_same_verdicts(cases)}
    assert codes == {"malformed", "log-path"}


def test_each_step_that_fails_is_named_in_the_page(world: World) -> None:
    cases: list[Case] = [(one.receipt, network_json(world), None) for one in spoiled(world)]

    assert _require_same_verdicts(cases) == [[one.code] for one in spoiled(world)]


def test_periods_of_keys_get_the_same_verdict_in_the_page(world: World) -> None:
    renewed = NoteSigner(world.log.name, key_of("renewed")).vkey
    shard_key, log_key, witness = world.shard.vkey, world.log.vkey, world.witnesses[0].vkey
    other_shard = NoteSigner(world.shard.name, key_of("renewed")).vkey
    size, height = world.checkpoint.size, world.header.height

    def periods(key: str, other: str, at: int) -> list[dict[str, Any]]:
        """Describe histories in which the key does, and does not, sign at a position."""
        return [
            {"verifier_key": key},
            {"verifier_key": key, "keys": [key]},
            {
                "verifier_key": other,
                "keys": [{"verifier_key": key, "until": at + 1}, {"verifier_key": other, "from": at}],
            },
            {
                "verifier_key": other,
                "keys": [{"verifier_key": key, "until": max(at, 1)}, {"verifier_key": other, "from": at}],
            },
            {
                "verifier_key": key,
                "keys": [{"verifier_key": other, "until": at + 1}, {"verifier_key": key, "from": at + 1}],
            },
            {
                "verifier_key": key,
                "keys": [{"verifier_key": other, "until": at + 1}, {"verifier_key": key, "from": at}],
            },
            {"verifier_key": other, "keys": [key]},
            {"verifier_key": key, "keys": [key, key]},
            {"verifier_key": key, "keys": [{"verifier_key": key, "from": 1}]},
            {"verifier_key": key, "keys": [{"verifier_key": key, "until": 9}]},
            {"verifier_key": key, "keys": [{"verifier_key": key, "until": 0}]},
            {"verifier_key": key, "keys": [{"verifier_key": key, "from": -1}]},
            {"verifier_key": key, "keys": [{"verifier_key": key, "from": None}]},
            {"verifier_key": key, "keys": [{"verifier_key": key, "until": None}]},
            {"verifier_key": key, "keys": [{"verifier_key": key, "to": 5}]},
            {"verifier_key": key, "keys": [{"from": 0}]},
            {"verifier_key": key, "keys": key},
            {"verifier_key": key, "keys": [5]},
            {"verifier_key": 5},
            {},
        ]

    networks = [
        _network(world, log={"origin": world.log.name, **one}) for one in periods(log_key, renewed, size)
    ]
    networks += [
        _network(world, shards=[{"origin": world.shard.name, **one}])
        for one in periods(shard_key, other_shard, height)
    ]
    for first, end in ((0, None), (size, None), (size + 1, None), (0, size), (0, size + 1)):
        networks.append(
            _network(world, witness_periods=[{"verifier_key": witness, "from": first, "until": end}])
        )
    networks += [
        _network(world, witness_periods=one)
        for one in (5, [log_key], [witness] * 2, [world.witnesses[2].vkey])
    ]

    verdicts = _require_same_verdicts([(world.receipt(), network, None) for network in networks])
    assert {verdict[0] for verdict in verdicts} == {
        *("valid", "policy", "header-signature", "checkpoint-signature", "quorum")
    }


def test_policies_get_the_same_verdict_in_the_page(world: World) -> None:
    receipt, network = world.receipt(), _network(world, quorum=0, witnesses=0)
    others = [CosignatureSigner(f"w{n}.example", key_of(f"other {n}")).vkey for n in range(3)]
    log, stranger = world.log.vkey, NoteSigner("other.example/log", key_of("other log")).vkey
    head = [
        f"witness a {world.witnesses[0].vkey} https://a.example",
        *(f"witness b{n} {k}" for n, k in enumerate(others)),
    ]
    rules = [
        *("quorum none", "quorum a", "quorum b0", "quorum", "quorum a a", "quorum none\nquorum none", ""),
        *("group g any a b0\nquorum g", "group g all a b0\nquorum g", "group g 2 a b0\nquorum g"),
        *(
            "group g 1 a b0\nquorum g",
            "group g 0 a\nquorum g",
            "group g 01 a\nquorum g",
            "group g 3 a b0\nquorum g",
        ),
        *("group g any b0 b1\ngroup h any a g\nquorum h", "group g any a\ngroup h all g b2\nquorum h"),
        *("group g any a a\nquorum g", "group g any a\ngroup h any a\nquorum h", "group g any g\nquorum g"),
        *(
            "group a any b0\nquorum a",
            "group none any a\nquorum none",
            "group g any none\nquorum g",
            "group g a\nquorum g",
        ),
        *(
            "\t# comment\n \n\tquorum\t a ",
            "quorum a\r",
            "quorum a # no comment",
            "frob\nquorum a",
            "QUORUM a",
        ),
        *(f"log {log}\nquorum a", f"log {stranger}\nquorum a", f"log {log}\nlog {stranger} u\nquorum a"),
        *(f"log {log}\nlog {log}\nquorum a", f"log {others[0]}\nquorum a", f"witness z {log}\nquorum a"),
        *(f"witness z {others[0]}\nquorum a", f"witness a {others[0]}\nquorum a", "witness z\nquorum a"),
        *("quorum \xe9", "group \xe9 any a\nquorum \xe9", "group \u3000 any a\nquorum \u3000", "quorum\xa0a"),
    ]
    cases: list[Case] = [(receipt, network, None, "\n".join([*head, rule, ""]).encode()) for rule in rules]
    cases += [
        (receipt, network, None, "\n".join([*head, "quorum a"]).encode()),
        (receipt, network, None, b""),
    ]
    cases += [(receipt, _network(world, policy=[*head, rule]), None) for rule in rules if "\n" not in rule]
    cases += [
        (receipt, _network(world, policy="quorum none"), None),
        (receipt, _network(world)[:-1] + b', "witnesses": {"quorum": 0, "keys": []}}', None),
        (receipt, _network(world, policy=[f"log {log}", "quorum none"]), None),
    ]

    assert {verdict[0] for verdict in _require_same_verdicts(cases)} == {
        *("valid", "policy", "quorum", "checkpoint-signature")
    }


def test_the_page_says_that_it_cannot_check_mldsa(world: World) -> None:
    (verdict,) = _in_javascript([(world.receipt(), _network(world, quorum=2, witnesses=3), None)])

    assert verdict == ["quorum"]


def test_the_page_reads_the_text_form_only_and_says_so(world: World) -> None:
    cose = cose_receipt(world.receipt(), world.log.verifier, world.log)

    assert _in_javascript([(cose, _network(world), None)]) == [["malformed"]]
    assert "COSE form" in PAGE


def test_the_page_loads_nothing_from_anywhere() -> None:
    assert "default-src 'none'" in PAGE
    assert re.findall(r"(?:src|href)\s*=|https?://|fetch\(|XMLHttpRequest|import\(", PAGE) == []
