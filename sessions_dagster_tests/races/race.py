"""A race: some runners, what they are told in a round, who reads meanwhile, and what must be true afterwards."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from sessions_dagster.input.folders import InputRoot
from sessions_dagster.model.columns import BATCH_DATE, USER
from sessions_dagster.storage.filesystem import delta_rs_options, is_local
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import (
    SessionRow,
    landed_events,
    put_batch,
    read_without_spark,
    session_rows,
    sessionized_events,
    sessions_of,
    write_batch,
)
from sessions_dagster_tests.corrections import compare_corrections
from sessions_dagster_tests.faults.group import kill_group
from sessions_dagster_tests.histories import DAYS, FIRST_DAY, LATENESS, Delivery, deliveries
from sessions_dagster_tests.oracle import Event, SessionizedEvent, sessionize
from sessions_dagster_tests.races.runner import READY

BATCH_DAYS: Final = [FIRST_DAY + timedelta(days=offset) for offset in range(DAYS + LATENESS)]

_USERS: Final = 20
_TOO_LATE: Final = timedelta(days=40)
_PATIENCE_SECONDS: Final = 600
_COMMITS_OF_MAINTENANCE: Final = {"compact": 3, "vacuum": 2}
"""The most commits of a table. Delta notes a vacuum by two, which change nothing."""

_LOOKS_EVERY_SECONDS: Final = 0.3

Steps = Sequence[Sequence[str]]
"""What one runner does in a round: names of steps, each with its days."""


def run_of(first: date, last: date | None = None) -> list[list[str]]:
    """The steps of a run of the job for a day or a range."""
    end = last or first
    days = [first + timedelta(days=number) for number in range((end - first).days + 1)]
    return [*[["land", str(day)] for day in days], ["apply", str(first), str(end)], ["refresh"]]


class Seen(NamedTuple):
    """What somebody saw who read a table."""

    raw: Counter[Event]
    events: Counter[SessionizedEvent]
    sessions: Counter[SessionRow]


@dataclass
class Lake:
    """The batches and the tables of a race.

    Attributes:
        folder: Where both are.
        seed: It says which events each content of a batch has.
        contents: By batch, the events of its newest content.
    """

    folder: str
    seed: int
    contents: dict[date, list[Event]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.warehouse = Warehouse(f"{self.folder}/warehouse")
        self._by_batch: dict[date, list[Delivery]] = defaultdict(list)
        for number in range(_USERS):
            for delivery in deliveries(self.seed * _USERS + number):
                self._by_batch[delivery.batch].append(delivery)

    def deliver(self, day: date, random: Random) -> None:
        """Write other content into the folder of a batch; an event of it is too late."""
        events = [each.event for each in self._by_batch[day] if each.firm or random.random() < 0.5]
        random.shuffle(events)
        folder = InputRoot(f"{self.folder}/input").batch_folder(day)
        late = Event("late", "a", "idea", datetime(day.year, day.month, day.day) - _TOO_LATE)
        if is_local(folder):
            write_batch([*events, late], Path(folder))
        else:
            put_batch([*events, late], folder)
        self.contents[day] = events

    def versions(self) -> dict[str, int]:
        """The newest version of each table; -1 if there is none."""
        return {table: _version(table) for table in self.warehouse.tables}

    def seen(self) -> Seen:
        """What the three tables of accepted events and sessions have now."""
        tables = self.warehouse
        return Seen(
            Counter(landed_events(tables.raw_events)),
            Counter(sessionized_events(tables.sessionized_events)),
            Counter(session_rows(tables.sessions)),
        )

    def expected(self, contents: Mapping[date, Sequence[Event]]) -> Seen:
        """What the oracle says of some contents of the batches."""
        events = [event for each in contents.values() for event in each]
        rows = sessionize(events)
        return Seen(Counter(events), Counter(rows), Counter(sessions_of(rows)))

    def rejected(self) -> Counter[tuple[str, date]]:
        """The users and batches of the rejected rows."""
        rows = read_without_spark(self.warehouse.rejected_events, (USER, BATCH_DATE))
        return Counter((user, day) for user, day in rows)

    def check(self) -> None:
        """Check that all five tables are what the oracle says."""
        found, expected = self.seen(), self.expected(self.contents)
        for name in Seen._fields:
            assert getattr(found, name) == getattr(expected, name), f"{name} of {self.folder}"
        assert self.rejected() == Counter(("late", day) for day in self.contents)
        corrections = compare_corrections(self.warehouse)
        assert corrections.found == corrections.expected, f"session_corrections of {self.folder}"


class Runners:
    """Processes that obey orders."""

    def __init__(self, count: int, *, on_s3: bool = False, environment: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "sessions_dagster_tests.races.runner", str(on_s3).lower()]
        self._processes = [
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
            for _ in range(count)
        ]

    def wait_until_ready(self) -> None:
        """Wait until all of them have a Spark."""
        for process in self._processes:
            assert process.stdout is not None
            while (line := process.stdout.readline()) != f"{READY}\n":
                assert line, "a runner has ended"

    def obey(self, folder: str, orders: Sequence[Steps], random: Random) -> int:
        """Have each runner do its steps. All begin at the same moment, or at random ones close to it.

        Returns:
            How many steps were refused and tried again.
        """
        begin = time.monotonic() + 0.2
        racing = list(zip(self._processes, orders, strict=False))
        for process, steps in racing:
            order = {"folder": folder, "at": begin + random.choice((0.0, 0.0, random.random())), "steps": steps}
            assert process.stdin is not None
            print(json.dumps(order), file=process.stdin, flush=True)
        refused = 0
        for process, _ in racing:
            assert process.stdout is not None
            while not (line := process.stdout.readline()).startswith("{"):
                assert line, "a runner has ended"
                refused += line.startswith("refused")
            failed = json.loads(line)["failed"]
            assert failed is None, failed
        return refused

    def end(self) -> None:
        """End all of them."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                kill_group(process)


