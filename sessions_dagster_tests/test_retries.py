"""Failures of a step: retried if they can be temporary, never for bad input."""

import dagster as dg
import pytest
from delta.exceptions import ConcurrentAppendException
from py4j.protocol import Py4JNetworkError
from pyspark.errors import PySparkException

from sessions_dagster.defs import retries
from sessions_dagster.defs.retries import FIRST_WAIT_SECONDS, MAX_RETRIES, retry_or_fail
from sessions_dagster.defs.run_history import may_pass
from sessions_dagster.errors import (
    BatchError,
    ConcurrentWriteError,
    RulesMismatchError,
    SparkStartError,
    SparkUnavailableError,
    StorageError,
)


def _raised_by_lost_executors(spark_message: str) -> Exception:
    error = RuntimeError("the batch could not be written")
    error.__cause__ = PySparkException(f"Job aborted due to stage failure: {spark_message}")
    return error


PASSING = [
    ConcurrentWriteError("another run"),
    ConcurrentAppendException("files were added"),
    StorageError("the connection was reset"),
    SparkUnavailableError("No server of Spark Connect answers"),
    PySparkException(
        '<_MultiThreadedRendezvous of RPC that terminated with: status = StatusCode.UNAVAILABLE details = ""'
    ),
    PySparkException("[INVALID_HANDLE.SESSION_NOT_FOUND] The handle 0 is invalid. Session not found."),
    Py4JNetworkError("Answer from Java side is empty"),
    _raised_by_lost_executors(
        "Task 3 in stage 7.0 failed 4 times, most recent failure: Lost task 3.3 in stage 7.0 (TID 95): "
        "ExecutorLostFailure (executor 2 exited caused by one of the running tasks)"
    ),
    _raised_by_lost_executors(
        "ShuffleMapStage 7 has failed the maximum allowable number of times: 4. Most recent failure reason: "
        "org.apache.spark.shuffle.FetchFailedException: Connection from 10.0.0.2:7337 closed"
    ),
]
BAD_INPUT = [BatchError("date=2025-09-20 is empty"), RulesMismatchError("other rules")]


def _attempts(error: Exception, failing: int, monkeypatch: pytest.MonkeyPatch) -> tuple[bool, int]:
    """Run a step that fails the given number of times. Returns whether it succeeded, and the number of attempts."""
    result, attempts = _run(error, failing, monkeypatch, dg.DagsterInstance.ephemeral())
    return result.success, attempts


def _run(
    error: Exception, failing: int, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> tuple[dg.ExecuteInProcessResult, int]:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0)
    attempts = []

    @dg.asset
    def table(context: dg.AssetExecutionContext) -> None:
        with retry_or_fail(context):
            attempts.append(context.retry_number)
            if len(attempts) <= failing:
                raise error

    return dg.materialize([table], instance=instance, raise_on_error=False), len(attempts)


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_a_retryable_error_is_retried(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _attempts(error, 2, monkeypatch) == (True, 3)


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_a_persistent_error_is_raised_after_the_last_retry(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _attempts(error, 100, monkeypatch) == (False, 1 + MAX_RETRIES)


@pytest.mark.parametrize("error", BAD_INPUT, ids=lambda error: type(error).__name__)
def test_bad_input_is_never_retried(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _attempts(error, 1, monkeypatch) == (False, 1)


OTHERS = [SparkStartError("The Spark session has no Delta"), ValueError("a bug")]


@pytest.mark.parametrize("error", [*PASSING, *BAD_INPUT, *OTHERS], ids=lambda error: type(error).__name__)
def test_only_a_run_whose_retries_ran_out_is_one_that_may_pass(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result, _ = _run(error, 100, monkeypatch, instance)
        assert may_pass(instance, result.dagster_run) == (error in PASSING)


def test_an_unknown_failure_is_never_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _attempts(ValueError("a bug"), 1, monkeypatch) == (False, 1)


def test_each_retry_waits_twice_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    for number in range(3):
        monkeypatch.setattr(dg.OpExecutionContext, "retry_number", number)
        with pytest.raises(dg.RetryRequested) as request, retry_or_fail(dg.build_op_context()):
            raise ConcurrentWriteError("another run")
        waits.append(request.value.seconds_to_wait)
    assert waits == [FIRST_WAIT_SECONDS, 2 * FIRST_WAIT_SECONDS, 4 * FIRST_WAIT_SECONDS]


def test_a_bad_input_failure_has_the_cause_and_disables_dagster_retries() -> None:
    is_empty = "date=2025-09-20 is empty"
    with pytest.raises(dg.Failure, match=is_empty) as failure, retry_or_fail(dg.build_op_context()):
        raise BatchError(is_empty)
    assert not failure.value.allow_retries
