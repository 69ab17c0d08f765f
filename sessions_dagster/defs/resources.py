"""What the steps of a product share in a run: one Spark session, and one handle on each table."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar, cast

import dagster as dg
from dagster_deltalake import DeltaTableResource, LocalConfig
from dagster_pyspark import LazyPySparkResource
from pydantic import Field, PrivateAttr
from pyspark.sql import SparkSession

from sessions_dagster.config import WAREHOUSE_SETTING, SessionsConfig
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.input.formats import InputFormat
from sessions_dagster.redaction import redacted
from sessions_dagster.spark.connect import prepare
from sessions_dagster.spark.session import SparkSettings, running_session, spark_session, start_spark, stop_spark
from sessions_dagster.storage.warehouse import Warehouse

SPARK: Final = "spark"
LAKE: Final = "lake"

_one_sensor: Final = threading.Lock()


class SparkResource(LazyPySparkResource):
    """A Spark session with Delta. It starts when it is first asked for, and ends with the run that started it."""

    master: str = Field(default="local[*]", description="Spark's master URL.")
    driver_memory: str = Field(default="2g", description="Heap of the driver; in local mode that is all of Spark.")
    shuffle_partitions: int | None = Field(
        default=None, description="Partitions of a shuffle; by default they follow from the number of cores."
    )
    spark_config: dict[str, Any] = Field(default={}, description="Further Spark properties, which override all others.")
    delta_jars: str | None = Field(
        default=None, description="Local JARs of Delta, separated by commas; by default Spark resolves them."
    )
    app_name: str = Field(default="sessions-dagster", description="The name of the Spark application.")
    on_s3: bool = Field(default=False, description="Whether batches or tables are on S3 or a store that speaks it.")
    server: str | None = Field(
        default=None, description="A server of Spark Connect that is used if it answers, such as sc://localhost:15002."
    )
    shared_folders: bool = Field(default=False, description="Whether a cluster sees the local folders of this machine.")

    given: ClassVar[SparkSettings | None] = None
    """The settings that a resource was made of. Its fields, which Dagster shows, do not have the secrets in them."""

    _started_here: bool = PrivateAttr(default=False)

    @classmethod
    def of(cls, settings: SparkSettings) -> "SparkResource":
        """The resource for some settings."""

        # Dagster makes a resource anew for each run, of its class and its fields.
        class OfSettings(cls):  # type: ignore[misc, valid-type]
            given: ClassVar[SparkSettings | None] = settings

        OfSettings.__name__, OfSettings.__qualname__ = cls.__name__, cls.__qualname__
        return OfSettings(
            master=redacted(settings.master),
            driver_memory=settings.driver_memory,
            shuffle_partitions=settings.shuffle_partitions,
            spark_config=redacted(settings.extra_conf),
            delta_jars=settings.delta_jars,
            app_name=settings.app_name,
            on_s3=settings.on_s3,
            server=redacted(settings.server),
            shared_folders=settings.shared_folders,
        )

    def _init_session(self) -> None:
        if self._spark_session is None:
            running = running_session()
            self._started_here = running is None
            if running is not None:
                prepare(running)
            self._spark_session = running or start_spark(self.settings)

    @property
    def spark_session(self) -> SparkSession:
        """The session of this process. One that is already running is used, and is left running."""
        self._init_session()
        return cast("SparkSession", self._spark_session)

    @property
    def settings(self) -> SparkSettings:
        """The fields as `start_spark` takes them, with the secrets of the settings that the resource was made of."""
        given = self.given or SparkSettings()
        hidden = redacted(given.extra_conf)
        extra_conf = {name: str(value) for name, value in self.spark_config.items()}
        return SparkSettings(
            master=_revealed(self.master, given.master),
            driver_memory=self.driver_memory,
            shuffle_partitions=self.shuffle_partitions,
            extra_conf={
                name: given.extra_conf[name] if value == hidden.get(name) else value
                for name, value in extra_conf.items()
            },
            delta_jars=self.delta_jars,
            app_name=self.app_name,
            on_s3=self.on_s3,
            server=_revealed(self.server, given.server),
            shared_folders=self.shared_folders,
        )

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Stop the session if this resource started it."""
        if self._started_here and self._spark_session is not None:
            stop_spark(self._spark_session)
        self._spark_session, self._started_here = None, False


