"""`python -m sessions_dagster`: the steps and the repair of a product without Dagster, and a Spark that stays warm.

    python -m sessions_dagster land --date 2025-09-20
    python -m sessions_dagster apply --from 2025-09-18 --to 2025-09-20
    python -m sessions_dagster sessions
    python -m sessions_dagster check --date 2025-09-20
    python -m sessions_dagster forget --user 4711
    python -m sessions_dagster audit
    python -m sessions_dagster rebuild --apply
    python -m sessions_dagster spark-server

The settings are those of the environment (`SESSIONS_INPUT_ROOT` and so on, see docs/operations.md). The steps are the
functions that the Dagster assets call, so both can be used on the same tables, but not at the same time. The last
command touches no table: it starts a Spark that stays warm, and that runs use. The exit code is 0 if all went well, 1
if something failed or a check did not pass, and 2 if the command is not understood.

Under `spark-submit`, on EMR or on Dataproc, submit this file and the JARs of Delta (`--jars`, or `--packages`); the
master is then the one that `spark-submit` was given:

    command=$(python -c 'import sessions_dagster.__main__ as command; print(command.__file__)')
    spark-submit --master yarn --packages io.delta:delta-spark_4.2_2.13:4.4.0 "$command" land --date 2025-09-20
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Final, NamedTuple

from deltalake.exceptions import TableNotFoundError
from pyspark.sql import SparkSession

from sessions_dagster.config import WAREHOUSE_SETTING, SessionsConfig
from sessions_dagster.errors import NON_RETRYABLE, SparkStartError, is_retryable
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.model.dates import date_list, days_between
from sessions_dagster.pipeline.apply import apply_batches
from sessions_dagster.pipeline.audit import audit
from sessions_dagster.pipeline.check_tables import check_events, check_sessions
from sessions_dagster.pipeline.comparison import DateRange
from sessions_dagster.pipeline.difference_lines import audit_lines, rebuild_lines
from sessions_dagster.pipeline.forget import forget_users
from sessions_dagster.pipeline.land import LandingReport
from sessions_dagster.pipeline.land_range import land_range, landing_failures, never_delivered, never_delivered_line
from sessions_dagster.pipeline.rebuild import rebuild
from sessions_dagster.pipeline.refresh_sessions import refresh_sessions
from sessions_dagster.pipeline.summaries import (
    apply_summary,
    forget_summary,
    landing_summary,
    never_applied_line,
    refresh_summary,
)
from sessions_dagster.spark.connect import DEFAULT_PORT, MAX_PORT
from sessions_dagster.spark.progress import watched_on_terminal
from sessions_dagster.spark.server import serve
from sessions_dagster.spark.session import spark_session, submitted_master
from sessions_dagster.storage.warehouse import Warehouse

_SESSIONS_AGREE: Final = "sessions_agree_with_sessionized_events"


class _UsageError(ValueError):
    """The command is not understood."""


class _Work(NamedTuple):
    """What a command works on."""

    config: SessionsConfig
    spark: SparkSession
    warehouse: Warehouse
    days: Sequence[date]
    users: Sequence[str]
    is_dry_run: bool

    @property
    def first(self) -> date:
        """The first day."""
        return self.days[0]

    @property
    def last(self) -> date:
        """The last day."""
        return self.days[-1]

    @property
    def range(self) -> DateRange | None:
        """The days as a range; None if there are none given, which means all."""
        return DateRange(self.first, self.last) if self.days else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The words of the command; by default those that this process was started with.

    Returns:
        The exit code.

    Raises:
        SystemExit: If the command is not understood (with the exit code 2), or asks for help.
    """
    parser = _parser()
    parsed = parser.parse_args(arguments)
    try:
        config = SessionsConfig.from_env()
        if parsed.command == _SERVER:
            serve(config.spark, parsed.port, _print)
            return 0
        try:
            days = _days(parsed, config)
        except _UsageError as error:
            parser.error(str(error))
        master = submitted_master() or config.spark.master
        config.check_folders_are_shared(master)
        Warehouse(config.warehouse_root).check_writable(WAREHOUSE_SETTING)
        with spark_session(replace(config.spark, master=master)) as spark:
            logs_through = (lambda: spark) if config.logs_through_spark else None
            warehouse = Warehouse(config.warehouse_root, config.catalog_schema, logs_through)
            users = getattr(parsed, "users", ())
            work = _Work(config, spark, warehouse, days, users, is_dry_run=not getattr(parsed, "apply", False))
            with watched_on_terminal(parsed.command):
                return 0 if _COMMANDS[parsed.command](work) else 1
    except (*NON_RETRYABLE, SparkStartError, TableNotFoundError) as error:
        return _failed(str(error))
    except Exception as error:
        if not is_retryable(error):
            raise
        return _failed(f"{error} (the same command may succeed if it is run again)")


