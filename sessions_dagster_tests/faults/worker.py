"""`python -m sessions_dagster_tests.faults.worker FOLDER SEED FIRST [OPTION...]`: works through a program.

It says `ready`, begins each step when it is given a line, and then says `done NUMBER`, or `failed NUMBER` and why; then
the next line begins the same step again. An option is the name of a boundary, at which it kills its process group, or
the value of a Spark property, as in `spark.local.dir=/tmp`.
"""

import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster_tests.builders import World
from sessions_dagster_tests.conftest import FOR_MANY_SMALL_QUERIES
from sessions_dagster_tests.faults.boundaries import BOUNDARIES, WHILE_WRITING, at, when_written
from sessions_dagster_tests.faults.program import Program


def main() -> None:
    folder, seed, first, *options = sys.argv[1:]
    # What the JVM prints goes elsewhere than what is said to the driver.
    driver = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    program, number = Program(int(seed)), int(first)
    conf = dict(option.split("=", 1) for option in options if option.startswith("spark."))
    settings = SparkSettings(master="local[2]", shuffle_partitions=1, extra_conf={**FOR_MANY_SMALL_QUERIES, **conf})
    with spark_session(settings) as spark, ExitStack() as stack:
        for name in set(options) & BOUNDARIES.keys():
            stack.enter_context(at(BOUNDARIES[name], kill_group))
        print("ready", file=driver, flush=True)
        for _ in sys.stdin:
            world = World(spark, Path(folder))
            for name in set(options) & WHILE_WRITING.keys():
                when_written(Path(world.warehouse.root, WHILE_WRITING[name][1]), kill_group)
            try:
                program.run(world, number)
            except Exception as error:
                print("failed", number, type(error).__name__, *str(error).split(), file=driver, flush=True)
            else:
                print("done", number, file=driver, flush=True)
                number += 1


def kill_group() -> None:
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
