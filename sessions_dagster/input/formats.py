"""The formats of input files."""

from typing import Literal

InputFormat = Literal["parquet", "csv", "json"]
"""The name of a format; `readers` has a reader for each."""
