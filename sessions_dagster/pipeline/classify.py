"""Telling good rows from bad: which delivered rows are accepted, and for what reason the others are not.

To add a reason, add it to `model.rejects.RejectReason` and its condition to `classify`.
"""

from collections.abc import Collection, Mapping
from datetime import date
from typing import Final

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql.types import DateType, StructType

from sessions_dagster.input.readers.rows import AS_JSON, TIMESTAMP_TEXT, UNREADABLE, UNUSABLE_ID
from sessions_dagster.model.columns import (
    BATCH_DATE,
    EVENT,
    EVENT_DATE,
    EVENT_IDENTITY,
    KEY_COLUMNS,
    LANDED_AT,
    PRODUCT,
    REASON,
    RECORD,
    TIMESTAMP,
    USER,
)
from sessions_dagster.model.rejects import RejectReason
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import REJECTED_EVENTS_SCHEMA, raw_events_schema
from sessions_dagster.spark.compat import make_valid_utf8

_GROUP: Final = "__group_of_users"
_GROUPS_OF_USERS: Final = 65_536
"""An ordinary batch of a billion events has 15,000 events in each group, which is far below a sensible limit."""

_GROUPS_OF_A_SMALL_BATCH: Final = 256
"""Few enough to be collected."""

_COUNT: Final = "count"


def classify(delivered: DataFrame, day: date, rules: SessionRules) -> DataFrame:
    """Say of each delivered row whether it is accepted.

    Args:
        delivered: Rows as `input.readers.read_batch` gives them.
        day: The date of the batch that delivered them.
        rules: The session rules; their lateness says which event dates the batch may deliver.

    Returns:
        The same rows with two more columns: `event_date` (date, UTC; NULL if there is no timestamp) and `reason`
        (string, a `RejectReason`; NULL if the row is accepted).
    """
    event_date = F.col(TIMESTAMP).cast(DateType())
    verdicts = {
        RejectReason.UNREADABLE_RECORD: F.col(UNREADABLE),
        RejectReason.EMPTY_USER_ID: _is_empty(USER),
        RejectReason.EMPTY_EVENT_ID: _is_empty(EVENT),
        RejectReason.EMPTY_PRODUCT_CODE: _is_empty(PRODUCT),
        RejectReason.UNUSABLE_ID: F.col(UNUSABLE_ID),
        RejectReason.MISSING_TIMESTAMP: F.col(TIMESTAMP).isNull() & _is_empty(TIMESTAMP_TEXT),
        RejectReason.UNPARSABLE_TIMESTAMP: F.col(TIMESTAMP).isNull(),
        RejectReason.AFTER_BATCH_DAY: event_date > F.lit(day),
        RejectReason.TOO_LATE: event_date < F.lit(rules.first_event_date(day)),
    }
    in_order = [reason for reason in RejectReason if reason in verdicts]
    reason = F.coalesce(*[F.when(verdicts[reason], F.lit(reason.value)) for reason in in_order])
    return delivered.select("*", event_date.alias(EVENT_DATE), reason.alias(REASON))


def accepted_by_group(classified: DataFrame) -> list[int]:
    """The number of accepted rows in each group of users that has any, counted in one query of a small batch.

    Args:
        classified: Rows as `classify` gives them.

    Returns:
        Nothing if no row is accepted. No user has more rows than the greatest number.
    """
    group = F.pmod(F.hash(USER), F.lit(_GROUPS_OF_A_SMALL_BATCH))
    counts = classified.where(F.col(REASON).isNull()).groupBy(group).agg(F.count("*").alias(_COUNT))
    return [row[_COUNT] for row in counts.collect()]


def find_bots(classified: DataFrame, bot_limit: int) -> list[str]:
    """Find the users who have more distinct accepted events in the batch than the limit allows.

    Args:
        classified: Rows as `classify` gives them.
        bot_limit: The greatest number of events that is allowed.

    Returns:
        The users, in order.
    """
    # First a pass over one column, by groups of users: hardly ever does a group have as many events as one user may.
    in_groups = classified.select(_group_of_users().alias(_GROUP))
    crowded = [row[_GROUP] for row in _larger(in_groups, _GROUP, bot_limit)]
    if not crowded:
        return []
    accepted = classified.where(F.col(REASON).isNull() & _group_of_users().isin(*crowded))
    return sorted(row[USER] for row in _larger(accepted.select(*EVENT_IDENTITY).distinct(), USER, bot_limit))


def reject_users(classified: DataFrame, bots: Collection[str]) -> DataFrame:
    """Give every accepted row of some users the reason `bot`.

    Args:
        classified: Rows as `classify` gives them.
        bots: The users.

    Returns:
        The same rows and columns.
    """
    if not bots:
        return classified
    is_bot = F.col(REASON).isNull() & F.col(USER).isin(*bots)
    return classified.withColumn(REASON, F.when(is_bot, F.lit(RejectReason.BOT.value)).otherwise(F.col(REASON)))


def accepted_events(classified: DataFrame, carried_columns: Mapping[str, str]) -> DataFrame:
    """The accepted rows.

    Args:
        classified: Rows as `classify` gives them.
        carried_columns: The type of each carried column, by its name.

    Returns:
        The columns of `raw_events`, except those that say which landing a row is from.
    """
    return classified.where(F.col(REASON).isNull()).select(*_own_columns(raw_events_schema(carried_columns)))


def rejected_events(classified: DataFrame) -> DataFrame:
    """The rejected rows.

    Args:
        classified: Rows as `classify` gives them.

    Returns:
        The columns of `rejected_events`, except those that say which landing a row is from.
    """
    rejected = classified.where(F.col(REASON).isNotNull()).withColumn(TIMESTAMP, F.col(TIMESTAMP_TEXT))
    # As delivered, except for bytes that are not text: with them in a string, nobody but Spark could read the file.
    as_text = {name: make_valid_utf8(F.col(name)) for name in EVENT_IDENTITY}
    return rejected.withColumns(as_text).select(*_own_columns(REJECTED_EVENTS_SCHEMA))


def without_own_columns(classified: DataFrame) -> DataFrame:
    """The rows with a record that has the four columns of an event only, so that no other column is read.

    Args:
        classified: Rows as `classify` gives them.

    Returns:
        The same rows and columns.
    """
    event = [make_valid_utf8(F.col(name)).alias(name) for name in KEY_COLUMNS]
    text = make_valid_utf8(F.col(TIMESTAMP_TEXT)).alias(TIMESTAMP)
    return classified.withColumn(RECORD, F.to_json(F.struct(*event, text), AS_JSON))


def _own_columns(schema: StructType) -> list[str]:
    return [name for name in schema.names if name not in {BATCH_DATE, LANDED_AT}]


def _is_empty(column: str) -> Column:
    # The column stands here only once. Then it is not computed in advance, but only if the condition gets that far.
    return F.coalesce(column, F.lit("")) == ""


def _group_of_users() -> Column:
    return F.pmod(F.hash(USER), F.lit(_GROUPS_OF_USERS))


def _larger(rows: DataFrame, column: str, limit: int) -> list[Row]:
    """The values of a column that occur in more rows than the limit allows."""
    return rows.groupBy(column).count().where(F.col(_COUNT) > limit).collect()
