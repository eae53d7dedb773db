"""What a check found wrong: a stable code, the exact place, and a sentence."""

from __future__ import annotations

from dataclasses import dataclass

FINDING_CODES = {
    "header-missing": "a block between others has no header object",
    "header-unreadable": "the header object is not a header note",
    "header-signature": "the shard's key did not sign these header bytes",
    "key-period": "a header is signed by a key that is retired at its height, or has not taken over",
    "chain-broken": "a header does not follow from the one before it",
    "coverage-gap": "offsets of an input partition are in no shard's block",
    "coverage-overlap": "offsets of an input partition are covered twice",
    "handover-broken": "a block goes on with a partition that no other block gave it, or that another took",
    "unknown-shard": "there are blocks of a shard that network.json does not name",
    "body-missing": "the body that the header names is not there",
    "body-hash": "the body's bytes are not those that the header commits to",
    "body-unreadable": "the body cannot be decoded",
    "row-wrong": "a row is not the record that was sealed",
    "leaf-hash-wrong": "a row's stored leaf hash is wrong, the record itself is intact",
    "row-malformed": "a row lacks or has what its status does not allow",
    "row-order": "a row is not after the one before it",
    "row-outside-range": "a row's position is not in the header's ranges",
    "row-columns": "a row's descriptive columns are not what its value says",
    "leaf-count": "the body has another number of rows than the header says",
    "accepted-count": "the body has another number of accepted rows than the header says",
    "block-root": "the rows do not hash to the block's root, and which of them is wrong cannot be told",
    "checkpoint-unreadable": "the log's checkpoint is missing, malformed or not signed by the log",
    "bundle-missing": "an entry bundle of the log is not there",
    "bundle-wrong": "an entry bundle is malformed, or an entry is not what the tree commits to",
    "tile-missing": "a tile of the log is not there",
    "tile-wrong": "a tile does not hold the hashes of the tree",
    "log-root": "the log's entries do not hash to the checkpoint's root",
    "entry-unknown": "a log entry is not a header of a known shard",
    "entry-wrong": "a log entry is not the header that the archive holds",
    "entry-order": "a shard's headers are not in the log in order, each once",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `code` is a key of FINDING_CODES; `where` is precise enough to repair."""

    code: str
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.where}: {self.code}: {self.detail}"
