"""What a killed run, or a machine that went down, may leave of the log of a local table.

A commit may be empty, or half of one. Readers differ in what they make of such a file: an empty one may count as a
commit that changes nothing, and the next commit would be put on top of it. And there may be a log without any commit:
to Spark that is a table that exists, and to all who read it there is none.
"""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import pyarrow as pa
import pyarrow.parquet as pq

from sessions_dagster.errors import DamagedTableError

_COMMIT: Final = re.compile(r"\d{20}\.json")

_CHECKSUMS_BEGIN: Final = 8
_BYTES_A_CHECKSUM: Final = 512
"""How Hadoop lays out the checksums of a local file."""


def check_newest_commit(table: Path) -> None:
    """Check that the newest commit of a local table, if there is one, was written to its end.

    Args:
        table: The folder of the table.

    Raises:
        DamagedTableError: If it was not.
    """
    log = table / "_delta_log"
    try:
        newest = max((file for file in log.iterdir() if _COMMIT.fullmatch(file.name)), default=None)
        content = None if newest is None else newest.read_bytes()
    except OSError:
        # There is no such table, or it cannot be read: whoever opens it says so.
        return
    if newest is None or content is None or (damage := _damage(newest, content)) is None:
        return
    raise DamagedTableError(
        f"{newest} {damage}: the machine went down, or its disk was full, while this commit of {table} was written. It "
        f"counts as no commit. Nothing was written. Remove it and its checksums (.{newest.name}.crc and "
        f"{newest.stem}.crc, as far as they are there), and run again: a landing or a correction that is lost with it "
        "is found and made once more; only entries of session_corrections are not. If it was there for long, put the "
        "table back from a copy."
    )


def check_newest_checkpoint(table: Path) -> None:
    """Check that the newest checkpoint of a local table, if there is one, can be read.

    Args:
        table: The folder of the table.

    Raises:
        DamagedTableError: If it cannot. The message says whether the table can do without it.
    """
    log = table / "_delta_log"
    checkpoints = sorted(log.glob(f"{'[0-9]' * 20}.checkpoint*.parquet"))
    torn = [file for file in checkpoints if file.name[:20] == checkpoints[-1].name[:20] and not _has_footer(file)]
    if not torn:
        return
    names = " and ".join(map(str, torn))
    if _can_do_without(log, checkpoints, torn):
        todo = f"The commits are all there: remove {names} and {log / '_last_checkpoint'}, and run again."
    else:
        todo = "The log does not reach back far enough without it: put the table back from a copy."
    raise DamagedTableError(
        f"{names} cannot be read: the machine went down, or its disk was full, while this checkpoint of {table} was "
        f"written. Nothing was written. {todo}"
    )


def _has_footer(file: Path) -> bool:
    try:
        pq.read_metadata(file)
    except (pa.ArrowInvalid, OSError):
        return False
    return True


def _can_do_without(log: Path, checkpoints: Sequence[Path], torn: Sequence[Path]) -> bool:
    """Whether there is every commit since the beginning, or since an older checkpoint, up to the newest one."""
    versions = {int(file.stem) for file in log.iterdir() if _COMMIT.fullmatch(file.name)}
    begins = [0, *(int(file.name[:20]) + 1 for file in checkpoints if file not in torn)]
    return any(versions.issuperset(range(begin, max(versions, default=-1) + 1)) for begin in begins if versions)


def remove_log_without_commits(table: Path) -> None:
    """Remove the log of a local table whose first commit was never made, so that the table can be created.

    Args:
        table: The folder of the table. Nobody else may be creating it.
    """
    log = table / "_delta_log"
    # What is hidden are commits that were being written, and checksums.
    if log.is_dir() and all(file.is_dir() or file.name.startswith(".") for file in log.rglob("*")):
        shutil.rmtree(log)


def _damage(commit: Path, content: bytes) -> str | None:
    """What is wrong with a commit; None if it is whole."""
    if not content.strip(b"\0\n"):
        return "has nothing in it"
    lines = content.rstrip(b"\n").split(b"\n")
    try:
        first, last = json.loads(lines[0]), json.loads(lines[-1])
    except ValueError:
        return "ends in the middle of an entry"
    if not isinstance(last, dict):
        return "ends in the middle of an entry"
    if _says_it_added_rows(first) and not any(line.startswith(b'{"add"') for line in lines):
        return "lacks the files that it says it has added"
    if not _has_its_checksums(commit, content):
        return "is not what its checksums were made of"
    return None


def _says_it_added_rows(entry: Any) -> bool:
    metrics = entry.get("commitInfo", {}).get("operationMetrics", {})
    return all(int(metrics.get(name, 0)) for name in ("numFiles", "numOutputRows"))


def _has_its_checksums(commit: Path, content: bytes) -> bool:
    """Whether the checksums that Spark keeps beside a local file are those of its content. Others keep none."""
    try:
        checksums = commit.with_name(f".{commit.name}.crc").read_bytes()[_CHECKSUMS_BEGIN:]
    except FileNotFoundError:
        return True
    parts = (content[begin : begin + _BYTES_A_CHECKSUM] for begin in range(0, len(content), _BYTES_A_CHECKSUM))
    return checksums == b"".join(crc32(part).to_bytes(4, "big") for part in parts)
