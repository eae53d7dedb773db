"""The files of a policy set: the digest that names it, and their form in events. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from importlib.resources.abc import Traversable

from salus.events.contexts.consent import PolicyFile

SCHEMA_SUFFIX, POLICIES_SUFFIX = ".cedarschema", ".cedar"


def read_policies(folder: Traversable) -> dict[str, bytes]:
    """Return the policy files of a folder by name; other files are ignored."""
    return {
        entry.name: entry.read_bytes()
        for entry in folder.iterdir()
        if entry.name.endswith((POLICIES_SUFFIX, SCHEMA_SUFFIX))
    }


def digest_of(files: Mapping[str, bytes]) -> str:
    """Return the SHA-256, in hex, over `<name> <length>LF<bytes>` of each file in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name} {len(files[name])}\n".encode())
        digest.update(files[name])
    return digest.hexdigest()


def contents_of(files: Iterable[PolicyFile]) -> dict[str, bytes]:
    """Return files of an event by name; whoever may have two of one name looks first."""
    return {file.name: file.text.encode() for file in files}


def files_of(contents: Mapping[str, bytes]) -> tuple[PolicyFile, ...]:
    """Return files as events carry them, in the order of names; raises UnicodeDecodeError."""
    return tuple(PolicyFile(name, contents[name].decode()) for name in sorted(contents))
