"""The daily partitions that all assets of a product share, and the window of batches behind a day of sessions."""

from datetime import date

import dagster as dg

from sessions_dagster.config import SessionsConfig
from sessions_dagster.errors import PartitionsError
from sessions_dagster.model.dates import day_range, days_between
from sessions_dagster.model.rules import SessionRules


def daily_partitions(config: SessionsConfig) -> dg.DailyPartitionsDefinition:
    """One partition for each day (UTC) from the start date on."""
    return dg.DailyPartitionsDefinition(start_date=config.start_date.isoformat(), timezone="UTC")


def upstream_window(rules: SessionRules) -> dg.TimeWindowPartitionMapping:
    """The batches that can bring events of day D together with it: D - `lateness_days` .. D."""
    return dg.TimeWindowPartitionMapping(start_offset=-rules.lateness_days, end_offset=0)


def days_of_step(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, config: SessionsConfig
) -> list[date]:
    """The days of the partitions of a running step, in order and at least one.

    Dagster checks the two ends of a range only, and a range whose first day is after its last one has no partition.

    Args:
        context: The context of the step, of a run with a partition or a range of partitions.
        config: The product.

    Raises:
        PartitionsError: If the run has no days, if they are not partitions of the product, or if the first one is after
            the last one.
    """
    if not (context.has_partition_key or context.has_partition_key_range):
        raise PartitionsError(
            "This run has no partition, so it is of no day. Nothing was done. Choose a day or a range of days: "
            "materialize the assets from their graph, or with dagster asset materialize."
        )
    keys = context.partition_key_range
    try:
        first, last = date.fromisoformat(keys.start), date.fromisoformat(keys.end)
    except ValueError:
        raise PartitionsError(f"{day_range(keys.start, keys.end)} is not a day, or not a range of days.") from None
    if first > last:
        raise PartitionsError(
            f"The range {day_range(first, last)} has no day, because its first day is after its last one. Nothing was "
            f"done. Run it as {day_range(last, first)}."
        )
    newest = daily_partitions(config).get_last_partition_key()
    if newest is None:
        raise PartitionsError(
            f"There is no partition yet: the start date, {config.start_date}, is not over (UTC). Nothing was done."
        )
    if first < config.start_date or last > date.fromisoformat(newest):
        raise PartitionsError(
            f"{day_range(first, last)} is not within the partitions, which are {day_range(config.start_date, newest)}. "
            "Nothing was done. Choose days that are over (UTC), and not before the start date."
        )
    return days_between(first, last)
