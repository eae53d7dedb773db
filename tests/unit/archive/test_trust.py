"""A network file counts for fsck only if keys and origins belong together, as for receipts."""

import json
from typing import Any

import pytest
from tests.unit.archive.small_ledger import LOG_SIGNER, SHARD_SIGNERS

from salus.archive.trust import Trust


def network(*, log: str = LOG_SIGNER.name, shard: str = SHARD_SIGNERS[0].name, **more: Any) -> bytes:
    shards = [{"id": 0, "origin": shard, "verifier_key": SHARD_SIGNERS[0].vkey}]
    return json.dumps(
        {"log": {"origin": log, "verifier_key": LOG_SIGNER.vkey, **more}, "shards": shards}
    ).encode()


def test_a_network_file_names_its_keys() -> None:
    trust = Trust.from_network(network())

    assert (trust.log.name, trust.shards[0].name) == (LOG_SIGNER.name, SHARD_SIGNERS[0].name)


def test_a_key_under_another_name_than_its_origin_is_refused() -> None:
    period = {"verifier_key": LOG_SIGNER.vkey, "until": 5}

    for described in (network(log="x/log", keys=[period]), network(log="x/log"), network(shard="x/shard/0")):
        with pytest.raises(ValueError, match="another name"):
            Trust.from_network(described)


@pytest.mark.parametrize("spoil", [b'{"log":{},', b"\xef\xbb\xbf{"])
def test_a_network_file_is_json_that_is_read_in_one_way_only(spoil: bytes) -> None:  # case F1
    with pytest.raises(ValueError, match=r"given twice in one object, in \$\.log|byte order mark"):
        Trust.from_network(network().replace(b"{", spoil, 1))
