"""A footer that somebody changed is refused, and does not end whoever reads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.archive.test_sound_body import BODY

from salus.archive.body import decode_body, unreadable_parts
from salus.archive.errors import BodyError

# In a process of its own: what is tried here made the decoder end it (SIGABRT).
READ_EVERY_CHANGED_FOOTER = """
import sys
from salus.archive.body import decode_body, unreadable_parts
from salus.archive.errors import BodyError
body = sys.stdin.buffer.read()
begin = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
for at in range(begin, len(body) - 8):
    for byte in (body[at] ^ 1, body[at] ^ 255, 127):
        changed = body[:at] + bytes([byte]) + body[at + 1 :]
        for read in (decode_body, unreadable_parts):
            try:
                read(changed)
            except BodyError:
                pass
print("read", end="")
"""


def test_no_changed_byte_of_a_footer_ends_its_reader(tmp_path: Path) -> None:
    script = tmp_path / "read.py"
    script.write_text(READ_EVERY_CHANGED_FOOTER)

    done = subprocess.run([sys.executable, script], input=BODY, capture_output=True, check=False)  # our own

    assert (done.returncode, done.stdout) == (0, b"read"), done.stderr[-1000:]


@pytest.mark.parametrize("data", [b"", b"PAR1", BODY[:-1], b"x" * 4 + b"\xff\xff\xff\x7fPAR1"])
def test_what_does_not_end_as_a_parquet_file_is_refused(data: bytes) -> None:
    with pytest.raises(BodyError):
        decode_body(data)
    assert unreadable_parts(data)
