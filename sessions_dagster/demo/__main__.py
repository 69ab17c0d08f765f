"""`python -m sessions_dagster.demo`: points every setting at the demo's own folders, then runs it.

Input and tables are in `data/demo` below the working directory, and a second run starts from scratch there. The Dagster
runs are kept in `.dagster_home`, where `make dev` shows them.
"""

import os
import warnings
from pathlib import Path
from typing import Final

import dagster as dg

from sessions_dagster.config import SessionsConfig
from sessions_dagster.demo.run import run_week
from sessions_dagster.demo.story import MONDAY

DEMO_FOLDER: Final = Path("data/demo")
DAGSTER_HOME: Final = Path(".dagster_home")


def main() -> None:
    """Run the demo in the working directory."""
    DAGSTER_HOME.mkdir(exist_ok=True)
    os.environ["DAGSTER_HOME"] = str(DAGSTER_HOME.resolve())
    # The project uses these beta features on purpose: warnings about them would only distract from the output.
    warnings.simplefilter("ignore", dg.BetaWarning)
    warnings.simplefilter("ignore", dg.PreviewWarning)
    spark = SessionsConfig.from_env().spark
    run_week(
        SessionsConfig(
            start_date=MONDAY,
            input_root=DEMO_FOLDER / "input",
            warehouse_root=DEMO_FOLDER / "warehouse",
            spark=spark,
        )
    )


if __name__ == "__main__":
    main()
