"""What is listed below an input root: which files are data, what is left out and said, and where links lead."""

import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest

from sessions_dagster.errors import BatchError
from sessions_dagster.input.folders import InputRoot, batch_content, delivery, left_out_line

DAY = date(2025, 9, 20)

NO_DATA = [
    "_SUCCESS",
    "_committed_1234",
    "_started_1234",
    "_metadata",
    "_common_metadata",
    ".a.parquet.crc",
    "a.parquet.crc",
    "._a.parquet",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
]
"""What tools leave beside data. None of it is data, whatever it contains."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An input root, with another folder beside it."""
    (tmp_path / "outside").mkdir()
    root = tmp_path / "input"
    (root / f"date={DAY}").mkdir(parents=True)
    return root


@pytest.fixture
def batch(root: Path) -> Path:
    return root / f"date={DAY}"


def put(folder: Path, *names: str, content: bytes = b"rows") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def names_of(root: Path) -> list[str]:
    batch = root / f"date={DAY}"
    return [file.uri.removeprefix(f"{batch}/") for file in InputRoot(str(root)).delivery(DAY).files]


def left_out(root: Path) -> Sequence[str]:
    return InputRoot(str(root)).delivery(DAY).left_out


@pytest.mark.parametrize("content", [b"", b"rows"])
@pytest.mark.parametrize("folder", ["", "hour=03/"])
def test_what_tools_leave_beside_data_is_ignored_without_a_word(
    root: Path, batch: Path, folder: str, content: bytes
) -> None:
    put(batch, *[f"{folder}{name}" for name in NO_DATA], content=content)
    put(batch, f"{folder}a.parquet")
    assert (names_of(root), left_out(root)) == ([f"{folder}a.parquet"], [])


@pytest.mark.parametrize("name", ["hour=03_$folder$", "_temporary_$folder$", "hour=03/a_$folder$"])
def test_an_empty_mark_of_a_folder_is_ignored(root: Path, batch: Path, name: str) -> None:
    put(batch, name, content=b"")
    put(batch, "a.parquet")
    assert (names_of(root), left_out(root)) == (["a.parquet"], [])


@pytest.mark.parametrize("name", ["hour=03_$folder$", "a.dat", "a", "a.parquet.bak", "$folder$", "a.tmp.parquet"])
def test_every_other_file_is_data_whatever_its_name(root: Path, batch: Path, name: str) -> None:
    put(batch, name)
    assert (names_of(root), left_out(root)) == ([name], [])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["_hour=03/a.parquet", "_hour=03/b.parquet"], ["_hour=03/ (2 files)"]),
        (["_hour=03/deep/er/a.parquet"], ["_hour=03/ (1 file)"]),
        (["deep/_hour=03/a.parquet"], ["deep/_hour=03/ (1 file)"]),
        ([".hour=03/a.parquet"], [".hour=03/ (1 file)"]),
        (["_hour=03/_SUCCESS", "_hour=03/.a.crc"], []),
        (["_a.parquet"], ["_a.parquet"]),
        (["a.parquet.tmp", "B.TMP"], ["B.TMP", "a.parquet.tmp"]),
        ([".a.parquet.tmp", ".a.parquet.Xy12Z"], []),
    ],
)
def test_what_may_be_data_and_is_hidden_by_its_name_is_left_out_and_said(
    root: Path, batch: Path, names: list[str], expected: list[str]
) -> None:
    put(batch, "a.parquet", *names)
    assert (names_of(root), left_out(root)) == (["a.parquet"], expected)


def test_hidden_files_without_content_are_not_mentioned(root: Path, batch: Path) -> None:
    put(batch, "_hour=03/a.parquet", "_a.parquet", "a.tmp", content=b"")
    assert left_out(root) == []


def test_a_batch_of_which_everything_is_left_out_is_refused_with_what_that_is(root: Path, batch: Path) -> None:
    put(batch, "_hour=03/a.parquet")
    with pytest.raises(BatchError, match=r"has no data file; left out: _hour=03/ \(1 file\)\. Deliver"):
        delivery(InputRoot(str(root)), DAY)


def test_only_the_first_names_that_are_left_out_are_in_a_line() -> None:
    assert left_out_line([]) == ""
    assert left_out_line([str(number) for number in range(8)]) == "; left out: 0, 1, 2, 3, 4 and 3 more"


@pytest.mark.parametrize("to", [".", "..", "../..", "/"])
@pytest.mark.parametrize("at", ["loop", "hour=03/loop"])
def test_a_link_to_a_folder_above_delivers_nothing(root: Path, batch: Path, at: str, to: str) -> None:
    put(batch, "a.parquet", "hour=03/b.parquet")
    put(root / "date=2025-09-19", "c.parquet")
    (batch / at).symlink_to(to)
    assert names_of(root) == ["a.parquet", "hour=03/b.parquet"]


def test_links_to_each_other_deliver_each_file_once(root: Path, batch: Path) -> None:
    put(batch, "x/a.parquet", "y/b.parquet")
    (batch / "x/y").symlink_to("../y")
    (batch / "y/x").symlink_to("../x")
    assert (names_of(root), left_out(root)) == (["x/a.parquet", "y/b.parquet"], [])


def test_links_within_the_root_are_followed(root: Path, batch: Path) -> None:
    put(root / "_store", "a.parquet", "more/b.parquet")
    (batch / "a.parquet").symlink_to(root / "_store/a.parquet")
    (batch / "more").symlink_to("../_store/more")
    assert names_of(root) == ["a.parquet", "more/b.parquet"]


