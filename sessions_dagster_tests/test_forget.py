"""Forgetting users: nothing is left of them in any table or file, and everything else is as if they had never been."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from sessions_dagster.__main__ import main
from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.errors import ConcurrentWriteError, SettingsError
from sessions_dagster.model.columns import EVENT, EVENTS_VERSION, KEY_COLUMNS, LAST_DATE, PRODUCT, TIMESTAMP, USER
from sessions_dagster.model.tables import TABLES
from sessions_dagster.pipeline import forget, land
from sessions_dagster.pipeline.check_tables import check_events, check_sessions
from sessions_dagster.pipeline.forget import ForgetReport, forget_users
from sessions_dagster.pipeline.land import land_batch
from sessions_dagster.spark.tuning import spark_property
from sessions_dagster.storage.delta_tables import replace_slice
from sessions_dagster.storage.landed_batches import landed_batches
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import World, columns_with_statistics, landed_events, sessions_of
from sessions_dagster_tests.histories import deliveries
from sessions_dagster_tests.oracle import Event, sessionize
from sessions_dagster_tests.test_programs import BATCH_DAYS, STEPS, Materialize, Play, Step

ANN: Final = "ann-0x5eed"
OTHERS: Final = (f"{ANN}a", f"b{ANN}", f"{ANN} b", f"{ANN}#idea", f'"{ANN}"', f"{ANN}'s", f"team/{ANN}", ANN.upper())
"""Users whose ids have the one of ann in them."""

D18, D19, D20, D21 = (date(2025, 9, day) for day in (18, 19, 20, 21))
EARLY: Final = datetime(2025, 9, 1, 12)


PROGRAMS: Final = 2
HISTORIES: Final = 60


@dataclass(frozen=True)
class Forget:
    """The users of some histories are forgotten."""

    histories: frozenset[int] | set[int]


class ForgetfulWorld(World):
    """A world in which users are forgotten."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.forgotten: set[str] = set()

    def copy_to(self, folder: Path) -> "ForgetfulWorld":
        copy = super().copy_to(folder)
        copy.forgotten = set(self.forgotten)
        return copy

    def forget(self, *users: str) -> ForgetReport:
        report = forget_users(self.spark, self.warehouse, users)
        self.forgotten |= {*users}
        return report

    def all_events(self) -> list[Event]:
        return [event for event in super().all_events() if event.user not in self.forgotten]

    def land_lines(self, day: date, lines: Sequence[str]) -> None:
        """Land a batch of JSON."""
        folder = Path(self.input.batch_folder(day))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "events.json").write_text("\n".join(lines))
        land_batch(self.spark, self.input, self.warehouse, day, "json", datetime.now(UTC), self.rules)
        rows = [json.loads(line) for line in lines if line.endswith("}")]
        events = [Event(row[USER], row[EVENT], row[PRODUCT], datetime.fromisoformat(row[TIMESTAMP])) for row in rows]
        self.landed[day] = [event for event in events if event.at != EARLY]

    def versions(self) -> dict[str, int]:
        uris = [*self.warehouse.tables, self.warehouse.forgotten_users]
        return {Path(uri).name: DeltaTable(uri).version() for uri in uris if DeltaTable.is_deltatable(uri)}

    def rejected_users(self) -> Counter[str | None]:
        rows = self.spark.read.format("delta").load(self.warehouse.rejected_events).select("user_id").collect()
        return Counter(row["user_id"] for row in rows)

    def vacuum(self) -> None:
        """What the vacuum does that comes after the retention."""
        with spark_property(self.spark, "spark.databricks.delta.retentionDurationCheck.enabled", "false"):
            for uri in filter(DeltaTable.is_deltatable, self.warehouse.tables):
                self.spark.sql(f"VACUUM delta.`{uri}` FULL RETAIN 0 HOURS")

    def assert_exact(self) -> None:
        """The tables are those of one pass over the batches without the forgotten users."""
        expected = sessionize(self.all_events())
        table, sessions = self.table(), self.sessions()
        assert Counter(landed_events(self.warehouse.raw_events)) == Counter(self.all_events())
        assert set(table) == expected
        assert len(table) == len(expected)
        assert set(sessions) == sessions_of(expected)
        assert len(sessions) == len(set(sessions))
        assert not {row.user for row in self.corrections()} & self.forgotten


def action(user: str, day: date, minute: int) -> Event:
    return Event(user, "a", "idea", datetime(day.year, day.month, day.day, 12, minute))


