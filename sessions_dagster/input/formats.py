"""The formats of input files."""

from typing import Literal

InputFormat = Literal["parquet", "csv", "json"]
"""The name of a format; `readers` has a reader for each."""

EpochUnit = Literal["seconds", "milliseconds", "microseconds"]
"""What a timestamp counts that is delivered as a number since 1970-01-01 00:00:00 UTC."""
