"""Carried columns: columns of the sender's own are copied into `raw_events` and `sessionized_events`.

They are not part of an event's identity. If an event is delivered several times, the values of the newest landing
count, and the greatest values within one landing.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from sessions_dagster.config import SessionsConfig
from sessions_dagster.errors import SchemaMismatchError, SettingsError
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.input.formats import InputFormat
from sessions_dagster.model.columns import EVENT, PRODUCT, SESSION_START, TIMESTAMP, USER
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.pipeline.apply import ApplyReport, apply_batches
from sessions_dagster.pipeline.land import LandingReport, land_batch
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.oracle import Event, sessionize

RULES = SessionRules()
COUNTRY = {"country": "string"}
FIRST = date(2025, 9, 20)
DAYS = [FIRST + timedelta(days=offset) for offset in range(4)]


class Delivered(NamedTuple):
    """An event with the value of its carried column."""

    event: Event
    country: str | None


def u(clock: str, country: str | None, user: str = "ada", event: str = "a", day: int = 20) -> Delivered:
    return Delivered(Event(user, event, "idea", datetime.fromisoformat(f"2025-09-{day} {clock}")), country)


class Carrying:
    """A warehouse with carried columns, and a record of the rows that landed, with the newest landing last."""

    def __init__(self, spark: SparkSession, folder: Path, carried_columns: Mapping[str, str] = COUNTRY) -> None:
        self.spark = spark
        self.input = InputRoot(str(folder / "input"))
        self.warehouse = Warehouse(str(folder / "warehouse"))
        self.carried_columns = carried_columns
        self.landed: dict[date, Sequence[Delivered]] = {}

    def land(self, day: date, rows: Sequence[Delivered]) -> None:
        columns = {
            USER: [row.event.user for row in rows],
            EVENT: [row.event.event for row in rows],
            PRODUCT: [row.event.product for row in rows],
            TIMESTAMP: pa.array([row.event.at.replace(tzinfo=UTC) for row in rows], pa.timestamp("us", "UTC")),
            "country": pa.array([row.country for row in rows], pa.string()),
        }
        self.land_table(day, pa.table(columns))
        self.landed.pop(day, None)
        self.landed[day] = rows

    def land_table(self, day: date, table: pa.Table) -> LandingReport:
        folder = Path(self.input.batch_folder(day))
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / "events.parquet")
        return self.land_folder(day, "parquet")

    def land_folder(self, day: date, input_format: InputFormat) -> LandingReport:
        return land_batch(
            self.spark,
            self.input,
            self.warehouse,
            day,
            input_format,
            datetime.now(UTC),
            RULES,
            carried_columns=self.carried_columns,
        )

    def apply(self, first: date, last: date | None = None) -> ApplyReport:
        window = RULES.batch_window(first, last)
        return apply_batches(self.spark, self.warehouse, window, RULES, self.carried_columns)

    def expected(self) -> set[tuple[Any, ...]]:
        """The rows of one pass, with the carried value of the newest landing of each event."""
        values: dict[Event, str | None] = {}
        for rows in self.landed.values():
            in_batch: dict[Event, str] = {}
            for row in rows:
                in_batch[row.event] = max(in_batch.get(row.event, ""), row.country or "")
            values |= {event: value or None for event, value in in_batch.items()}
        return {(*row[:5], values[Event(*row[:4])]) for row in sessionize(values)}

    def found(self) -> list[tuple[Any, ...]]:
        columns = [USER, EVENT, PRODUCT, TIMESTAMP, SESSION_START, "country"]
        return [tuple(row) for row in self.read(self.warehouse.sessionized_events, columns)]

    def read(self, table: str, columns: Sequence[str]) -> list[list[Any]]:
        query = f"SELECT {', '.join(columns)} FROM t"
        rows = pa.table(QueryBuilder().register("t", DeltaTable(table)).execute(query).read_all()).to_pylist()
        return [[naive(value) for value in row.values()] for row in rows]


def naive(value: Any) -> Any:
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value


def check(world: Carrying) -> None:
    found = world.found()
    assert set(found) == world.expected()
    assert len(found) == len(set(found)), "an event is there twice"


def test_carried_values_are_in_both_tables(spark: SparkSession, tmp_path: Path) -> None:
    world = Carrying(spark, tmp_path)
    world.land(FIRST, [u("09:00", "NL"), u("09:01", None, event="x")])
    world.apply(FIRST)
    assert sorted(map(str, world.read(world.warehouse.raw_events, ["country"]))) == ["['NL']", "[None]"]
    check(world)


def test_dependent_rows_keep_their_carried_values(spark: SparkSession, tmp_path: Path) -> None:
    world = Carrying(spark, tmp_path)
    world.land(FIRST, [u("09:00", "NL"), u("09:02", "DE"), u("09:03", "FR", event="x")])
    world.apply(FIRST)
    world.land(DAYS[1], [u("09:06", "BE"), u("08:57", "LU")])
    world.apply(DAYS[1])
    check(world)


def test_the_newest_landing_of_an_event_counts_in_any_order_of_runs(spark: SparkSession, tmp_path: Path) -> None:
    for number, order in enumerate(([FIRST, DAYS[1]], [DAYS[1], FIRST])):
        world = Carrying(spark, tmp_path / str(number))
        world.land(FIRST, [u("09:00", "older")])
        world.land(DAYS[1], [u("09:00", "newer")])
        for day in order:
            apply_batches(spark, world.warehouse, [day], RULES, COUNTRY)
        check(world)


def test_landing_a_batch_again_with_other_values_changes_only_the_values(spark: SparkSession, tmp_path: Path) -> None:
    world = Carrying(spark, tmp_path)
    world.land(FIRST, [u("09:00", "NL"), u("09:02", "NL"), u("09:03", "NL", event="x")])
    world.apply(FIRST)
    world.land(FIRST, [u("09:00", "NL"), u("09:02", "DE"), u("09:03", None, event="x")])
    report = world.apply(FIRST)
    check(world)
    assert (report.inserted, report.updated, report.deleted) == ({}, {FIRST: 2}, {})


def test_landing_a_batch_again_unchanged_commits_nothing(spark: SparkSession, tmp_path: Path) -> None:
    world = Carrying(spark, tmp_path)
    # An event twice in one landing: the greatest value counts, and the other one makes no difference.
    rows = [u("09:00", "NL"), u("09:00", "DE"), u("09:03", None, event="x")]
    for expected in (True, False):
        world.land(FIRST, rows)
        assert world.apply(FIRST).committed is expected
    check(world)


def test_a_value_falls_back_to_that_of_an_older_landing_if_the_newest_one_retracts_the_event(
    spark: SparkSession, tmp_path: Path
) -> None:
    world = Carrying(spark, tmp_path)
    world.land(FIRST, [u("09:00", "older")])
    world.land(DAYS[1], [u("09:00", "newer"), u("10:00", "newer")])
    world.apply(DAYS[1])
    check(world)
    world.land(DAYS[1], [u("10:00", "newer")])
    world.apply(DAYS[1])
    check(world)


@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, 2**31))
def test_any_program_of_landings_and_runs_ends_with_the_values_of_the_newest_landings(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    random = Random(seed)
    world = Carrying(spark, tmp_path_factory.mktemp("any"))
    minutes = [f"{9 + minute // 60:02}:{minute % 60:02}" for minute in range(0, 90, 4)]
    for _ in range(7):
        day = random.choice(DAYS)
        rows = [
            u(random.choice(minutes), random.choice(["NL", "DE", "FR", None]), f"user {user}", random.choice("abx"), at)
            for user in range(12)
            for at in range(20, day.day + 1)
            for _ in range(random.randrange(4))
        ]
        world.land(day, rows)
        if random.random() < 0.7:
            world.apply(random.choice(DAYS))
    world.apply(DAYS[0], DAYS[-1])
    check(world)
    assert not world.apply(DAYS[0], DAYS[-1]).committed


# --- types and formats -----------------------------------------------------------------------------------------------

MANY = {
    "ide_version": "string",
    "build": "int",
    "size": "bigint",
    "score": "double",
    "trial": "boolean",
    "installed": "date",
    "seen": "timestamp",
}


def events(count: int) -> dict[str, Any]:
    return {
        USER: [f"user {number}" for number in range(count)],
        EVENT: ["a"] * count,
        PRODUCT: ["idea"] * count,
        TIMESTAMP: [datetime(2025, 9, 20, 9, tzinfo=UTC)] * count,
    }


def carried(world: Carrying) -> list[list[Any]]:
    return sorted(world.read(world.warehouse.sessionized_events, [USER, *world.carried_columns]))


def test_a_value_that_cannot_be_cast_is_null_and_its_row_is_accepted(spark: SparkSession, tmp_path: Path) -> None:
    world = Carrying(spark, tmp_path, MANY)
    text = {
        "ide_version": ["2025.2", "", None],
        "build": ["17", "x", "99999999999"],
        "size": ["99999999999", "1e3", None],
        "score": ["0.5", "none", None],
        "trial": ["true", "perhaps", None],
        "installed": ["2025-09-01", "soon", None],
        "seen": ["2025-09-01 10:00:00", "12:00", None],
    }
    report = world.land_table(FIRST, pa.table(events(3) | text))
    world.apply(FIRST)
    assert report.accepted == 3
    assert carried(world) == [
        ["user 0", "2025.2", 17, 99999999999, 0.5, True, date(2025, 9, 1), datetime(2025, 9, 1, 10)],
        ["user 1", "", None, None, None, None, None, None],
        ["user 2", None, None, None, None, None, None, None],
    ]


def test_a_number_is_not_cast_to_a_time_and_a_nested_value_becomes_json(spark: SparkSession, tmp_path: Path) -> None:
    world = Carrying(spark, tmp_path, {"ide_version": "string", "seen": "timestamp", "build": "int"})
    at = pa.array([datetime(2025, 9, 1, 10)], pa.timestamp("us"))
    columns = {"ide_version": [{"major": 2025}], "seen": [1_700_000_000], "build": at}
    world.land_table(FIRST, pa.table(events(1) | columns))
    world.apply(FIRST)
    assert carried(world) == [["user 0", '{"major":2025}', None, None]]


def test_invalid_utf8_in_a_text_value_is_replaced(spark: SparkSession, tmp_path: Path) -> None:
    world = Carrying(spark, tmp_path, {"ide_version": "string"})
    offsets = pa.py_buffer(b"\x00\x00\x00\x00\x06\x00\x00\x00")
    text = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(b"m\xfcller"))
    world.land_table(FIRST, pa.table(events(1) | {"ide_version": text}))
    world.apply(FIRST)
    assert carried(world) == [["user 0", "m\ufffdller"]]


def test_a_time_in_nanoseconds_is_a_time_and_no_number(spark: SparkSession, tmp_path: Path) -> None:
    world = Carrying(spark, tmp_path, {"seen": "timestamp", "installed": "date", "build": "bigint"})
    at = pa.array([1_756_720_800_123_456_789], pa.timestamp("ns"))
    world.land_table(FIRST, pa.table(events(1) | {"seen": at, "installed": at, "build": at}))
    world.apply(FIRST)
    seen = datetime(2025, 9, 1, 10, 0, 0, 123456)
    assert carried(world) == [["user 0", seen, seen.date(), None]]


def test_any_name_that_is_no_column_of_ours_can_be_carried(spark: SparkSession, tmp_path: Path) -> None:
    names = ["change", "is_removed", "begins_session", "value", "count", "interval_start", "unreadable", "reaches_out"]
    world = Carrying(spark, tmp_path, dict.fromkeys(names, "string"))
    folder = Path(world.input.batch_folder(FIRST))
    folder.mkdir(parents=True)
    for clocks in (["09:00", "09:03"], ["09:00"]):
        lines = [
            {USER: "ada", EVENT: "a", PRODUCT: "idea", TIMESTAMP: f"2025-09-20 {clock}:00"}
            | {name: name for name in names}
            for clock in clocks
        ]
        (folder / "events.json").write_text("\n".join(map(json.dumps, lines)))
        world.land_folder(FIRST, "json")
        world.apply(FIRST)
        assert carried(world) == [["ada", *names]] * len(clocks)


@pytest.mark.parametrize("name", ["user_id", "old_start_ts", "kind", "__change", "a b", "1st"])
def test_a_name_of_ours_cannot_be_carried(name: str) -> None:
    with pytest.raises(SettingsError, match="carried_columns"):
        SessionsConfig(start_date=FIRST, carried_columns={name: "string"})


@pytest.mark.parametrize(
    ("input_format", "content"),
    [
        ("csv", "country,user_id,event_id,product_code,timestamp,build\nNL,ada,a,idea,2025-09-20 09:00:00,17\n"),
        (
            "json",
            '{"country":"NL","user_id":"ada","event_id":"a","product_code":"idea",'
            '"timestamp":"2025-09-20 09:00:00","build":17}\n',
        ),
    ],
)
def test_carried_values_are_read_from_text_formats_too(
    spark: SparkSession, tmp_path: Path, input_format: InputFormat, content: str
) -> None:
    world = Carrying(spark, tmp_path, {"country": "string", "build": "int", "absent": "date"})
    folder = Path(world.input.batch_folder(FIRST))
    folder.mkdir(parents=True)
    (folder / f"events.{input_format}").write_text(content)
    world.land_folder(FIRST, input_format)
    world.apply(FIRST)
    assert carried(world) == [["ada", "NL", 17, None]]


# --- older tables ----------------------------------------------------------------------------------------------------


def test_an_older_table_gets_the_column_and_its_values_when_batches_land_again(
    spark: SparkSession, tmp_path: Path
) -> None:
    world = Carrying(spark, tmp_path, {})
    world.land(FIRST, [u("09:00", "NL"), u("09:03", "DE", event="x")])
    world.apply(FIRST)
    world.carried_columns = COUNTRY
    world.land(DAYS[1], [u("09:04", "FR")])
    world.apply(DAYS[1])
    assert sorted((row[3].minute, row[-1]) for row in world.found()) == [(0, None), (3, None), (4, "FR")]
    world.land(FIRST, world.landed[FIRST])
    world.apply(FIRST)
    check(world)


def test_a_batch_that_landed_before_is_applied_after_a_column_is_carried(spark: SparkSession, tmp_path: Path) -> None:
    world = Carrying(spark, tmp_path, {})
    world.land(FIRST, [u("09:00", "NL")])
    world.carried_columns = COUNTRY
    world.apply(FIRST)
    assert [row[-1] for row in world.found()] == [None]


@pytest.mark.parametrize(
    ("later", "message"),
    [
        ({}, "has the column country, which this run does not write"),
        ({"country": "int"}, "has the column country with the type string, but this run writes integer"),
    ],
)
def test_a_dropped_or_retyped_column_stops_the_run_and_changes_nothing(
    spark: SparkSession, tmp_path: Path, later: Mapping[str, str], message: str
) -> None:
    world = Carrying(spark, tmp_path)
    world.land(FIRST, [u("09:00", "NL")])
    world.apply(FIRST)
    world.land(FIRST, [u("09:04", "NL")])
    tables = world.warehouse.raw_events, world.warehouse.sessionized_events
    versions = [DeltaTable(table).version() for table in tables]
    world.carried_columns = later
    with pytest.raises(SchemaMismatchError, match=message):
        world.apply(FIRST)
    with pytest.raises(SchemaMismatchError, match=message):
        world.land(FIRST, [u("09:08", "NL")])
    assert versions == [DeltaTable(table).version() for table in tables]