_Text = TypeVar("_Text", str, str | None)


def _revealed(shown: _Text, known: _Text) -> _Text:
    """The value of a field: that which it was made of, unless it was given another one since."""
    return known if shown == redacted(known) else shown


class LakeResource(dg.ConfigurableResource[Any]):
    """Where the batches arrive and where the tables are: local folders or URIs."""

    input_root: str = Field(description="Folder or URI with the folders `date=YYYY-MM-DD/`.")
    input_format: InputFormat = Field(default="parquet", description="Format of the input files.")
    warehouse_root: str = Field(description="Folder or URI that holds the tables.")
    catalog_schema: str | None = Field(
        default=None, description="Schema of Spark's catalogue in which the tables have their names."
    )
    logs_through_spark: bool = Field(
        default=False, description="Whether the logs of the tables are read through Spark."
    )

    _warehouse: Warehouse | None = PrivateAttr(default=None)

    @property
    def input(self) -> InputRoot:
        """The input folders."""
        return InputRoot(self.input_root)

    def tables(self, spark: Callable[[], SparkSession]) -> Warehouse:
        """The tables. It is one object for the whole run, so that the run opens each table once.

        Args:
            spark: Gives the session of the run.
        """
        if self._warehouse is None:
            logs_through = spark if self.logs_through_spark else None
            self._warehouse = Warehouse(self.warehouse_root, self.catalog_schema, logs_through)
        return self._warehouse

    def table(self, uri: str) -> DeltaTableResource:
        """A table as a resource of `dagster_deltalake`, for assets of your own that read it without Spark."""
        # How to reach an object store is in the environment (AWS_...): delta-rs and pyarrow look there, too.
        return DeltaTableResource(url=uri, storage_options=LocalConfig())


@dataclass(frozen=True)
class RunResources:
    """The resources of a product in a running step.

    Attributes:
        spark_resource: How Spark is started.
        lake: The input and the tables.
    """

    spark_resource: SparkResource
    lake: LakeResource

    @property
    def spark(self) -> SparkSession:
        """The Spark session. It starts now if it is not running, and if there is somewhere to write to."""
        self.warehouse.check_writable(WAREHOUSE_SETTING)
        return self.spark_resource.spark_session

    @property
    def warehouse(self) -> Warehouse:
        """The tables."""
        return self.lake.tables(lambda: self.spark_resource.spark_session)


@contextmanager
def tables_without_run(config: SessionsConfig) -> Iterator[Warehouse]:
    """The tables for a sensor, which has no run and needs Spark only if that has to read the logs.

    Raises:
        SparkStartError: If it has to, and does not start.
    """
    if not config.logs_through_spark:
        yield Warehouse(config.warehouse_root)
        return
    # Sensors are evaluated in threads of one process, whose session would end with the first of them.
    with _one_sensor, spark_session(config.spark) as spark:
        yield Warehouse(config.warehouse_root, logs_through=lambda: spark)


def build_resources(config: SessionsConfig) -> dict[str, dg.ConfigurableResource[Any]]:
    """The resources of a product by their keys, which carry its prefix."""
    return {
        config.prefixed(SPARK): SparkResource.of(config.spark),
        config.prefixed(LAKE): LakeResource(
            input_root=config.input_root,
            input_format=config.input_format,
            warehouse_root=config.warehouse_root,
            catalog_schema=config.catalog_schema,
            logs_through_spark=config.logs_through_spark,
        ),
    }


def resource_keys(config: SessionsConfig) -> set[str]:
    """The keys of the resources that every step of a product needs."""
    return {config.prefixed(SPARK), config.prefixed(LAKE)}


def resources_of(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext | dg.OpExecutionContext, config: SessionsConfig
) -> RunResources:
    """The resources of a product in a step, which must require `resource_keys`."""
    return RunResources(
        spark_resource=cast("SparkResource", getattr(context.resources, config.prefixed(SPARK))),
        lake=cast("LakeResource", getattr(context.resources, config.prefixed(LAKE))),
    )
