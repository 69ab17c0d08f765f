"""How steps run: again after a failure that passes, and those that write tables one run at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
_Result = TypeVar("_Result")


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
        with _failures_judged(context):
            step(context, *args, **kwargs)

    return attempt


def retried_check(
    step: Callable[Concatenate[dg.AssetCheckExecutionContext, _Resources], Iterator[_Result]],
) -> Callable[Concatenate[dg.AssetCheckExecutionContext, _Resources], Iterator[_Result]]:
    """What `retried` is to assets and ops, to checks.

    Args:
        step: The function of a check. It yields when all its work is done: a result that was yielded is not taken back.

    Returns:
        The function with the failures that `retried` has.
    """

    @wraps(step)
    def attempt(
        context: dg.AssetCheckExecutionContext, /, *args: _Resources.args, **kwargs: _Resources.kwargs
    ) -> Iterator[_Result]:
        with _failures_judged(context):
            yield from step(context, *args, **kwargs)

    return attempt


@contextmanager
def _failures_judged(
    context: dg.OpExecutionContext | dg.AssetExecutionContext | dg.AssetCheckExecutionContext,
) -> Iterator[None]:
    try:
        yield
    except REFUSALS as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except Exception as error:
        if not is_passing(error):
            raise
        raise dg.RetryRequested(MAX_RETRIES, FIRST_WAIT_SECONDS * 2**context.retry_number) from error
