"""Case SEC11: no key under which anybody can sign is taken, and the page judges as the library does."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.unit.ledger.ed25519_cases import (
    NO_KEYS,
    SMALL_ORDER,
    honest,
    mixed_order,
    of_small_half,
    verdict,
    wycheproof,
)
from tests.unit.ledger.network import World

from salus.ledger.cosignature import CosignatureVerifier
from salus.ledger.errors import KeyTextError, LedgerError, PolicyError
from salus.ledger.note import NoteSigner, NoteVerifier, encode_vkey
from salus.ledger.policy import Policy
from salus.ledger.tlog_policy import parse_tlog_policy


def test_anybody_signs_under_a_key_of_small_order_if_openssl_is_asked_alone() -> None:
    Ed25519PublicKey.from_public_bytes(SMALL_ORDER[0]).verify(SMALL_ORDER[0] + bytes(32), b"what you will")

    assert not verdict(SMALL_ORDER[0], SMALL_ORDER[0] + bytes(32), b"what you will")


@pytest.mark.parametrize("raw", NO_KEYS, ids=bytes.hex)
@pytest.mark.parametrize(
    "place",
    [
        lambda raw: NoteVerifier("log.example", Ed25519PublicKey.from_public_bytes(raw)),
        lambda raw: NoteVerifier.from_vkey(encode_vkey("log.example", 1, raw)),
        lambda raw: CosignatureVerifier("w.example", Ed25519PublicKey.from_public_bytes(raw)),
        lambda raw: CosignatureVerifier.from_vkey(encode_vkey("w.example", 4, raw)),
    ],
    ids=["note", "note-text", "cosignature", "cosignature-text"],
)
def test_no_verifier_is_made_of_it(raw: bytes, place: Callable[[bytes], object]) -> None:
    with pytest.raises(KeyTextError, match="malformed-vkey: not a key that holds its owner"):
        place(raw)


def network(world: World, **changes: Any) -> bytes:
    described = {
        "log": {"origin": world.log.name, "verifier_key": world.log.vkey},
        "shards": [{"origin": world.shard.name, "verifier_key": world.shard.vkey}],
        "policy": ["quorum none"],
    }
    return json.dumps(described | changes).encode()


@pytest.mark.parametrize("raw", NO_KEYS, ids=bytes.hex)
def test_no_policy_has_it_as_log_shard_or_witness_now_or_at_another_time(world: World, raw: bytes) -> None:
    log, shard = (encode_vkey(name, 1, raw) for name in (world.log.name, world.shard.name))
    witness = encode_vkey("w.example", 4, raw)
    later = {"verifier_key": world.log.vkey, "from": 0}
    descriptions: list[dict[str, Any]] = [
        {"log": {"origin": world.log.name, "verifier_key": log}},
        {"log": {"origin": world.log.name, "verifier_key": world.log.vkey, "keys": [later, log]}},
        {"shards": [{"origin": world.shard.name, "verifier_key": shard}]},
        {"policy": [f"witness w {witness}", "quorum w"]},
        {"witness_periods": [witness]},
    ]

    Policy.from_network(network(world))
    for changes in descriptions:
        with pytest.raises(PolicyError, match="holds its owner"):
            Policy.from_network(network(world, **changes))
    for line in (f"log {log}", f"witness w {witness}"):
        with pytest.raises(PolicyError, match="holds its owner"):
            parse_tlog_policy(f"{line}\nquorum none\n".encode())


def test_a_signer_does_not_sign_for_such_a_key_either() -> None:
    class Weak:
        def public_key(self) -> Ed25519PublicKey:
            return Ed25519PublicKey.from_public_bytes(SMALL_ORDER[0])

        def sign(self, _data: bytes) -> bytes:
            return bytes(64)

    with pytest.raises(LedgerError, match="holds its owner"):
        NoteSigner("log.example", Weak())


def test_a_key_of_mixed_order_is_taken_and_its_signatures_are_judged_without_the_cofactor() -> None:
    verdicts = {verdict(*case) for case in mixed_order()}

    assert verdicts == {True, False}


def test_a_signature_has_one_form_and_no_half_of_small_order() -> None:
    key, signature, text = of_small_half()
    Ed25519PublicKey.from_public_bytes(key).verify(signature, text)

    assert not verdict(key, signature, text)
    assert [verdict(*case) for case in honest()] == [True, False]


# Reads [kind, parts in hex] from stdin; writes what the page says of each key and each signature.
RUNNER = """
const bytes = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));
(async () => {
  const { keys, signatures } = JSON.parse(require("fs").readFileSync(0, "utf8")), said = [];
  for (const vkey of keys) said.push(await Salus.parseKey(vkey, [1, 4]).then(() => true, () => false));
  for (const [raw, signature, text] of signatures)
    said.push(await Salus.isValid({ raw: bytes(raw) }, bytes(text), bytes(signature)));
  process.stdout.write(JSON.stringify(said));
})();
"""


def test_the_page_says_the_same_of_every_key_and_signature() -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("node is not installed: nothing runs the page's script")
    page = (files("salus.ledger") / "verify.html").read_text(encoding="utf-8")
    core = page.partition('<script id="core">\n')[2].partition("</script>")[0]
    cases = [*wycheproof(), *mixed_order(), of_small_half(), *honest()]
    sound = [key for key, _, _ in cases]
    vkeys = [encode_vkey("a.example", kind, key) for key in [*NO_KEYS, *sound] for kind in (1, 4)]
    given = {"keys": vkeys, "signatures": [[part.hex() for part in case] for case in cases]}
    done = subprocess.run(
        [node, "--no-warnings", "-e", core + RUNNER],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
    )

    expected = [False] * (2 * len(NO_KEYS)) + [True] * (2 * len(sound)) + [verdict(*case) for case in cases]
    assert json.loads(done.stdout) == expected
