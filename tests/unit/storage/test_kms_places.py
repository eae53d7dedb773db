"""Where root keys are is named by a URI, which holds no secret and means one place."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from salus.crypto.errors import KeyUriError
from salus.crypto.key_uri import TokenPlace
from salus.crypto.secret_source import Secret
from salus.storage.kms_places import KmsFile, RoleLogin, TokenLogin, TransitPlace, kms_place
from salus.storage.settings import Settings

BAO = "transit:https://bao.example.org:8200/transit/subjects"
TOKEN = "token-source=file:/run/token"


def test_each_kind_of_place_is_understood() -> None:
    role = f"{BAO}?role-id-source=file:/r&secret-id-source=env:S&ca=/ca.crt&namespace=a/b"

    assert kms_place("/run/kms") == kms_place("file:/run/kms") == KmsFile(Path("/run/kms"))
    assert kms_place("file:/k?passphrase-source=env:P") == KmsFile(Path("/k"), Secret("env:P"))
    assert kms_place("pkcs11:token=t;object=o?module-path=/m.so&pin-source=env:PIN") == TokenPlace(
        "/m.so", Secret("env:PIN"), {"token": "t", "object": "o"}
    )
    assert kms_place(f"{BAO}?{TOKEN}") == TransitPlace(
        "https://bao.example.org:8200", "transit", "subjects", TokenLogin(Secret("file:/run/token"))
    )
    assert kms_place(role) == TransitPlace(
        "https://bao.example.org:8200",
        "transit",
        "subjects",
        RoleLogin(Secret("file:/r"), Secret("env:S")),
        "/ca.crt",
        "a/b",
    )
    local = kms_place(f"transit:http://127.0.0.1:8200/engines/health/k?{TOKEN}")
    assert isinstance(local, TransitPlace)
    assert (local.mount, local.key) == ("engines/health", "k")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("", "no place of root keys"),
        ("https://bao/transit/k", "no place of root keys"),
        (f"transit:http://bao.example.org/transit/k?{TOKEN}", "https"),
        (f"transit:https:///transit/k?{TOKEN}", "https"),
        (f"transit:https://user:word@bao/transit/k?{TOKEN}", "https"),
        (f"transit:https://bao/k?{TOKEN}", "https"),
        (f"transit:https://bao/transit/Key_1?{TOKEN}", "at most 40"),
        (f"transit:https://bao/transit/k#fragment?{TOKEN}", "https"),
        (f"transit:https://bao:99999/transit/k?{TOKEN}", "no such host and port"),
        (f"transit:https://[::1/transit/k?{TOKEN}", "no such host and port"),
        (f"transit:https://bao/transit/../k?{TOKEN}", "https"),
        (BAO, "needs token-source"),
        (f"{BAO}?role-id-source=env:R", "needs token-source"),
        (f"{BAO}?{TOKEN}&role-id-source=env:R&secret-id-source=env:S", "needs token-source"),
        (f"{BAO}?token=s.1234", "token is not known here"),
        (f"{BAO}?{TOKEN}&{TOKEN}", "there twice"),
        ("file:/k?passphrase=x", "passphrase is not known here"),
        ("pkcs11:token=t?module-path=/m.so", "needs pin-source"),
    ],
)
def test_what_names_no_place_is_refused_at_the_start_with_its_reason(uri: str, says: str) -> None:
    with pytest.raises(KeyUriError, match=says):
        kms_place(uri)
    with pytest.raises(ValidationError):
        Settings.__pydantic_validator__.validate_assignment(Settings.model_construct(), "kms", uri)
