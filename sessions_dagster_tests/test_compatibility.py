"""`docs/compatibility.md` says what is so: of some of its files, written by tools that the tests have anyway."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sessions_dagster_tests.compatibility.outcomes import (
    LANDS,
    REFUSED,
    REJECTED,
    WRONG,
    Lands,
    Outcome,
    expected_events,
)
from sessions_dagster_tests.compatibility.page import PAGE, Results, case_of, read, render
from sessions_dagster_tests.compatibility.writers import pyarrow, spark, stdlib
from sessions_dagster_tests.compatibility.writers.rows import Write

PAGE_TEXT = PAGE.read_text()
RESULTS = read(PAGE_TEXT)

TRIED: Mapping[str, tuple[str, ...]] = {
    "pyarrow": (
        "user_id: int64.parquet",
        "user_id: UUID.parquet",
        "timestamp: INT96.parquet",
        "own: named _metadata.parquet",
        "codec: brotli.parquet",
        "frame: without rows.parquet",
    ),
    "Spark": ("own: interval.parquet", "codec: lz4.csv.lz4"),
    "Python": ("own: quotes and line breaks.csv", "file: one array.json", "codec: bz2.json.bz2"),
}


@pytest.fixture(scope="module")
def lands(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lands:
    return Lands(spark, tmp_path_factory.mktemp("compatibility"))


def cases_of(tool: str, session: SparkSession) -> Mapping[str, Write]:
    return {"pyarrow": pyarrow.CASES, "Python": stdlib.CASES, "Spark": spark.cases(session)}[tool]


def test_the_page_is_as_the_script_writes_it() -> None:
    assert render(RESULTS) == PAGE_TEXT


def test_a_page_is_read_as_it_was_written() -> None:
    results = Results(
        versions={"Polars": "1.0", "Go": "1.26"},
        left_out={"Miller": "there is no program mlr"},
        outcomes={
            ("Polars", "user_id: text.parquet"): Outcome(LANDS),
            ("Polars", "own: time.parquet"): Outcome(REFUSED, "The column: own. No."),
            ("Go", "own: time.parquet"): Outcome(REFUSED, "The column: own. No."),
            ("Go", "codec: gz.csv"): Outcome(REJECTED, "3 unparsable_timestamp"),
        },
    )
    assert read(render(results)) == results


def test_no_file_is_said_to_land_with_other_rows_than_it_has() -> None:
    assert [cell for cell, outcome in RESULTS.outcomes.items() if outcome.verdict == WRONG] == []


@pytest.mark.parametrize("tool", ["pandas", "Polars", "DuckDB", "Spark", "pyarrow", "fastparquet", "Go"])
def test_plain_text_of_every_writer_of_parquet_lands(tool: str) -> None:
    assert RESULTS.outcomes[tool, "user_id: text.parquet"] == Outcome(LANDS)


@pytest.mark.parametrize(("tool", "case"), [(tool, case) for tool, cases in TRIED.items() for case in cases])
def test_a_file_lands_as_the_page_says(spark: SparkSession, lands: Lands, tmp_path: Path, tool: str, case: str) -> None:
    cases_of(tool, spark)[case](tmp_path / case)
    assert lands.outcome(case, tmp_path / case) == RESULTS.outcomes[tool, case_of(case)]


def test_rows_that_differ_from_what_was_written_are_not_said_to_land(lands: Lands, tmp_path: Path) -> None:
    # The file has other users than a file of this case should have.
    pyarrow.CASES["user_id: text.parquet"](tmp_path / "events.parquet")
    assert expected_events("user_id: UUID.parquet") != expected_events("user_id: text.parquet")
    assert lands.outcome("user_id: UUID.parquet", tmp_path / "events.parquet").verdict == WRONG
