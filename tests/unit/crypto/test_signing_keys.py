"""Places of signing keys: what a URI means, and files with several keys, encrypted or not."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from salus.crypto import token_session
from salus.crypto.errors import CryptoError, ExposedKeyError, InvalidKeyError, KeyUriError, KmsAwayError
from salus.crypto.keys import ensure_ed25519, load_all_ed25519, load_ed25519, save_ed25519
from salus.crypto.pkcs11 import TokenKeys
from salus.crypto.private_files import write_private
from salus.crypto.secret_source import Secret
from salus.crypto.signing_keys import KeyFile, key_place

TOKEN = "pkcs11:token=the%20token;object=log?module-path=/lib/hsm.so&pin-source=file:/run/pin"  # no secret


def raw(keys: object) -> list[bytes]:
    return [key.public_key().public_bytes_raw() for key in keys]  # type: ignore[attr-defined]  # a sequence of keys


def test_a_file_may_hold_the_old_key_and_the_new_one(tmp_path: Path) -> None:
    path, keys = tmp_path / "log.pem", [Ed25519PrivateKey.generate() for _ in range(2)]
    save_ed25519(path, *keys)

    assert raw(key_place(str(path)).read()) == raw(keys)
    assert raw(key_place(f"file:{path}").read()) == raw(keys)
    with pytest.raises(InvalidKeyError, match="2 keys instead of one"):
        load_ed25519(path)


def test_an_encrypted_file_opens_with_its_passphrase_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, secret = tmp_path / "log.pem", tmp_path / "passphrase"
    key = Ed25519PrivateKey.generate()
    save_ed25519(path, key, passphrase="correct horse")  # a test's
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    monkeypatch.setenv("LOG_PASSPHRASE", "battery staple")

    assert b"ENCRYPTED" in path.read_bytes()
    assert raw(key_place(f"file:{path}?passphrase-source=file:{secret}").read()) == raw([key])
    with pytest.raises(InvalidKeyError, match="passphrase is wrong"):
        key_place(f"file:{path}?passphrase-source=env:LOG_PASSPHRASE").read()
    with pytest.raises(InvalidKeyError, match="needs a passphrase"):
        key_place(str(path)).read()


def test_a_passphrase_for_a_file_that_is_not_encrypted_is_a_mistake(tmp_path: Path) -> None:
    save_ed25519(tmp_path / "log.pem", Ed25519PrivateKey.generate())

    with pytest.raises(InvalidKeyError, match="is not encrypted"):
        load_all_ed25519(tmp_path / "log.pem", "passphrase")


def test_a_passphrase_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path, secret = tmp_path / "log.pem", tmp_path / "passphrase"
    save_ed25519(path, Ed25519PrivateKey.generate(), passphrase="p")  # a test's
    secret.write_text("p")
    secret.chmod(0o644)

    with pytest.raises(ExposedKeyError):
        key_place(f"file:{path}?passphrase-source=file:{secret}").read()


@pytest.mark.parametrize("source", ["env:SALUS_NO_SUCH_SECRET", "file:/no/such/file", "p4ssw0rd", ""])
def test_a_secret_that_is_not_there_is_said_and_a_file_that_is_not_there_too(source: str) -> None:
    with pytest.raises(KeyUriError):
        Secret(source).read()
    with pytest.raises(KmsAwayError):
        KeyFile(Path("/no/such/key.pem")).read()


def test_a_key_is_made_once(tmp_path: Path) -> None:
    first, again = (ensure_ed25519(tmp_path / "keys" / "log.pem") for _ in range(2))

    assert raw([first]) == raw([again])


def test_what_rfc_7512_writes_is_understood() -> None:
    place = key_place(TOKEN)

    assert isinstance(place, TokenKeys)
    assert place.place.wanted == {"token": "the token", "object": "log"}
    assert (place.place.module, place.place.pin) == ("/lib/hsm.so", Secret("file:/run/pin"))


def test_without_the_library_a_token_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_session, "HAS_LIBRARY", False)

    with pytest.raises(KmsAwayError, match=r"salus-crypto\[pkcs11\]"):
        key_place(TOKEN)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("", "no place"),
        ("vault:log", "no place"),
        ("file://host/log.pem", "this machine"),
        ("file:", "this machine"),
        ("file:/log.pem?pin-source=file:/pin", "not known"),
        ("pkcs11:object=log?module-path=/l&pin-source=env:P", "needs token"),
        ("pkcs11:token=t?pin-source=env:P", "needs module-path"),
        ("pkcs11:token=t?module-path=/l", "needs pin-source"),
        ("pkcs11:token=t?module-path=/l&pin-value=1234", "does not belong into settings"),
        ("pkcs11:token=t;token=u?module-path=/l&pin-source=env:P", "twice"),
        ("pkcs11:token=t;type=private?module-path=/l&pin-source=env:P", "type is not known"),
    ],
)
def test_a_uri_that_does_not_say_where_keys_are_is_refused(uri: str, why: str) -> None:
    with pytest.raises(KeyUriError, match=why):
        key_place(uri)


@given(uri=st.one_of(st.text(), st.text().map(lambda t: f"pkcs11:{t}"), st.text().map(lambda t: f"file:{t}")))
def test_any_text_is_a_place_or_an_error_of_ours(uri: str) -> None:
    try:
        place = key_place(uri)
    except CryptoError:
        return
    assert place is not None


def test_a_passphrase_is_the_first_line_whichever_editor_saved_it(tmp_path: Path) -> None:
    """Case D2, sibling: with CRLF the passphrase ended with a carriage return, and opened nothing."""
    write_private(tmp_path / "pass", b"\xef\xbb\xbfopen sesame\r\nnot this\r\n")

    assert Secret(f"file:{tmp_path / 'pass'}").read() == "open sesame"
