"""A KMS in a file, for development and small sites."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from salus.crypto.errors import (
    KmsAwayError,
    KmsError,
    KmsExistsError,
    KmsUnusableError,
    LockedError,
    RootInUseError,
    UnwrapError,
)
from salus.crypto.file_lock import changing
from salus.crypto.kms import RootsInUse, bound_to, parsed, root_name, wrapped_form
from salus.crypto.private_files import read_private, write_private

FILE_FORMAT = "salus.health/kms-file/v1"
ROOT_KEY_BYTES = 32
NONCE_BYTES = 12
SCRYPT_N = 2**15
SCRYPT_R = 8
SCRYPT_P = 1


class _Roots(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    current: str
    keys: dict[str, bytes]


class _Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    n: int
    r: int
    p: int
    salt: bytes
    nonce: bytes
    ciphertext: bytes


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    format: str
    sealed: _Sealed | None = None
    roots: _Roots | None = None


@dataclass
class FileKms:
    """Root keys in one private file, encrypted with AES-256-GCM under scrypt of a passphrase.

    Without a passphrase the keys stand in the file as they are: for a file that is itself a mounted secret,
    and for development. What is wrapped is wrapped under the root key that the file has at that moment, and
    who meets a root key that it does not know reads the file again. Changes are made under a lock beside the
    file, so no process undoes what another one did.
    """

    path: Path
    _passphrase: bytes | None = field(repr=False)
    _content: bytes = field(repr=False)
    _roots: _Roots = field(repr=False)

    @classmethod
    async def create(cls, path: Path, passphrase: str | None = None) -> FileKms:
        """Make the file with a first root key; raises KmsExistsError."""
        await asyncio.to_thread(make_kms_file, path, passphrase)
        return await cls.open(path, passphrase)

    @classmethod
    async def open(cls, path: Path, passphrase: str | None = None) -> FileKms:
        """Read the file.

        Raises:
            KmsAwayError: it is not there, or cannot be read.
            KmsUnusableError: it is not ours, or the passphrase is wrong.
        """
        secret = _encoded(passphrase)
        content = await asyncio.to_thread(_read, path)
        return cls(path, secret, content, await asyncio.to_thread(_decode, path, content, secret))

    async def wrap(self, key: bytes, *, context: str) -> bytes:
        """Return the key wrapped under the root key that is current in the file."""
        roots = await self._read_again()
        name = roots.current
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = AESGCM(roots.keys[name]).encrypt(nonce, key, bound_to(name, context))
        return wrapped_form(name, nonce + sealed)

    async def unwrap(self, wrapped: bytes, *, context: str) -> bytes:
        """Return the key."""
        name, body = parsed(wrapped)
        root = await self._root(name)
        try:
            return AESGCM(root).decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], bound_to(name, context))
        except (InvalidTag, ValueError):
            raise UnwrapError("altered, or wrapped for another use") from None

    async def rewrap(self, wrapped: bytes, *, context: str) -> bytes:
        """Return the same key under the current root key."""
        key = await self.unwrap(wrapped, context=context)
        return wrapped if await self.is_current(wrapped) else await self.wrap(key, context=context)

    async def is_current(self, wrapped: bytes) -> bool:
        """Say whether a key is wrapped under the root key that is current in the file."""
        return root_name(wrapped) == (await self._read_again()).current

    async def rotate(self) -> str:
        """Add a root key, make it current, and return its name; older ones still unwrap.

        A crash leaves the old file or the new one.

        Raises:
            KmsError: another process holds the file, or it cannot be written; it is as it was.
        """
        name, key = _new_root()
        async with self._changing():
            known = await self._read_again()
            await self._save(_Roots(current=name, keys={**known.keys, name: key}))
        return name

    async def retire(self, in_use: RootsInUse) -> None:
        """Forget every root key but the current one; `in_use` returns the names that wrapped keys bear.

        It is called under the lock, after which no other root key becomes current. What it lists must
        include what was stored before the call; who stores a key afterwards asks `is_current` again.

        Raises:
            RootInUseError: a key is wrapped under another than the current root key; none is forgotten.
            KmsError: another process holds the file, or it cannot be written; it is as it was.
        """
        async with self._changing():
            known = await self._read_again()
            if left := set(await in_use()) - {known.current}:
                raise RootInUseError(left)
            await self._save(_Roots(current=known.current, keys={known.current: known.keys[known.current]}))

    async def check(self) -> None:
        """Return if the file is there and opens."""
        await self._read_again()

    async def close(self) -> None:
        """Do nothing: the file is open only while it is read."""

    async def _root(self, name: str) -> bytes:
        roots = self._roots if name in self._roots.keys else await self._read_again()
        try:
            return roots.keys[name]
        except KeyError:
            raise UnwrapError(f"there is no root key {name}") from None

    async def _read_again(self) -> _Roots:
        """Return what the file has now; to open it is slow, so that is done only if it changed."""
        content = await asyncio.to_thread(_read, self.path)
        if content != self._content:
            roots = await asyncio.to_thread(_decode, self.path, content, self._passphrase)
            self._content, self._roots = content, roots
        return self._roots

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        try:
            async with changing(self.path):
                yield
        except LockedError as error:
            raise KmsError(str(error)) from None
        except OSError as error:
            raise KmsError(f"{self.path} cannot be changed: {error.strerror}") from error

    async def _save(self, roots: _Roots) -> None:
        content = await asyncio.to_thread(_encode, roots, self._passphrase)
        await asyncio.to_thread(write_private, self.path, content)
        self._content, self._roots = content, roots


def make_kms_file(path: Path, passphrase: str | None = None) -> None:
    """Make a KMS file with a first root key; raises KmsExistsError."""
    name, key = _new_root()
    content = _encode(_Roots(current=name, keys={name: key}), _encoded(passphrase))
    try:
        write_private(path, content, fresh=True)
    except FileExistsError:
        raise KmsExistsError(path) from None


def _encode(roots: _Roots, passphrase: bytes | None) -> bytes:
    if passphrase is None:
        return msgspec.json.encode(_File(FILE_FORMAT, roots=roots))
    return msgspec.json.encode(_File(FILE_FORMAT, sealed=_seal(roots, passphrase)))


def _seal(roots: _Roots, passphrase: bytes) -> _Sealed:
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(NONCE_BYTES)
    key = _stretch(passphrase, salt)
    ciphertext = AESGCM(key).encrypt(nonce, msgspec.json.encode(roots), FILE_FORMAT.encode())
    return _Sealed(SCRYPT_N, SCRYPT_R, SCRYPT_P, salt=salt, nonce=nonce, ciphertext=ciphertext)


def _read(path: Path) -> bytes:
    try:
        return read_private(path)
    except FileNotFoundError:
        raise KmsAwayError(f"there is no KMS file {path}") from None
    except OSError as error:
        raise KmsAwayError(f"{path} cannot be read: {error.strerror}") from error


def _decode(path: Path, content: bytes, passphrase: bytes | None) -> _Roots:
    try:
        file = msgspec.json.decode(content, type=_File)
    except msgspec.DecodeError as error:
        raise KmsUnusableError(f"{path} is no KMS file; restore it, for no other opens the keys") from error
    if file.format != FILE_FORMAT or (file.sealed is None) == (file.roots is None):
        raise KmsUnusableError(f"{path} is of another format")
    roots = file.roots if file.roots is not None else _unseal(path, file.sealed, passphrase)
    if roots.keys.get(roots.current) is None or any(len(k) != ROOT_KEY_BYTES for k in roots.keys.values()):
        raise KmsUnusableError(f"{path} does not hold its current root key, or one of another length")
    return roots


def _unseal(path: Path, sealed: _Sealed | None, passphrase: bytes | None) -> _Roots:
    if sealed is None or passphrase is None:
        raise KmsUnusableError(f"{path} needs a passphrase")
    if (sealed.n, sealed.r, sealed.p) != (SCRYPT_N, SCRYPT_R, SCRYPT_P):
        raise KmsUnusableError(f"{path} is of another format")
    try:
        inner = AESGCM(_stretch(passphrase, sealed.salt)).decrypt(
            sealed.nonce, sealed.ciphertext, FILE_FORMAT.encode()
        )
        return msgspec.json.decode(inner, type=_Roots)
    except (InvalidTag, ValueError):
        raise KmsUnusableError(f"the passphrase does not open {path}, or the file is damaged") from None


def _encoded(passphrase: str | None) -> bytes | None:
    return passphrase.encode() if passphrase is not None else None


def _stretch(passphrase: bytes, salt: bytes) -> bytes:
    kdf = Scrypt(salt=salt, length=ROOT_KEY_BYTES, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    return kdf.derive(passphrase)


def _new_root() -> tuple[str, bytes]:
    return f"root-{secrets.token_hex(4)}", secrets.token_bytes(ROOT_KEY_BYTES)
