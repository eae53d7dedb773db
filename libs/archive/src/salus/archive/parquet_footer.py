"""What must hold of a Parquet file's footer before the decoder looks at its columns.

Where the decoder's C++ does not expect a footer to be wrong, it ends the process (SIGABRT) instead of raising
an error: at a codec that it does not know, and at level histograms that are not the schema's. So whoever can
change an object could end all who read it. Seen with pyarrow 26.
"""

from __future__ import annotations

from typing import Any

from salus.archive.errors import BodyError
from salus.archive.thrift import BINARY, BYTE, I16, I32, I64, TRUTH, Fields, Shapes, struct_at

_MAGIC = b"PAR1"
_END_BYTES = 8
# The structures and their fields: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
# What no body has, such as encryption, is left out, and so refused.
STATISTICS = {1: BINARY, 2: BINARY, 3: I64, 4: I64, 5: BINARY, 6: BINARY, 7: TRUTH, 8: TRUTH}
_KEY_VALUE = {1: BINARY, 2: BINARY}
_TIME_UNIT: dict[int, Any] = {1: {}, 2: {}, 3: {}}
_LOGICAL_TYPE: dict[int, Any] = {1: {}, 8: {1: TRUTH, 2: _TIME_UNIT}, 10: {1: BYTE, 2: TRUTH}}
_SCHEMA_ELEMENT = dict.fromkeys((1, 2, 3, 5, 6, 7, 8, 9), I32) | {4: BINARY, 10: _LOGICAL_TYPE}
_SIZE_STATISTICS = {1: I64, 2: [I64], 3: [I64]}
_COLUMN_META: Shapes = dict.fromkeys((5, 6, 7, 9, 10, 11, 14), I64) | dict.fromkeys((1, 4, 15), I32)
_COLUMN_META |= {2: [I32], 3: [BINARY], 8: [_KEY_VALUE], 12: STATISTICS}
_COLUMN_META |= {13: [{1: I32, 2: I32, 3: I32}], 16: _SIZE_STATISTICS}
_COLUMN: Shapes = {1: BINARY, 2: I64, 3: _COLUMN_META, 4: I64, 5: I32, 6: I64, 7: I32}
_ROW_GROUP: Shapes = {1: [_COLUMN], 2: I64, 3: I64, 4: [{1: I32, 2: TRUTH, 3: TRUTH}], 5: I64, 6: I64, 7: I16}
_FOOTER: Shapes = {1: I32, 2: [_SCHEMA_ELEMENT], 3: I64, 4: [_ROW_GROUP], 5: [_KEY_VALUE], 6: BINARY}
_FOOTER |= {7: [{1: {}}]}
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
    footer, after = struct_at(data, start, end, _FOOTER)
    if after != end:
        raise BodyError("its footer goes on after its end")
    for group in footer.get(_ROW_GROUPS, ()):
        for chunk, optional in zip(group.get(_COLUMNS, ()), nullable, strict=False):
            _require_sound(chunk.get(_META, {}), levels=2 if optional else 1)


def _require_sound(meta: Fields, *, levels: int) -> None:
    if meta.get(_CODEC) not in {_UNCOMPRESSED, _ZSTD}:
        raise BodyError("a column of its footer has no codec that bodies have")
    sizes = meta.get(_SIZES, {})
    for field, most in ((_REPETITION_LEVELS, 1), (_DEFINITION_LEVELS, levels)):
        if len(sizes.get(field, ())) not in {0, most}:
            raise BodyError("a column of its footer has histograms that are not of its levels")
