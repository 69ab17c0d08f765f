"""Whether contenders have the same rows: every row is compared, with all columns of the contract.

A recompute reads six batches and writes their six dates. These batches contain all events of the dates, because a batch
brings events of its own day and of the five days before. They also decide every session that starts on one of the
dates, because no earlier event reaches such a session. They do not decide a session that started before the first date:
without the earlier events, it seems to start later. Therefore rows of such sessions are compared by the columns of the
event alone, and all other rows by all columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sessions_dagster.model.columns import (
    BATCH_DATE,
    EVENT_DATE,
    EVENT_IDENTITY,
    SESSION_END,
    SESSION_ID,
    SESSION_KEY,
    SESSION_START,
    TIMESTAMP,
)

_SESSION_COLUMNS: Final = (SESSION_START, SESSION_END, SESSION_ID)
_SPAN_END: Final = "span_end"
_SURPLUS: Final = "surplus"
_SHOWN_ROWS: Final = 10


class DifferentRowsError(AssertionError):
    """A contender has wrong rows; the message shows some of them."""


@dataclass(frozen=True)
class _Fingerprint:
    """The number of rows of a set, duplicates included, and two aggregates of their 64-bit hashes.

    Attributes:
        rows: Number of rows.
        xor: All hashes combined by exclusive or.
        upper_sum: Sum of the upper 32 bits of all hashes.
    """

    rows: int
    xor: int
    upper_sum: int


def assert_same_sessions(found: Mapping[str, DataFrame], expected: DataFrame) -> int:
    """Compare rows by all columns of the contract.

    Args:
        found: The rows of each contender, with the columns of the contract.
        expected: The right rows.

    Returns:
        The number of rows that each contender has.

    Raises:
        DifferentRowsError: If any contender differs in any row.
    """
    return _assert_same(found, expected, (*EVENT_IDENTITY, EVENT_DATE, *_SESSION_COLUMNS), EVENT_DATE)


def assert_same_deliveries(found: Mapping[str, DataFrame], expected: DataFrame) -> int:
    """Compare rows of `raw_events` by the columns of an event and the batch; see `assert_same_sessions`."""
    return _assert_same(found, expected, (*EVENT_IDENTITY, BATCH_DATE), BATCH_DATE)


def decided_since(first_date: date, rows: DataFrame, ours: DataFrame) -> DataFrame:
    """Reduce rows to what the batches since a day decide.

    Args:
        first_date: The day of the first batch.
        rows: Rows of any contender.
        ours: The whole table of the product, which has the sessions from before that day.

    Returns:
        The rows with an event date since that day. The session columns are NULL in rows whose event lies in a session
        that started before that day.
    """
    midnight = F.lit(first_date).cast("timestamp")
    across = ours.where((F.col(SESSION_START) < midnight) & (F.col(EVENT_DATE) >= first_date))
    spans = across.groupBy(*SESSION_KEY).agg(F.max(SESSION_END).alias(_SPAN_END))
    since = rows.where(F.col(EVENT_DATE) >= first_date).join(F.broadcast(spans), [*SESSION_KEY], "left")
    is_undecided = F.coalesce(F.col(TIMESTAMP) <= F.col(_SPAN_END), F.lit(False))
    blanked = {name: F.when(~is_undecided, F.col(name)) for name in _SESSION_COLUMNS}
    return since.withColumns(blanked).drop(_SPAN_END)


def _assert_same(found: Mapping[str, DataFrame], expected: DataFrame, columns: Sequence[str], by: str) -> int:
    expected = _comparable(expected, columns)
    expected_fingerprints = _fingerprints(expected, by)
    for contender, rows in found.items():
        compared = _comparable(rows, columns)
        fingerprints = _fingerprints(compared, by)
        different = sorted(
            day
            for day in {*fingerprints, *expected_fingerprints}
            if fingerprints.get(day) != expected_fingerprints.get(day)
        )
        if different:
            here, there = (each.where(F.col(by).isin(*different)) for each in (compared, expected))
            dates, examples = ", ".join(map(str, different)), _differences(here, there)
            raise DifferentRowsError(f"{contender} has other rows on {dates}, such as these:\n{examples}")
    return sum(each.rows for each in expected_fingerprints.values())


def _fingerprints(rows: DataFrame, by: str) -> Mapping[date, _Fingerprint]:
    # NULLs are replaced, because the hash skips them and would miss values that move across a NULL column.
    values = [F.coalesce(F.col(name).cast("string"), F.lit("\0")) for name in rows.columns]
    hashed = rows.select(by, F.xxhash64(*values).alias("hash"))
    # Only the upper half is summed, because a sum of whole hashes could overflow.
    upper_sum = F.sum(F.shiftright("hash", 32))
    columns = F.count("*").alias("n"), F.bit_xor("hash").alias("xor"), upper_sum.alias("upper_sum")
    counted = hashed.groupBy(by).agg(*columns)
    return {row[by]: _Fingerprint(row["n"], row["xor"], row["upper_sum"]) for row in counted.collect()}


def _comparable(rows: DataFrame, columns: Sequence[str]) -> DataFrame:
    def value(name: str) -> Column:
        if rows.schema[name].dataType.typeName().startswith("timestamp"):
            return F.unix_micros(F.col(name).cast("timestamp")).alias(name)
        return F.col(name)

    return rows.select(*map(value, columns))


def _differences(found: DataFrame, expected: DataFrame) -> str:
    """Show some of the rows that one side has more often than the other."""
    counted = found.withColumn(_SURPLUS, F.lit(1)).unionByName(expected.withColumn(_SURPLUS, F.lit(-1)))
    surplus = counted.groupBy(*found.columns).agg(F.sum(_SURPLUS).alias(_SURPLUS)).where(F.col(_SURPLUS) != 0)
    return "\n".join(
        f"    {'too many' if row[_SURPLUS] > 0 else 'missing'}: {row.asDict()}"
        for row in surplus.limit(_SHOWN_ROWS).collect()
    )
