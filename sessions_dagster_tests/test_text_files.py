"""CSV and JSON as senders write them: every record lands or is quarantined, and no file is lost in silence.

Each batch has many files, because a landing takes a while. The user of a row says which case it is.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from sessions_dagster.errors import BatchError
from sessions_dagster.input import files
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.input.readers.csv import read_csv
from sessions_dagster.input.readers.csv_header import has_rows, read_header
from sessions_dagster.input.readers.csv_layout import Layout, layouts, look_at_lines
from sessions_dagster.input.readers.json import _begins_an_array
from sessions_dagster.input.readers.text import FileLines, check_compression, check_that_all_are_read
from sessions_dagster.model.columns import EVENT, PRODUCT, REASON, RECORD, TIMESTAMP, USER
from sessions_dagster.model.rejects import RejectReason
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.pipeline.land import land_batch
from sessions_dagster.spark.compat import HAS_TEXT_IN_ZSTANDARD
from sessions_dagster_tests.test_landing import Lake, Landed, landed

DAY: Final = date(2025, 9, 20)
TIME: Final = "2025-09-20 10:00:00"
COLUMNS: Final = (USER, EVENT, PRODUCT, TIMESTAMP)
HEADER: Final = ",".join(COLUMNS)
MESSAGES: Final = f"{TIMESTAMP},{USER},{EVENT},{PRODUCT},message"
ROW_IN_TEXT: Final = f"{TIME} error,once,more,and,again"
TWO_ROWS: Final = f"{ROW_IN_TEXT}\r\n{ROW_IN_TEXT}"


def row(user: str) -> str:
    return f"{user},a,idea,{TIME}"


def message(user: str, text: str) -> str:
    return f'{TIME},{user},a,idea,"{text}"'


LONG: Final = 2_000_000
GOOD_CSV: Final[Mapping[str, str]] = {
    "times in messages": f"{MESSAGES}\n" + message("times in messages", f"failed:\n{TWO_ROWS}") + "\n",
    "commas in two lines": f"{MESSAGES}\n" + message("commas in two lines", "first\n" + "," * LONG) + "\n",
    "quotes in two lines": f"{MESSAGES}\n" + message("quotes in two lines", "first\n" + '""' * LONG) + "\n",
    "lines in a message": f"{MESSAGES}\n" + message("lines in a message", "x\r\n" * 200_000) + "\n",
    "long value": f"{MESSAGES}\n" + message("long value", "x" * LONG) + "\n",
    "CR": f"{HEADER}\r{row('CR')}\r",
    "CR without last end": f"{HEADER}\r{row('CR without last end')}",
    "CR and LF in a message of CR": f"{MESSAGES}\r" + message("CR and LF in a message of CR", "x\ry\nz\r\n") + "\r",
    "CRLF": f"{HEADER}\r\n{row('CRLF')}\r\n",
    "CRCRLF": f"{HEADER}\r\r\n{row('CRCRLF')}\r\r\n",
    "CRLF after LF": f"{HEADER}\n{row('CRLF after LF')}\r\n",
    "LF in a message of CRLF": f"{MESSAGES}\r\n" + message("LF in a message of CRLF", "x\ny\n") + "\r\n",
    "no last end": f"{HEADER}\n{row('no last end')}",
    "blank lines": f"\n \n{HEADER}\n\n  \n{row('blank lines')}\n\r\n\n",
    "BOM": f"\ufeff{HEADER}\n{row('BOM')}\n",
    "BOM twice": f"\ufeff\ufeff{HEADER}\n{row('BOM twice')}\n",
    "BOM and quotes": f'\ufeff"{USER}",{EVENT},{PRODUCT},{TIMESTAMP}\n{row("BOM and quotes")}\n',
    "BOM and lines": f"\ufeff{MESSAGES}\n" + message("BOM and lines", "x\ny") + "\n",
    "trailing commas": f"{HEADER},,\n{row('trailing commas')},,\n",
    "header twice": f"{HEADER}\n{row('header twice')}\n{HEADER}\n",
    "joined": f"\ufeff{HEADER}\n{row('joined')}\n\ufeff{HEADER}\n",
    "long name": f"{'x' * 140_000},{HEADER}\n1,{row('long name')}\n",
    "NUL in a name": f"a\0b,{HEADER}\n1,{row('NUL in a name')}\n",
    "inches": f'5" disk,{HEADER}\n1,{row("inches")}\n5" disk,{HEADER}\n',
    "inches and lines": f'5" disk,{MESSAGES}\n1,' + message("inches and lines", "x\ny") + "\n",
    "inches twice": f'5" disk,3"" disk,{HEADER}\r\n1,2,{row("inches twice")}\r\n',
    "inches after quotes": f'"own",5" disk,{HEADER}\n1,2,{row("inches after quotes")}\n',
    "inches in values": f'{HEADER},disk\n{row("inches in values")},5" disk\n',
    'quote " in an id': f"{HEADER}\n" + row('quote " in an id') + "\n",
    "name after a quote": f'"own"5,{HEADER}\n1,{row("name after a quote")}\n',
    "header of two lines": f'"own\ncolumn",{HEADER}\n1,{row("header of two lines")}\n',
    "all quoted": '"' + HEADER.replace(",", '","') + f'"\n"all quoted","a","idea","{TIME}"\n',
    "names of all kinds": f"own,own,OWN,,_c4,_metadata,_corrupt_record,record,User_ID,a`b,c0,__line,x.y,ü,{HEADER}\n"
    + "1,2,3,4,5,6,7,8,9,10,11,12,13,14," + row("names of all kinds") + "\n",
}  # fmt: skip
"""Files of which every row lands. The user of the only row is the name of the file."""

WIDE: Final = [30_000, 500_000]
OPEN: Final = f'{TIME},open,a,idea,"oops'
BAD_CSV: Final[Mapping[str, tuple[str, Sequence[str], Sequence[str]]]] = {
    "wide": (
        f"{HEADER}\n" + "".join(f"{'wide':,<{commas}}\n{row(f'after {commas}')}\n" for commas in WIDE),
        [f"after {commas}" for commas in WIDE],
        [f"{'wide':,<{commas}}" for commas in WIDE],
    ),
    "too few, too many": (f"{HEADER}\nfew,a\n{row('many')},\n{row('next')}\n", ["next"], ["few,a", f"{row('many')},"]),
    "NUL": (f"{HEADER}\n\0\0\0\n{row('after NUL')}\n", ["after NUL"], ["\0\0\0"]),
    "marks": (f'{HEADER},disk\n{row("w")},5"\n{row("x")},5"\nfew,5"\n{row("y")}, ""\n', ["w", "x", "y"], ['few,5"']),
    "open": (f"{MESSAGES}\n{OPEN}\n{message('beside open', 'x')}\n", ["beside open"], [OPEN]),
    "open before lines": (
        f"{MESSAGES}\n{message('p', 'x')}\n{OPEN}\n{message('q', 'x')}\n" + message("r", f"\n{ROW_IN_TEXT}\n") + "\n",
        ["p", "q", "r"],
        [OPEN],
    ),
    "open after lines": (
        f"{MESSAGES}\n" + message("s", f"\n{ROW_IN_TEXT}\n") + f"\n{OPEN}\n{message('t', 'x')}\n",
        ["s", "t"],
        [OPEN],
    ),
    "open twice": (f"{MESSAGES}\n{OPEN}\n{message('u', 'x')}\n{OPEN}\n{message('v', 'x')}\n", ["u", "v"], [OPEN, OPEN]),
}
"""Files with their content, the users of the rows that land, and the records that are quarantined."""

NOTHING: Final[Mapping[str, bytes]] = {
    "no bytes": b"",
    "BOM only": b"\xef\xbb\xbf",
    "blank lines only": b"\n\r\n  \n",
    "long blank lines only": (b" " * 1_000 + b"\n\t") * 100,
    "compressed nothing.gz": gzip.compress(b""),
    "compressed blank line.bz2": bz2.compress(b"\n"),
    "no bytes.gz": b"",
    **({"no bytes.zst": b""} if HAS_TEXT_IN_ZSTANDARD else {}),
}


def delivered(root: Path, contents: Mapping[str, bytes]) -> Sequence[files.BatchFile]:
    folder = Path(InputRoot(str(root)).batch_folder(DAY))
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return InputRoot(str(root)).delivery(DAY).files


def write(folder: Path, contents: Mapping[str, str]) -> None:
    for name, content in contents.items():
        (folder / f"{name}.txt").write_bytes(content.encode())


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake(spark, tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def from_csv(lake: Lake) -> Landed:
    folder = lake.folder(DAY)
    write(folder, GOOD_CSV)
    write(folder, {name: content for name, (content, _, _) in BAD_CSV.items()})
    for name, content in NOTHING.items():
        (folder / name).write_bytes(content)
    (folder / "only a header").write_text(HEADER)
    return landed(lake, DAY, "csv")


def test_csv_of_every_style_lands_completely(from_csv: Landed) -> None:
    others = [user for _, users, _ in BAD_CSV.values() for user in users]
    assert sorted(row.user for row in from_csv.accepted) == sorted([*GOOD_CSV, *others])


def test_a_broken_csv_record_costs_itself_alone(from_csv: Landed) -> None:
    rejected = [(row[RECORD], row[REASON]) for row in from_csv.rejected]
    expected = [record for _, _, records in BAD_CSV.values() for record in records]
    assert sorted(rejected) == sorted((record, RejectReason.UNREADABLE_RECORD) for record in expected)


@pytest.mark.usefixtures("from_csv")
def test_only_files_with_a_quote_that_may_never_be_closed_take_the_slow_way(lake: Lake) -> None:
    headers = {file: read_header(file) for file in lake.input.delivery(DAY).files}
    found = layouts(lake.spark, headers, look_at_lines(lake.spark, headers))
    slow = {Path(file.uri).stem for file, lines in found.items() if lines.layout is Layout.OPEN_QUOTES}
    opened = [name for name in BAD_CSV if name.startswith("open")]
    assert slow == {*opened, "inches and lines", "inches after quotes"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("value", ["", '""'], ids=["nothing", "quotes"])
def test_an_empty_value_is_null_in_every_column(spark: SparkSession, tmp_path: Path, value: str, end: str) -> None:
    content = f"first,{HEADER},last{end}{value},{row('ada')},{value}{end}"
    (read,) = read_csv(
        spark, delivered(tmp_path, {"x.csv": content.encode()}), {"first": "string", "last": "string"}, None
    )
    assert [tuple(found) for found in read.select("first", "last").collect()] == [(None, None)]


def test_own_names_are_no_part_of_sql(spark: SparkSession, tmp_path: Path) -> None:
    """Spark replaces `${...}` in all of SQL, by settings and by the environment."""
    names = ["${env:PATH}", "${spark.app.name}", "${a}", "${b}", "`", "a`b", "') --", "x AS y"]
    content = f"{','.join(names)},{HEADER}\n{'1,' * len(names)}{row('ada')}\n"
    files = delivered(tmp_path, {"x.csv": content.encode()})
    (read,) = read_csv(spark, files, {}, None)
    (found,) = read.select(RECORD).collect()
    own = dict.fromkeys(names, "1")
    assert json.loads(found[RECORD]) == own | dict(zip(HEADER.split(","), row("ada").split(","), strict=True))


OPEN_HEADERS: Final = {
    "no other quote": f'{HEADER},"note\n{row("x")},1\n',
    "first name": f'"{HEADER},note\n{row("x")},1\n',
    "lone quote": f'{HEADER},"\n{row("x")},1\n',
    "quotes in rows": f'{HEADER},"note\n{row("x")},"1"\n{row("y")},"2"\n',
    "quotes in rows of CR": f'{HEADER},"note\r{row("x")},"1"\r{row("y")},"2"\r',
    "quoted first value": f'{HEADER},"note\n"x",a,idea,{TIME},1\n',
    "escaped quote at the end": f'{HEADER},"note""\n{row("x")},1\n',
    "no line after it": f'{HEADER},"note',
}


@pytest.mark.parametrize("content", OPEN_HEADERS.values(), ids=OPEN_HEADERS)
def test_a_header_with_a_quote_that_is_never_closed_is_refused_and_the_message_says_so(
    tmp_path: Path, content: str
) -> None:
    (file,) = delivered(tmp_path, {"x.csv": content.encode()})
    with pytest.raises(BatchError, match=r"The header of .*x\.csv has a quote that is never closed"):
        read_header(file)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_a_file_with_other_separators_than_commas_is_refused_and_the_message_names_them(
    tmp_path: Path, separator: str
) -> None:
    (file,) = delivered(tmp_path, {"x.csv": f"{HEADER}\n{row('x')}\n".replace(",", separator).encode()})
    with pytest.raises(BatchError, match=r"x\.csv has .* between its columns.*commas") as error:
        read_header(file)
    assert repr(separator) in str(error.value)


# --- any table that a writer of CSV writes ----------------------------------------------------------------------------

OWN: Final = st.lists(
    st.sampled_from(["\n", "\r\n", "\r", '"', ",", "x", "é", " ", TIME, "2025-09-20", row("u")]), max_size=6
)
NAMES: Final = st.permutations([*COLUMNS, "note", "own", "", "NOTE", "_metadata"])
WAYS: Final = [(False, "\r\n"), (True, "\r\n"), (True, "\n")]
"""Whether all values are quoted, and what records end with. If that is LF, Python does not quote CR by itself."""


def rows_of(names: Sequence[str]) -> st.SearchStrategy[list[list[str]]]:
    fixed = {EVENT: st.just("a"), PRODUCT: st.just("idea"), TIMESTAMP: st.just(TIME)}
    return st.lists(st.tuples(*[fixed.get(name, OWN.map("".join)) for name in names]).map(list), max_size=6)


def written(rows: Sequence[Sequence[str]], quote_all: bool, line_end: str) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL, lineterminator=line_end).writerows(rows)
    return out.getvalue().encode()


@pytest.fixture(scope="module")
def lake_of_notes(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake in which the column `note` is carried."""
    return Lake(spark, tmp_path_factory.mktemp("notes"))


