"""In which rows a table differs from what it is expected to be, as a table."""

from collections.abc import Sequence
from enum import StrEnum
from functools import reduce
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

KIND_OF_DIFFERENCE: Final = "kind"
ROWS: Final = "rows"
EXPECTED: Final = "expected"
FOUND: Final = "found"

_COUNT_EXPECTED: Final = "__expected"
_COUNT_FOUND: Final = "__found"
_VALUES: Final = "__values"
_NO_VALUE: Final = "NULL"


class DifferenceKind(StrEnum):
    """How a table differs from what it is expected to be."""

    MISSING = "missing"
    """A row is not there."""

    EXTRA = "extra"
    """A row is there that should not be, or is there once too often."""

    DIFFERENT = "different"
    """A row has other values."""


def differences(expected: DataFrame, found: DataFrame, key: Sequence[str], compared: Sequence[str]) -> DataFrame:
    """Compare rows with those that are expected, each as often as it is there.

    Args:
        expected: The rows that there should be, with the columns of `key` and `compared`.
        found: The rows that there are, with the same columns.
        key: The columns that tell what a row is about.
        compared: The other columns that have to be the same. In a text they are given in this order.

    Returns:
        One row for each key and kind of difference: the columns of `key`, `kind` (string, see `DifferenceKind`), `rows`
        (long, how many rows are concerned), `expected` and `found` (string, the values in words; NULL if there is no
        such row. If a row is different, the values that are, and the first one in any case).
    """
    unequal = unequal_rows(expected, found, [*key, *compared])
    none = F.lit(0).cast("long")
    more_expected = F.greatest(F.col(_COUNT_EXPECTED) - F.col(_COUNT_FOUND), none)
    more_found = F.greatest(F.col(_COUNT_FOUND) - F.col(_COUNT_EXPECTED), none)
    values = F.struct(*compared)
    by_key = unequal.groupBy(*key).agg(
        F.sum(more_expected).alias(_COUNT_EXPECTED),
        F.sum(more_found).alias(_COUNT_FOUND),
        F.min(F.when(more_expected > 0, values)).alias(EXPECTED),
        F.min(F.when(more_found > 0, values)).alias(FOUND),
    )
    return _in_words(by_key, key, compared)


def unequal_rows(expected: DataFrame, found: DataFrame, columns: Sequence[str]) -> DataFrame:
    """The rows that one side has more often than the other.

    Args:
        expected: The rows that there should be.
        found: The rows that there are.
        columns: The columns in which they are compared.

    Returns:
        The columns, each combination of values once, with `__expected` and `__found` (long): how often a side has it.
    """
    one, none = F.lit(1).cast("long"), F.lit(0).cast("long")
    both = expected.select(*columns, one.alias(_COUNT_EXPECTED), none.alias(_COUNT_FOUND)).unionAll(
        found.select(*columns, none.alias(_COUNT_EXPECTED), one.alias(_COUNT_FOUND))
    )
    # What is the same on both sides is gone after one aggregate, which is nearly everything.
    balance = both.groupBy(*columns).agg(
        F.sum(_COUNT_EXPECTED).alias(_COUNT_EXPECTED), F.sum(_COUNT_FOUND).alias(_COUNT_FOUND)
    )
    return balance.where(F.col(_COUNT_EXPECTED) != F.col(_COUNT_FOUND))


def _in_words(by_key: DataFrame, key: Sequence[str], compared: Sequence[str]) -> DataFrame:
    wanted, there = F.col(_COUNT_EXPECTED), F.col(_COUNT_FOUND)
    is_different = [~F.col(EXPECTED)[name].eqNullSafe(F.col(FOUND)[name]) for name in compared]
    shown = [is_different[0] | F.lit(True), *is_different[1:]]
    everything = [F.lit(True) for _ in compared]
    nothing = F.lit(None).cast("string")
    kinds = F.array(
        _difference(
            DifferenceKind.DIFFERENT,
            F.least(wanted, there),
            _text(EXPECTED, compared, shown),
            _text(FOUND, compared, shown),
        ),
        _difference(DifferenceKind.MISSING, wanted - there, _text(EXPECTED, compared, everything), nothing),
        _difference(DifferenceKind.EXTRA, there - wanted, nothing, _text(FOUND, compared, everything)),
    )
    each = by_key.select(*key, F.explode(kinds).alias(_VALUES)).select(*key, f"{_VALUES}.*")
    return each.where(F.col(ROWS) > 0)


def _difference(kind: DifferenceKind, rows: Column, expected: Column, found: Column) -> Column:
    return F.struct(
        F.lit(kind.value).alias(KIND_OF_DIFFERENCE), rows.alias(ROWS), expected.alias(EXPECTED), found.alias(FOUND)
    )


def _text(side: str, names: Sequence[str], is_shown: Sequence[Column]) -> Column:
    """The values of a side in words: `session_start_ts 2025-09-18 10:00:00, delivered_by 3`."""
    parts = [
        F.when(shown, F.concat_ws(" ", F.lit(name), F.coalesce(F.col(side)[name].cast("string"), F.lit(_NO_VALUE))))
        for name, shown in zip(names, is_shown, strict=True)
    ]
    return F.concat_ws(", ", *parts)


def all_of(frames: Sequence[DataFrame]) -> DataFrame:
    """The rows of several frames, at least one, that have the same columns."""
    return reduce(DataFrame.unionAll, frames)
