"""Inputs that differ in their last batch only, and copies of the tables that such a batch is applied to."""

import shutil
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.workload import write_batch
from sessions_dagster.input.folders import InputRoot


def input_with_last_batch(
    input_root: InputRoot, days: Sequence[date], change: Callable[[pa.Table], pa.Table], folder: Path
) -> InputRoot:
    """Copy batches into another folder, and change the last of them.

    Args:
        input_root: The input root with the batches.
        days: The days of the batches, in order.
        change: Makes the last batch of the copy from the last batch there is.
        folder: The folder for the copy.

    Returns:
        The input root of the copy.
    """
    *others, last = days
    for day in others:
        shutil.copytree(input_root.batch_folder(day), folder / f"date={day.isoformat()}")
    write_batch(change(pq.read_table(input_root.batch_folder(last), partitioning=None)), folder, last)
    return InputRoot(str(folder))


def copied(source: Path, target: Path) -> Path:
    """Replace a folder by a copy of another one, and return its path."""
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(source, target)
