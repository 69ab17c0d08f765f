"""Goes on from a state that a fault has left: runs once more what failed, and compares all tables with the oracle."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from pyspark.sql import SparkSession

from sessions_dagster_tests.builders import World
from sessions_dagster_tests.faults.program import Program, Rows, Vacuum
from sessions_dagster_tests.faults.report import Report
from sessions_dagster_tests.faults.states import (
    difference,
    extra_commits,
    left_behind,
    look,
    wrong_states,
)


class Checker:
    """Checks states with one Spark, which stays warm.

    Attributes:
        spark: Its session.
        report: What it has found.
    """

    def __init__(self, spark: SparkSession, report: Report) -> None:
        self.spark = spark
        self.report = report

    def check(self, kind: str, program: Program, number: int, folder: Path) -> None:
        """Check a state that a fault left in a step, and remove it if all is right.

        Args:
            kind: The kind of fault, for the report.
            program: The program.
            number: The step that may not have been done.
            folder: Its input and warehouse.
        """
        tally = self.report.of(kind)
        tally.injections += 1
        before, after = program.expected(number).tables(), program.expected(number + 1).tables()
        step, warehouse = program.step(number), folder / "warehouse"
        where = f"step {number} of seed {program.seed}, {step}, in {folder}"
        try:
            found = look(warehouse)
            wrong = wrong_states(found.tables, before, after)
            tally.wrong_states += len(wrong)
            program.run(World(self.spark, folder), number)
            tally.runs_after += 1
            afterwards = look(warehouse)
        except Exception as error:
            tally.told.append(f"{type(error).__name__} {str(error)[:1500]} at {where}")
            return
        extra = extra_commits(step, found, afterwards, before, after)
        tally.extra_commits += extra
        is_right = self.compare(kind, afterwards.tables, after, where)
        if wrong or extra:
            tally.told.append(f"readers saw {wrong}, {extra} extra commits at {where}")
        if isinstance(step, Vacuum) and left_behind(warehouse):
            tally.told.append(f"a vacuum has left files of dead runs at {where}")
        elif is_right and not wrong and not extra:
            shutil.rmtree(folder)

    def compare(self, kind: str, found: Mapping[str, Rows], expected: Mapping[str, Rows], where: str) -> bool:
        """Compare tables with what they must be, and count what is wrong. Returns whether nothing is."""
        tally, differs = self.report.of(kind), difference(found, expected)
        tally.lost += differs.lost
        tally.doubled += differs.doubled
        if differs.lost or differs.doubled:
            tally.told.append(f"{differs} at {where}")
        return not (differs.lost or differs.doubled)
