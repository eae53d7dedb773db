"""The policies of the accounts, without a store; `tests/integration/devkit` tries them on a real one."""

from __future__ import annotations

import pytest

from salus.devkit.errors import DevkitError
from salus.devkit.store_accounts import StoreSecrets, access, bucket_names, policy_of


@pytest.mark.parametrize("account", access())
def test_a_policy_names_no_bucket_but_the_account_s_own(account):
    resources = {
        resource
        for statement in policy_of(account, bucket_names())["Statement"]
        for resource in statement["Resource"]
    }

    assert {resource.removeprefix("arn:aws:s3:::").split("/")[0] for resource in resources} == {
        bucket_names()[bucket] for bucket in access()[account]
    }


def test_only_storage_sees_the_keys_of_patients():
    assert [account for account, rights in access().items() if "keys" in rights] == ["storage"]


def test_nothing_but_a_probe_can_be_removed_from_the_ledger():
    for account in access():
        for statement in policy_of(account, {"ledger": "l", "log": "g", "objects": "o", "keys": "k"})[
            "Statement"
        ]:
            if any(action.startswith("s3:Delete") for action in statement["Action"]):
                assert not [one for one in statement["Resource"] if one.startswith("arn:aws:s3:::l/")] or (
                    statement["Resource"] == ["arn:aws:s3:::l/_salus/probe/*"]
                )


def test_a_secret_that_exists_stays(tmp_path):
    secrets = StoreSecrets(tmp_path)
    secrets.create()
    before = {account: secrets.read(account) for account in access()}
    secrets.create()

    assert {account: secrets.read(account) for account in access()} == before
    assert len({secret for _, secret in before.values()}) == len(access())


def test_an_account_without_a_secret_is_named(tmp_path):
    with pytest.raises(DevkitError, match="no keys of the account audit"):
        StoreSecrets(tmp_path).read("audit")
