"""What a running step is at, in the log of its run."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from sessions_dagster.spark.progress import watched


@contextmanager
def watched_in_log(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext | dg.OpExecutionContext, doing: str
) -> Iterator[None]:
    """Has the log of the run say what the step is at, every few seconds.

    Args:
        context: The context of the step.
        doing: What it begins with.
    """
    with watched(doing, lambda progress: context.log.info(str(progress))):
        yield