def _land(work: _Work) -> bool:
    """Land the batches: all that can be landed, also if others cannot."""
    input_root, outcomes = InputRoot(work.config.input_root), []
    for outcome in land_range(
        work.spark,
        input_root,
        work.warehouse,
        work.days,
        work.config.input_format,
        work.config.rules,
        bot_limit=work.config.bot_limit,
        carried_columns=work.config.carried_columns,
        epoch_unit=work.config.epoch_unit,
    ):
        outcomes.append(outcome)
        if isinstance(outcome.result, LandingReport):
            _print(f"landed batch {outcome.day}: {landing_summary(outcome.result)}")
    holes = never_delivered(outcomes)
    if holes:
        _print(never_delivered_line(holes, input_root))
    failures = landing_failures(outcomes)
    for failure in failures:
        _failed(str(failure))
    return not failures


def _apply(work: _Work) -> bool:
    """Apply the batches of the window of the days."""
    window = [day for day in work.config.rules.batch_window(work.first, work.last) if day >= work.config.start_date]
    report = apply_batches(
        work.spark,
        work.warehouse,
        window,
        work.config.rules,
        carried_columns=work.config.carried_columns,
        deletion_vectors=work.config.deletion_vectors,
    )
    _print(f"sessionized_events: {apply_summary(report)}")
    before = [day for day in report.pending_elsewhere if day < work.config.start_date]
    if before:
        _print(never_applied_line(before, work.config.start_date))
    return True


def _sessions(work: _Work) -> bool:
    """Bring the table `sessions` up to date."""
    _print(refresh_summary(refresh_sessions(work.spark, work.warehouse)))
    return True


def _check(work: _Work) -> bool:
    """Check the tables on the days. A batch that never landed is only a warning, as in Dagster."""
    events = check_events(work.spark, work.warehouse, work.first, work.last, work.config.start_date)
    sessions = check_sessions(work.spark, work.warehouse, work.first, work.last)
    lines = [(each.day, each.rule.value, each.checked, each.offenders) for each in events.findings]
    lines += [(each.day, _SESSIONS_AGREE, each.checked, each.offenders) for each in sessions.findings]
    for day, name, checked, offenders in sorted(lines):
        _print(f"{day} {'FAILED' if offenders else 'passed'} {name}: {offenders:,} of {checked:,} offend")
    for day, missing in events.missing_batches.items():
        if missing:
            _print(f"{day} warning window_is_complete: never landed, or without rows since: {date_list(missing)}")
    return not any(offenders for *_, offenders in lines)


def _forget(work: _Work) -> bool:
    """Remove users from all tables, and keep them out."""
    _print(forget_summary(forget_users(work.spark, work.warehouse, work.users)))
    return True


def _audit(work: _Work) -> bool:
    """Compare the tables with one pass over `raw_events`."""
    report = audit(work.spark, work.warehouse, work.range)
    for line in audit_lines(report):
        _print(line)
    report.check()
    return True


def _rebuild(work: _Work) -> bool:
    """Make the tables anew from `raw_events` by the rules of the settings, or tell what that would change."""
    report = rebuild(
        work.spark,
        work.warehouse,
        work.config.rules,
        work.config.carried_columns,
        work.range,
        dry_run=work.is_dry_run,
        deletion_vectors=work.config.deletion_vectors,
    )
    for line in rebuild_lines(report):
        _print(line)
    return True


