"""What a run has to know of keys before it looks at their events: which may meet the day before, and which are large.

One pass over the events tells both. Which keys are large changes no row of the outcome.
"""

from datetime import date, timedelta
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sessions_dagster.core.contract import EVENT_DATE, SESSION_KEY, TIMESTAMP, SessionRules
from sessions_dagster.core.days import ONE_DAY, among
from sessions_dagster.runtime.sizing import Sizes

IS_AT_MIDNIGHT: Final = "is_at_midnight"
IS_NEW: Final = "is_new"
IS_LARGE: Final = "is_large"
IS_LARGE_AS_NEW: Final = "is_large_as_new"

_IS_SAMPLED: Final = "is_sampled"
_SAMPLE: Final = 0.01
_SEED: Final = 1
_US_A_DAY: Final = ONE_DAY // timedelta(microseconds=1)


def is_at_midnight(day: date, rules: SessionRules) -> Column:
    """Whether a row of `raw_events` is an event of a day that a user action before that day may reach."""
    since_midnight = F.pmod(F.unix_micros(TIMESTAMP), F.lit(_US_A_DAY))
    return among(EVENT_DATE, [day]) & (since_midnight < rules.timeout_us)


def notable_keys(rows: DataFrame, count: int) -> DataFrame:
    """The keys with an event at midnight, and those with more than about as many rows as `Sizes.large_key_rows` says.

    Args:
        rows: `user_id, product_code` (string), `is_at_midnight, is_new` (boolean: whether it is of the new day).
        count: About how many rows these are. Where they are no more than a key may have, no key is large.

    Returns:
        `user_id, product_code` (string), `is_at_midnight`, `is_large_as_new`, `is_large` (boolean: by its rows of the
        new day, by all others, as they are not looked at together), one row per key that is any of these.
    """
    limit = Sizes.of(rows.sparkSession).large_key_rows
    # A sample is a good deal quicker than to count, and a key near the limit is as well off either way.
    is_sampled = F.rand(_SEED) < _SAMPLE if count > limit else F.lit(False)
    looked_at = rows.withColumn(_IS_SAMPLED, is_sampled).where(F.col(IS_AT_MIDNIGHT) | F.col(_IS_SAMPLED))
    keys = looked_at.groupBy(*SESSION_KEY).agg(
        F.bool_or(IS_AT_MIDNIGHT).alias(IS_AT_MIDNIGHT),
        (F.count_if(F.col(_IS_SAMPLED) & F.col(IS_NEW)) > limit * _SAMPLE).alias(IS_LARGE_AS_NEW),
        (F.count_if(F.col(_IS_SAMPLED) & ~F.col(IS_NEW)) > limit * _SAMPLE).alias(IS_LARGE),
    )
    return keys.where(F.col(IS_AT_MIDNIGHT) | F.col(IS_LARGE_AS_NEW) | F.col(IS_LARGE))
