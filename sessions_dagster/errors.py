"""Every exception of this project, and which failures are worth another attempt.

A message says what is wrong, where, and what to do next.
"""

import re
from collections.abc import Iterator
from typing import Final, Self

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

from sessions_dagster.redaction import redacted

_MAX_SHOWN: Final = 200
"""How much of a wrong value a message shows, in characters."""

_NOT_OF_A_LINE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def one_line(text: str) -> str:
    r"""A text that may have names of somebody else's in it, as it can stand in a log, on a terminal and on a page.

    What ends a line, commands a terminal or turns the direction of writing around is escaped: `\n`, `\x1b`.
    """
    return _NOT_OF_A_LINE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class SettingsError(ValueError):
    """A setting is not what it must be; the message names it, what it is, and what it may be."""


class WrongSettingError(SettingsError):
    """A single setting is not what it may be. The message is one sentence.

    Attributes:
        name: The field of `SessionsConfig`, such as `bot_limit` or `spark.master`, or the variable that it came from.
        meaning: What the setting is.
        allowed: What it may be.
        value: What it was.
    """

    def __init__(self, name: str, meaning: str, allowed: str, value: object) -> None:
        self.name, self.meaning, self.allowed, self.value = name, meaning, allowed, value
        shown = repr(redacted(value))
        if len(shown) > _MAX_SHOWN:
            shown = f"{shown[:_MAX_SHOWN]}..."
        super().__init__(f"{name} ({meaning}) must be {allowed}, not {shown}.")

    def named(self, name: str, value: object) -> Self:
        """The same error for another name of the setting, and the value as it was given there."""
        return type(self)(name, self.meaning, self.allowed, value)


class SizeError(ValueError):
    """A Spark property that must be a size is not one; the message names it."""


class BatchError(ValueError):
    """A batch cannot be landed. The message says which folder or file, what is wrong with it, and what to do.

    It has names of the sender's in it. Each of several messages is one line all the same.
    """

    def __init__(self, *messages: str) -> None:
        super().__init__("\n".join(map(one_line, messages)))


class NotDeliveredError(BatchError):
    """A batch was never delivered: there is no folder for it."""


class PartitionsError(ValueError):
    """A run is for days that are no partitions, or for none; the message says which days it may have."""


class RulesMismatchError(ValueError):
    """A table was built with other session rules than those of this run, or does not say with which."""


class SchemaMismatchError(ValueError):
    """A table has other columns than this version or these settings need, and they cannot be added to it."""


class SliceError(ValueError):
    """The rows of a batch in `raw_events` are not of one landing: somebody else wrote some of them."""


class AuditError(ValueError):
    """The tables are not what `raw_events` says; the message names the next step."""


class RebuildError(ValueError):
    """The tables cannot be rebuilt as asked for. Nothing was written."""


class DamagedTableError(RuntimeError):
    """A file of a table, or of its log, cannot be read: it is damaged, or gone. The message says what to do."""


class RetentionError(ValueError):
    """A table would lose files that a run or a reader may still need."""


class StorageError(Exception):
    """The storage, or the way to it, fails. That says nothing about what is stored there, and it may pass.

    It is not an `OSError`: those say that what is stored there cannot be read.
    """


class FullDiskError(StorageError):
    """A disk is full; the message says which."""


class ConcurrentWriteError(RuntimeError):
    """Somebody else wrote to a table while a correction of it was computed. Nothing was written."""


class NoSuitableJavaError(RuntimeError):
    """This machine has no Java that Spark can run on; the message says which were looked at and what to do."""


class SparkStartError(RuntimeError):
    """Spark did not start; the message says what is known of the cause."""


class SparkUnavailableError(SparkStartError):
    """Nobody answers where Spark should be. It may be about to start again."""


NON_RETRYABLE: Final = (
    AuditError,
    BatchError,
    DamagedTableError,
    PartitionsError,
    RebuildError,
    RetentionError,
    RulesMismatchError,
    SchemaMismatchError,
    SettingsError,
    SizeError,
    SliceError,
    NoSuitableJavaError,
)
"""The input or the settings are wrong: every further attempt would end in the same way."""

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

# Spark has no class for these either: a job that lost executors too often is aborted, and only the text says why.
_LOST_EXECUTORS: Final = ("ExecutorLostFailure", "FetchFailed", "executor decommission")

# Nor has it one for a storage that fails. The connector for S3 translates some errors of Amazon's SDK, and not all;
# that for Google's storage gives the answer of the store.
_STORAGE_FAILURES: Final = re.compile(
    r"java\.net\.\w*(Socket|Connect|Host)\w*Exception"
    r"|ConnectTimeoutException|NoHttpResponseException|Input/output error"
    r"|s3a\.(AWS|HttpChannelEOF|RemoteFileChanged)\w*Exception"
    r"|awssdk\.[\w.$]*(S3|SdkClient|SdkService|AwsService|Timeout|Aborted|Retryable|Throttl)\w*Exception"
    r"|(GoogleJson|Http)ResponseException: (408|429|5\d\d)\b"
)

_NOT_OF_THE_STORAGE: Final = re.compile(
    r"AccessDenied|NoSuchKey|NoSuchBucket|UnknownStoreException|Status Code: 40[134]"
)
"""What the same classes of exceptions say of an object that is not there, or may not be read."""


def is_storage_failure(text: str) -> bool:
    """Whether a text of Java's, a cause or all of them, says that the storage failed, and not what is stored there."""
    return _STORAGE_FAILURES.search(text) is not None and _NOT_OF_THE_STORAGE.search(text) is None


def is_retryable(error: BaseException) -> bool:
    """Whether another attempt may succeed.

    It may if somebody else wrote to the table at the same time, if executors were lost, if the storage failed, or if
    Spark does not answer.
    """
    return any(_may_pass(each) for each in with_causes(error))


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, (*_CONFLICTS, StorageError, SparkUnavailableError)):
        return True
    text = str(error)
    return any(mark in text for mark in _LOST_EXECUTORS) or is_storage_failure(text)


def with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__