def test_a_file_with_links_to_it_is_listed_once_under_its_own_name(root: Path, batch: Path) -> None:
    put(batch, "m/b.parquet")
    for name in ("a.parquet", "z.parquet"):
        (batch / name).symlink_to("m/b.parquet")
    (batch / "again").symlink_to("m")
    assert names_of(root) == ["m/b.parquet"]


@pytest.mark.parametrize("kind", ["to the file", "to its folder", "to a link"])
def test_a_file_that_two_links_of_a_batch_lead_to_is_delivered_once(root: Path, batch: Path, kind: str) -> None:
    put(root / "_store", "deep/a.parquet")
    targets = {"to the file": "_store/deep/a.parquet", "to its folder": "_store/deep", "to a link": "_store/link"}
    (root / "_store/link").symlink_to("deep/a.parquet")
    for name in ("b", "c"):
        (batch / name).symlink_to(root / targets[kind])
    assert names_of(root) == ["b" if kind != "to its folder" else "b/a.parquet"]


def test_a_file_of_another_batch_is_delivered_by_a_link_to_it_too(root: Path, batch: Path) -> None:
    put(root / "date=2025-09-19", "a.parquet")
    put(batch, "b.parquet")
    (batch / "late.parquet").symlink_to("../date=2025-09-19/a.parquet")
    assert names_of(root) == ["b.parquet", "late.parquet"]
    assert len(InputRoot(str(root)).delivery(date(2025, 9, 19)).files) == 1


@pytest.mark.parametrize("to", ["lake", "lake/raw_events", "lake/raw_events/batch_date=2025-09-19/a.parquet"])
def test_a_link_to_a_warehouse_beside_the_root_delivers_no_row_of_its_tables(root: Path, batch: Path, to: str) -> None:
    put(root.parent, "lake/raw_events/batch_date=2025-09-19/a.parquet")
    put(batch, "b.parquet")
    (batch / "link").symlink_to(root.parent / to)
    assert (names_of(root), left_out(root)) == (["b.parquet"], [f"link (a link to {root.parent / to})"])


def test_a_root_whose_name_begins_with_that_of_another_is_outside_of_it(root: Path, batch: Path) -> None:
    put(root.parent / "input2", "a.parquet")
    put(batch, "b.parquet")
    (batch / "link").symlink_to("../../input2/a.parquet")
    assert names_of(root) == ["b.parquet"]


def test_a_file_in_a_hidden_folder_is_delivered_by_the_link_to_it(root: Path, batch: Path) -> None:
    put(batch, "_store/a.parquet")
    (batch / "_store/loop").symlink_to(".")
    (batch / "a.parquet").symlink_to("_store/a.parquet")
    assert names_of(root) == ["a.parquet"]


@pytest.mark.parametrize("to", ["outside", "outside/b.parquet", "outside/not there"])
def test_a_link_out_of_the_root_or_to_nothing_is_left_out_and_said(root: Path, batch: Path, to: str) -> None:
    target = root.parent / to
    put(root.parent, "outside/b.parquet")
    put(batch, "a.parquet")
    (batch / "link").symlink_to(target)
    assert (names_of(root), left_out(root)) == (["a.parquet"], [f"link (a link to {target})"])


def test_a_link_to_itself_is_left_out_and_said(root: Path, batch: Path) -> None:
    put(batch, "a.parquet")
    (batch / "self").symlink_to("self")
    assert names_of(root) == ["a.parquet"]
    assert len(left_out(root)) == 1


@pytest.mark.parametrize("to", [".", "../outside"])
def test_a_batch_folder_that_is_a_link_out_of_the_root_or_to_the_root_is_refused(
    root: Path, batch: Path, to: str
) -> None:
    put(root.parent, "outside/b.parquet")
    batch.rmdir()
    batch.symlink_to(to)
    with pytest.raises(BatchError, match="is a link to"):
        delivery(InputRoot(str(root)), DAY)


def test_a_batch_folder_can_be_a_link_within_the_root(root: Path, batch: Path) -> None:
    put(root / "archive", "a.parquet")
    batch.rmdir()
    batch.symlink_to("archive")
    assert names_of(root) == ["a.parquet"]


def test_the_input_root_itself_can_be_a_link(root: Path, batch: Path) -> None:
    put(batch, "a.parquet")
    (root.parent / "alias").symlink_to(root)
    (file,) = InputRoot(str(root.parent / "alias")).delivery(DAY).files
    assert file.uri == f"{batch}/a.parquet"


def test_the_content_of_a_link_is_a_part_of_the_fingerprint(root: Path, batch: Path) -> None:
    put(root / "_store", "a.parquet")
    (batch / "a.parquet").symlink_to("../_store/a.parquet")
    before = batch_content(InputRoot(str(root)), DAY)
    put(root / "_store", "a.parquet", content=b"other rows")
    assert batch_content(InputRoot(str(root)), DAY).fingerprint != before.fingerprint


def test_a_name_that_is_not_utf8_is_refused_as_the_fault_of_the_batch(root: Path, batch: Path) -> None:
    os.mkdir(os.fsencode(batch) + b"/\xff")  # noqa: PTH102 (a Path takes no bytes)
    with pytest.raises(BatchError, match="is not UTF-8"):
        delivery(InputRoot(str(root)), DAY)
