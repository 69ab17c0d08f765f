"""What is left of a run: a table on the console, `results.json`, `measurements.json`, and a picture of them.

`results.json` is the list of rows `name, value, target, met`. Beside it, `measurements.json` holds by scenario what
they were computed from: the value of each repetition, raw times, versions and machine. Both keep what other runs found,
so that single scenarios can be measured again.
"""

import json
import math
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.measures import Findings, Measure
from benchmarks.picture import draw

_VERSIONS_OF: Final = ("pyspark", "delta-spark", "deltalake", "dagster", "duckdb", "pyarrow", "sessions-dagster")


def save(folder: Path, picture: Path, scenario: str, findings: Findings, order: Sequence[str]) -> None:
    """Put the findings of a scenario in the place of older ones.

    Args:
        folder: Where the two files are.
        picture: The SVG file.
        scenario: Its name.
        findings: What it found.
        order: The names of all scenarios, in the order their rows should have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    measurements = _load(folder / "measurements.json", {})
    measurements[scenario] = {
        "measured": datetime.now(UTC).date().isoformat(),
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
    """Print rows of the target table."""
    table = Table("what", "value", "spread", "target", "met")
    for measure in measures:
        spread = f"{min(measure.values):.2f} .. {max(measure.values):.2f}"
        met = "[green]yes[/]" if measure.is_met else "[red]no[/]"
        table.add_row(measure.name, f"{measure.value:.2f} {measure.unit}".rstrip(), spread, measure.target.text, met)
    console.print(table)


def machine() -> dict[str, Any]:
    """What it was measured on, as far as it is of use to others."""
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
