"""The daily partitions that the assets share, and the window of batches a day of sessions is made from."""

import os
from typing import Final

import dagster as dg

from sessions_dagster.core.contract import LATENESS_DAYS

START_DATE_VARIABLE: Final = "SESSIONS_START_DATE"
DEFAULT_START_DATE: Final = "2025-01-01"

daily_partitions = dg.DailyPartitionsDefinition(
    start_date=os.environ.get(START_DATE_VARIABLE, DEFAULT_START_DATE), timezone="UTC"
)

five_day_window = dg.TimeWindowPartitionMapping(start_offset=-LATENESS_DAYS, end_offset=0)
"""Batch D brings events of D-5 .. D, so the sessions of D follow from the batches D-5 .. D."""
