"""The daily partitions that all assets of a product share, and the window of batches behind a day of sessions."""

import dagster as dg

from sessions_dagster.config import SessionsConfig
from sessions_dagster.model.rules import SessionRules


def daily_partitions(config: SessionsConfig) -> dg.DailyPartitionsDefinition:
    """One partition for each day (UTC) from the start date on."""
    return dg.DailyPartitionsDefinition(start_date=config.start_date.isoformat(), timezone="UTC")


def upstream_window(rules: SessionRules) -> dg.TimeWindowPartitionMapping:
    """The batches that can bring events of day D together with it: D - `lateness_days` .. D."""
    return dg.TimeWindowPartitionMapping(start_offset=-rules.lateness_days, end_offset=0)
