"""`python -m sessions_dagster.demo`: points every setting at the demo's own folders, then runs it.

Input and tables lie under `data/demo` of the working directory, and a second run starts from scratch there. The Dagster
runs are kept in `.dagster_home`, where `make dev` shows them. Java's archive of classes is in the Python environment.
"""

import os
import warnings
from pathlib import Path
from typing import Final

import dagster as dg

from sessions_dagster.demo.story import MONDAY
from sessions_dagster.orchestration.resources import INPUT_ROOT_VARIABLE, WAREHOUSE_ROOT_VARIABLE

DEMO_FOLDER: Final = Path("data/demo")
DAGSTER_HOME: Final = Path(".dagster_home")


def main() -> None:
    """Run the demo in the working directory."""
    input_root, warehouse_root = DEMO_FOLDER / "input", DEMO_FOLDER / "warehouse"
    DAGSTER_HOME.mkdir(exist_ok=True)
    os.environ |= {
        "SESSIONS_START_DATE": MONDAY.isoformat(),
        INPUT_ROOT_VARIABLE: str(input_root),
        WAREHOUSE_ROOT_VARIABLE: str(warehouse_root),
        "DAGSTER_HOME": str(DAGSTER_HOME.resolve()),
    }
    # Which of Dagster's beta features to use is a choice of the project's, not news to those who watch.
    warnings.simplefilter("ignore", dg.BetaWarning)
    warnings.simplefilter("ignore", dg.PreviewWarning)
    # Only now: the partitions take their first day from the environment when they are imported.
    from sessions_dagster.demo.run import run_week  # noqa: PLC0415

    run_week(input_root, warehouse_root)


if __name__ == "__main__":
    main()
