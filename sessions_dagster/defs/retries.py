"""Which failures of a step Dagster tries again, and which it does not.

What belongs here is how a failure looks to Dagster. Which failures are worth another attempt is decided in `errors`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import dagster as dg
from deltalake.exceptions import TableNotFoundError

from sessions_dagster.errors import NON_RETRYABLE, is_retryable
from sessions_dagster.spark.failures import is_gone

MAX_RETRIES: Final = 4

FIRST_WAIT_SECONDS: Final = 15.0
"""The wait before the first retry. Each further wait is twice as long, so that all together are almost four minutes."""

StepContext = dg.OpExecutionContext | dg.AssetExecutionContext | dg.AssetCheckExecutionContext


@contextmanager
def retry_or_fail(context: StepContext) -> Iterator[None]:
    """Ask Dagster to run the step again if its failure may pass, and fail it at once if it cannot.

    The body of an asset, an op or a check goes inside. It may run several times, so it must do no harm when it repeats
    what an earlier attempt has done. A check yields its results only after all of its work: Dagster does not take back
    a result.

    Args:
        context: The context of the step.

    Raises:
        RetryRequested: If another attempt may succeed (see `errors.is_retryable`), or Spark has ended meanwhile.
        Failure: If the input or the settings are wrong, or a table is missing. Dagster does not retry it.
    """
    try:
        yield
    except (*NON_RETRYABLE, TableNotFoundError) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except Exception as error:
        if not is_retryable(error) and not is_gone(error):
            raise
        raise dg.RetryRequested(MAX_RETRIES, FIRST_WAIT_SECONDS * 2**context.retry_number) from error
