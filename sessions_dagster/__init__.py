"""Exact user sessions from late batches: Spark computes, Delta Lake keeps, Dagster runs.

As a library:

    from sessions_dagster import SessionsConfig, build_defs

    defs = build_defs(SessionsConfig(start_date="2025-09-01", input_root="/data/events", warehouse_root="/data/lake"))

Without Dagster: `python -m sessions_dagster land --date 2025-09-20` (see `--help`).

Imports go one way, from the top of this list to its end:

    defs, component                               Dagster: assets, checks, jobs, a sensor, resources
    pipeline                                      land, apply, refresh, check: one function per step
    transforms, storage, input, quality, spark    DataFrames, Delta tables, batch folders, checks, Spark itself
    model                                         what the words mean: columns, schemas, rules, dates

Beside them are `config` (the settings), `alerts` (telling somebody) and `errors` (every exception). Importing this
package imports neither Spark nor Dagster, and reads nothing from the environment: each name below is imported when it
is first used.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sessions_dagster.alerts.settings import AlertSettings
    from sessions_dagster.component import SessionsComponent
    from sessions_dagster.config import SessionsConfig
    from sessions_dagster.defs import build_defs
    from sessions_dagster.model.rules import SessionRules
    from sessions_dagster.spark.session import SparkSettings

__all__ = [
    "AlertSettings",
    "SessionRules",
    "SessionsComponent",
    "SessionsConfig",
    "SparkSettings",
    "__version__",
    "build_defs",
]

try:
    __version__: str = version("sessions-dagster")
except PackageNotFoundError:
    __version__ = "0+unknown"

_MODULES: Final = {
    "AlertSettings": "sessions_dagster.alerts.settings",
    "SessionRules": "sessions_dagster.model.rules",
    "SessionsComponent": "sessions_dagster.component",
    "SessionsConfig": "sessions_dagster.config",
    "SparkSettings": "sessions_dagster.spark.session",
    "build_defs": "sessions_dagster.defs",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
