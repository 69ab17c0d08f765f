"""The header of a CSV file, which says how the file has to be read."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sessions_dagster.errors import BatchError
from sessions_dagster.input.files import BatchFile
from sessions_dagster.input.readers.rows import NOT_UTF8, check_required_columns
from sessions_dagster.model.columns import EVENT_IDENTITY


@dataclass(frozen=True)
class CsvHeader:
    """What a CSV file begins with.

    Attributes:
        text: The header as it is written, without the end of its line; empty if the file has only white space.
        names: The names of the columns.
        line_end: What lines end with: a line feed, before which there may be carriage returns, or a carriage return.
    """

    text: str
    names: tuple[str, ...]
    line_end: str

    @property
    def lines(self) -> int:
        """How many lines it has, blank ones not counted. A quoted name may contain line ends."""
        return sum(not _is_blank(line) for line in self.text.split(self.line_end))


def read_header(file: BatchFile) -> CsvHeader:
    """Read the header of a file.

    A file of white space has the header of one with the required columns.

    Raises:
        BatchError: If the file cannot be read, is not CSV in UTF-8, lacks a required column, or has one twice.
        StorageError: If the storage fails.
    """
    try:
        with _text_of(file) as text:
            header = _first_record(text)
            # Some programs end a line with two carriage returns and a line feed.
            has_carriage_returns = header.endswith("\r") and text.readline() not in {"\n", "\r\n"}
        header = header.rstrip("\r\n")
        names = tuple(next(csv.reader(io.StringIO(header, newline="")), EVENT_IDENTITY))
    except (OSError, EOFError, csv.Error) as error:
        raise BatchError(f"{file.uri} is not a CSV file ({error}). Deliver it again.") from error
    is_cut_off = NOT_UTF8 in header and not {*EVENT_IDENTITY} <= {*names}
    if "\0" in header or is_cut_off:
        raise BatchError(f"{file.uri} is not a CSV file in UTF-8: its first line is not text. Deliver it again.")
    check_required_columns(file, names)
    repeated = [name for name in EVENT_IDENTITY if names.count(name) > 1]
    if repeated:
        raise BatchError(
            f"{file.uri} has more than one column {', '.join(repeated)}. Deliver the file with one of each."
        )
    return CsvHeader(header, names, "\r" if has_carriage_returns else "\n")


def has_rows(file: BatchFile) -> bool:
    """Whether a file has anything but white space after its header, or cannot be read that far."""
    try:
        with _text_of(file) as text:
            _first_record(text)
            return any(not _is_blank(line) for line in iter(text.readline, ""))
    except (OSError, EOFError):
        return True


@contextmanager
def _text_of(file: BatchFile) -> Iterator[io.TextIOWrapper]:
    """The text of a file, with its line ends as they are."""
    # Decoding takes many lines at a time, and the header is not to blame for bytes in rows that are not UTF-8.
    with file.open_stream() as opened, io.TextIOWrapper(opened, "utf-8-sig", "replace", newline="") as text:
        yield text


def _first_record(text: io.TextIOWrapper) -> str:
    """The first record with its line end; empty if there is only white space."""
    lines: list[str] = []
    quotes = 0
    for line in iter(text.readline, ""):
        if lines or not _is_blank(line):
            lines.append(line)
            quotes += line.count('"')
            if quotes % 2 == 0:
                break
    return "".join(lines)


def _is_blank(line: str) -> bool:
    return not line.strip(" \t\n\r\f\v")
