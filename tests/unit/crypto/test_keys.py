"""Key files: private, whole, and of the right kind."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP384R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from salus.crypto.errors import ExposedKeyError, InvalidKeyError
from salus.crypto.keys import (
    create_p256,
    load_all_ed25519,
    load_ed25519,
    load_signing_key,
    save_ed25519,
)
from salus.crypto.private_files import make_private_folder, open_private, write_private


def test_a_saved_key_loads_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "storage.pem"
    key = Ed25519PrivateKey.generate()
    save_ed25519(path, key)

    assert load_ed25519(path).private_bytes_raw() == key.private_bytes_raw()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_key_of_a_party_is_of_ed25519_or_p256(tmp_path: Path) -> None:
    path, other = tmp_path / "phone.pem", tmp_path / "other.pem"
    assert create_p256(path)
    assert not create_p256(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert isinstance(load_signing_key(path), EllipticCurvePrivateKey)
    with pytest.raises(InvalidKeyError, match="not an Ed25519 key"):
        load_ed25519(path)

    write_private(other, _pem(generate_private_key(SECP384R1())))
    with pytest.raises(InvalidKeyError, match="neither an Ed25519 nor a P-256 key"):
        load_signing_key(other)
    save_ed25519(other, Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate())
    with pytest.raises(InvalidKeyError, match="2 keys instead of one"):
        load_signing_key(other)


def _pem(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o644])
def test_a_key_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    save_ed25519(path, Ed25519PrivateKey.generate())
    path.chmod(mode)

    with pytest.raises(ExposedKeyError, match="chmod 600"):
        load_ed25519(path)


def test_a_group_may_read_a_mounted_secret(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    save_ed25519(path, Ed25519PrivateKey.generate())
    path.chmod(0o440)

    load_ed25519(path)


@pytest.mark.parametrize("content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_what_is_not_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.pem"
    write_private(path, content)

    with pytest.raises(InvalidKeyError, match=r"key\.pem"):
        load_ed25519(path)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    pem = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(path, pem)

    with pytest.raises(InvalidKeyError, match="Ed25519"):
        load_ed25519(path)


def test_a_fresh_file_never_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "kms"
    write_private(path, b"first", fresh=True)

    with pytest.raises(FileExistsError):
        write_private(path, b"second", fresh=True)
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def in_lines(pem: bytes, end: bytes) -> bytes:
    return pem.replace(b"\n", end)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"Bag Attributes\n  name: x\n"], ids=ascii)
def test_a_key_file_is_read_whichever_editor_saved_it(tmp_path: Path, before: bytes, end: bytes) -> None:
    """Case D2: RFC 7468 allows CRLF, CR and LF, and text around; one with CRLF was `no PEM private key`."""
    keys = [Ed25519PrivateKey.generate() for _ in range(2)]
    save_ed25519(tmp_path / "two", *keys)
    pem = (tmp_path / "two").read_bytes()
    write_private(tmp_path / "edited", in_lines(before + pem.rstrip(b"\n"), end))

    read = load_all_ed25519(tmp_path / "edited")
    assert [key.private_bytes_raw() for key in read] == [key.private_bytes_raw() for key in keys]


def test_what_is_made_is_its_owners_alone(tmp_path: Path) -> None:
    made = tmp_path / "state" / "deep"
    write_private(made / "key", b"x")
    open_private(made / "log", 0).close()
    make_private_folder(made / "folder")
    make_private_folder(tmp_path)

    assert {stat.S_IMODE(path.stat().st_mode) for path in (made.parent, made, made / "folder")} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (made / "key", made / "log")} == {0o600}


def test_a_file_never_takes_the_place_of_a_device_or_a_pipe(tmp_path: Path) -> None:
    """`object get --output /dev/null`, as root, left a plain file there."""
    pipe, link = tmp_path / "pipe", tmp_path / "stdout"
    os.mkfifo(pipe)
    link.symlink_to("/proc/self/fd/1")

    for path in (pipe, link):
        with pytest.raises(OSError, match="not a regular file"):
            write_private(path, b"content")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert link.is_symlink()
    assert {file.name for file in tmp_path.iterdir()} == {"pipe", "stdout"}
