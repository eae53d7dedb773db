"""Files that people edit: the same text whichever editor saved it."""

from __future__ import annotations

import errno
from pathlib import Path

TEXT_BYTES_MAX = 16 * 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def plain_text(data: bytes) -> bytes:
    """Return UTF-8 text without a byte order mark, with LF where its lines end with CRLF or CR.

    It is for files of settings, keys and trust. What is signed or hashed is never passed through here.
    """
    return data.removeprefix(_BYTE_ORDER_MARK).replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def read_text_file(path: Path) -> bytes:
    """Return the plain text of a file; raises OSError, also if it is larger than people edit."""
    return plain_text(read_file(path, bytes_max=TEXT_BYTES_MAX))


def read_file(path: Path, *, bytes_max: int) -> bytes:
    """Return what is in a file, which may be somebody else's; raises OSError, EFBIG if it is larger."""
    with path.open("rb") as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise OSError(errno.EFBIG, f"it has more than {bytes_max} bytes", str(path))
    return data