@settings(max_examples=3, deadline=None, phases=[Phase.generate])
@given(names=NAMES, data=st.data())
def test_what_a_writer_of_csv_wrote_lands_exactly(
    lake_of_notes: Lake, names: Sequence[str], data: st.DataObject
) -> None:
    lake = lake_of_notes
    contents = data.draw(st.lists(st.tuples(rows_of(names), st.sampled_from(WAYS)), min_size=30, max_size=30))
    for number, (rows, way) in enumerate(contents):
        (lake.folder(DAY) / f"{number}.csv").write_bytes(written([names, *rows], *way))
    now, carried = datetime.now(UTC), {"note": "string"}
    land_batch(lake.spark, lake.input, lake.warehouse, DAY, "csv", now, SessionRules(), carried_columns=carried)
    user, note = names.index(USER), names.index("note")
    expected = [(values[user], values[note] or None) for rows, _ in contents for values in rows]
    accepted = [(row[USER], row["note"]) for row in lake.rows(lake.warehouse.raw_events, DAY)]
    assert sorted(accepted, key=repr) == sorted([values for values in expected if values[0]], key=repr)
    assert [row[REASON] for row in lake.rejected(DAY)] == [RejectReason.EMPTY_USER_ID] * (len(expected) - len(accepted))


# --- JSON -------------------------------------------------------------------------------------------------------------

