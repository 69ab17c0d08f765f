"""The command `python -m sessions_dagster`, which needs no Dagster."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.__main__ import main
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import write_batch
from sessions_dagster_tests.oracle import Event

DAY = date(2025, 9, 20)


def deliver(root: Path, day: date) -> None:
    """Write a batch with a user action and an IDE event."""
    at_nine = datetime(day.year, day.month, day.day, 9)
    events = [Event("ada", "a", "idea", at_nine), Event("ada", "x", "idea", at_nine + timedelta(minutes=1))]
    write_batch(events, root / f"date={day}")


@dataclass(frozen=True)
class Shell:
    """Runs the command on an input and a warehouse of its own."""

    spark: SparkSession
    input_root: Path
    warehouse: Warehouse
    capsys: pytest.CaptureFixture[str]

    def run(self, *words: str) -> tuple[int, list[str], list[str]]:
        """Run the command. Returns its exit code, and the lines of standard output and of standard error."""
        code = main(words)
        written = self.capsys.readouterr()
        return code, written.out.splitlines(), written.err.splitlines()


@pytest.fixture
def shell(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    monkeypatch.setenv("SESSIONS_START_DATE", "2025-09-15")
    monkeypatch.setenv("SESSIONS_INPUT_ROOT", str(tmp_path / "input"))
    monkeypatch.setenv("SESSIONS_WAREHOUSE_ROOT", str(tmp_path / "warehouse"))
    return Shell(spark, tmp_path / "input", Warehouse(str(tmp_path / "warehouse")), capsys)


def test_the_command_lands_applies_refreshes_and_checks(shell: Shell) -> None:
    for day in (DAY, DAY + timedelta(days=1)):
        deliver(shell.input_root, day)
    days = ("--from", "2025-09-20", "--to", "2025-09-21")

    code, landed, _ = shell.run("land", *days)
    assert code == 0
    assert [line.split(":")[0] for line in landed] == ["landed batch 2025-09-20", "landed batch 2025-09-21"]
    assert landed[0].startswith("landed batch 2025-09-20: 2 rows, 0 rejected, ")

    code, (applied,), _ = shell.run("apply", *days)
    assert code == 0
    assert "applied 2 batches (2025-09-20...2025-09-21): 4 rows inserted" in applied

    code, (refreshed,), _ = shell.run("sessions")
    assert code == 0
    assert "2 sessions rebuilt on 2 changed dates" in refreshed

    code, checked, _ = shell.run("check", "--date", "2025-09-21")
    assert code == 0
    assert [line.split()[1] for line in checked] == ["passed"] * 4 + ["warning"]
    assert "never landed, or without rows since: 2025-09-16...2025-09-19" in checked[-1]

    shell.spark.sql(f"UPDATE delta.`{shell.warehouse.sessionized_events}` SET session_end_ts = session_start_ts")
    code, checked, _ = shell.run("check", "--date", "2025-09-21")
    assert code == 1
    assert "2025-09-21 FAILED session_end_is_last_user_action_plus_timeout: 1 of 1 offend" in checked


def test_a_batch_that_cannot_land_is_reported_in_one_line_and_does_not_stop_the_others(shell: Shell) -> None:
    deliver(shell.input_root, DAY)
    deliver(shell.input_root, DAY - timedelta(days=1))
    (shell.input_root / "date=2025-09-19" / "broken.parquet").write_text("no Parquet")
    code, landed, (error,) = shell.run("land", "--from", "2025-09-19", "--to", "2025-09-20")
    assert code == 1
    assert "date=2025-09-19" in error
    assert len(landed) == 1


def test_days_of_a_range_that_were_never_delivered_are_named_and_fail_only_if_there_are_no_others(shell: Shell) -> None:
    deliver(shell.input_root, DAY)
    code, landed, errors = shell.run("land", "--from", "2025-09-18", "--to", "2025-09-21")
    assert (code, errors) == (0, [])
    assert landed[0].startswith("landed batch 2025-09-20: ")
    assert "they stay as they are: 2025-09-18...2025-09-19, 2025-09-21." in landed[1]
    for last in ("2025-09-18", "2025-09-19"):
        code, landed, errors = shell.run("land", "--from", "2025-09-18", "--to", last)
        assert (code, landed) == (1, [])
        assert all("There is no batch folder" in error for error in errors)


def test_something_missing_is_reported_in_one_line(shell: Shell) -> None:
    for command in ("sessions", "check"):
        code, _, (error,) = shell.run(command, "--date", "2025-09-20")
        assert code == 1
        assert "There is no table" in error


def test_a_wrong_setting_is_reported_in_one_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONS_LATENESS_DAYS", "many")
    code, _, (error,) = shell.run("apply", "--date", "2025-09-20")
    assert code == 1
    assert error.startswith("SESSIONS_LATENESS_DAYS (")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["land"],
        ["compact", "--date", "2025-09-20"],
        ["land", "--date", "yesterday"],
        ["land", "--from", "2025-09-20"],
        ["land", "--date", "2025-09-20", "--to", "2025-09-21"],
        ["land", "--from", "2025-09-21", "--to", "2025-09-20"],
        ["land", "--date", "2025-09-14"],
        ["land", "--date", "2999-01-01"],
        ["check", "--from", "2025-09-20", "--to", "2999-01-01"],
        ["land", "--date", "2025-09-21..2025-09-20"],
    ],
    ids=" ".join,
)
def test_an_unknown_command_shows_the_usage(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONS_START_DATE", "2025-09-15")
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--from 2025-09-21 --to 2025-09-20",
            "--from 2025-09-21 and --to 2025-09-20 are the wrong way round: the first day is after the last one",
        ),
        (
            "--date 2025-09-20 --from 2025-09-19",
            "--date 2025-09-20 and --from 2025-09-19 do not go together: give either --date for one day, or --from and "
            "--to for a range",
        ),
        ("--to 2025-09-20", "give either --date, or --from and --to, not only --to 2025-09-20"),
        ("", "give either --date, or --from and --to"),
    ],
)
def test_an_error_about_the_days_shows_them(
    words: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSIONS_START_DATE", "2025-09-15")
    with pytest.raises(SystemExit):
        main(["land", *words.split()])
    assert capsys.readouterr().err.endswith(f"error: {said}\n")


def test_a_warehouse_that_cannot_be_written_is_said_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSIONS_WAREHOUSE_ROOT", "/proc/nope")
    assert main(["sessions"]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("SESSIONS_WAREHOUSE_ROOT (warehouse_root, where the tables are) must be a folder ")
    assert "/proc/nope" in error
