"""The tools: their pinned versions, and how each is made to write its files."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pyspark
from pyspark.sql import SparkSession

from sessions_dagster_tests.compatibility.writers import commands, spark, stdlib
from sessions_dagster_tests.compatibility.writers.rows import write_cases

REPOSITORY: Final = Path(__file__).parents[2]
GO: Final = Path(__file__).parent / "writers" / "go"

PINNED: Final[Mapping[str, Sequence[str]]] = {
    "pandas": ("pandas==3.1.1", "pyarrow==26.0.1", "zstandard==0.25.0"),
    "polars": ("polars==2.1.0",),
    "duckdb": ("duckdb==2.0.1",),
    "pyarrow": ("pyarrow==26.0.1",),
    "fastparquet": ("fastparquet==2026.9.0", "pandas==3.1.1"),
    "csvkit": ("csvkit==2.2.0",),
}
"""What is installed for the tools that come from the package index, each into a virtual environment of its own."""

_PACKAGES: Final = {
    "pandas": "pandas",
    "Polars": "polars",
    "DuckDB": "duckdb",
    "pyarrow": "pyarrow",
    "fastparquet": "fastparquet",
}


@dataclass(frozen=True)
class Written:
    """What a tool has written.

    Attributes:
        tool: Its name.
        version: Its version.
        files: The file of each case, by the name of the case.
        refused: Why the tool does not write others, by the name of the case.
    """

    tool: str
    version: str
    files: Mapping[str, Path]
    refused: Mapping[str, str]


class NotHereError(Exception):
    """A tool that this machine does not have, and that cannot be installed."""


def write_all(
    session: SparkSession, folder: Path, report: Callable[[str], object]
) -> tuple[list[Written], dict[str, str]]:
    """Let every tool write its files.

    Args:
        session: The Spark that is one of the tools.
        folder: Where virtual environments and files go.
        report: Is told which tool it is at.

    Returns:
        What the tools have written, and why others are left out.
    """
    programs: dict[str, Callable[[Path], object]] = {
        **{name: partial(_package, package, folder) for name, package in _PACKAGES.items()},
        "Spark": lambda out: write_cases(spark.cases(session), out, pyspark.__version__),
        "Go": lambda out: _run(["go", "run", "."], str(out), cwd=GO),
        "Python": stdlib.write_all,
        "csvkit": lambda out: _csvkit(folder, out),
        "Miller": lambda out: _commands(commands.MILLER, out, "mlr"),
        "jq": lambda out: _commands(commands.JQ, out, "jq"),
    }
    written, left_out = [], {}
    for tool, write in programs.items():
        report(f"{tool} writes its files")
        out = folder / "files" / tool
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        try:
            write(out)
            written.append(_written(tool, out))
        except NotHereError as error:
            left_out[tool] = str(error)
    return written, left_out


def _written(tool: str, out: Path) -> Written:
    manifest = json.loads((out / "manifest.json").read_text())
    files = {name: out / name for name in sorted(manifest["written"])}
    return Written(tool, manifest["version"], files, manifest["refused"])


def _package(package: str, folder: Path, out: Path) -> None:
    module = f"sessions_dagster_tests.compatibility.writers.{package}"
    _run([str(_environment(package, folder) / "bin" / "python"), "-m", module], str(out), cwd=REPOSITORY)


def _csvkit(folder: Path, out: Path) -> None:
    programs = _environment("csvkit", folder) / "bin"
    (pinned,) = PINNED["csvkit"]
    write_cases(commands.cases(commands.CSVKIT, programs), out, pinned.split("==")[1])


def _commands(of_cases: Mapping[str, Sequence[str]], out: Path, program: str) -> None:
    version = _run([program, "--version"]).split()[-1].removeprefix("jq-")
    write_cases(commands.cases(of_cases), out, version)


def _environment(tool: str, folder: Path) -> Path:
    """The virtual environment of a tool. It is kept for the next time."""
    pinned = PINNED[tool]
    environment = folder / "environments" / "_".join(pinned)
    if not (environment / ".complete").exists():
        _run([sys.executable, "-m", "venv", "--clear", str(environment)])
        _run([str(environment / "bin" / "pip"), "install", "--quiet", *pinned])
        (environment / ".complete").touch()
    return environment


def _run(command: Sequence[str], *arguments: str, cwd: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        result = subprocess.run(
            [*command, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=True
        )
    except FileNotFoundError as error:
        raise NotHereError(f"there is no program {command[0]}") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise NotHereError(f"{Path(command[0]).name} failed: {last}") from error
    return result.stdout
