"""Writes `docs/compatibility.md`: `make compatibility`."""

from pathlib import Path
from typing import Final

from rich.console import Console

from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster_tests.compatibility.outcomes import Lands, Outcome
from sessions_dagster_tests.compatibility.page import PAGE, Results, case_of, render
from sessions_dagster_tests.compatibility.tools import REPOSITORY, write_all

FOLDER: Final = REPOSITORY / "data" / "compatibility"


def main() -> None:
    """Let all tools write, land everything, and write the page."""
    console = Console()
    outcomes: dict[tuple[str, str], Outcome] = {}
    with spark_session(SparkSettings(master="local[2]")) as spark:
        # Files that cannot be read are what this is about: the traces of each are no news.
        spark.sparkContext.setLogLevel("OFF")
        written, left_out = write_all(spark, FOLDER, console.print)
        lands = Lands(spark, FOLDER / "landed")
        for tool in written:
            console.print(f"landing {len(tool.files)} files of {tool.tool} {tool.version}")
            for name, file in tool.files.items():
                outcomes[tool.tool, case_of(name)] = lands.outcome(name, Path(file))
    PAGE.write_text(render(Results({tool.tool: tool.version for tool in written}, left_out, outcomes)))
    console.print(f"wrote {PAGE.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
