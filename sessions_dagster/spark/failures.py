"""What the exceptions of Spark are, with a driver of this process and over Spark Connect.

Spark tells with a `PySparkException` that it failed, or with an exception of py4j, which only a driver of this process
needs, and which need not be installed for Spark Connect.
"""

import re
from typing import Final

from pyspark.errors import PySparkException

from sessions_dagster.errors import with_causes

_OfPy4j = tuple[type[Exception], ...]


def _of_py4j() -> tuple[_OfPy4j, _OfPy4j]:
    """The exceptions of py4j: those that say that Java code failed, and all."""
    try:
        from py4j.protocol import Py4JError, Py4JJavaError  # noqa: PLC0415
    except ImportError:
        return (), ()
    return (Py4JJavaError,), (Py4JError,)


_JAVA_FAILED, _ALL_OF_PY4J = _of_py4j()

SPARK_ERRORS: Final[tuple[type[Exception], ...]] = (PySparkException, *_JAVA_FAILED)
"""What is raised if Spark could not do what it was asked for. It may be gone as well, see `is_gone`."""

SPARK_ERRORS_OR_GONE: Final[tuple[type[Exception], ...]] = (PySparkException, *_ALL_OF_PY4J)
"""What is raised if Spark could not do what it was asked for, or cannot be reached any more."""

_UNREACHABLE: Final = re.compile(
    r"StatusCode\.(CANCELLED|DEADLINE_EXCEEDED|UNAVAILABLE)\b|SparkContext (was|has been) shut ?down"
)
"""What a query gets whose server ends meanwhile, and one whose server has ended."""

_OTHER_SERVER: Final = "INVALID_HANDLE.SESSION_"
"""What a server says that was started again, and knows nothing of the session any more."""


_UNREAD: Final = re.compile(r"\[FAILED_READ_FILE[^\]]*\].*? file (\S+?)\.?\s")


def unread_file(error: BaseException) -> str | None:
    """The URI of the file that Spark could not read, as it spells it; None if it failed for another reason."""
    named = _UNREAD.search(str(error))
    return None if named is None else named[1]


def last_cause(error: BaseException) -> str:
    """What Java says last of why something failed, in one line."""
    causes = re.findall(r"Caused by: (.+)", str(error)) or ["see above"]
    return str(causes[-1]).strip()


def is_gone(error: BaseException) -> bool:
    """Whether an exception says that Spark cannot be reached any more, and so nothing about what it was asked for."""
    return any(_says_gone(each) for each in with_causes(error))


def _says_gone(error: BaseException) -> bool:
    if isinstance(error, _ALL_OF_PY4J):
        return not isinstance(error, _JAVA_FAILED)
    said = f"{getattr(error, '_grpc_status_code', '')} {error}"
    return _UNREACHABLE.search(said) is not None or _OTHER_SERVER in said
