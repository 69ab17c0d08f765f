"""What the assets are given: a Spark session, the session rules, and the places of input and tables."""

import os
from datetime import timedelta
from typing import Any, Final, Literal, cast

import dagster as dg
from dagster_deltalake import DeltaTableResource, LocalConfig
from dagster_pyspark import LazyPySparkResource
from pydantic import Field, PrivateAttr
from pyspark.sql import SparkSession

from sessions_dagster.core.contract import BOT_LIMIT, SessionRules
from sessions_dagster.lake.arrivals import Completeness
from sessions_dagster.lake.places import InputRoot, Warehouse
from sessions_dagster.runtime.spark import SparkSettings, running_session, start_spark

INPUT_ROOT_VARIABLE: Final = "SESSIONS_INPUT_ROOT"
WAREHOUSE_ROOT_VARIABLE: Final = "SESSIONS_WAREHOUSE_ROOT"
SPARK_MASTER_VARIABLE: Final = "SESSIONS_SPARK_MASTER"
BOT_LIMIT_VARIABLE: Final = "SESSIONS_BOT_LIMIT"
SETTLE_SECONDS_VARIABLE: Final = "SESSIONS_SETTLE_SECONDS"
SUCCESS_MARKER_VARIABLE: Final = "SESSIONS_REQUIRE_SUCCESS_MARKER"

DEFAULT_INPUT_ROOT: Final = "data/input"
DEFAULT_WAREHOUSE_ROOT: Final = "data/warehouse"
DEFAULT_SPARK_MASTER: Final = "local[*]"
DEFAULT_SETTLE_SECONDS: Final = 60

_YES: Final = {"true", "yes", "1"}
_NO: Final = {"false", "no", "0", ""}


class SparkResource(LazyPySparkResource):
    """A Spark session with Delta, started when first asked for and stopped at the end of the run that started it."""

    master: str = Field(default=DEFAULT_SPARK_MASTER, description="Spark's master URL.")
    driver_memory: str = Field(default="2g", description="Heap of the driver; in local mode that is all of Spark.")
    shuffle_partitions: int | None = Field(
        default=None, description="Partitions of a shuffle; by default they follow the cores."
    )
    spark_config: dict[str, Any] = Field(default={}, description="Further Spark properties; they win over all others.")

    _is_ours: bool = PrivateAttr(default=False)

    def _init_session(self) -> None:
        if self._spark_session is None:
            running = running_session()
            self._is_ours = running is None
            self._spark_session = running or start_spark(self.settings)

    @property
    def spark_session(self) -> SparkSession:
        """The session of this process; one that is running already is used and left running."""
        self._init_session()
        return cast("SparkSession", self._spark_session)

    @property
    def settings(self) -> SparkSettings:
        """The fields as settings of the runtime."""
        return SparkSettings(
            master=self.master,
            driver_memory=self.driver_memory,
            shuffle_partitions=self.shuffle_partitions,
            extra_conf={name: str(value) for name, value in self.spark_config.items()},
        )

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Stop the session if this resource started it."""
        if self._is_ours and self._spark_session is not None:
            self._spark_session.stop()
            self._spark_session, self._is_ours = None, False


class SessionRulesResource(dg.ConfigurableResource[Any]):
    """What makes a session. The table is kept with the rules it was built with; a run with others stops."""

    timeout_seconds: float = Field(default=300.0, description="User actions less than this apart are in one session.")
    user_action_ids: list[str] = Field(default=["a", "b", "c"], description="The event ids that are user actions.")

    @property
    def rules(self) -> SessionRules:
        """The fields as the contract knows them."""
        return SessionRules(timedelta(seconds=self.timeout_seconds), frozenset(self.user_action_ids))


class LakeResource(dg.ConfigurableResource[Any]):
    """Where batches arrive and where the tables are: local folders or URIs."""

    input_root: str = Field(
        default=DEFAULT_INPUT_ROOT, description="Folder or URI with the folders `date=YYYY-MM-DD/`."
    )
    input_format: Literal["parquet", "csv", "json"] = Field(default="parquet", description="Format of the input files.")
    warehouse_root: str = Field(default=DEFAULT_WAREHOUSE_ROOT, description="Folder or URI that holds the tables.")

    @property
    def input(self) -> InputRoot:
        """The input folders."""
        return InputRoot(self.input_root)

    @property
    def warehouse(self) -> Warehouse:
        """The tables."""
        return Warehouse(self.warehouse_root)

    def table(self, uri: str) -> DeltaTableResource:
        """A table of the warehouse as delta-rs sees it: facts from its log, without a JVM."""
        # How to reach an object store is in the environment (AWS_...): delta-rs and pyarrow look there, too.
        return DeltaTableResource(url=uri, storage_options=LocalConfig())


class LandingResource(dg.ConfigurableResource[Any]):
    """What landing accepts beyond the contract of a row."""

    bot_limit: int = Field(
        default=BOT_LIMIT,
        ge=0,
        description="With more events than this in one batch a user is a bot, and rejected; 0: nobody is.",
    )

    @property
    def limit(self) -> int | None:
        """The limit as landing takes it."""
        return self.bot_limit or None


class ArrivalsResource(dg.ConfigurableResource[Any]):
    """When the sensor takes the folder of a batch for complete."""

    settle_seconds: int = Field(
        default=DEFAULT_SETTLE_SECONDS, ge=0, description="So long nothing may have changed in the folder."
    )
    require_success_marker: bool = Field(
        default=False,
        description="Go by the file `_SUCCESS` in the folder instead, for senders that write it last.",
    )

    @property
    def completeness(self) -> Completeness:
        """The fields as the rule they are."""
        return Completeness(timedelta(seconds=self.settle_seconds), self.require_success_marker)


def setting(variable: str, default: str | int) -> Any:
    """A resource field that an environment variable sets (shown as such in the UI), or a default."""
    if variable not in os.environ:
        return default
    return dg.EnvVar.int(variable) if isinstance(default, int) else dg.EnvVar(variable)


def switch(variable: str) -> bool:
    """A resource field that an environment variable turns on. Dagster's own variables hold text or numbers only.

    Raises:
        ValueError: If it says neither yes nor no.
    """
    said = os.environ.get(variable, "false")
    if said.lower() not in _YES | _NO:
        raise ValueError(f"{variable} must be true or false, not {said!r}.")
    return said.lower() in _YES
