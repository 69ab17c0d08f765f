"""A look at the first values of a column of a Parquet file, where its footer does not say what is stored in it."""

from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from sessions_dagster.input.files import BatchFile
from sessions_dagster.input.readers.parquet_footer import Footer

_BYTES_OF_A_UUID: Final = 16
_VALUES: Final = 100


def are_raw_uuids(file: BatchFile, footer: Footer, name: str) -> bool:
    """Whether a column of bytes, or of what is said to be text, has the bytes of UUIDs: each row would be unreadable.

    Args:
        file: The file.
        footer: What its footer says.
        name: A column at its top, whose values are a `BYTE_ARRAY` that is text or nothing else.

    Returns:
        Whether each of its first values has 16 bytes, and most of them are not UTF-8. False if it cannot be looked at:
        then it is for Spark to say what is wrong with the file.

    Raises:
        StorageError: If the storage fails.
    """
    bounds = footer.columns[name].bounds
    if bounds and not (all(map(_has_that_length, bounds)) and not all(map(_is_utf8, bounds))):
        return False
    values = _first_values(file, footer, name)
    broken = sum(not _is_utf8(value) for value in values)
    return all(map(_has_that_length, values)) and 2 * broken > len(values)


def _first_values(file: BatchFile, footer: Footer, name: str) -> list[bytes]:
    # In a file with an encrypted column pyarrow ends the process.
    if any(column.fault for column in footer.columns.values()):
        return []
    try:
        with file.open() as opened, pq.ParquetFile(opened) as parquet:
            batches = parquet.iter_batches(_VALUES, row_groups=[0], columns=[name], use_threads=False)
            column = next(batches).column(0)
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            return [value for value in column.cast(pa.large_binary()).to_pylist() if value is not None]
    except (pa.ArrowException, OSError, StopIteration, IndexError):
        return []


def _has_that_length(value: bytes) -> bool:
    return len(value) == _BYTES_OF_A_UUID


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
