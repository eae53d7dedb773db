"""Where a passphrase or PIN is, named without saying it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from salus.crypto.errors import KeyUriError
from salus.crypto.private_files import read_private
from salus.crypto.text_files import plain_text


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a passphrase or PIN is: `file:PATH` (the first line counts) or `env:NAME`."""

    source: str

    def read(self) -> str:
        """Return the secret; raises KeyUriError if there is none, or ExposedKeyError."""
        kind, _, place = self.source.partition(":")
        if kind == "env" and os.environ.get(place):
            return os.environ[place]
        if kind == "file":
            try:
                return plain_text(read_private(path_of(place))).decode().split("\n")[0]
            except (OSError, UnicodeDecodeError) as error:
                raise KeyUriError(f"the secret {self.source} cannot be read: {error}") from error
        raise KeyUriError(f"there is no secret at {self.source}; say file:PATH or env:NAME")


def path_of(place: str) -> Path:
    """Return the path of a file: URI, whose authority is empty or absent (RFC 8089)."""
    path = place.removeprefix("//") if place.startswith("///") else place
    if path.startswith("//") or not path:
        raise KeyUriError("a file: URI names a path of this machine")
    return Path(unquote(path))
