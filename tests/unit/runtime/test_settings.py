"""Settings that are read from files."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from salus.runtime.settings import ObjectSettings


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("SALUS_S3_ENDPOINT", "http://minio:9000")
    monkeypatch.setenv("SALUS_S3_ACCESS_KEY", "salus-audit")
    monkeypatch.delenv("SALUS_S3_SECRET_KEY", raising=False)


def test_the_secret_key_may_be_in_a_file(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("from-a-file\n")
    monkeypatch.setenv("SALUS_S3_SECRET_KEY_FILE", str(tmp_path / "secret"))

    assert ObjectSettings().s3_secret_key.get_secret_value() == "from-a-file"


def test_two_secret_keys_are_a_mistake(tmp_path, monkeypatch):
    monkeypatch.setenv("SALUS_S3_SECRET_KEY", "from-the-environment")
    monkeypatch.setenv("SALUS_S3_SECRET_KEY_FILE", str(tmp_path / "secret"))

    with pytest.raises(ValidationError, match="not both"):
        ObjectSettings()


def test_a_file_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SALUS_S3_SECRET_KEY_FILE", str(tmp_path / "absent"))

    with pytest.raises(ValidationError, match="SALUS_S3_SECRET_KEY_FILE: No such file"):
        ObjectSettings()


def test_a_missing_secret_key_is_named():
    with pytest.raises(ValidationError, match="s3_secret_key"):
        ObjectSettings()
