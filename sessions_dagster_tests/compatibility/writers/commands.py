"""Programs for the command line: csvkit, Miller and jq. Each reads the rows from a file, and writes them again."""

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from sessions_dagster_tests.compatibility.writers.rows import OWN_TEXT, Write, records
from sessions_dagster_tests.compatibility.writers.stdlib import as_csv, as_json, with_column

PLAIN, QUOTED = records(), with_column("own", OWN_TEXT)

CSVKIT: Mapping[str, tuple[str, ...]] = {
    "timestamp: with a zone.csv": ("csvcut", "{csv}"),
    "file: sorted.csv": ("csvsort", "{csv}"),
    "own: quotes and line breaks.csv": ("csvformat", "{quoted}"),
    "file: all values quoted.csv": ("csvformat", "-U", "1", "{csv}"),
    "file: a tab between the values.csv": ("csvformat", "-T", "{csv}"),
    "timestamp: as text.json": ("csvjson", "--stream", "-I", "{csv}"),
    "user_id: number.json": ("csvjson", "--stream", "{csv}"),
    "own: quotes and line breaks.json": ("csvjson", "--stream", "-I", "{quoted}"),
    "file: one array.json": ("csvjson", "-I", "{csv}"),
}
MILLER: Mapping[str, tuple[str, ...]] = {
    "timestamp: with a zone.csv": ("mlr", "--csv", "cat", "{csv}"),
    "own: quotes and line breaks.csv": ("mlr", "--csv", "cat", "{quoted}"),
    "file: all values quoted.csv": ("mlr", "--csv", "--quote-all", "cat", "{csv}"),
    "file: a tab between the values.csv": ("mlr", "--icsv", "--otsv", "cat", "{csv}"),
    "user_id: float64.csv": ("mlr", "--csv", "put", "$user_id = $user_id * 1.0", "{csv}"),
    "user_id: number.json": ("mlr", "--icsv", "--ojsonl", "cat", "{csv}"),
    "timestamp: as text.json": ("mlr", "--icsv", "--ojsonl", "-S", "cat", "{csv}"),
    "own: quotes and line breaks.json": ("mlr", "--icsv", "--ojsonl", "cat", "{quoted}"),
    "file: one array.json": ("mlr", "--icsv", "--ojson", "cat", "{csv}"),
}
JQ: Mapping[str, tuple[str, ...]] = {
    "timestamp: as text.json": ("jq", "-c", ".", "{json}"),
    "user_id: number.json": ("jq", "-c", ".user_id |= tonumber", "{json}"),
    "own: quotes and line breaks.json": ("jq", "-c", ".", "{quoted_json}"),
    "own: nested.json": ("jq", "-c", ".own = {x: [1, null]}", "{json}"),
    "file: sorted keys, letters escaped.json": ("jq", "-caS", ".", "{quoted_json}"),
    "file: objects over several lines.json": ("jq", ".", "{json}"),
    "file: one array.json": ("jq", "-s", ".", "{json}"),
    "timestamp: with a zone.csv": (
        "jq",
        "-rs",
        "(.[0] | keys_unsorted), (.[] | [.[]]) | @csv",
        "{json}",
    ),
}


def cases(commands: Mapping[str, Sequence[str]], programs: Path | None = None) -> dict[str, Write]:
    """How the programs write the file of each case.

    Args:
        commands: The command of each case, with the file that it reads in braces.
        programs: The folder that the programs are in; None: they are found by their names.
    """

    def write(command: Sequence[str]) -> Write:
        def to(path: Path) -> None:
            with tempfile.TemporaryDirectory() as folder:
                program, *arguments = command
                inputs = _inputs(Path(folder))
                filled = [inputs.get(argument, argument) for argument in arguments]
                location = program if programs is None else str(programs / program)
                result = subprocess.run([location, *filled], check=True, capture_output=True)
                path.write_bytes(result.stdout)

        return to

    return {name: write(command) for name, command in commands.items()}


def _inputs(folder: Path) -> dict[str, str]:
    contents = {"csv": as_csv(PLAIN), "quoted": as_csv(QUOTED), "json": as_json(PLAIN), "quoted_json": as_json(QUOTED)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {f"{{{name}}}": str(folder / name) for name in contents}
