"""Records of CSV files that go over several lines, as RFC 4180 allows in quotes.

Spark sends this module to its workers, so it needs nothing but Python itself.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter


def assemble_files(
    lines: Iterable[tuple[str, str]], fields: int, line_end: str, odd_lines: Mapping[str, int]
) -> Iterator[tuple[str, str, bool]]:
    """Put together the records of several files, see `assemble`.

    Args:
        lines: The file and the text of each line, file after file.
        fields: The number of columns, the same in all files.
        line_end: What lines end with.
        odd_lines: How many lines of each file have an odd number of quotes.

    Yields:
        The file of each record, the record, and whether it is broken.
    """
    for file, of_file in groupby(lines, itemgetter(0)):
        for record, is_broken in assemble((text for _, text in of_file), fields, line_end, odd_lines[file]):
            yield file, record, is_broken


def assemble(lines: Iterable[str], fields: int, line_end: str, odd_lines: int) -> Iterator[tuple[str, bool]]:
    """Put together the records of a file from its lines.

    A quote that is opened in a line and not closed there makes the number of quotes in the line odd. The record then
    goes on to the next such line, if that makes it a record as RFC 4180 describes it, with a field for each column. If
    it does not, the quote was never closed: that one line is broken, and the next line begins another record.

    If a file has an odd number of such lines, one of them is certainly broken. As long as it has not been found, a line
    that could be the start of a record and the end of the one before is taken for a start.

    Args:
        lines: The lines of one file in their order, without their ends.
        fields: The number of columns.
        line_end: What lines end with.
        odd_lines: How many of the lines have an odd number of quotes.

    Yields:
        The text of a record, or of a blank line, and whether it is broken. Every line is in exactly one of them.
    """
    # Each begins with a line of an odd number of quotes that is not part of a record yet, and goes on to the next one.
    open_parts: list[list[str]] = []
    for line in lines:
        if _quotes_are_even(line):
            if open_parts:
                open_parts[-1].append(line)
            else:
                yield line, False
            continue
        open_parts.append([line])
        odd_lines -= 1
        while len(open_parts) > 2 or (open_parts and odd_lines <= 0):
            yield from _settle(open_parts, fields, line_end, is_one_broken=(len(open_parts) + odd_lines) % 2 == 1)
    while open_parts:
        yield from _settle(open_parts, fields, line_end, is_one_broken=len(open_parts) % 2 == 1)


def is_record(text: str, fields: int) -> bool:
    """Whether a text with an even number of quotes is one record of RFC 4180, with the given number of fields."""
    # Every other part is outside quotes. An empty one between two others is a quote that is part of a value.
    outside = text.rstrip("\r").split('"')[::2]
    begins_well = all(part.startswith(",") for part in outside[1:-1] if part) and outside[-1][:1] in ("", ",")
    ends_well = all(part.endswith(",") for part in outside[1:-1] if part) and outside[0][-1:] in ("", ",")
    return begins_well and ends_well and sum(part.count(",") for part in outside) == fields - 1


def _settle(
    open_parts: list[list[str]], fields: int, line_end: str, *, is_one_broken: bool
) -> Iterator[tuple[str, bool]]:
    """Decide about the first open part, and take it away; together with the second one if they are one record."""
    first, *others = open_parts
    is_start_of_record = _is_start(first, others, fields, line_end)
    if is_start_of_record and is_one_broken and _is_start(others[0], others[1:], fields, line_end):
        is_start_of_record = False
    if is_start_of_record:
        yield line_end.join([*first, others[0][0]]), False
        yield from ((line, False) for line in others[0][1:])
        del open_parts[:2]
    else:
        yield first[0], True
        yield from ((line, False) for line in first[1:])
        del open_parts[0]


def _is_start(part: Sequence[str], following: Sequence[Sequence[str]], fields: int, line_end: str) -> bool:
    """Whether a part is a record together with the line that the next one begins with, if there is a next one."""
    return bool(following) and is_record(line_end.join([*part, following[0][0]]), fields)


def _quotes_are_even(line: str) -> bool:
    return line.count('"') % 2 == 0
