"""How much a Parquet file expands to, told from its page headers before anything is expanded.

Footer and page headers are what whoever wrote the file says; the decoder allocates what page headers say, and
refuses pages that are not so. So what is counted here bounds what decoding takes. Only what bodies are
written with is let through: pages of version 1, plain or with a dictionary, uncompressed or in Zstandard.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from salus.archive.errors import BodyError
from salus.archive.parquet_footer import STATISTICS
from salus.archive.thrift import I32, TRUTH, Fields, Shapes, struct_at
from salus.ledger.merkle import HASH_SIZE

LEAVES_MAX = 65_536
"""How many rows a body has at most."""
EXPANDED_BYTES_MAX = 256 * 1024 * 1024
"""How many bytes the cells of a body take at most, and so its pages."""
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_PLAIN, _PLAIN_DICTIONARY, _RLE, _RLE_DICTIONARY = 0, 2, 3, 8
_ENCODINGS = {_PLAIN, _PLAIN_DICTIONARY, _RLE, _RLE_DICTIONARY}
_COMPRESSIONS = {"UNCOMPRESSED", "ZSTD"}
# Of pages of data of version 1, and of dictionaries.
_DATA_PAGE_HEADER: Shapes = {1: I32, 2: I32, 3: I32, 4: I32, 5: STATISTICS}
_PAGE_HEADER: Shapes = {1: I32, 2: I32, 3: I32, 4: I32, 5: _DATA_PAGE_HEADER}
_PAGE_HEADER |= {7: {1: I32, 2: I32, 3: TRUTH}}
_INT32_MAX = (1 << 31) - 1
_LENGTH = struct.Struct("<I")


def require_bounded(
    metadata: pq.FileMetaData,
    data: bytes,
    *,
    columns: Iterable[int],
    expanded_bytes_max: int = EXPANDED_BYTES_MAX,
) -> None:
    """Raise BodyError unless these columns of the file expand to a bounded size."""
    if metadata.num_rows > LEAVES_MAX:
        raise BodyError(f"{metadata.num_rows} rows, at most {LEAVES_MAX}")
    rows = expanded = 0
    for group in range(metadata.num_row_groups):
        some = metadata.row_group(group)
        rows += some.num_rows
        if rows > metadata.num_rows:
            raise BodyError("its groups have more rows than the file")
        for column in columns:
            expanded += expanded_bytes(some.column(column), data, rows=some.num_rows)
            if expanded > expanded_bytes_max:
                raise BodyError(f"it expands to more than {expanded_bytes_max} bytes")


def expanded_bytes(chunk: pq.ColumnChunkMetaData, data: bytes, *, rows: int) -> int:
    """Return how many bytes the cells of one column of one group of rows take at most, and its pages.

    Raises:
        BodyError: its pages are not what a body is written with.
    """
    if chunk.num_values != rows or chunk.compression not in _COMPRESSIONS:
        raise BodyError(f"{chunk.num_values} cells in {chunk.compression} for {rows} rows")
    if rows == 0:
        # No page is read then.
        return 0
    at = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None:
        at = min(at, chunk.dictionary_page_offset)
    end = at + chunk.total_compressed_size
    if not 0 <= at <= end <= len(data):
        raise BodyError("its pages are not within the file")
    expanded = values = longest = 0
    while at < end:
        header, at = struct_at(data, at, end, _PAGE_HEADER)
        size, stored = _number(header, 2), _number(header, 3)
        page, at = data[at : at + stored], at + stored
        expanded += size
        if _number(header, 1) == _DICTIONARY_PAGE:
            longest = _longest(page, size, chunk)
        else:
            values += _values(header, rows)
    if at != end or values > rows:
        raise BodyError("its pages are not those of its rows")
    return expanded + longest * rows


def _values(header: Fields, rows: int) -> int:
    told = header.get(5)
    if _number(header, 1) != _DATA_PAGE or not isinstance(told, dict):
        raise BodyError("a page of another kind")
    if _number(told, 2) not in _ENCODINGS or _number(told, 1) > rows:
        raise BodyError("a page of another encoding, or of more rows")
    return _number(told, 1)


def _longest(page: bytes, size: int, chunk: pq.ColumnChunkMetaData) -> int:
    """Return the length of the longest cell in a dictionary, each of which may be in every row."""
    if size > EXPANDED_BYTES_MAX:
        raise BodyError(f"a dictionary of {size} bytes")
    if chunk.physical_type != "BYTE_ARRAY":
        # Hashes and numbers.
        return HASH_SIZE
    if chunk.compression == "ZSTD":
        try:
            page = pa.Codec("zstd").decompress(page, size, asbytes=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise BodyError("a dictionary that cannot be expanded") from error
    at = longest = 0
    while at + _LENGTH.size <= len(page):
        (length,) = _LENGTH.unpack_from(page, at)
        longest, at = max(longest, length), at + _LENGTH.size + length
    return longest


def _number(fields: Fields, field: int) -> int:
    number = fields.get(field)
    if not isinstance(number, int) or not 0 <= number <= _INT32_MAX:
        raise BodyError("a page without its sizes")
    return number
