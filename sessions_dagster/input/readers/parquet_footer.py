"""What the footer of a Parquet file says: its rows, its columns with their types, and why one of them cannot be read.

Here belongs the format itself (https://parquet.apache.org/docs/file-format/), and nothing of Spark. It is not read with
pyarrow, which refuses a whole file because of one column that it does not know, and ends the process if a column is
encrypted.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyspark

from sessions_dagster.errors import BatchError
from sessions_dagster.input.files import BatchFile
from sessions_dagster.input.readers.parquet_schema import (
    DescribedColumn,
    ParquetType,
    described_columns,
    name_with_type_not_in,
    name_without_one_meaning,
)
from sessions_dagster.input.readers.thrift import CompactReader
from sessions_dagster.spark.compat import PARQUET_LOGICAL_TYPES

_MAGIC: Final = b"PAR1"
_MAGIC_OF_ENCRYPTED: Final = b"PARE"
_END: Final = 8
"""The length of the footer in four bytes, and the magic number."""


@dataclass(frozen=True)
class ParquetColumn:
    """A column at the top of a Parquet file.

    Attributes:
        type: The type of its values; None if it does not follow the format.
        fault: Why it cannot be read although its type is known, and what to do; empty if it can.
        bounds: The smallest and the greatest value of each row group as they are stored, if the file has them.
    """

    type: ParquetType | None
    fault: str = ""
    bounds: tuple[bytes, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Footer:
    """What a Parquet file contains.

    Attributes:
        rows: The number of its rows.
        names: The names of its columns, in order. A name may be there more than once.
        columns: The columns by name.
    """

    rows: int
    names: tuple[str, ...]
    columns: Mapping[str, ParquetColumn]


def read_footer(file: BatchFile) -> Footer:
    """The footer of a Parquet file.

    Raises:
        BatchError: If the file is not a Parquet file, is encrypted as a whole, or has a column whose name is not UTF-8
            or has several meanings, or whose type the installed Spark does not know.
        StorageError: If the storage fails.
    """
    try:
        metadata = CompactReader(_footer_bytes(file)).read_struct()
        footer, shared_name = _footer(metadata), name_without_one_meaning(metadata[2])
        unknown_name = name_with_type_not_in(PARQUET_LOGICAL_TYPES, metadata[2])
    except BatchError:
        raise
    except UnicodeDecodeError as error:
        raise BatchError(
            f"{file.uri} has a column whose name is not UTF-8 ({error.object!r}). Deliver it with another name."
        ) from error
    except (OSError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BatchError(
            f"{file.uri} is not a Parquet file that can be read ({type(error).__name__}: {error}). Deliver it again."
        ) from error
    if shared_name is not None:
        raise BatchError(
            f"{file.uri} has several columns {shared_name!r} of different types, of which one is nested or a half "
            "float, so Spark cannot read any of its columns. Deliver the file with one of them."
        )
    if unknown_name is not None:
        raise BatchError(
            f"{file.uri} has {unknown_name!r} with a type that the Parquet library of Spark {pyspark.__version__} does "
            "not know, so Spark cannot read any of its columns. Deliver another type, or install a newer Spark."
        )
    return footer


def _footer(metadata: Mapping[int, Any]) -> Footer:
    described, row_groups = described_columns(metadata[2]), metadata.get(4, [])
    rows = max(metadata[3], sum(group[3] for group in row_groups))
    names = tuple(column.name for column in described)
    return Footer(rows, names, _columns(described, [group[1] for group in row_groups]))


def _footer_bytes(file: BatchFile) -> bytes:
    with file.open() as opened:
        size = opened.seek(0, 2)
        opened.seek(max(0, size - _END))
        end = bytes(opened.read(_END))
        if end[4:] == _MAGIC_OF_ENCRYPTED:
            raise BatchError(f"{file.uri} is encrypted. There is no setting for a key: deliver it without encryption.")
        if end[4:] != _MAGIC:
            opened.seek(0)
            if bytes(opened.read(len(_MAGIC))) != _MAGIC:
                raise BatchError(
                    f"{file.uri} is not a Parquet file. Check the input format, or deliver the file as Parquet, and "
                    "not compressed as a whole."
                )
            raise ValueError(f"it does not end with {_MAGIC.decode()}")
        (length,) = struct.unpack("<I", end[:4])
        if length > size - _END - len(_MAGIC):
            raise ValueError("it is shorter than its end says")
        opened.seek(size - _END - length)
        return bytes(opened.read(length))


# --- what stands in the way of reading a column ----------------------------------------------------------------------

_Chunk = Mapping[int, Any]
"""A `ColumnChunk` of the format, by the numbers of its fields."""

_CODECS: Final = {0: "UNCOMPRESSED", 1: "SNAPPY", 2: "GZIP", 3: "LZO", 4: "BROTLI", 5: "LZ4", 6: "ZSTD", 7: "LZ4_RAW"}
_UNREADABLE_CODECS: Final = frozenset({"LZO", "BROTLI"})
_BYTE_STREAM_SPLIT: Final = 9

ROW_INDEX_OF_SPARK: Final = "_tmp_metadata_row_index"
"""Spark writes the numbers of the rows into a column of this name, and refuses it unless its type is that of these."""


def _columns(described: list[DescribedColumn], row_groups: list[list[_Chunk]]) -> dict[str, ParquetColumn]:
    columns: dict[str, ParquetColumn] = {}
    first = 0
    for column in described:
        chunks = [chunk for group in row_groups for chunk in group[first : first + column.leaves]]
        fault = next(filter(None, map(_fault, chunks)), "")
        if column.name in columns:
            fault = "is there more than once. Deliver the file with one of it"
        if column.name == ROW_INDEX_OF_SPARK:
            fault = "has a name that Spark uses itself. Deliver it with another name"
        columns[column.name] = ParquetColumn(column.type, fault, () if fault else tuple(_bounds(chunks)))
        first += column.leaves
    return columns


def _bounds(chunks: list[_Chunk]) -> Iterator[bytes]:
    for chunk in chunks:
        statistics: Mapping[int, bytes] = chunk[3].get(12, {})
        yield from (statistics[number] for number in (5, 6) if number in statistics)


def _fault(chunk: _Chunk) -> str:
    if 8 in chunk:
        return "is encrypted. There is no setting for a key: deliver it without encryption"
    stored = chunk[3]
    codec = _CODECS.get(stored[4], f"codec number {stored[4]}")
    if stored[4] not in _CODECS or codec in _UNREADABLE_CODECS:
        return (
            f"is compressed with {codec}, which Spark cannot read. Deliver the file with another codec (Snappy, gzip, "
            "Zstandard, LZ4) or without"
        )
    if _BYTE_STREAM_SPLIT in stored[2]:
        return "is encoded as BYTE_STREAM_SPLIT, which Spark cannot read. Deliver the file with another encoding"
    return ""