_COMMANDS: Final[dict[str, Callable[[_Work], bool]]] = {
    "land": _land,
    "apply": _apply,
    "sessions": _sessions,
    "check": _check,
    "forget": _forget,
    "audit": _audit,
    "rebuild": _rebuild,
}
"""What each command runs. It returns whether all went well."""

_SERVER: Final = "spark-server"
_SERVER_HELP: Final = "start a Spark on this machine that stays warm, and that runs reach over Spark Connect"

_FORGET_HELP: Final = "remove users from all tables, and keep them out whatever lands"
_USERS_HELP: Final = "a user, may be given several times. Without any, whoever is on the list is removed once more"

_HELP: Final = {
    "land": "land the batches of the days in raw_events and rejected_events",
    "apply": "make sessionized_events reflect the landed batches of the days and of the lateness before them",
    "sessions": "make sessions reflect sessionized_events; the days do not matter",
    "check": "check sessionized_events and sessions on the days",
    "audit": "compare sessionized_events and sessions with one pass over raw_events, on all days or on those given; "
    "nothing is written",
    "rebuild": "tell what changes if sessionized_events and sessions are made anew from raw_events by the rules of the "
    "settings, on all days or on those given; with --apply, make them anew",
}

_OF_EVENT_DATES: Final = ("audit", "rebuild")
"""The commands whose days are dates of events and no partitions. Without any they are about all of them."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sessions_dagster", description="Land, apply, refresh and check sessions without Dagster."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in _HELP.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == "rebuild":
            command.add_argument("--apply", action="store_true", help="write the tables; without it nothing is written")
        days = command.add_argument_group("days (UTC)")
        days.add_argument("--date", type=_date, metavar="YYYY-MM-DD", help="one day")
        days.add_argument("--from", type=_date, metavar="YYYY-MM-DD", dest="first", help="the first day of a range")
        days.add_argument("--to", type=_date, metavar="YYYY-MM-DD", dest="last", help="the last day, included")
    forget = commands.add_parser(
        "forget", help=_FORGET_HELP, description=f"{_FORGET_HELP[0].upper()}{_FORGET_HELP[1:]}."
    )
    forget.add_argument("--user", action="append", default=[], metavar="ID", dest="users", help=_USERS_HELP)
    server = commands.add_parser(
        _SERVER, help=_SERVER_HELP, description=f"{_SERVER_HELP[0].upper()}{_SERVER_HELP[1:]}. Ctrl-C stops it."
    )
    server.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="where it listens, on this machine only; 0: any free port"
    )
    return parser


def _port(text: str) -> int:
    if not (text.isdecimal() and len(text) <= len(str(MAX_PORT)) and int(text) <= MAX_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to {MAX_PORT}")
    return int(text)


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2025-09-20") from None


def _days(parsed: argparse.Namespace, config: SessionsConfig) -> list[date]:
    """The days of a command.

    Raises:
        _UsageError: If they are not given as the command needs them.
    """
    if parsed.command not in _HELP:
        return []
    given = {"--date": parsed.date, "--from": parsed.first, "--to": parsed.last}
    said = " and ".join(f"{name} {day}" for name, day in given.items() if day is not None)
    first, last = (parsed.first, parsed.last) if parsed.date is None else (parsed.date, parsed.date)
    if not said and parsed.command in ("sessions", *_OF_EVENT_DATES):
        return []
    if parsed.date is not None and (parsed.first is not None or parsed.last is not None):
        raise _UsageError(f"{said} do not go together: give either --date for one day, or --from and --to for a range")
    if first is None or last is None:
        only = f", not only {said}" if said else ""
        raise _UsageError(f"give either --date, or --from and --to{only}")
    if first > last:
        raise _UsageError(f"{said} are the wrong way round: the first day is after the last one")
    days = days_between(first, last)
    if parsed.command in _OF_EVENT_DATES:
        return days
    if days[0] < config.start_date:
        raise _UsageError(f"{days[0]} is before the first partition, which is {config.start_date}")
    if days[-1] >= datetime.now(UTC).date():
        raise _UsageError(f"{days[-1]} is not over yet (UTC), so its batch is not complete")
    return days


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _failed(message: str) -> int:
    """Say in one line what is wrong. Returns the exit code."""
    sys.stderr.write(f"{' '.join(message.split())}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
