"""Files that people edit: the same text whichever editor saved it."""

from __future__ import annotations

from pathlib import Path

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def plain_text(data: bytes) -> bytes:
    """Return UTF-8 text without a byte order mark, with LF where its lines end with CRLF or CR.

    It is for files of settings, keys and trust. What is signed or hashed is never passed through here.
    """
    return data.removeprefix(_BYTE_ORDER_MARK).replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def read_text_file(path: Path) -> bytes:
    """Return the plain text of a file; raises OSError."""
    return plain_text(path.read_bytes())