JSON_DAY: Final = date(2025, 9, 22)


def line(user: str, own: str = "1", key: str = "own") -> str:
    """A JSON object; the user and the own value as they are written in JSON."""
    return f'{{"{USER}":"{user}","{EVENT}":"a","{PRODUCT}":"idea","{TIMESTAMP}":"2025-09-22 10:00:00","{key}":{own}}}'


PAIR: Final = r"\ud83d\ude00"
GOOD_JSON: Final[Mapping[str, str]] = {
    "number": line("number", "1"),
    "object": line("object", '{"a":[1,{"b":null}]}'),
    "list": line("list", "[[],{}]"),
    "key twice": line("key twice", '1,"own":2'),
    "key by case": line("key by case", '1,"OWN":2,"User_ID":"x"'),
    "key of Spark": line("key of Spark", '1,"_metadata":{"file_path":null},"_corrupt_record":"x","value":1,"":2'),
    "digits": line("digits", "1" * 5_000),
    "long": line("long", '"' + "x," * LONG + '"'),
    "nested": line("nested", "[" * 500 + "]" * 500),
    "pair \U0001f600": line(f"pair {PAIR}"),
    "pair in own": line("pair in own", f'"{PAIR}{PAIR.upper().replace("U", "u")}"'),
    r"escaped \ud83d": line(r"escaped \\ud83d", r'"\\ud83d"'),
}
HALVES: Final = [r"\ud83d", r"\uD83D", r"\udc00", r"\ude00\ud83d", r"\ud83d\ud83d\ude00", r"\ud83dx\ude00", r"\\\ud83d"]
BAD_JSON: Final = [
    *[line(f"cut{half}") for half in HALVES],
    *[line("own", f'"cut{half}"') for half in HALVES],
    line("key", "1", r"cut\ud83d"),
    line("deep", "[" * 1_000 + "]" * 1_000),
    line("deep", '{"a":' * 1_000 + "1" + "}" * 1_000),
    line("deeper", "[" * 100_000 + "]" * 100_000),
]
CUT: Final = '{"user_id":"cut","event'
MANY_CUT: Final = 100_000 // len(CUT)
AFTER_BROKEN: Final = ["long after cut", "after cut lines", "after bracket", "after brackets"]
ENDS: Final = ["BOM", "CR", "CR 2", "CRLF", "CRLF 2", "joined", "joined 2"]


