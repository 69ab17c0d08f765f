"""What the readers of text have in common: its lines, and that no file is lost in silence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from sessions_dagster.errors import BatchError
from sessions_dagster.input.files import COMPRESSIONS, BatchFile
from sessions_dagster.input.readers.rows import for_each, grouped, whole_files
from sessions_dagster.storage.filesystem import location_with_links

LINE: Final = "__line"
"""A line of a file, without its end."""

SOURCE: Final = "__source_file"
"""The URI of the file that a row is from, as Spark spells it."""

BLOCK: Final = "__block"
"""Where the part of a file begins that was read in one task."""

_LINES: Final = "__lines"

_SHORT_LINE: Final = 32
"""Longer lines, in bytes, do not count as blank."""


@dataclass(frozen=True)
class FileLines:
    """What one pass over the lines of a file has found.

    Attributes:
        source: The URI of the file, as Spark spells it.
        lines: How many lines are not blank.
        numbers: What else was asked for, by name.
    """

    source: str
    lines: int
    numbers: Mapping[str, int]


def text_lines(spark: SparkSession, files: Sequence[BatchFile], line_end: str | None = None) -> DataFrame:
    """The lines of files, blank ones included, as `__line` and `__source_file` (string) and `__block` (bigint).

    Args:
        spark: The session.
        files: The files.
        line_end: What lines end with; None: with any of a line feed, a carriage return, or both.
    """
    groups = [whole_files(spark, alike) for alike in grouped(files, lambda _: None)]
    lines = [
        reader.text(paths, lineSep=line_end).select(
            F.col("value").alias(LINE),
            F.col("_metadata.file_path").alias(SOURCE),
            F.col("_metadata.file_block_start").alias(BLOCK),
        )
        for reader, paths in groups
    ]
    return reduce(DataFrame.union, lines)


def has_text(line: Column) -> Column:
    """Whether a line (string) has anything but white space (boolean)."""
    return line.rlike(r"\S")


def lines_by_file(lines: DataFrame, numbers: Mapping[str, Column]) -> dict[str, FileLines]:
    """Look at all lines in one pass.

    Args:
        lines: Lines as `text_lines` gives them.
        numbers: Aggregates of the lines of a file (int), by name.

    Returns:
        What was found, by the location of the file. Files without a line are missing.
    """
    # Nearly all lines are long enough to have no need of a pattern.
    is_record = (F.octet_length(LINE) > _SHORT_LINE) | has_text(F.col(LINE))
    rows = lines.groupBy(SOURCE).agg(
        F.count_if(is_record).alias(_LINES), *[number.alias(name) for name, number in numbers.items()]
    )
    found = [FileLines(row[SOURCE], row[_LINES], {name: row[name] for name in numbers}) for row in rows.collect()]
    return {location_with_links(lines.source): lines for lines in found}


def check_that_all_are_read(
    files: Sequence[BatchFile],
    found: Mapping[str, FileLines],
    header_lines: Callable[[BatchFile], int],
    has_records: Callable[[BatchFile], bool],
) -> None:
    """Refuse a file in which Spark finds no record although there is one: it would be lost in silence.

    Args:
        files: The files.
        found: What `lines_by_file` gives for them.
        header_lines: How many lines of a file are no records.
        has_records: Whether a file has records, or cannot be read up to the first one, found out without Spark.

    Raises:
        BatchError: If there is such a file.
    """

    def is_lost(file: BatchFile) -> bool:
        read = found[file.uri].lines if file.uri in found else 0
        return file.size > 0 and read <= header_lines(file) and has_records(file)

    lost = next((file for file, is_so in zip(files, for_each(is_lost, files), strict=True) if is_so), None)
    if lost is not None:
        raise BatchError(
            f"{lost.uri} has records, but Spark reads none of them. Deliver it again, as plain text in UTF-8."
        )


def cannot_be_read(file: BatchFile, error: OSError | EOFError) -> BatchError:
    """The error of a file of text that cannot be read, or not be decompressed."""
    # What the storage answers has a number; what a decompressor says of bytes that make no sense has none.
    if file.codec and getattr(error, "errno", None) is None:
        return BatchError(
            f"The compressed data of {file.uri} is damaged or incomplete ({error}). "
            "Compress the file and deliver it again."
        )
    return BatchError(f"{file.uri} cannot be read ({error}). Deliver it again.")


def check_compression(file: BatchFile) -> None:
    """Refuse a file in a compression that Spark would read as nothing at all, or as bytes, or that would end its JVM.

    Args:
        file: A file of text.

    Raises:
        BatchError: If the name of the file indicates such a compression, or another one than its content, or if Spark
            would pass over a part of the file.
        StorageError: If the storage fails.
    """
    readable = f"Deliver it in another compression ({', '.join(COMPRESSIONS)}) or without"
    if file.is_compressed_otherwise:
        raise BatchError(
            f"{file.uri} is compressed in a way that cannot be read, as its name says ({file.suffix}). {readable}; "
            "the name must end in exactly one of these."
        )
    if file.size == 0:
        return
    try:
        found = file.compression_found()
        if found == file.suffix:
            file.decompress_to_the_end()
    except (OSError, EOFError) as error:
        raise cannot_be_read(file, error) from error
    if found is None and file.codec:
        raise BatchError(
            f"{file.uri} is not compressed as its name says ({file.suffix}). Deliver it with another name, or again."
        )
    if found is not None and found != file.suffix:
        remedy = f"Deliver it with a name that ends in {found}" if found in COMPRESSIONS else readable
        raise BatchError(f"{file.uri} is compressed ({found}), but its name says otherwise. {remedy}.")
