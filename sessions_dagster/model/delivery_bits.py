"""The bits of `delivered_by`: which batches delivered an event.

Bit k stands for the batch of `event_date + k` days. With `lateness_days` of lateness an event has `lateness_days + 1`
bits. All expressions here compute with integers; `delivery_bits_type` is the type that a table stores.
"""

from datetime import date

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import ByteType, DataType, IntegerType, ShortType

from sessions_dagster.model.columns import BATCH_DATE, DELIVERED_BY, EVENT_DATE
from sessions_dagster.model.rules import SessionRules


def delivery_bits_type(rules: SessionRules) -> DataType:
    """The smallest type of a column that holds a bit for each batch that can deliver an event."""
    bits = len(rules.latenesses)
    if bits < 8:
        return ByteType()
    return ShortType() if bits < 16 else IntegerType()


def delivery_bit() -> Column:
    """The bit (int) of a row with `batch_date` and `event_date` (date)."""
    return _bit_of_days(F.datediff(BATCH_DATE, EVENT_DATE))


def has_delivered(batch_date: Column, rules: SessionRules) -> Column:
    """Whether a batch (date) is among those that delivered a row with `delivered_by` and `event_date` (boolean)."""
    days = F.datediff(batch_date, F.col(EVENT_DATE))
    is_possible = days.between(0, rules.lateness_days)
    return is_possible & (F.col(DELIVERED_BY).cast("int").bitwiseAND(_bit_of_days(days)) != 0)


def delivering_batches(bits: Column, event_date: Column, rules: SessionRules) -> Column:
    """The batches (array of date) that some bits (int) of an event date (date) stand for, in order."""
    batches = [
        F.when(bits.bitwiseAND(F.lit(1 << days)) != 0, F.date_add(event_date, days)) for days in rules.latenesses
    ]
    return F.array_compact(F.array(*batches))


def first_lateness(bits: Column) -> Column:
    """By how many days after its event date an event was first delivered (int): the number of its lowest bit."""
    whole = bits.cast("int")
    return F.bit_count(whole.bitwiseAND(-whole) - 1)


def bit_of(batch_date: date, event_date: date) -> int:
    """The bit of one batch and one event date, as a number."""
    return 1 << (batch_date - event_date).days


def _bit_of_days(days: Column) -> Column:
    return F.call_function("shiftleft", F.lit(1), days)