@pytest.fixture(scope="module")
def from_json(lake: Lake) -> Landed:
    folder = lake.folder(JSON_DAY)
    write(folder, {name.replace("\\", ""): content for name, content in GOOD_JSON.items()})
    write(folder, {f"bad {number}": content for number, content in enumerate(BAD_JSON)})
    write(
        folder,
        {
            "BOM": "\ufeff" + line("BOM"),
            "CR": f"{line('CR')}\r{line('CR 2')}\r",
            "cut": CUT,
            "cut before long": CUT + "\n" + line("long after cut", '"' + "x" * 70_000 + '"'),
            "100 KB of cut lines": f"{CUT}\n" * MANY_CUT + line("after cut lines"),
            "bracket before good": f"[1]\n{line('after bracket')}\n[{CUT}\n{line('after brackets')}",
            "joined": f"{line('joined')}\n\ufeff{line('joined 2')}\n\ufeff\n",
            "CRLF": f"\r\n{line('CRLF')}\r\n\r\n{line('CRLF 2')}",
        },
    )
    for name, content in NOTHING.items():
        (folder / name).write_bytes(content)
    return landed(lake, JSON_DAY, "json")


def test_json_objects_with_keys_and_values_of_any_kind_land(from_json: Landed) -> None:
    assert sorted(row.user for row in from_json.accepted) == sorted([*GOOD_JSON, *AFTER_BROKEN, *ENDS])


