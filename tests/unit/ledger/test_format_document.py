"""docs/ledger-format.md shows what the code writes; `SALUS_WRITE_DOCS=1` writes the examples into it anew."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.events.contexts.clinical import DocumentRegistered
from salus.events.did import LocalSigner
from salus.events.envelope import encode_event
from salus.events.errors import Reason
from salus.events.signature import parse_signature, sign_values, signed_text
from salus.ledger.block import NO_PREVIOUS, Header, Leaf, Range, body_key, header_key, sign_header
from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.cose import parse_cose_receipt
from salus.ledger.cosignature import CosignatureSigner, CosignatureVerifier
from salus.ledger.merkle import leaf_hash, levels_of, path_in, root_of
from salus.ledger.note import NoteSigner, add_signatures
from salus.ledger.policy import Policy
from salus.ledger.quorum import Group, Quorum, Witness
from salus.ledger.receipt import build_receipt, cose_receipt, verify_receipt

DOCUMENT = Path(__file__).parents[3] / "docs" / "ledger-format.md"
TOPIC = "salus.clinical.events"
EXAMPLE = re.compile(r"(<!-- example: ([a-z ]+) -->\n```\n)(.*?)(```\n)", re.DOTALL)


def _key(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(seed.encode()).digest())


def _values(author: LocalSigner) -> list[bytes]:
    documents = [
        DocumentRegistered(
            patient="urn:uuid:6f1c7a52-6a0e-4f0e-9d2f-0d3a5c1b9e77",
            object=f"urn:uuid:0b8f3c1e-3f57-4c39-8d0a-5d2b7a9e40{i:02d}",
            media_type="application/fhir+json",
        )
        for i in range(3)
    ]
    return [
        encode_event(
            document,
            id=f"document-{i}",
            source=author.did,
            subject=document.patient,
            time=datetime(2026, 11, 22, 14, 59, 59, tzinfo=UTC),
        )
        for i, document in enumerate(documents)
    ]


class Examples:
    """The example network: one author, one shard, two blocks in a log of two entries."""

    def __init__(self) -> None:
        author = LocalSigner.from_seed(sha256(b"author").digest())
        self.shard = NoteSigner("salus.example/shard/0", _key("shard"))
        self.log = NoteSigner("salus.example/log", _key("log"))
        self.witness = CosignatureSigner("witness.example/hospital", _key("witness"))
        self.values = _values(author)
        self.signatures = sign_values(self.values, author)
        self.leaves = [
            Leaf(TOPIC, 0, i, 1_795_359_600_042, "accepted", leaf_hash(value), signature)
            for i, (value, signature) in enumerate(zip(self.values, self.signatures, strict=True))
        ]
        self.leaves.append(
            Leaf(TOPIC, 1, 7, 1_795_359_600_043, "rejected:missing-signature", leaf_hash(b"junk"))
        )
        self.levels = levels_of([leaf.hash() for leaf in self.leaves])
        self.headers = self._chain()
        head = Checkpoint(self.log.name, 2, root_of([leaf_hash(note) for note in self.headers]))
        cosignature = self.witness.cosign(head, seconds=1_795_359_601)
        self.checkpoint = add_signatures(sign_checkpoint(head, [self.log]), [cosignature])
        self.receipt = build_receipt(
            self.leaves[1].data(),
            1,
            path_in(self.levels, 1),
            self.headers[1],
            1,
            [leaf_hash(self.headers[0])],
            self.checkpoint,
        )

    @property
    def policy(self) -> Policy:
        """A policy of three hospitals, one with two keys, and two universities."""
        keys = {name: _key(name) for name in ("hospital-b", "hospital-c", "university-a", "university-b")}
        names = {"hospital-a": CosignatureVerifier.from_vkey(self.witness.vkey)}
        renewed = CosignatureSigner("witness.example/hospital", _key("renewed"))
        names["hospital-a-renewed"] = CosignatureVerifier.from_vkey(renewed.vkey)
        names |= {
            name: CosignatureSigner(f"{name}.example/witness", key).verifier for name, key in keys.items()
        }
        groups = (
            Group("hospital-A", 1, ("hospital-a", "hospital-a-renewed")),
            Group("hospitals", 2, ("hospital-A", "hospital-b", "hospital-c")),
            Group("universities", 1, ("university-a", "university-b")),
            Group("both", 2, ("hospitals", "universities")),
        )
        witnesses = tuple(Witness(name, verifier) for name, verifier in names.items())
        shards = {self.shard.name: self.shard.verifier}
        return Policy((self.log.verifier,), shards, Quorum(witnesses, groups, "both"))

    def diagnostic(self) -> str:
        """Return the COSE form of the receipt in diagnostic notation, as far as a page can hold it."""
        cose = cose_receipt(self.receipt, self.log.verifier, self.log)
        parsed = parse_cose_receipt(cose)
        (path,) = parsed.in_log.path
        size = parsed.in_block.size
        in_block = ", ".join(f"h'{one.hex()}'" for one in parsed.in_block.path)
        return f"""\
