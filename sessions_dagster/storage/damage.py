"""A file of a table that is damaged or gone: named, with its table and what to do."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from sessions_dagster.errors import DamagedTableError, is_storage_failure
from sessions_dagster.model.columns import BATCH_DATE
from sessions_dagster.model.tables import FORGOTTEN_USERS
from sessions_dagster.spark.failures import SPARK_ERRORS, last_cause, unread_file
from sessions_dagster.storage.filesystem import is_within, location_of

_OF_BATCH: Final = re.compile(rf"/{BATCH_DATE}=(\d{{4}}-\d\d-\d\d)/")

_GONE: Final = "FileNotFoundException"


@contextmanager
def damaged_files_named(tables: Sequence[str]) -> Iterator[None]:
    """Turns Spark's failure to read a file of some tables into an error of ours.

    Args:
        tables: Where the tables are.

    Raises:
        DamagedTableError: If Spark could not read a file of one of them, and the storage is not to blame.
    """
    try:
        yield
    except SPARK_ERRORS as error:
        uri = unread_file(error)
        file = None if uri is None else location_of(uri)
        table = next((each for each in tables if file is not None and is_within(file, each)), None)
        if file is None or table is None or is_storage_failure(str(error)):
            raise
        cause = last_cause(error)
        what = "or its deletion vector, is gone" if _GONE in cause else "or its deletion vector, is damaged"
        raise DamagedTableError(
            f"{file}, a file of the table {table}, {what} ({cause}). {_remedy(file, table)}"
        ) from error


def _remedy(file: str, table: str) -> str:
    if table.endswith(f"/{FORGOTTEN_USERS}"):
        return (
            "Nothing lands until it is there again. Put the table back from a copy, and do not remove it: without it "
            "the users come back with the next batches. Users who were forgotten after the copy was made have to be "
            "forgotten again."
        )
    of_batch = _OF_BATCH.search(file)
    if of_batch is not None:
        return f"Materialize raw_events for {of_batch[1]} once more: that replaces all files of the batch."
    return (
        "Put it back from a copy, or make the table anew from raw_events; docs/operations.md says how, in "
        '"A damaged file of a table". If the table itself was just put back from a copy, start Spark again.'
    )
