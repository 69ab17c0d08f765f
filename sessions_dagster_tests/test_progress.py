"""The signs of life of a long step."""

import logging
import time

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.spark.progress import BEAT_SECONDS, Progress, watched, watched_on_terminal

LOGGER = logging.getLogger("sessions_dagster.pipeline.somewhere")


def test_a_step_is_never_silent_for_15_seconds() -> None:
    assert BEAT_SECONDS < 15


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress("landing batch 2025-09-20"), "landing batch 2025-09-20"),
        (Progress("applying 30 batches", 61.4), "applying 30 batches: 61 s so far"),
        (
            Progress("applying 30 batches", 61.4, tasks_done=45, tasks=1200),
            "applying 30 batches: 61 s so far, 45 of 1,200 Spark tasks done",
        ),
        (
            Progress("landing 1 batch", 12.0, spark_is_running=False),
            "landing 1 batch: 12 s so far, Spark is starting",
        ),
    ],
)
def test_a_sign_of_life_says_what_and_how_far(progress: Progress, text: str) -> None:
    assert str(progress) == text


def test_every_line_of_the_log_is_passed_on_and_the_newest_is_repeated() -> None:
    seen: list[Progress] = []
    level = logging.getLogger("sessions_dagster").level
    with watched("landing 2 batches", seen.append, every=0.02):
        time.sleep(0.1)
        LOGGER.info("landing batch %s", "2025-09-20")
        time.sleep(0.1)
    LOGGER.info("after the end")
    told = [each.doing for each in seen]
    assert told == sorted(told, key=["landing 2 batches", "landing batch 2025-09-20"].index)
    assert len([each for each in seen if each.doing == "landing batch 2025-09-20" and each.seconds]) >= 1
    assert logging.getLogger("sessions_dagster").level == level


def test_what_cannot_be_said_does_not_fail_the_step() -> None:
    def broken(progress: Progress) -> None:
        if progress.seconds:
            raise OSError("the log cannot be written")

    with watched("landing", broken, every=0.01):
        time.sleep(0.05)


def test_the_tasks_of_spark_are_counted_while_it_works(spark: SparkSession) -> None:
    seen: list[Progress] = []
    with watched("counting", seen.append, every=0.02):
        spark.range(0, 8, 1, 8).selectExpr("java_method('java.lang.Thread', 'sleep', 60L)").collect()
    assert max(each.tasks for each in seen) == 8


def test_elsewhere_than_on_a_terminal_a_short_step_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with watched_on_terminal("land"):
        LOGGER.info("landing batch 2025-09-20")
    assert capsys.readouterr() == ("", "")
