"""A tick of the sensor, with the runs that it asks for, against a backfill of days that have changed as well."""

from pathlib import Path
from random import Random

from sessions_dagster_tests.races.kinds import ROUNDS
from sessions_dagster_tests.races.race import BATCH_DAYS, Lake, deliver_and_read, runners
from sessions_dagster_tests.races.scheduled import instance_of


def test_a_sensor_and_a_backfill_at_the_same_moment_end_in_the_tables_of_the_oracle(tmp_path: Path) -> None:
    random = Random("sensor and backfill")
    lake = Lake(str(tmp_path), seed=7)
    with instance_of(lake.folder), runners(2) as both:
        for _ in range(ROUNDS):
            first = random.randrange(len(BATCH_DAYS) - 3)
            of_backfill, others = BATCH_DAYS[first : first + 3], random.sample(BATCH_DAYS, 2)
            range_ = ["backfill", str(of_backfill[0]), str(of_backfill[-1])]
            with deliver_and_read(lake, sorted({*of_backfill, *others}), random):
                both.obey(lake.folder, [[["sensor"]], [range_]], random)
                # What the tick left to the backfill, and changed after that had looked, is for the next one.
                both.obey(lake.folder, [[["sensor"]]], random)
            lake.check()
