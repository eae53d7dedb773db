"""What must hold of a Parquet file's footer before the decoder looks at its columns.

Where the decoder's C++ does not expect a footer to be wrong, it ends the process (SIGABRT) instead of raising
an error: at a codec that it does not know, and at level histograms that are not the schema's. So whoever can
change an object could end all who read it. Seen with pyarrow 26.
"""

from __future__ import annotations

from typing import Any

from salus.archive.errors import BodyError
from salus.archive.thrift import Fields, struct_at

_MAGIC = b"PAR1"
_END_BYTES = 8
# The numbers of the fields: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
_ROW_GROUPS, _COLUMNS, _META, _CODEC, _SIZES = 4, 1, 3, 4, 16
_REPETITION_LEVELS, _DEFINITION_LEVELS = 2, 3
_UNCOMPRESSED, _ZSTD = 0, 6


def require_sound_footer(data: bytes, *, nullable: list[bool]) -> None:
    """Raise BodyError unless the columns' codecs and histograms are such as bodies are written with.

    `nullable` says of each column whether cells may lack; a file with other columns is for its reader to
    refuse before it looks at any.
    """
    if len(data) < _END_BYTES or not data.endswith(_MAGIC):
        raise BodyError("it does not end as a Parquet file")
    end = len(data) - _END_BYTES
    start = end - int.from_bytes(data[end : end + 4], "little")
    if start < len(_MAGIC):
        raise BodyError("its footer is longer than the file")
    footer, _ = struct_at(data, start, end)
    for group in _structures(footer, _ROW_GROUPS):
        for chunk, optional in zip(_structures(group, _COLUMNS), nullable, strict=False):
            _require_sound(chunk.get(_META), levels=2 if optional else 1)


def _require_sound(meta: Any, *, levels: int) -> None:
    if not isinstance(meta, dict):
        raise BodyError("a column of its footer has no description")
    codec = meta.get(_CODEC)
    if type(codec) is not int or codec not in {_UNCOMPRESSED, _ZSTD}:
        raise BodyError("a column of its footer has no codec that bodies have")
    _require_histograms(meta.get(_SIZES), levels=levels)


def _require_histograms(sizes: Any, *, levels: int) -> None:
    if sizes is None:
        return
    if not isinstance(sizes, dict):
        raise BodyError("a column of its footer has no sizes")
    for field, most in ((_REPETITION_LEVELS, 1), (_DEFINITION_LEVELS, levels)):
        histogram = sizes.get(field, [])
        if not isinstance(histogram, list) or len(histogram) not in {0, most}:
            raise BodyError("a column of its footer has histograms that are not of its levels")


def _structures(fields: Fields, field: int) -> list[Fields]:
    found = fields.get(field, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise BodyError("its footer has no list where one must be")
    return found
