"""`python -m sessions_dagster_tests.faults.worker FOLDER SEED FIRST [BOUNDARY]`: works through a program, step by step.

It says `ready`, begins each step when it is given a line, and then says `done NUMBER`. At the boundary, if one is named,
it kills its process group.
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
    folder, seed, first, *boundary = sys.argv[1:]
    # What the JVM prints goes elsewhere than what is said to the driver.
    driver = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    program = Program(int(seed))
    settings = SparkSettings(master="local[2]", shuffle_partitions=1, extra_conf=FOR_MANY_SMALL_QUERIES)
    with spark_session(settings) as spark, ExitStack() as stack:
        world = World(spark, Path(folder))
        for name in set(boundary) & BOUNDARIES.keys():
            stack.enter_context(at(BOUNDARIES[name], kill_group))
        print("ready", file=driver, flush=True)
        for number, _ in enumerate(sys.stdin, start=int(first)):
            for name in set(boundary) & WHILE_WRITING.keys():
                when_written(Path(world.warehouse.root, WHILE_WRITING[name][1]), kill_group)
            program.run(world, number)
            print(f"done {number}", file=driver, flush=True)


def kill_group() -> None:
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
