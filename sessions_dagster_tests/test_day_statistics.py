"""The statistics of a day in the UI: counts, session lengths and lateness, as metadata and as previews."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pytest
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import assets, build_defs
from sessions_dagster.defs.metadata import (
    apply_metadata,
    day_metadata,
    landing_metadata,
    refresh_metadata,
    rejected_metadata,
)
from sessions_dagster.defs.preview import batch_preview, day_preview
from sessions_dagster.model.rejects import RejectReason
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import (
    REJECTED_EVENTS_SCHEMA,
    SESSION_CORRECTIONS_SCHEMA,
    SESSIONS_SCHEMA,
    raw_events_schema,
    sessionized_events_schema,
)
from sessions_dagster.pipeline.apply import ApplyReport
from sessions_dagster.pipeline.land import LandingReport
from sessions_dagster.pipeline.refresh_sessions import SessionsReport
from sessions_dagster.pipeline.summarize import summarize_events
from sessions_dagster.quality.day_statistics import SESSION_MINUTES, DaySummary
from sessions_dagster_tests.builders import World
from sessions_dagster_tests.oracle import Event

DAY: Final = date(2025, 9, 18)
NEXT_DAY: Final = DAY + timedelta(days=1)
EMPTY_DAY: Final = DAY - timedelta(days=1)


def _at(hour: int, minute: int = 0) -> datetime:
    return datetime(2025, 9, 18) + timedelta(hours=hour, minutes=minute)


def _session(user: str, first: datetime, minutes: int, product: str = "idea") -> list[Event]:
    """User actions of a session with the given length in minutes."""
    return [Event(user, "a", product, first + timedelta(minutes=minute)) for minute in range(0, minutes - 4)]


BATCHES: Final[Mapping[date, Sequence[Event]]] = {
    DAY: [
        *_session("ada", _at(9), 5),
        *_session("ada", _at(11), 10),
        *_session("ada", _at(11), 5, "pyc"),
        Event("bob", "x", "idea", _at(12)),
    ],
    NEXT_DAY: [
        *_session("bob", _at(9), 25),
        # Crosses midnight: 30 minutes on the first day, 5 on the next.
        *_session("cyd", _at(23, 30), 40),
        # Delivered by an earlier batch too, on time.
        Event("bob", "x", "idea", _at(12)),
    ],
    DAY + timedelta(days=5): [Event("dan", "x", "idea", _at(13))],
}


@pytest.fixture(scope="module")
def summaries(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Mapping[date, DaySummary]:
    world = World(spark, tmp_path_factory.mktemp("summary"))
    for day, events in BATCHES.items():
        world.land(day, events)
    world.materialize(min(BATCHES), max(BATCHES))
    found = summarize_events(spark, world.warehouse, [EMPTY_DAY, DAY, NEXT_DAY], world.rules)
    return {summary.day: summary for summary in found}


def test_rows_are_counted_by_the_lateness_of_the_first_batch_that_delivered_them(
    summaries: Mapping[date, DaySummary],
) -> None:
    assert summaries[DAY].rows_by_lateness == (1 + 6 + 1 + 1, 21 + 30, 0, 0, 0, 1)
    assert (summaries[DAY].rows, summaries[DAY].late_rows) == (61, 52)


def test_a_user_is_counted_once_for_any_number_of_events(summaries: Mapping[date, DaySummary]) -> None:
    assert summaries[DAY].users == 4


def test_a_session_over_midnight_counts_on_both_days(summaries: Mapping[date, DaySummary]) -> None:
    assert (summaries[DAY].sessions, summaries[NEXT_DAY].sessions) == (5, 1)


def test_lengths_are_measured_for_sessions_that_start_on_the_day(summaries: Mapping[date, DaySummary]) -> None:
    # 5, 5, 10, 25 and 40 minutes; the 95th percentile is at four fifths between the last two.
    assert summaries[DAY].median_minutes == 10
    assert summaries[DAY].p95_minutes == pytest.approx(37)
    assert summaries[DAY].sessions_by_minutes == (2, 1, 1, 1, 0, 0, 0)


def test_a_day_on_which_no_session_starts_has_no_lengths(summaries: Mapping[date, DaySummary]) -> None:
    assert summaries[NEXT_DAY].rows == 6
    assert (summaries[NEXT_DAY].median_minutes, summaries[NEXT_DAY].p95_minutes) == (0, 0)
    assert sum(summaries[NEXT_DAY].sessions_by_minutes) == 0


def test_the_summary_of_a_day_without_rows_is_all_zeros(summaries: Mapping[date, DaySummary]) -> None:
    assert summaries[EMPTY_DAY] == DaySummary(EMPTY_DAY, NO_ROWS)
    assert summaries[EMPTY_DAY].rows == 0


NO_ROWS: Final = (0,) * 6

SUMMARY: Final = DaySummary(
    day=DAY,
    rows_by_lateness=(900, 99, 0, 0, 0, 1),
    sessions=101,
    users=50,
    median_minutes=12.345678,
    p95_minutes=60.0,
    sessions_by_minutes=(48, 24, 12, 0, 1, 0, 0),
)


def _applied(day: date) -> ApplyReport:
    """The report of a run that corrected rows of a day."""
    fields: dict[str, Any] = dict.fromkeys(inspect.signature(ApplyReport).parameters, 0)
    rows = {"inserted": {day: 7}, "updated": {day: 3}, "deleted": {day: 2}}
    others: dict[str, Any] = {"session_changes": {}, "applied": (), "present": ()}
    return ApplyReport(**(fields | rows | others))


def _landed(on_time: int, late: int, rejected: Mapping[RejectReason, int]) -> LandingReport:
    return LandingReport(DAY, "0123456789abcdef", (), 1, 100, (on_time, late, 0, 0, 0, 0), rejected, 1, 1, 0.5)


def test_the_metadata_of_a_day_has_the_late_and_the_corrected_share() -> None:
    shown = day_metadata(SUMMARY, _applied(DAY))
    assert shown["late_share"] == 0.1
    assert shown["rows_corrected"] == 5
    assert (shown["session_minutes_median"], shown["session_minutes_p95"]) == (12.35, 60.0)


def test_the_metadata_of_a_landing_has_the_late_and_the_rejected_share() -> None:
    shown = landing_metadata(_landed(60, 15, {RejectReason.TOO_LATE: 20, RejectReason.BOT: 5}))
    assert (shown["late_share"], shown["rejected_share"], shown["rejected_bot"]) == (0.2, 0.25, 5)


def test_numbers_of_a_whole_run_of_sessions_have_the_prefix_run() -> None:
    shown = refresh_metadata(SessionsReport(2, 5, committed=True, changed_dates=(DAY,), rebuilt=12, seconds=0.5))
    assert (shown["run_sessions_made_anew"], shown["run_seconds"]) == (12, 0.5)


def test_every_day_shows_the_same_numbers_of_the_same_types() -> None:
    days = [day_metadata(SUMMARY, _applied(DAY)), day_metadata(DaySummary(DAY, NO_ROWS), _applied(NEXT_DAY))]
    landings = [landing_metadata(_landed(60, 15, {})), landing_metadata(_landed(0, 0, {}))]
    for full, empty in (days, landings):
        assert {name: type(value) for name, value in full.items()} == {
            name: type(value) for name, value in empty.items()
        }


@pytest.mark.parametrize("show", [landing_metadata, rejected_metadata])
def test_only_the_reasons_that_rejected_rows_are_shown(show: Callable[[LandingReport], Mapping[str, Any]]) -> None:
    reasons = {RejectReason.BOT: 5, RejectReason.TOO_LATE: 0}
    shown = [name.removeprefix("rejected_") for name in show(_landed(60, 15, reasons))]
    assert "bot" in shown
    assert not set(RejectReason) - {RejectReason.BOT} & set(shown)


DAY_FIRST: Final = ["preview", "dagster/partition_row_count"]


def test_a_landing_shows_the_day_first_and_facts_about_machines_last() -> None:
    assert list(landing_metadata(_landed(60, 15, {RejectReason.BOT: 5}))) == [
        *[*DAY_FIRST, "late_rows", "late_share", "rejected_rows", "rejected_share", "rejected_bot"],
        *["input_size", "input_files", "input_bytes", "seconds"],
        *["delta_version", "rejected_events_version", "input_fingerprint"],
    ]


def test_a_day_is_shown_before_the_run() -> None:
    shown = list(day_metadata(SUMMARY, _applied(DAY)) | apply_metadata(_applied(DAY)))
    assert shown[:2] == DAY_FIRST
    of_day = [name for name in shown if name in day_metadata(SUMMARY, _applied(DAY))]
    assert shown[: len(of_day)] == of_day
    assert shown[-3:] == ["run_seconds", "committed", "delta_version"]


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (12_345_678, "12.3 MB"),
        (5 * 10**9, "5.0 GB"),
        (1234 * 10**12, "1,234.0 TB"),
    ],
)
def test_a_size_is_shown_with_its_unit(size: int, shown: str) -> None:
    assert landing_metadata(replace(_landed(1, 0, {}), bytes=size))["input_size"] == shown


def test_a_preview_has_a_bar_for_every_length_and_lateness() -> None:
    lines = day_preview(SUMMARY).splitlines()
    assert f"| 0 to 10 | 48 | 56.5% | {'█' * 24} |" in lines
    assert f"| 10 to 20 | 24 | 28.2% | {'█' * 12} |" in lines
    assert f"| {SESSION_MINUTES[-1]} or more | 0 | 0.0% |  |" in lines
    assert f"| on time | 900 | 90.0% | {'█' * 24} |" in lines
    assert "| 2 days | 0 | 0.0% |  |" in lines


def test_a_preview_of_a_batch_has_a_bar_for_every_lateness() -> None:
    lines = batch_preview(_landed(20, 10, {})).splitlines()
    assert f"| on time | 20 | 66.7% | {'█' * 24} |" in lines
    assert f"| 1 day | 10 | 33.3% | {'█' * 12} |" in lines
    assert "| 5 days | 0 | 0.0% |  |" in lines


def test_a_rare_lateness_still_has_a_visible_bar() -> None:
    assert "| 5 days | 1 | 0.1% | █ |" in day_preview(SUMMARY).splitlines()


def test_a_preview_without_rows_has_no_bars() -> None:
    assert "█" not in day_preview(DaySummary(DAY, NO_ROWS))


MADE_BY = {
    "raw_events": "raw_events",
    "rejected_events": "raw_events",
    "sessionized_events": "sessionized_events",
    "session_corrections": "sessionized_events",
    "sessions": "sessions",
}

SCHEMAS = {
    "raw_events": raw_events_schema({}),
    "rejected_events": REJECTED_EVENTS_SCHEMA,
    "sessionized_events": sessionized_events_schema(SessionRules(), {}),
    "session_corrections": SESSION_CORRECTIONS_SCHEMA,
    "sessions": SESSIONS_SCHEMA,
}


@pytest.fixture(scope="module")
def specs() -> Mapping[str, dg.AssetSpec]:
    graph = build_defs(SessionsConfig(start_date="2025-01-01")).resolve_asset_graph()
    return {name: graph.get(dg.AssetKey(name)).to_asset_spec() for name in MADE_BY}


@pytest.mark.parametrize("name", sorted(set(MADE_BY.values())))
def test_an_asset_has_owners_kinds_a_group_and_a_description(specs: Mapping[str, dg.AssetSpec], name: str) -> None:
    spec = specs[name]
    assert list(spec.owners) == ["team:data-engineering"]
    assert spec.kinds == {"spark", "deltalake"}
    assert spec.group_name == "sessions"
    assert spec.description


@pytest.mark.parametrize(("name", "function"), MADE_BY.items())
def test_an_asset_links_to_the_function_that_computes_it(
    specs: Mapping[str, dg.AssetSpec], name: str, function: str
) -> None:
    (reference,) = specs[name].metadata["dagster/code_references"].code_references
    assert isinstance(reference, dg.LocalFileCodeReference)
    assert assets.__file__ == reference.file_path
    lines = Path(reference.file_path).read_text().splitlines()[(reference.line_number or 0) - 1 :]
    assert next(line.strip() for line in lines if line.strip().startswith("def ")).startswith(f"def {function}(")


def test_an_asset_names_its_table_and_where_it_is() -> None:
    config = SessionsConfig(
        start_date="2025-01-01", warehouse_root="/data/lake", input_root="s3://in/x", key_prefix="web"
    )
    metadata = {spec.key.path[-1]: spec.metadata for spec in build_defs(config).resolve_all_asset_specs()}
    for name in MADE_BY:
        assert metadata[name]["dagster/table_name"] == f"web.{name}"
        assert metadata[name]["dagster/uri"] == f"/data/lake/{name}"
    assert metadata["input_batches"]["dagster/uri"] == "s3a://in/x"


def test_the_graph_begins_with_the_input_folder() -> None:
    graph = build_defs(SessionsConfig(start_date="2025-01-01", input_format="csv")).resolve_asset_graph()
    source = graph.get(dg.AssetKey("input_batches"))
    assert source.child_keys == {dg.AssetKey("raw_events")}
    assert not source.is_materializable
    assert source.kinds == {"csv"}
    assert source.description


@pytest.mark.parametrize(("name", "schema"), SCHEMAS.items())
def test_an_asset_shows_the_columns_of_its_table(
    specs: Mapping[str, dg.AssetSpec], name: str, schema: StructType
) -> None:
    columns = specs[name].metadata["dagster/column_schema"].columns
    shown = [(column.name, column.type, column.constraints.nullable) for column in columns]
    assert shown == [(field.name, field.dataType.simpleString(), field.nullable) for field in schema]
    assert all(column.description for column in columns)