18([
  <<{{1: -8, 4: h'{parsed.key_id.hex()}', 15: {{1: "{parsed.log}", 2: "{parsed.log}"}}, 395: 1}}>>,
  {{396: {{-1: [<<[{parsed.in_log.size}, {parsed.in_log.index}, [h'{path.hex()}']]>>]}},
   -65537: [leaf data, <<[{size}, {parsed.in_block.index}, [{in_block}]]>>, header note, checkpoint note]}},
  null,
  h'{parsed.signature.hex()}'
])
"""

    def _chain(self) -> list[bytes]:
        first = self._header(0, [Range(TOPIC, 0, 0, 0), Range(TOPIC, 1, 0, 7)], NO_PREVIOUS)
        note = sign_header(first, self.shard)
        second = self._header(1, [Range(TOPIC, 0, 0, 3), Range(TOPIC, 1, 7, 8)], leaf_hash(note))
        return [note, sign_header(second, self.shard)]

    def _header(self, height: int, ranges: list[Range], previous: bytes) -> Header:
        return Header(
            origin=self.shard.name,
            height=height,
            leaves=4,
            root=self.levels[-1][0],
            previous=previous,
            time=datetime(2026, 11, 22, 15, 0, height, 123000, tzinfo=UTC),
            accepted=3,
            body_bytes=6421,
            body_sha256=sha256(b"body").digest(),
            identity=("salus.identity.events", 0, 17),
            ranges=tuple(ranges),
        )

    def texts(self) -> dict[str, str]:
        """Return every example by its name."""
        leaf = self.leaves[1].data()
        parsed = parse_signature(self.signatures[1])
        signed = signed_text(size=parsed.size, root=parsed.root_over(leaf_hash(self.values[1])))
        return {
            "event": self.values[1].decode() + "\n",
            "signature": self.signatures[1].decode() + "\n",
            "signed text": signed.decode(),
            "leaf": leaf[: leaf.index(b"\n", leaf.index(b"\n") + 1) + 1].decode(),
            "header": self.headers[1].decode(),
            "ledger keys": f"{header_key(0, 1)}\n{body_key(0, 1, self.levels[-1][0])}\n",
            "log keys": "checkpoint\ntile/0/000.p/2\ntile/entries/000.p/2\n",
            "checkpoint": self.checkpoint.decode(),
            "receipt": self.receipt.decode(),
            "policy": self.policy.tlog_policy.encode().decode(),
            "cose receipt": self.diagnostic(),
        }


def _reasons() -> str:
    rows = "".join(f"| `{reason}` | {reason.meaning} |\n" for reason in Reason)
    return "| reason | means |\n|---|---|\n" + rows


def _with_table(text: str) -> str:
    before, marker, after = text.partition("<!-- table: reasons -->\n")
    assert marker
    after = re.sub(r"\A\n*(\|[^\n]*\n)*\n*", "", after)
    return f"{before}{marker}\n{_reasons()}\n{after}"


@pytest.fixture(scope="module")
def examples() -> Examples:
    return Examples()


def test_the_document_shows_what_the_code_writes(examples: Examples) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    texts = examples.texts()
    right = EXAMPLE.sub(lambda m: m[1] + texts[m[2]] + m[4], _with_table(text))
    if os.environ.get("SALUS_WRITE_DOCS") == "1":
        DOCUMENT.write_text(right, encoding="utf-8")
        return

    assert text == right, "run this test with SALUS_WRITE_DOCS=1"
    assert {match[2] for match in EXAMPLE.finditer(text)} == set(texts)


def test_the_documents_receipt_verifies(examples: Examples) -> None:
    policy = Policy(
        logs=(examples.log.verifier,),
        shards={examples.shard.name: examples.shard.verifier},
        quorum=Quorum.of(1, [CosignatureVerifier.from_vkey(examples.witness.vkey)]),
    )
    proven = verify_receipt(examples.receipt, policy, event=examples.values[1])

    cose = cose_receipt(examples.receipt, examples.log.verifier, examples.log)
    assert verify_receipt(cose, policy, event=examples.values[1]) == proven
    assert proven.leaf == examples.leaves[1]
    assert proven.header.height == 1
