"""The lanes: which Spark, on which Python, the tests pass with. `make lanes` runs all of them.

    nox -s lane                     # every pair that has an interpreter here; each sets up an environment of its own
    nox -s "lane-3.13(spark='4.0.5')"
    nox -s handover                 # after `lane`: a table that one lane wrote is continued by another, both ways

The versions of Delta that go with a Spark are in `sessions_dagster/spark/versions.py`, which the start-up
check uses.
"""

from pathlib import Path
from typing import Final

import nox

SPARKS: Final = ("3.5.9", "4.0.5", "4.1.4", "4.2.0")
PYTHONS: Final = ("3.11", "3.12", "3.13")

TESTS: Final = [
    f"sessions_dagster_tests/test_{name}.py"
    for name in (
        "versions",
        "transforms",
        "corrections",
        "programs",
        "landing",
        "text_files",
        "parquet_input",
        "sessions",
        "quality",
        "maintenance",
    )
]
"""What uses Spark in the most ways. The whole suite runs on one lane (`make test`)."""

_PINNED_BY_LANE: Final = ("pyspark", "delta_spark", "py4j")

nox.options.sessions = ["lane", "handover"]
nox.options.reuse_existing_virtualenvs = True
# They are named, and the others run.
nox.options.error_on_missing_interpreters = False


@nox.session(python=PYTHONS)
@nox.parametrize("spark", SPARKS)
def lane(session: nox.Session, spark: str) -> None:
    """The tests on one Spark and one Python."""
    lines = Path("constraints.txt").read_text().splitlines()
    constraints = Path(session.create_tmp(), "constraints.txt")
    constraints.write_text("\n".join(line for line in lines if not line.startswith(_PINNED_BY_LANE)))
    others = ["duckdb", "numpy"]  # They write files that the tests land.
    if spark.startswith("3."):
        others.append("setuptools")  # has the distutils that Python had before 3.12
    session.install("--constraint", str(constraints), f"pyspark=={spark}", *others, "--editable", ".[test]")
    session.run("python", "-m", "pytest", "-q", *(session.posargs or TESTS))


@nox.session(python=False)
def handover(session: nox.Session) -> None:
    """What one lane wrote is continued by each other one."""
    # One Python for each Spark.
    environments = {folder.name.partition("spark")[2]: folder for folder in sorted(Path(".nox").glob("lane-*"))}
    if len(environments) < 2:
        session.error("There are no two lanes to hand tables over between: run `nox -s lane` first.")
    interpreters = [str(folder / "bin" / "python") for folder in environments.values()]
    session.run(interpreters[0], "-m", "sessions_dagster_tests.handover", *interpreters)