def line(event: Event, **others: object) -> str:
    return json.dumps({**dict(zip(KEY_COLUMNS, event[:3], strict=True)), TIMESTAMP: event.at.isoformat(), **others})


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def tables_that_know(world: World, user: str) -> set[str]:
    """The folders below the warehouse with a file whose bytes, or values, have an id in them."""
    folder = Path(world.warehouse.root)
    spellings = [user.encode(), json.dumps(user)[1:-1].encode()]
    return {
        file.relative_to(folder).parts[0]
        for file in files_below(folder)
        if any(spelling in file.read_bytes() for spelling in spellings) or user in values_in(file)
    }


def values_in(file: Path) -> str:
    return str(pq.read_table(file, partitioning=None).to_pylist()) if file.suffix == ".parquet" else ""


@pytest.fixture(scope="module")
def before(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> ForgetfulWorld:
    """Batches that correct sessions of ann and of others; one has only ann, one has rejected rows and broken lines."""
    world = ForgetfulWorld(spark, tmp_path_factory.mktemp("before"))
    everybody = (ANN, *OTHERS)
    world.land_lines(D18, [line(action(user, D18, minute)) for user in everybody for minute in (0, 30)])
    world.materialize(D18)
    world.land_lines(D19, [line(action(ANN, D19, 0)), line(action(ANN, D18, 4))])
    world.materialize(D19)
    world.refresh()
    world.land_lines(
        D20,
        [
            *(line(action(user, D18, 33)) for user in everybody),
            *(line(Event(user, "a", "idea", EARLY)) for user in everybody),
            line(Event("bob", "a", "idea", EARLY), friend=ANN),
            line(Event("bob", "a", "idea", EARLY), friend=f"{ANN}a"),
            f'{{"user_id": "{ANN}", "event_id": "a", ',
            f'{{"user_id": "{ANN}a", "event_id": "a", ',
            f"who knows {ANN}.",
        ],
    )
    world.materialize(D20)
    # A row that is in a file although no version of the table has it any more.
    world.land_lines(D19, [line(action(ANN, D19, 0))])
    world.materialize(D19)
    world.refresh()
    world.assert_exact()
    assert world.vectors()
    return world


@pytest.fixture
def world(before: ForgetfulWorld, tmp_path: Path) -> ForgetfulWorld:
    return before.copy_to(tmp_path)


REJECTED_AFTERWARDS: Final = Counter[str | None]([*OTHERS, "bob", None])


def test_nothing_is_left_of_a_user_in_the_bytes_of_any_file_and_all_others_stay(world: ForgetfulWorld) -> None:
    assert tables_that_know(world, ANN) == set(TABLES)
    # The ids of the others have the one of ann in them.
    everything = [event for event in world.all_events() if event.user in OTHERS]
    report = world.forget(ANN)
    assert {Path(uri).name for uri, rows in report.removed.items() if rows} == set(TABLES)
    world.assert_exact()
    assert Counter(world.all_events()) == Counter(everything)
    assert world.rejected_users() == REJECTED_AFTERWARDS
    world.forget(*OTHERS)
    world.vacuum()
    world.assert_exact()
    assert tables_that_know(world, ANN) == set()


def test_each_table_gets_one_commit_and_a_second_run_finds_nothing_and_commits_nothing(world: ForgetfulWorld) -> None:
    versions = world.versions()
    world.forget(ANN, *OTHERS[:2])
    afterwards = {**{name: version + 1 for name, version in versions.items()}, "forgotten_users": 1}
    assert world.versions() == afterwards
    assert not any(world.forget(ANN).removed.values())
    assert world.versions() == afterwards


def test_a_user_does_not_come_back_with_an_old_batch_or_a_new_one(world: ForgetfulWorld) -> None:
    world.forget(ANN)
    lines = Path(world.input.batch_folder(D20), "events.json").read_text().splitlines()
    world.land_lines(D20, lines)
    assert world.rejected_users() == REJECTED_AFTERWARDS
    world.land_lines(D21, [line(action(ANN, D20, 2)), line(action("zoe", D21, 2))])
    world.materialize(D20, D21)
    world.refresh()
    world.assert_exact()
    world.forget(*OTHERS)
    world.vacuum()
    assert tables_that_know(world, ANN) == set()


def test_a_batch_of_forgotten_users_alone_has_landed_and_is_not_pending(world: ForgetfulWorld) -> None:
    def landed() -> dict[date, str | None]:
        return {day: batch.fingerprint for day, batch in landed_batches(Warehouse(world.warehouse.root), days).items()}

    days = [D18, D19, D20]
    known = landed()
    assert None not in known.values()
    world.forget(ANN)
    assert landed() == known
    report = world.materialize(D18, D20)
    assert (report.applied, report.committed) == ((), False)


def test_the_checks_are_green_after_users_were_forgotten_and_later_events_correct_as_before(
    world: ForgetfulWorld,
) -> None:
    world.forget(ANN)
    events = check_events(world.spark, world.warehouse, D18, D20, D18)
    sessions = check_sessions(world.spark, world.warehouse, D18, D20)
    assert not any(each.offenders for each in events.findings)
    assert not any(each.offenders for each in sessions.findings)
    assert not any(events.missing_batches.values())
    world.land_lines(D21, [line(action(user, D18, 37)) for user in (ANN, *OTHERS)])
    world.materialize(D21)
    world.refresh()
    world.assert_exact()
    assert {row.user for row in world.corrections() if D21 in row.batches} == {*OTHERS}


@pytest.mark.parametrize(
    "step", ["note_emptied", "_from_sessionized_events", "_from_session_corrections", "refresh_sessions"]
)
def test_a_run_that_dies_between_two_commits_is_finished_by_the_next_one(
    world: ForgetfulWorld, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(forget, step, die)
        with pytest.raises(KeyboardInterrupt):
            world.forget(ANN)
    world.forget(ANN)
    assert not world.materialize(D18, D20).committed
    world.assert_exact()
    versions = world.versions()
    world.forget(ANN)
    assert world.versions() == versions


def test_a_table_that_was_restored_loses_the_users_again(world: ForgetfulWorld) -> None:
    version = world.versions()["raw_events"]
    world.forget(ANN)
    world.spark.sql(f"RESTORE delta.`{world.warehouse.raw_events}` TO VERSION AS OF {version}")
    # Without an id it goes by the list alone.
    assert world.forget().removed[world.warehouse.raw_events] > 0
    world.assert_exact()
    assert not world.materialize(D18, D20).committed


def test_a_table_of_an_older_version_has_no_statistics_of_users_afterwards(world: ForgetfulWorld) -> None:
    tables = (world.warehouse.sessions, world.warehouse.session_corrections)
    for uri in tables:
        world.spark.sql(f"ALTER TABLE delta.`{uri}` UNSET TBLPROPERTIES ('delta.dataSkippingStatsColumns')")
    world.forget(ANN)
    assert [columns_with_statistics(uri) for uri in tables] == [{LAST_DATE}, {EVENTS_VERSION}]


@pytest.mark.parametrize("has_events", [True, False])
def test_sessions_of_a_user_that_somebody_else_has_written_go_too(world: ForgetfulWorld, has_events: bool) -> None:
    write_deltalake(world.warehouse.sessions, _renamed(world.warehouse.sessions, OTHERS[0], ANN), mode="append")
    if not has_events:
        shutil.rmtree(world.warehouse.sessionized_events)
    world.forget(ANN)
    assert ANN not in {row.user for row in world.sessions()}
    assert world.sessions()


def _renamed(table: str, user: str, to: str) -> pa.Table:
    """The rows of a user, as those of another one."""
    query = f"SELECT * REPLACE ('{to}' AS {USER}) FROM rows WHERE {USER} = '{user}'"
    rows = pa.table(QueryBuilder().register("rows", DeltaTable(table)).execute(query).read_all())
    assert rows.num_rows
    return rows


def test_a_list_whose_creation_was_killed_is_no_list(spark: SparkSession, tmp_path: Path) -> None:
    world = ForgetfulWorld(spark, tmp_path)
    log = Path(world.warehouse.forgotten_users, "_delta_log")
    log.mkdir(parents=True)
    (log / f".{0:020}.json.0f3e.tmp").write_text("{")
    world.land(D18, [action(ANN, D18, 0)])
    world.materialize(D18)
    world.refresh()
    world.forget(ANN)
    world.assert_exact()


def test_an_empty_warehouse_knows_nobody_and_keeps_the_list(spark: SparkSession, tmp_path: Path) -> None:
    world = ForgetfulWorld(spark, tmp_path)
    assert world.forget().listed == 0
    assert not Path(world.warehouse.forgotten_users).exists()
    with pytest.raises(SettingsError, match="not UTF-8"):
        world.forget(b"ann\xff".decode(errors="surrogateescape"))
    with pytest.raises(SettingsError, match="empty id"):
        world.forget("", ANN)
    assert world.forget(ANN).listed == 1
    world.land(D18, [action(ANN, D18, 0), action("anna", D18, 0)])
    world.land(D19, [action(ANN, D18, 0)])
    world.materialize(D18, D19)
    world.refresh()
    world.assert_exact()
    assert tables_that_know(world, ANN) == set()


@st.composite
def _programs(draw: st.DrawFn) -> list[Step | Forget]:
    """Steps of the main test, with one in between in which users are forgotten."""
    steps: list[Step | Forget] = [*draw(st.lists(STEPS, min_size=7, max_size=9))]
    steps.insert(draw(st.integers(3, len(steps))), Forget(draw(st.sets(st.integers(0, HISTORIES - 1), min_size=1))))
    return steps


@settings(
    max_examples=PROGRAMS,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(program=_programs(), seed=st.integers(0, 2**31))
def test_wherever_in_a_program_users_are_forgotten_it_ends_in_the_table_of_one_pass_without_them(
    spark: SparkSession, program: list[Step | Forget], seed: int
) -> None:
    histories = [deliveries(seed + number) for number in range(HISTORIES)]
    with TemporaryDirectory() as folder:
        world = ForgetfulWorld(spark, Path(folder))
        play = Play(world, [delivery for history in histories for delivery in history])
        for step in program:
            if isinstance(step, Forget):
                world.forget(*{delivery.event.user for number in step.histories for delivery in histories[number]})
            else:
                play.run(step)
            if isinstance(step, Materialize):
                world.refresh()
        play.catch_up(Random(seed))
        world.refresh()
        world.assert_exact()
        assert not world.materialize(BATCH_DAYS[0], BATCH_DAYS[-1]).committed


def test_the_job_forgets_users_and_says_so_without_their_ids(world: ForgetfulWorld) -> None:
    config = SessionsConfig(start_date=D18, input_root=world.input.root, warehouse_root=world.warehouse.root)
    instance = dg.DagsterInstance.ephemeral()
    job = build_defs(config).resolve_job_def("forget")
    run_config = {"ops": {"forget_users": {"config": {"users": [ANN, OTHERS[0]]}}}}
    result = job.execute_in_process(run_config=run_config, instance=instance)
    assert result.success
    world.forgotten = {ANN, OTHERS[0]}
    world.assert_exact()
    for table in TABLES:
        (record,) = instance.fetch_observations(dg.AssetKey(table), limit=10).records
        assert record.asset_observation is not None
        assert record.asset_observation.metadata["forgotten_rows"].value
    logs = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any(line.startswith("removed rows of the 2 users on the list: ") for line in logs)
    assert not any(ANN in line for line in logs)


def test_the_command_forgets_users_and_says_so_without_their_ids(
    world: ForgetfulWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSIONS_WAREHOUSE_ROOT", world.warehouse.root)
    assert main(["forget", "--user", ANN, "--user", OTHERS[1]]) == 0
    world.forgotten = {ANN, OTHERS[1]}
    world.assert_exact()
    said = capsys.readouterr().out
    assert said.startswith("removed rows of the 2 users on the list: ")
    assert ANN not in said
    assert main(["forget"]) == 0
    assert capsys.readouterr().out.startswith("no table has a row of the 2 users on the list")


@pytest.mark.parametrize("writes_before", [0, 1], ids=["both tables are written", "the rejected rows are written"])
def test_a_landing_under_way_that_does_not_know_a_user_yet_is_refused(
    world: ForgetfulWorld, monkeypatch: pytest.MonkeyPatch, writes_before: int
) -> None:
    # As on an object store, where nobody waits.
    monkeypatch.setattr(Warehouse, "locked", lambda _: nullcontext())
    monkeypatch.setattr(Warehouse, "_locked_in_java", lambda *_: nullcontext())
    lines = Path(world.input.batch_folder(D20), "events.json").read_text().splitlines()
    writes: list[object] = []

    def forgets_first(*arguments: Any, **named: Any) -> int:
        if len(writes) == writes_before:
            forget_users(world.spark, Warehouse(world.warehouse.root), [ANN])
        writes.append(arguments)
        return replace_slice(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(land, "replace_slice", forgets_first)
        with pytest.raises(ConcurrentWriteError):
            world.land_lines(D20, lines)
    world.forgotten = {ANN}
    assert ANN not in {event.user for event in landed_events(world.warehouse.raw_events)}
    assert ANN not in world.rejected_users()
    world.land_lines(D20, lines)
    world.materialize(D20)
    world.refresh()
    world.assert_exact()
    assert world.rejected_users() == REJECTED_AFTERWARDS
