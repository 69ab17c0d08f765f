"""Facts: everything that a correction follows from, in one form, so that one pass can put it together.

A fact is of one of two kinds (`__fact_kind`). An *event* is an event that a batch delivers or retracts, or that the
table has. A *session span* is a session of the table as a whole: a session that loses no user action can only grow, so
its bounds say everything about it, and its events need not be read.

The columns of a fact:

- `user_id`, `product_code` (string): the session key.
- `__fact_kind` (string): see `FactKind`.
- `event_id` (string): of an event; NULL for a session span.
- `__interval_start` (timestamp): the time of an event, or the start of a session.
- `__interval_end` (timestamp): the time of a user action plus the timeout, or the end of a session; NULL for an IDE
  event.
- `__added_bits`, `__removed_bits` (int): the bits of `delivered_by` that the batches add to an event or remove from it.
- `__existing_bits` (int): the `delivered_by` of an event in the table; NULL for an event that is new to it.
- `old_start_ts`, `old_end_ts` (timestamp): the session in the table that an event is in or that a span is of; NULL if
  there is none.
- `__has_new_values` (boolean): whether the batches only bring other carried values of the event.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sessions_dagster.model.columns import (
    DELIVERED_BY,
    EVENT,
    OLD_END,
    OLD_START,
    PRODUCT,
    SESSION_END,
    SESSION_START,
    TIMESTAMP,
    USER,
)
from sessions_dagster.model.delivery_bits import delivery_bit
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.transforms.sessionize import INTERVAL_END, INTERVAL_START, interval_end_of_event

FACT_KIND: Final = "__fact_kind"
ADDED_BITS: Final = "__added_bits"
REMOVED_BITS: Final = "__removed_bits"
EXISTING_BITS: Final = "__existing_bits"
HAS_NEW_VALUES: Final = "__has_new_values"


class FactKind(StrEnum):
    """What a fact is about."""

    EVENT = "event"
    SESSION_SPAN = "session_span"


def is_session_span() -> Column:
    """Whether a fact is a session span (boolean)."""
    return F.col(FACT_KIND) == FactKind.SESSION_SPAN.value


def incoming_facts(deliveries: DataFrame, rules: SessionRules, *, have_new_values: bool = False) -> DataFrame:
    """Facts of what batches deliver.

    Args:
        deliveries: The columns of `deliveries.DELIVERY`; an event that is delivered twice is there twice.
        rules: The session rules.
        have_new_values: Whether these deliveries are known to the table and only bring other carried values.

    Returns:
        One fact for each delivery.
    """
    values = {ADDED_BITS: delivery_bit(), HAS_NEW_VALUES: F.lit(have_new_values)}
    return _event_facts(deliveries, rules, values)


def retracted_facts(deliveries: DataFrame, rules: SessionRules) -> DataFrame:
    """Facts of what batches deliver no longer.

    Args:
        deliveries: The columns of `deliveries.DELIVERY` with `delivered_by`, `session_start_ts` and `session_end_ts` of
            the row in the table.
        rules: The session rules.

    Returns:
        One fact for each delivery.
    """
    of_existing_row = {
        EXISTING_BITS: F.col(DELIVERED_BY),
        OLD_START: F.col(SESSION_START),
        OLD_END: F.col(SESSION_END),
    }
    return _event_facts(deliveries, rules, {REMOVED_BITS: delivery_bit(), **of_existing_row})


def existing_facts(rows: DataFrame, rules: SessionRules) -> DataFrame:
    """Facts of what the table has.

    Args:
        rows: Rows of `sessionized_events` with `__fact_kind` (string): whether a row gives a fact of its event, or of
            the session that it is in.
        rules: The session rules.

    Returns:
        One fact for each row; a session may be there several times.
    """
    is_span, start, end = is_session_span(), F.col(SESSION_START), F.col(SESSION_END)
    values = {
        EVENT: F.when(~is_span, F.col(EVENT)),
        INTERVAL_START: F.when(is_span, start).otherwise(F.col(TIMESTAMP)),
        INTERVAL_END: F.when(is_span, end).otherwise(interval_end_of_event(rules)),
        EXISTING_BITS: F.when(~is_span, F.col(DELIVERED_BY)),
        OLD_START: start,
        OLD_END: end,
    }
    return _facts(rows, F.col(FACT_KIND), values)


def _event_facts(rows: DataFrame, rules: SessionRules, bits: dict[str, Column]) -> DataFrame:
    event = {
        EVENT: F.col(EVENT),
        INTERVAL_START: F.col(TIMESTAMP),
        INTERVAL_END: interval_end_of_event(rules),
    }
    return _facts(rows, F.lit(FactKind.EVENT.value), event | bits)


def _facts(rows: DataFrame, kind: Column, given: Mapping[str, Column]) -> DataFrame:
    values = {HAS_NEW_VALUES: F.lit(False), **given}
    columns = [values.get(name, F.lit(None)).cast(type_).alias(name) for name, type_ in _COLUMN_TYPES.items()]
    return rows.select(USER, PRODUCT, kind.alias(FACT_KIND), *columns)


_COLUMN_TYPES: Final = {
    EVENT: "string",
    INTERVAL_START: "timestamp",
    INTERVAL_END: "timestamp",
    ADDED_BITS: "int",
    REMOVED_BITS: "int",
    EXISTING_BITS: "int",
    OLD_START: "timestamp",
    OLD_END: "timestamp",
    HAS_NEW_VALUES: "boolean",
}
