"""The page `docs/compatibility.md`: one table per format, with the cases in rows and the tools in columns."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Final

from sessions_dagster_tests.compatibility.outcomes import LANDS, Outcome

PAGE: Final = Path(__file__).parents[2] / "docs" / "compatibility.md"

FORMATS: Final = {"Parquet": ".parquet", "CSV": ".csv", "JSON lines": ".json"}
PARTS: Final = ("user_id", "timestamp", "own", "frame", "file", "codec")
"""What the cases are about, in the order of the page. `own` is a column of the sender's own, beside the four."""

_CORNER: Final = "column and type"
_NONE: Final = "·"
_TOOLS: Final = "The tools: "

_INTRODUCTION: Final = """\
# Which writers' files land

This page is written by `make compatibility` and not by hand. Each cell is a file that the tool wrote, with the column
of the row and four events. It was landed as the only file of a batch, and the tables were read back.

- **lands**: the three events of the batch's day are in `raw_events` exactly as they were written, and the fourth, which
  is a month late, is in `rejected_events` as `too_late`.
- **as text**: the same, of a CSV file that has the ids as other texts than the numbers that the tool was given. Text
  stays as it is, so with another tool or type the user is another one.
- **rejected**: rows that could have landed are in `rejected_events`; the note has the reason.
- **refused**: the batch stops with an error, and the tables are as they were; the note has its first words.
- **WRONG**: anything else, which would be a fault of this project.
- **·**: the tool cannot write such a file, or it was not tried.

`own` stands for a column of the sender's own beside the four, which is not carried.
"""


@dataclass(frozen=True)
class Results:
    """What was found out.

    Attributes:
        versions: The tools with their versions, in the order of the columns.
        left_out: Tools that could not be tried, with the reason.
        outcomes: By tool and case.
    """

    versions: Mapping[str, str]
    left_out: Mapping[str, str]
    outcomes: Mapping[tuple[str, str], Outcome]


def render(results: Results) -> str:
    """The page."""
    versions = ", ".join(f"{tool} {version}" for tool, version in results.versions.items())
    left_out = [f"- {tool}: {reason}" for tool, reason in results.left_out.items()] or ["- none"]
    notes: dict[Outcome, int] = {}
    tables = [line for name, suffix in FORMATS.items() for line in _section(name, suffix, results, notes)]
    return "\n".join(
        [
            _INTRODUCTION,
            f"{_TOOLS}{versions}. Left out, because they could not be installed:",
            "",
            *left_out,
            *tables,
            "",
            "## Notes",
            "",
            *[f"{number}. {outcome.verdict}: {outcome.detail}" for outcome, number in notes.items()],
            "",
        ]
    )


def read(page: str) -> Results:
    """What a page says."""
    lines = page.splitlines()
    notes = dict(_note(line) for line in lines[lines.index("## Notes") :] if line[:1].isdigit())
    (tools_line,) = [line for line in lines if line.startswith(_TOOLS)]
    versions = dict(tool.rsplit(" ", 1) for tool in tools_line.removeprefix(_TOOLS).split(". ")[0].split(", "))
    after_tools = lines[lines.index(tools_line) + 2 :]
    left_out = dict(line[2:].split(": ", 1) for line in takewhile(bool, after_tools) if ": " in line)
    outcomes: dict[tuple[str, str], Outcome] = {}
    suffix, tools = "", [""]
    for line in lines:
        if line.startswith("## "):
            suffix = FORMATS.get(line.removeprefix("## "), suffix)
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if name == _CORNER:
            tools = cells
        elif line.startswith("| "):
            found = {tool: _outcome(cell, notes) for tool, cell in zip(tools, cells, strict=True) if cell != _NONE}
            outcomes |= {(tool, f"{name}{suffix}"): outcome for tool, outcome in found.items()}
    return Results(versions, left_out, outcomes)


def case_of(name: str) -> str:
    """The case of a file without the suffix of its compression: `codec: gz.csv.gz` is `codec: gz.csv`."""
    stem, suffix = next((name[: name.index(each)], each) for each in FORMATS.values() if each in name)
    return f"{stem}{suffix}"


def _section(name: str, suffix: str, results: Results, notes: dict[Outcome, int]) -> Iterable[str]:
    cases = {case for _, case in results.outcomes if case.endswith(suffix)}
    tools = [tool for tool in results.versions if any((tool, case) in results.outcomes for case in cases)]
    yield from ("", f"## {name}", "", f"| {_CORNER} | {' | '.join(tools)} |", f"|---|{'---|' * len(tools)}")
    for case in sorted(cases, key=_order):
        cells = [_cell(results.outcomes.get((tool, case)), notes) for tool in tools]
        yield f"| {case.removesuffix(suffix)} | {' | '.join(cells)} |"


def _order(case: str) -> tuple[int, str]:
    return PARTS.index(case.split(":", maxsplit=1)[0]), case


def _cell(outcome: Outcome | None, notes: dict[Outcome, int]) -> str:
    if outcome is None:
        return _NONE
    if outcome.verdict == LANDS:
        return LANDS
    return f"{outcome.verdict} [{notes.setdefault(outcome, len(notes) + 1)}]"


def _outcome(cell: str, notes: Mapping[str, Outcome]) -> Outcome:
    return notes[cell.split("[")[1].rstrip("]")] if "[" in cell else Outcome(cell)


def _note(line: str) -> tuple[str, Outcome]:
    number, text = line.split(". ", 1)
    verdict, detail = text.split(": ", 1)
    return number, Outcome(verdict, detail)
