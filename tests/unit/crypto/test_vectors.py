"""What we use of `cryptography` gives what the vectors of others say (tests/data/crypto)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from salus.crypto.sealing import key_pair_of, load_private_key

DATA = Path(__file__).parents[2] / "data" / "crypto"
X_WING = 0x647A
AEADS = {1: AEAD.AES_128_GCM, 2: AEAD.AES_256_GCM, 3: AEAD.CHACHA20_POLY1305}
KDFS = {1: KDF.HKDF_SHA256, 17: KDF.SHAKE256}


def hpke_vectors() -> list[dict[str, Any]]:
    vectors = json.loads((DATA / "hpke" / "hpke-pq-test-vectors.json").read_text())
    return [vector for vector in vectors if vector["kem_id"] == X_WING and vector["mode"] == 0]


def aes_256_gcm_vectors() -> list[dict[str, Any]]:
    groups = json.loads((DATA / "wycheproof" / "aes_gcm_test.json").read_text())["testGroups"]
    wanted = [g for g in groups if (g["keySize"], g["ivSize"], g["tagSize"]) == (256, 96, 128)]
    return [test for group in wanted for test in group["tests"]]


def hkdf_vectors() -> list[dict[str, str]]:
    text = (DATA / "kdf" / "rfc-5869-HKDF-SHA256.txt").read_text()
    return [
        dict(re.findall(r"^(\w+) *= *(\w*)$", block, re.MULTILINE)) for block in text.split("COUNT =")[1:]
    ]


@pytest.mark.parametrize("vector", hpke_vectors(), ids=lambda v: f"kdf{v['kdf_id']}-aead{v['aead_id']}")
def test_x_wing_keys_are_those_of_the_hpke_vectors(vector: dict[str, Any]) -> None:
    pair = key_pair_of(bytes.fromhex(vector["skRm"]))

    assert pair.public_key.hex() == vector["pkRm"]


@pytest.mark.parametrize("vector", hpke_vectors(), ids=lambda v: f"kdf{v['kdf_id']}-aead{v['aead_id']}")
def test_our_keys_open_the_hpke_vectors(vector: dict[str, Any]) -> None:
    suite = Suite(KEM.MLKEM768_X25519, KDFS[vector["kdf_id"]], AEADS[vector["aead_id"]])
    first = vector["encryptions"][0]

    plaintext = openssl.hpke._decrypt_with_aad(
        suite,
        bytes.fromhex(vector["enc"] + first["ct"]),
        load_private_key(bytes.fromhex(vector["skRm"])),
        bytes.fromhex(vector["info"]),
        bytes.fromhex(first["aad"]),
    )

    assert plaintext.hex() == first["pt"]


def test_aes_256_gcm_agrees_with_wycheproof() -> None:
    vectors = aes_256_gcm_vectors()
    for test in vectors:
        key, iv, aad = (bytes.fromhex(test[name]) for name in ("key", "iv", "aad"))
        sealed = bytes.fromhex(test["ct"] + test["tag"])
        if test["result"] == "valid":
            assert AESGCM(key).decrypt(iv, sealed, aad).hex() == test["msg"], test["tcId"]
        else:
            with pytest.raises(InvalidTag):
                AESGCM(key).decrypt(iv, sealed, aad)

    assert len(vectors) > 40


@pytest.mark.parametrize("vector", hkdf_vectors())
def test_hkdf_expand_agrees_with_rfc_5869(vector: dict[str, str]) -> None:
    expand = HKDFExpand(SHA256(), int(vector["L"]), info=bytes.fromhex(vector["info"]))

    assert expand.derive(bytes.fromhex(vector["PRK"])).hex() == vector["OKM"].lower()
