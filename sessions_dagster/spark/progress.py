"""A sign of life: what a long step is at, said every few seconds, in a log or on a terminal.

The steps themselves only log (`logging`), a line when they begin with something. Here these lines are passed on, and
the newest one is repeated with the time it has taken so far, and with how far Spark is.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from sessions_dagster.spark.connect import running_tasks
from sessions_dagster.spark.session import running_session
from sessions_dagster.spark.tuning import is_remote

BEAT_SECONDS: Final = 10.0
"""How often a step says what it is at. People take a step that is silent for much longer for dead."""

_BAR_SECONDS: Final = 0.5

_PRODUCT: Final = "sessions_dagster"


@dataclass(frozen=True)
class Progress:
    """What a step is at.

    Attributes:
        doing: The newest line of its log.
        seconds: The time since that line; 0 at the line itself.
        tasks_done: How many tasks of the running stages Spark has finished.
        tasks: How many tasks these stages have; 0 if none is running.
        spark_is_running: Whether this process has a Spark session yet.
    """

    doing: str
    seconds: float = 0.0
    tasks_done: int = 0
    tasks: int = 0
    spark_is_running: bool = True

    def __str__(self) -> str:
        if not self.seconds:
            return self.doing
        how_far = f", {self.tasks_done:,} of {self.tasks:,} Spark tasks done" if self.tasks else ""
        return f"{self.doing}: {self.seconds:.0f} s so far{how_far if self.spark_is_running else ', Spark is starting'}"


class _Watch(logging.Handler):
    """Remembers the newest line of the log, and since when it is the newest."""

    def __init__(self, doing: str, see: Callable[[Progress], None]) -> None:
        super().__init__(logging.INFO)
        self._doing, self._see = doing, see
        self._since = self.said_at = time.monotonic()
        see(Progress(doing))

    def emit(self, record: logging.LogRecord) -> None:
        self._doing = record.getMessage()
        self._since = self.said_at = time.monotonic()
        self._see(Progress(self._doing))

    def beat(self) -> None:
        """Say once more what the step is at."""
        self.said_at = time.monotonic()
        is_running, done, tasks = _spark_tasks()
        self._see(Progress(self._doing, time.monotonic() - self._since, done, tasks, is_running))


@contextmanager
def watched(doing: str, see: Callable[[Progress], None], every: float = BEAT_SECONDS) -> Iterator[None]:
    """Says what a step is at: at each line that the product logs meanwhile, and every few seconds.

    Args:
        doing: What the step begins with.
        see: Is told. It is also called in a thread of its own, and what it raises there is ignored.
        every: The seconds between two signs of life.
    """
    watch, ended = _Watch(doing, see), threading.Event()

    def beat() -> None:
        while not ended.wait(max(0.0, watch.said_at + every - time.monotonic())):
            if time.monotonic() < watch.said_at + every:
                continue
            # To say what the step is at must never be what the step fails for.
            try:
                watch.beat()
            except Exception:
                continue

    logger, thread = logging.getLogger(_PRODUCT), threading.Thread(target=beat, name="progress", daemon=True)
    level = logger.level
    logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
    logger.addHandler(watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        logger.removeHandler(watch)
        logger.setLevel(level)


@contextmanager
def watched_on_terminal(doing: str) -> Iterator[None]:
    """Shows what a step is at: as a progress bar on a terminal, and elsewhere as a line every few seconds.

    Both are on standard error. The bar is gone when the context ends.

    Args:
        doing: What the step begins with.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        with watched(doing, lambda progress: _print_beat(console, progress)):
            yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Bar(
        *columns,
        TextColumn("Spark tasks"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        # Lines go above the bar; those that go into a file, or into another program, are left alone.
        redirect_stdout=sys.stdout.isatty(),
    ) as bar:
        task = bar.add_task(doing, total=None)

        def show(progress: Progress) -> None:
            bar.update(task, description=progress.doing, completed=progress.tasks_done, total=progress.tasks or None)

        with watched(doing, show, every=_BAR_SECONDS):
            yield


def _print_beat(console: Console, progress: Progress) -> None:
    if progress.seconds:
        console.print(str(progress), markup=False, highlight=False, soft_wrap=True)


def _spark_tasks() -> tuple[bool, int, int]:
    """Whether there is a Spark session, and of its running stages how many tasks are done and how many there are."""
    spark = running_session()
    if spark is None:
        return False, 0, 0
    if is_remote(spark):
        return True, *running_tasks()
    tracker = spark.sparkContext.statusTracker()
    stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
    running = [stage for stage in stages if stage is not None]
    return True, sum(stage.numCompletedTasks for stage in running), sum(stage.numTasks for stage in running)
