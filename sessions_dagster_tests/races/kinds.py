"""The kinds of races: what each runner does in a round."""

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from random import Random
from typing import Final

from sessions_dagster_tests.histories import LATENESS
from sessions_dagster_tests.races.race import BATCH_DAYS, Steps, run_of

ROUNDS: Final = int(os.environ.get("SESSIONS_RACES", "2"))
"""The rounds of each race. `make test-races` has twenty."""

Kind = Callable[[Random], list[Steps]]


def same_day(random: Random) -> list[Steps]:
    """Two runs of one day."""
    day = random.choice(BATCH_DAYS)
    return [run_of(day), run_of(day)]


def overlapping_days(random: Random) -> list[Steps]:
    """Two runs of ranges that share days."""
    first, second = sorted(random.sample(BATCH_DAYS[:-2], 2))
    second = min(second, first + timedelta(days=2))
    return [run_of(first, first + timedelta(days=2)), run_of(second, second + timedelta(days=2))]


def different_days(random: Random) -> list[Steps]:
    """Two runs of days whose windows share no batch, or do."""
    first, second = random.sample(BATCH_DAYS, 2)
    return [run_of(first), run_of(second)]


def run_and_compaction(random: Random) -> list[Steps]:
    """A run against a compaction of all tables."""
    return [run_of(random.choice(BATCH_DAYS)), [["compact"]]]


def run_and_vacuum(random: Random) -> list[Steps]:
    """A run against a compaction with a vacuum of all tables."""
    return [run_of(random.choice(BATCH_DAYS)), [["vacuum"], ["compact"], ["vacuum"]]]


def daily_run_and_backfill(random: Random) -> list[Steps]:
    """The newest day against a range of older days."""
    return [run_of(BATCH_DAYS[-1]), run_of(BATCH_DAYS[-1] - timedelta(days=LATENESS), BATCH_DAYS[-3])]


KINDS: Final[Mapping[str, Kind]] = {
    kind.__name__: kind
    for kind in (
        same_day,
        overlapping_days,
        different_days,
        run_and_compaction,
        run_and_vacuum,
        daily_run_and_backfill,
    )
}
"""The kinds for two runners on tables that are there or not."""


def creation(random: Random) -> list[Steps]:
    """Five runs that find no table."""
    return [run_of(day) for day in random.sample(BATCH_DAYS, 5)]
