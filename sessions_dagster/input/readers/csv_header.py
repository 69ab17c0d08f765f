"""The header of a CSV file, which says how the file has to be read."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sessions_dagster.errors import BatchError
from sessions_dagster.input.files import BatchFile
from sessions_dagster.input.readers.rows import NOT_UTF8, check_required_columns
from sessions_dagster.input.readers.text import cannot_be_read
from sessions_dagster.model.columns import EVENT_IDENTITY

_NAME: Final = re.compile(r'(?:"(?P<quoted>(?:[^"]|"")*+)"(?P<rest>[^,]*+)|(?P<plain>(?!")[^,]*+))(?P<end>,|\Z)')
"""A name in a header. A quote opens a name at its beginning only; what follows the closing one belongs to the name."""

_OTHER_SEPARATORS: Final = (";", "\t", "|")


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
    except (OSError, EOFError) as error:
        raise cannot_be_read(file, error) from error
    # What was written with a byte order mark, and then once more, has two of them.
    header = header.lstrip("\ufeff").rstrip("\r\n")
    names = _names(header) if header else EVENT_IDENTITY
    # With an open quote, all that follows would be the header.
    judged = header.partition("\n")[0] if names is None else header
    if ("\0" in judged or NOT_UTF8 in judged) and not {*EVENT_IDENTITY} <= {*(names or ())}:
        raise BatchError(f"{file.uri} is not a CSV file in UTF-8: its first line is not text. Deliver it again.")
    if names is None:
        raise BatchError(
            f"The header of {file.uri} has a quote that is never closed, so nobody knows where its rows begin. "
            "Close the quote and deliver the file again."
        )
    separator = next((mark for mark in _OTHER_SEPARATORS if {*EVENT_IDENTITY} <= {*header.split(mark)}), None)
    if separator is not None:
        raise BatchError(f"{file.uri} has {separator!r} between its columns. Deliver the file with commas.")
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
    """The first record with its line end, or all that there is if one of its quotes is never closed.

    It is empty if there is only white space.
    """
    lines: list[str] = []
    for line in iter(text.readline, ""):
        if lines or not _is_blank(line):
            # A line that begins within a name in quotes is looked at as if it opened them.
            is_open = _names(f'"{line}' if lines else line) is None
            lines.append(line)
            if not is_open:
                break
    return "".join(lines)


def _names(header: str) -> tuple[str, ...] | None:
    """The names in a header; None if one has a quote that is never closed.

    A name of several lines must end with its quote. If more follows, then the quote was opened by a row.
    """
    names: list[str] = []
    end = 0
    while match := _NAME.match(header, end):
        quoted, rest, plain = match["quoted"], match["rest"], match["plain"]
        if quoted is not None and {"\r", "\n"} & {*quoted} and rest.strip("\r\n"):
            return None
        names.append(plain if quoted is None else quoted.replace('""', '"') + rest)
        end = match.end()
        if not match["end"]:
            return tuple(names)
    return None


def _is_blank(line: str) -> bool:
    return not line.strip(" \t\n\r\f\v")
