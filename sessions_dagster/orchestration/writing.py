"""How the steps run that write tables: one run at a time, and again after a failure that passes."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, Final, ParamSpec, TypeVar

import dagster as dg

from sessions_dagster.core.faults import REFUSALS, is_passing

WAREHOUSE_POOL: Final = "warehouse"
"""The pool of every step that writes; `dagster.yaml` gives it its limit of one run."""

MAX_RETRIES: Final = 4

FIRST_WAIT_SECONDS: Final = 15.0
"""Before the first retry. Each further one waits twice as long: almost four minutes in all."""

_Context = TypeVar("_Context", dg.OpExecutionContext, dg.AssetExecutionContext)
_Resources = ParamSpec("_Resources")


def retried(
    step: Callable[Concatenate[_Context, _Resources], None],
) -> Callable[Concatenate[_Context, _Resources], None]:
    """Has Dagster do a step again, after a while, where its failure may pass. Bad input fails it at once.

    Args:
        step: The function of an asset or an op; whatever it has done already is no harm when it is done again.

    Returns:
        The function with other failures: `RetryRequested` if somebody else wrote to a table meanwhile or executors were
        lost, `Failure` if the input or the settings are wrong; all others as they are.
    """

    @wraps(step)
    def attempt(context: _Context, /, *args: _Resources.args, **kwargs: _Resources.kwargs) -> None:
        try:
            step(context, *args, **kwargs)
        except REFUSALS as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        except Exception as error:
            if not is_passing(error):
                raise
            raise dg.RetryRequested(MAX_RETRIES, FIRST_WAIT_SECONDS * 2**context.retry_number) from error

    return attempt
