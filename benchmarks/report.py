"""The output of a run: a table on the console, `results.json`, `measurements.json`, and a picture of the results.

`results.json` is the list of rows with `name`, `value`, `target` and `met`. `measurements.json` has, by scenario, what
the rows were computed from: the value of each repetition, raw times, commit, versions and machine. Both files keep the
results of other scenarios, so that a single scenario can be measured again.
"""

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.measures import Findings, Measure
from benchmarks.picture import draw

_PROJECT: Final = Path(__file__).parent.parent
_NOT_MEASURED: Final = (":(exclude)benchmarks/*.json", ":(exclude)docs")
"""Files that do not make the working tree dirty: results, which a run writes itself, and documentation."""

_VERSIONS_OF: Final = ("pyspark", "delta-spark", "deltalake", "dagster", "duckdb", "pyarrow", "sessions-dagster")


def save(
    folder: Path,
    picture: Path,
    scenario: str,
    findings: Findings,
    order: Sequence[str],
    commit: Mapping[str, Any] | None,
) -> None:
    """Replace the older findings of a scenario in both files, and draw the picture again.

    Args:
        folder: The folder of the two JSON files.
        picture: The SVG file.
        scenario: The name of the scenario.
        findings: Its findings.
        order: The names of all scenarios, in the order of their rows.
        commit: The commit that was measured, from `commit_of`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    measurements = _load(folder / "measurements.json", {})
    measurements[scenario] = {
        "measured": datetime.now(UTC).date().isoformat(),
        "commit": commit,
        "rows": [_row(measure) for measure in findings.measures],
        "raw": findings.raw,
        "versions": {name: version(name) for name in _VERSIONS_OF} | {"python": platform.python_version()},
        "machine": machine(),
    }
    known = {name: measurements[name] for name in order if name in measurements}
    rows = [row for found in known.values() for row in found["rows"]]
    _dump(folder / "measurements.json", known)
    _dump(folder / "results.json", [{key: row[key] for key in ("name", "value", "target", "met")} for row in rows])
    picture.write_text(draw(rows))


def show(console: Console, measures: Sequence[Measure]) -> None:
    """Print rows of the result table."""
    table = Table("what", "value", "spread", "target", "met")
    for measure in measures:
        spread = f"{min(measure.values):.2f} .. {max(measure.values):.2f}"
        met = "[green]yes[/]" if measure.is_met else "[red]no[/]"
        table.add_row(measure.name, f"{measure.value:.2f} {measure.unit}".rstrip(), spread, measure.target.text, met)
    console.print(table)


def commit_of(project: Path = _PROJECT) -> dict[str, Any] | None:
    """Return the commit of a working tree, and whether its tracked files differ from that commit.

    Args:
        project: The root of the working tree. A subfolder of a working tree has no commit of its own.

    Returns:
        `hash` and `dirty`, or None without git or without a repository.
    """

    def git_output(*arguments: str) -> str:
        command = ["git", "-C", str(project), *arguments]
        env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(project.resolve().parent)}
        return subprocess.run(command, check=True, env=env, capture_output=True, text=True).stdout.strip()

    try:
        head = git_output("rev-parse", "--short", "HEAD")
        changed = git_output("status", "--porcelain", "--untracked-files=no", "--", ".", *_NOT_MEASURED)
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"hash": head, "dirty": bool(changed)}


def machine() -> dict[str, Any]:
    """Describe the machine by the properties that are of use to others."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "system": platform.system(),
        "architecture": platform.machine(),
    }


def _row(measure: Measure) -> dict[str, Any]:
    return {
        "name": measure.name,
        "value": round(measure.value, 3),
        "target": measure.target.text,
        "met": measure.is_met,
        "unit": measure.unit,
        "values": [round(value, 3) for value in measure.values],
        "low": _finite(measure.target.low),
        "high": _finite(measure.target.high),
    }


def _finite(limit: float) -> float | None:
    return limit if math.isfinite(limit) else None


def _load(file: Path, default: Any) -> Any:
    return json.loads(file.read_text()) if file.exists() else default


def _dump(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")
