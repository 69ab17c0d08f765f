"""How many requests a daily run costs when input and tables are on S3, where each is a wait for an answer."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Final

from pyspark.sql import SparkSession

from sessions_dagster.model.tables import FORGOTTEN_USERS, TABLES
from sessions_dagster_tests.builders import World, put_batch
from sessions_dagster_tests.oracle import Event
from sessions_dagster_tests.s3 import daily_run
from sessions_dagster_tests.s3.proxy import Proxy, Request

MOST_REQUESTS: Final = 200
"""Of a run of yesterday that materializes and checks all tables, after a week of batches of a few events."""

FEWEST_REQUESTS: Final = 100
"""With fewer ones the run has not asked by the proxy, or has not done what it should."""

_KINDS: Final = {
    "a list": "list-type=",
    "a commit": r"_delta_log/\d{20}\.json",
    "a checkpoint": r"_delta_log/\d{20}\.checkpoint\.parquet",
    "another file of a log": "_delta_log",
    "a note of a landing": "_landed",
    "a data file": "",
}
"""What a request is for, by what its path has; the first one counts."""


def test_a_daily_run_makes_few_requests(spark: SparkSession, proxy: Proxy, bucket: str) -> None:
    days = week_of_history(spark, bucket)
    proxy.reset()
    run_day(bucket, days)
    requests = proxy.requests
    assert FEWEST_REQUESTS <= len(requests) <= MOST_REQUESTS, by_kind(requests)
    written = {name for name in TABLES for request in requests if _is_commit(request, name)}
    assert written == {"raw_events", "sessionized_events", "sessions"}, by_kind(requests)


def week_of_history(spark: SparkSession, root: str) -> list[date]:
    """Land and apply seven batches and put an eighth one, some events of which are late, so that a run corrects.

    Returns:
        The days of the batches; the last one is yesterday.
    """
    world, random = World(spark, root), Random(1)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    days = [yesterday - timedelta(days=ago) for ago in range(7, -1, -1)]
    for number, day in enumerate(days):
        events = _events(day, random, [0, 0, 0, 0, 0, 0, 1, 2] if number > 2 else [0])
        if day == yesterday:
            put_batch(events, world.input.batch_folder(day))
        else:
            world.land(day, events)
            world.materialize(day)
            world.refresh()
    return days


def run_day(root: str, days: Sequence[date]) -> None:
    """Run the last one of some days as Dagster does, in a process of its own."""
    command = [sys.executable, daily_run.__file__, root, str(days[0]), str(days[-1])]
    subprocess.run(command, check=True, capture_output=True)


def _is_commit(request: Request, table: str) -> bool:
    return request.method == "PUT" and re.search(rf"/{table}/_delta_log/\d{{20}}\.json", request.path) is not None


def by_kind(requests: Sequence[Request]) -> dict[str, int]:
    """How many requests there are of each method, for what and of which table, the most first."""
    return dict(Counter(map(_kind, requests)).most_common())


def _kind(request: Request) -> str:
    path = request.path.replace("%2F", "/")
    what = next(kind for kind, pattern in _KINDS.items() if re.search(pattern, path))
    table = next((name for name in (*TABLES, FORGOTTEN_USERS) if f"/{name}/" in path), "the input")
    return f"{request.method} {what} of {table}"


def _events(day: date, random: Random, latenesses: Sequence[int]) -> list[Event]:
    midnight = datetime.combine(day, datetime.min.time())

    def event() -> Event:
        at = midnight - timedelta(days=random.choice(latenesses)) + timedelta(seconds=random.randrange(32400, 64800))
        return Event(f"u{random.randrange(6)}", random.choice("abcxyz"), "idea", at)

    return [event() for _ in range(40)]
