"""Which failures pass if the work is done again, and which stay until somebody does something about them."""

from collections.abc import Iterator
from typing import Final

from delta.exceptions import (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    DeltaConcurrentModificationException,
    MetadataChangedException,
    ProtocolChangedException,
)

from sessions_dagster.core.apply import ConcurrentWriteError
from sessions_dagster.core.batch import BatchError
from sessions_dagster.core.maintenance import RetentionError
from sessions_dagster.core.session_table import RulesMismatchError
from sessions_dagster.lake.places import PlaceError, StorageError

REFUSALS: Final = (BatchError, PlaceError, RetentionError, RulesMismatchError)
"""What is wrong with the input or the settings: the next attempt would end the same way."""

# Delta's exceptions have no common class in Python.
_CONFLICTS: Final = (
    ConcurrentWriteError,
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    DeltaConcurrentModificationException,
    MetadataChangedException,
    ProtocolChangedException,
)

# Spark has no class for them either: a job that lost executors too often is aborted, and only the text says why.
_LOST_EXECUTORS: Final = ("ExecutorLostFailure", "FetchFailed", "executor decommission")


def is_passing(error: BaseException) -> bool:
    """Whether another attempt may succeed.

    It may if somebody else wrote to the table meanwhile, if executors were lost, or if the storage failed.
    """
    return any(_passes(each) for each in _with_causes(error))


def _passes(error: BaseException) -> bool:
    return isinstance(error, (*_CONFLICTS, StorageError)) or any(mark in str(error) for mark in _LOST_EXECUTORS)


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
