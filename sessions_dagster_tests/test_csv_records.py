"""Records of CSV that go over several lines: what a writer wrote comes back, and a quote left open costs one line."""

import csv
import io
from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions_dagster.input.readers.csv_records import assemble, is_record

Rows = Sequence[Sequence[str]]

PARTS: Final = [
    "\n",
    "\r\n",
    '"',
    '""',
    ",",
    "x",
    " ",
    "2025-09-20",
    "2025-09-20 10:00:00",
    "u,a,2025-09-20 10:00:00,i",
]
VALUES: Final = st.lists(st.sampled_from(PARTS), max_size=5).map("".join) | st.text("\n\r\",'ab", max_size=8)
OPEN: Final = 'open,"and never closed'


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    """Rows of at least two columns; a row of one empty value would be a blank line."""
    columns = draw(st.integers(2, 5))
    return draw(st.lists(st.lists(VALUES, min_size=columns, max_size=columns), min_size=1, max_size=8))


def written(rows: Rows, line_end: str = "\n", quote_all: bool = False) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=line_end, quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL).writerows(rows)
    return text.getvalue()


def records_of(text: str, fields: int) -> list[tuple[str, bool]]:
    """The records of a file with line feeds, without blank ones."""
    lines = text.split("\n")
    odd_lines = sum(line.count('"') % 2 for line in lines)
    return [
        (record.rstrip("\r"), broken) for record, broken in assemble(lines, fields, "\n", odd_lines) if record.strip()
    ]


def values_of(record: str) -> list[str]:
    (values,) = csv.reader(io.StringIO(record, newline=""))
    return values


@given(rows=tables(), way=st.sampled_from([("\r\n", False), ("\r\n", True), ("\n", True)]))
def test_what_a_writer_wrote_is_assembled_exactly(rows: Rows, way: tuple[str, bool]) -> None:
    records = records_of(written(rows, *way), len(rows[0]))
    assert [(values_of(record), broken) for record, broken in records] == [([*row], False) for row in rows]


@given(rows=tables(), data=st.data())
def test_a_quote_that_is_never_closed_is_found_and_no_line_is_lost(rows: Rows, data: st.DataObject) -> None:
    before = data.draw(st.integers(0, len(rows)))
    text = written(rows[:before]) + OPEN + "\n" + written(rows[before:])
    lines = text.split("\n")
    odd_lines = sum(line.count('"') % 2 for line in lines)
    records = [*assemble(lines, len(rows[0]), "\n", odd_lines)]
    assert "\n".join(record for record, _ in records) == text
    assert any(broken for _, broken in records)


@given(rows=tables(), data=st.data())
def test_rows_without_line_breaks_beside_a_quote_that_is_never_closed_are_kept(rows: Rows, data: st.DataObject) -> None:
    flat = [[value.replace("\n", " ").replace("\r", " ") for value in row] for row in rows]
    before = data.draw(st.integers(0, len(flat)))
    text = written(flat[:before]) + OPEN + "\n" + written(flat[before:])
    records = records_of(text, len(rows[0]))
    assert [values_of(record) for record, broken in records if not broken] == flat
    assert [record for record, broken in records if broken] == [OPEN]


LONG: Final = 2_000_000


@pytest.mark.parametrize("filling", [",", '""', "x\n", '\n""', ",\n"])
def test_a_value_of_any_length_is_assembled_in_linear_time(filling: str) -> None:
    record = f'u,"\n{filling * (LONG // len(filling))}",a'
    assert records_of(f"{record}\n{record}", 3) == [(record, False)] * 2


def test_many_quotes_that_are_never_closed_are_found_in_linear_time() -> None:
    lines = ['u,"x,a'] * 200_000
    assert records_of("\n".join(lines), 3) == [(line, True) for line in lines]


@pytest.mark.parametrize(
    ("text", "fields", "is_one"),
    [
        ('a,"b\nc",d', 3, True),
        ('"a\nb","c\nd"', 2, True),
        ('"a""\n""b"', 1, True),
        ('"a\nb"\r', 1, True),
        ('a,"b\nc",d', 4, False),
        ('a,b"\nc",d', 3, False),
        ('a,"b\nc"d', 2, False),
        ('a,"b\nc" ,d', 3, False),
    ],
)
def test_a_record_has_quotes_around_whole_values_and_all_its_fields(text: str, fields: int, is_one: bool) -> None:
    assert is_record(text, fields) == is_one