@contextmanager
def runners(count: int, *, on_s3: bool = False, environment: Mapping[str, str] | None = None) -> Iterator[Runners]:
    """Some processes with a Spark each, which end with the context."""
    started = Runners(count, on_s3=on_s3, environment=environment)
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.end()


@contextmanager
def read_meanwhile(lake: Lake, states: Sequence[Seen]) -> Iterator[None]:
    """Read the tables over and over until the context ends; each table must always be that of one of some states."""
    ended, failures = threading.Event(), list[str]()

    def read() -> None:
        is_last = False
        # It looks once more after the end, so that it has looked even if a look takes longer than the race.
        while not is_last:
            is_last = ended.wait(_LOOKS_EVERY_SECONDS)
            try:
                seen = lake.seen()
            except Exception as error:
                failures.append(f"{type(error).__name__}: {error}")
                return
            for name in Seen._fields:
                if not any(getattr(seen, name) == getattr(state, name) for state in states):
                    failures.append(f"{name} is that of no set of whole batches: {getattr(seen, name)}")

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_PATIENCE_SECONDS)
    assert not thread.is_alive(), "the reader hangs"
    assert not failures, failures[0]


@contextmanager
def deliver_and_read(lake: Lake, days: Sequence[date], random: Random) -> Iterator[None]:
    """Deliver other contents of some batches, and read meanwhile, in the context: only whole batches are seen."""
    old = dict(lake.contents)
    for day in days:
        lake.deliver(day, random)
    choices = [[old.get(day, []), lake.contents[day]] for day in days]
    mixtures = [{**old, **dict(zip(days, chosen, strict=True))} for chosen in product(*choices)]
    with read_meanwhile(lake, [lake.expected(contents) for contents in mixtures]):
        yield


def play_round(lake: Lake, by: Runners, orders: Sequence[Steps], random: Random, *, may_be_refused: bool) -> None:
    """Deliver other contents, have the runners race for them, and check everything.

    Args:
        lake: The tables.
        by: The runners.
        orders: What each of them does.
        random: It decides about contents and moments.
        may_be_refused: Whether a step may be refused and tried again, as on an object store.
    """
    before = lake.versions()
    days = {date.fromisoformat(day) for steps in orders for name, *of in steps if name == "land" for day in of}
    with deliver_and_read(lake, sorted(days), random):
        refused = by.obey(lake.folder, orders, random)
    assert may_be_refused or not refused
    lake.check()
    _check_commits(lake, before, orders, refused)


def _check_commits(lake: Lake, before: Mapping[str, int], orders: Sequence[Steps], refused: int) -> None:
    asked = Counter(name for steps in orders for name, *_ in steps)
    # What was done before a step was refused is done once more, and what it has written ahead is dropped.
    repeated = refused * max(_COMMITS_OF_MAINTENANCE.values())
    tables = lake.warehouse
    most = {
        tables.raw_events: asked["land"],
        tables.rejected_events: asked["land"],
        tables.sessionized_events: asked["apply"],
        tables.sessions: asked["refresh"],
        tables.session_corrections: asked["apply"],
    }
    of_maintenance = sum(commits * asked[name] for name, commits in _COMMITS_OF_MAINTENANCE.items())
    for table, version in lake.versions().items():
        made = int(before[table] < 0 <= version)
        assert version - before[table] <= most[table] + made + of_maintenance + repeated, table


def leave_old_file(lake: Lake) -> Path:
    """Leave a file in a local table that no version has, older than a vacuum keeps files, as a killed run does."""
    stray = Path(lake.warehouse.sessionized_events, f"event_date={FIRST_DAY}", "left-by-a-killed-run.parquet")
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"rows")
    long_ago = (datetime.now(UTC) - timedelta(days=60)).timestamp()
    os.utime(stray, (long_ago, long_ago))
    return stray


def _version(table: str) -> int:
    try:
        return DeltaTable(table, storage_options=delta_rs_options(table)).version()
    except TableNotFoundError:
        return -1