def test_broken_json_is_quarantined_line_by_line(from_json: Landed) -> None:
    rejected = [(row[RECORD], row[REASON]) for row in from_json.rejected]
    broken = [*BAD_JSON, *[CUT] * (MANY_CUT + 2), "[1]", f"[{CUT}"]
    assert sorted(rejected) == sorted((text, RejectReason.UNREADABLE_RECORD) for text in broken)


NO_OBJECTS: Final[Mapping[str, bytes]] = {
    "array of lines": f"[\n{line('x')},\n{line('x')}\n]\n".encode(),
    "array from the first line": f"[{line('x')},\n{line('x')}\n]\n".encode(),
    "one object over many lines": b'{\n "user_id": "x"\n}\n',
    "Parquet": b'PAR1\0\n{"a":1}\nPAR1',
    **{code: line("x").encode(code) for code in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be")},
}


def test_a_file_of_another_format_is_not_quarantined_but_refused_as_json(lake: Lake) -> None:
    for number, (name, content) in enumerate(NO_OBJECTS.items()):
        day = date(2025, 11, 1) + timedelta(days=number)
        (lake.folder(day) / f"{name}.json").write_bytes(content)
        with pytest.raises(BatchError, match=rf"{name}\.json is not a file of JSON objects"):
            lake.land(day, "json")


# --- no file is lost --------------------------------------------------------------------------------------------------


def test_a_file_that_spark_reads_as_nothing_is_named_although_others_are_read(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = date(2025, 9, 24)
    (lake.folder(day) / "good.json").write_text(line("x"))
    # As if the checks had missed it. Spark treats the file as compressed because of its name, and finds no data in it.
    monkeypatch.setattr(files, "_OTHER_COMPRESSIONS", frozenset())
    (lake.folder(day) / "bad.json.lz4").write_bytes(b"\0\0\0\0\n" + line("x").encode())
    with pytest.raises(BatchError, match=r"bad\.json\.lz4 has records, but Spark reads none"):
        lake.land(day, "json")


@pytest.mark.parametrize(("lines", "is_lost"), [(0, True), (1, True), (2, False)])
def test_a_file_of_which_only_the_header_is_read_is_lost_if_it_has_rows(
    tmp_path: Path, lines: int, is_lost: bool
) -> None:
    a, header = delivered(tmp_path, {"a.csv": TEXT, "header.csv": HEADER.encode()})
    found = {a.uri: FileLines(a.uri, lines, {}), header.uri: FileLines(header.uri, 1, {})}
    with pytest.raises(BatchError, match=r"a\.csv has records") if is_lost else nullcontext():
        check_that_all_are_read([a, header], found, lambda file: read_header(file).lines, has_rows)


TEXT: Final = f"{HEADER}\n{row('x')}\n".encode()
LZ4: Final = pa.compress(TEXT, "lz4", asbytes=True)
ZSTD: Final = pa.compress(TEXT, "zstd", asbytes=True)
REFUSED_IN_ZSTANDARD: Final[Mapping[str, tuple[bytes, str]]] = {
    "text.zst": (TEXT, r"is not compressed as its name says \(\.zst\)"),
    **{
        f"second frame of {length}.zst": (ZSTD + ZSTD[:length], r"\.zst is damaged or incomplete \(")
        for length in (1, 3, 4, 5, 9, 20, len(ZSTD) - 1)
    },
    "text behind.zst": (ZSTD + TEXT, r"behind\.zst is damaged or incomplete \("),
}
ANY_IN_ZSTANDARD: Final = {
    "x.zst": (ZSTD, r"is compressed in a way that cannot be read, as its name says \(\.zst\).*\(\.bz2, \.gz\)"),
    "frame.csv": (ZSTD, r"is compressed \(\.zst\).*another compression \(\.bz2, \.gz\)"),
}
REFUSED: Final[Mapping[str, tuple[bytes, str]]] = {
    **{
        f"x{suffix}": (TEXT, r"as its name says \(" + suffix)
        for suffix in (
            ".lz4",
            ".snappy",
            ".xz",
            ".deflate",
            ".Z",
            ".zip",
            ".gzip",
            ".zstd",
            ".GZ",
            ".Bz2",
            ".ZST",
            ".br",
        )
    },
    "lz4.csv": (LZ4, r"is compressed \(\.lz4\).*another compression"),
    "gzip.csv": (gzip.compress(TEXT), r"is compressed \(\.gz\).*ends in \.gz"),
    "bzip2.json": (bz2.compress(TEXT), r"is compressed \(\.bz2\).*ends in \.bz2"),
    "xz": (lzma.compress(TEXT), r"is compressed \(\.xz\)"),
    "zip.csv": (b"PK\x03\x04" + TEXT, r"is compressed \(\.zip\)"),
    "bzip2.gz": (bz2.compress(TEXT), r"is compressed \(\.bz2\).*ends in \.bz2"),
    "text.gz": (TEXT, r"is not compressed as its name says \(\.gz\)"),
    "text.bz2": (TEXT, r"is not compressed as its name says \(\.bz2\)"),
    "deflate.gz": (zlib.compress(TEXT), r"is not compressed as its name says"),
    **{
        f"{name}.bz2": (bz2.compress(TEXT) + content, rf"{name}\.bz2 is damaged or incomplete \(")
        for name, content in {
            "text": TEXT,
            "zeros": b"\0" * 20,
            "byte": b"x",
            "start": bz2.compress(TEXT)[:9],
            "text between": TEXT + bz2.compress(TEXT),
            "byte between": b"\0" + bz2.compress(TEXT),
            "a wrong bit between": b"CZh9" + bz2.compress(TEXT)[4:] + bz2.compress(TEXT),
        }.items()
    },
    "cut.bz2": (bz2.compress(TEXT)[:-4], r"cut\.bz2 is damaged or incomplete"),
    **(REFUSED_IN_ZSTANDARD if HAS_TEXT_IN_ZSTANDARD else ANY_IN_ZSTANDARD),
}
ALLOWED: Final[Mapping[str, bytes]] = {
    "x.csv": TEXT,
    "BZh9.csv": b"BZh9,own\n",
    "x.lz4.csv": TEXT,
    "X.CSV": TEXT,
    "x.gz": gzip.compress(TEXT) * 2,
    "x.bz2": bz2.compress(TEXT) * 2,
    "many parts.bz2": bz2.compress(TEXT) * 5_000,
    "an empty part.bz2": bz2.compress(TEXT) + bz2.compress(b"") + bz2.compress(TEXT),
    "much from little.bz2": bz2.compress(b"\n" * 30_000_000),
    **({"x.zst": ZSTD * 2} if HAS_TEXT_IN_ZSTANDARD else {}),
    "nothing.bz2": bz2.compress(b""),
    **{f"{length}.bz2": bz2.compress(TEXT[:length]) for length in range(1, 25)},
    "no bytes.gz": b"",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_compression_that_cannot_be_read_or_is_not_as_named_is_refused_by_name(tmp_path: Path, name: str) -> None:
    content, error = REFUSED[name]
    (file,) = delivered(tmp_path, {name: content})
    with pytest.raises(BatchError, match=f"{name} {error}" if error.startswith("is") else error):
        check_compression(file)


def test_text_and_supported_compressions_are_allowed(tmp_path: Path) -> None:
    for file in delivered(tmp_path, ALLOWED):
        check_compression(file)


LINES: Final = TEXT + row("y").encode() * 10
DAMAGED: Final[Mapping[str, bytes]] = {
    "zeros.gz": gzip.compress(LINES) + b"\0" * 50,
    "garbage.gz": gzip.compress(LINES) + b"garbage",
    "other sum.gz": gzip.compress(LINES)[:-8] + b"12345678",
    "cut.gz": gzip.compress(LINES)[:-20],
    "cut.bz2": bz2.compress(LINES)[:-20],
    "half.bz2": bz2.compress(LINES)[:50],
}


@pytest.mark.parametrize("look", [read_header, _begins_an_array], ids=["CSV", "JSON"])
def test_damaged_compressed_data_has_to_be_compressed_and_delivered_again(
    tmp_path: Path, look: Callable[[files.BatchFile], object]
) -> None:
    for file in delivered(tmp_path, DAMAGED):
        with pytest.raises(BatchError) as error:
            look(file)
        assert f"The compressed data of {file.uri} is damaged or incomplete (" in str(error.value)
        assert "Compress the file and deliver it again" in str(error.value)
