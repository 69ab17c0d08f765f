"""Whether contenders have the same rows: every row counts, with all columns of the contract.

Six batches do not decide everything on their six dates: a session that began before the first of these dates may begin
elsewhere for whoever does not know the events before it. Everything else they do decide. All events of the dates: a
batch brings events of its own day and of five days before, so the events of these dates come with these batches. And
every session that begins on one of them: that nothing reaches its start from before is as true without the older
events as with them. So the rows that belong to a session from before are compared as events, the others in full.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sessions_dagster.core.contract import (
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
    """A contender has other rows than it should; the message shows some of them."""


@dataclass(frozen=True)
class _Fingerprint:
    """What a set of rows comes to, duplicates counted: their number, and two folds of a 64-bit hash of each."""

    rows: int
    folded: int
    added: int


def assert_same_sessions(found: Mapping[str, DataFrame], expected: DataFrame) -> int:
    """Compare all columns of the contract.

    Args:
        found: Rows with the columns of the contract, by the contender who has them.
        expected: The rows they should be.

    Returns:
        How many rows each has.

    Raises:
        DifferentRowsError: If any contender differs in any row.
    """
    return _assert_same(found, expected, (*EVENT_IDENTITY, EVENT_DATE, *_SESSION_COLUMNS), EVENT_DATE)


def assert_same_deliveries(found: Mapping[str, DataFrame], expected: DataFrame) -> int:
    """Like `assert_same_sessions`, for rows of `raw_events`: the columns of an event, and the batch."""
    return _assert_same(found, expected, (*EVENT_IDENTITY, BATCH_DATE), BATCH_DATE)


def decided_since(first_date: date, rows: DataFrame, ours: DataFrame) -> DataFrame:
    """Rows as far as the batches since a day decide them.

    Args:
        first_date: That day.
        rows: Rows of any contender.
        ours: The whole table, which knows what happened before.

    Returns:
        The rows of event dates since then, without session where their event lies in one that began before.
    """
    begins = F.lit(first_date).cast("timestamp")
    across = ours.where((F.col(SESSION_START) < begins) & (F.col(EVENT_DATE) >= first_date))
    spans = across.groupBy(*SESSION_KEY).agg(F.max(SESSION_END).alias(_SPAN_END))
    known = rows.where(F.col(EVENT_DATE) >= first_date).join(F.broadcast(spans), [*SESSION_KEY], "left")
    is_undecided = F.coalesce(F.col(TIMESTAMP) <= F.col(_SPAN_END), F.lit(False))
    blanked = {name: F.when(~is_undecided, F.col(name)) for name in _SESSION_COLUMNS}
    return known.withColumns(blanked).drop(_SPAN_END)


def _assert_same(found: Mapping[str, DataFrame], expected: DataFrame, columns: Sequence[str], by: str) -> int:
    expected = _comparable(expected, columns)
    expected_prints = _fingerprints(expected, by)
    for who, rows in found.items():
        compared = _comparable(rows, columns)
        prints = _fingerprints(compared, by)
        different = sorted(day for day in {*prints, *expected_prints} if prints.get(day) != expected_prints.get(day))
        if different:
            here, there = (each.where(F.col(by).isin(*different)) for each in (compared, expected))
            raise DifferentRowsError(
                f"{who} has other rows on {', '.join(map(str, different))}, such as these:\n{_differences(here, there)}"
            )
    return sum(each.rows for each in expected_prints.values())


def _fingerprints(rows: DataFrame, by: str) -> Mapping[date, _Fingerprint]:
    # A hash skips NULLs, so that values that change places around one would go unseen.
    values = [F.coalesce(F.col(name).cast("string"), F.lit("\0")) for name in rows.columns]
    hashed = rows.select(by, F.xxhash64(*values).alias("hash"))
    # The sum of the upper half cannot overflow.
    added = F.sum(F.shiftright("hash", 32))
    counted = hashed.groupBy(by).agg(F.count("*").alias("n"), F.bit_xor("hash").alias("folded"), added.alias("added"))
    return {row[by]: _Fingerprint(row["n"], row["folded"], row["added"]) for row in counted.collect()}


def _comparable(rows: DataFrame, columns: Sequence[str]) -> DataFrame:
    def value(name: str) -> Column:
        if rows.schema[name].dataType.typeName().startswith("timestamp"):
            return F.unix_micros(F.col(name).cast("timestamp")).alias(name)
        return F.col(name)

    return rows.select(*map(value, columns))


def _differences(found: DataFrame, expected: DataFrame) -> str:
    """Some rows that one side has more often than the other."""
    counted = found.withColumn(_SURPLUS, F.lit(1)).unionByName(expected.withColumn(_SURPLUS, F.lit(-1)))
    surplus = counted.groupBy(*found.columns).agg(F.sum(_SURPLUS).alias(_SURPLUS)).where(F.col(_SURPLUS) != 0)
    return "\n".join(
        f"    {'too many' if row[_SURPLUS] > 0 else 'missing'}: {row.asDict()}"
        for row in surplus.limit(_SHOWN_ROWS).collect()
    )
