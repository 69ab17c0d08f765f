"""How records lie in the lines of CSV files, which says how they have to be read."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from sessions_dagster.input.files import BatchFile
from sessions_dagster.input.readers.csv_header import CsvHeader
from sessions_dagster.input.readers.text import BLOCK, LINE, SOURCE, FileLines, lines_by_file, text_lines
from sessions_dagster.storage.filesystem import location_with_links

NUMBER: Final = "__number"

_ODD_LINES: Final = "odd_lines"
_QUOTED_LINES: Final = "quoted_lines"
_QUOTED_VALUES: Final = "lines_with_quoted_values"
_SPECIAL_LINES: Final = "special_lines"
_COMMAS: Final = "commas"

_LONG_LINE: Final = 20_480
"""Only a line of more bytes can have more values than Spark reads by default."""


class Layout(Enum):
    """How the records of a file lie in its lines."""

    RFC_4180 = auto()
    """As the standard says, and so that Spark reads every value exactly; records may go over several lines."""
    LINES = auto()
    """Each line is a record."""
    OPEN_QUOTES = auto()
    """Records may go over several lines, and there may be quotes that are never closed."""


@dataclass(frozen=True)
class CsvLines:
    """What is known of the lines of a file.

    Attributes:
        layout: How its records lie in them.
        source: The URI of the file, as Spark spells it.
        odd_lines: How many lines have an odd number of quotes.
        commas: Of the lines that are very long, the greatest number of commas in one; 0 if there is none.
    """

    layout: Layout
    source: str
    odd_lines: int
    commas: int


def look_at_lines(spark: SparkSession, headers: Mapping[BatchFile, CsvHeader]) -> dict[str, FileLines]:
    """Look at all lines of some files in one pass.

    Args:
        spark: The session.
        headers: The header of each file.

    Returns:
        What was found, by the location of the file. Files that have only blank lines are missing.
    """
    line = F.col(LINE)
    is_quoted = line.contains('"')
    is_odd = is_quoted & (_count_of('"') % 2 == 1)
    numbers = {
        _ODD_LINES: F.count_if(is_odd),
        _QUOTED_LINES: F.count_if(is_quoted),
        _QUOTED_VALUES: F.count_if(is_quoted & (line.startswith('"') | line.contains(',"'))),
        # Spark takes NUL for the end of a line, and a carriage return at the end of a value may belong to that.
        _SPECIAL_LINES: F.count_if(line.contains("\0") | (is_quoted & line.contains('\r"'))),
        _COMMAS: F.coalesce(F.max(F.when(F.octet_length(LINE) > _LONG_LINE, _count_of(","))), F.lit(0)),
    }
    found: dict[str, FileLines] = {}
    for line_end, files in _by_line_end(headers).items():
        found |= lines_by_file(text_lines(spark, files, line_end), numbers)
    return found


def layouts(
    spark: SparkSession, headers: Mapping[BatchFile, CsvHeader], found: Mapping[str, FileLines]
) -> dict[BatchFile, CsvLines]:
    """How the records of each file lie in its lines.

    Args:
        spark: The session.
        headers: The header of each file.
        found: What `look_at_lines` has found.
    """
    read = {file: found[file.uri] for file in headers if file.uri in found}
    usual = {file: lines for file, lines in read.items() if not lines.numbers[_SPECIAL_LINES]}
    quoted = {file: headers[file] for file, lines in usual.items() if lines.numbers[_QUOTED_LINES]}
    odd = {file: header for file, header in quoted.items() if read[file].numbers[_ODD_LINES]}
    even = {file: header for file, header in quoted.items() if file not in odd}
    valid = _valid(spark, odd, _is_inside_of_value()) | _valid(spark, even, F.lit(0))

    def layout(file: BatchFile, lines: FileLines) -> Layout:
        if file in usual and (file not in quoted or file.uri in valid):
            return Layout.RFC_4180
        # A quote in the middle of a value opens nothing.
        may_be_open = lines.numbers[_ODD_LINES] and lines.numbers[_QUOTED_VALUES]
        return Layout.OPEN_QUOTES if may_be_open else Layout.LINES

    nothing = CsvLines(Layout.LINES, "", 0, 0)
    return dict.fromkeys(headers, nothing) | {
        file: CsvLines(layout(file, lines), lines.source, lines.numbers[_ODD_LINES], lines.numbers[_COMMAS])
        for file, lines in read.items()
    }


def numbered(lines: DataFrame) -> DataFrame:
    """Lines with `__number` (bigint), so that `__source_file, __block, __number` is their order within a file."""
    # A large file is read in several tasks. Within each of them, numbers follow the order of the lines.
    return lines.withColumn(NUMBER, F.monotonically_increasing_id())


def _is_inside_of_value() -> Column:
    """1 if the line of a file that is RFC 4180 begins inside of a value in quotes, 0 if not (int)."""
    before = Window.partitionBy(SOURCE).orderBy(BLOCK, NUMBER).rowsBetween(Window.unboundedPreceding, -1)
    return F.coalesce(F.sum(_count_of('"')).over(before), F.lit(0)) % 2


def _valid(spark: SparkSession, headers: Mapping[BatchFile, CsvHeader], is_inside: Column) -> set[str]:
    """The locations of those files that are RFC 4180, given that some of their lines have quotes.

    Args:
        spark: The session.
        headers: The header of each file.
        is_inside: 1 if a line begins inside of a value in quotes, 0 if not (int).
    """
    valid: set[str] = set()
    for line_end, files in _by_line_end(headers).items():
        # Lines without quotes are fine anywhere.
        quoted = numbered(text_lines(spark, files, line_end)).where(F.col(LINE).contains('"'))
        judged = quoted.select(SOURCE, _count_of('"').alias("quotes"), _breaks_the_standard(is_inside).alias("is_bad"))
        is_valid = (F.sum("quotes") % 2 == 0) & ~F.max("is_bad")
        by_file = judged.groupBy(SOURCE).agg(is_valid.alias("is_valid")).collect()
        valid |= {location_with_links(row[SOURCE]) for row in by_file if row["is_valid"]}
    return valid


def _by_line_end(headers: Mapping[BatchFile, CsvHeader]) -> dict[str, list[BatchFile]]:
    """The files that have a header, by what their lines end with."""
    files: dict[str, list[BatchFile]] = {}
    for file, header in headers.items():
        if header.text:
            files.setdefault(header.line_end, []).append(file)
    return files


def _breaks_the_standard(is_inside: Column) -> Column:
    """Whether a line has quotes elsewhere than around values and, doubled, within them (boolean).

    Args:
        is_inside: 1 if the line begins inside of a value in quotes, 0 if not (int).
    """
    # By splitting, because a pattern with a repeated group takes a frame of Java's stack for each repetition.
    parts = F.split(F.expr(rf"trim(TRAILING '\r' FROM {LINE})"), '"')
    last = F.size(parts) - 1

    def is_bad(part: Column, number: Column) -> Column:
        follows_value = (number == 0) | (part == "") | part.startswith(",")
        precedes_value = (number == last) | (part == "") | part.endswith(",")
        return ((number + is_inside) % 2 == 0) & ~(follows_value & precedes_value)

    return F.size(F.filter(parts, is_bad)) > 0


def _count_of(mark: str) -> Column:
    """How often a mark occurs in a line."""
    return F.octet_length(LINE) - F.octet_length(F.replace(F.col(LINE), F.lit(mark)))
