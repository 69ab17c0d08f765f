"""Starts and stops a Spark that reads and writes Delta tables.

Here belongs what every Delta project needs in a session: its JARs, time zone, memory and a quiet console. What depends
on the number of cores or rows is in `tuning`.
"""

import logging
import os
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

import pyspark
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import SparkSession

from sessions_dagster import s3
from sessions_dagster.errors import SparkStartError, WrongSettingError
from sessions_dagster.redaction import redacted
from sessions_dagster.spark.connect import (
    CATALOG,
    CONNECT_MODE,
    DELTA_CATALOG,
    DELTA_EXTENSION,
    EXTENSIONS,
    NEEDED,
    connect,
    disconnect,
    is_address,
    prepare,
)
from sessions_dagster.spark.failures import SPARK_ERRORS_OR_GONE
from sessions_dagster.spark.jars import brings_connector, jars_conf
from sessions_dagster.spark.java import launched_quietly, use_java, use_utf8_for_names, with_variables
from sessions_dagster.spark.master import MASTERS, check_answers, is_master, local_cores
from sessions_dagster.spark.this_machine import LOOPBACK, loopback_only, private_scratch
from sessions_dagster.spark.tuning import SHUFFLE_PARTITIONS, is_remote, properties_for, task_slots
from sessions_dagster.spark.versions import check_s3, check_versions, installed_delta, installed_lane

logger = logging.getLogger(__name__)

_DEFAULT_JAVA_OPTIONS: Final = "spark.driver.defaultJavaOptions"

_FILE_URI: Final = re.compile("^file:(//)?(?=/)")

_LOG_SETTINGS: Final = Path(__file__).with_name("log4j2.properties")


@dataclass(frozen=True, repr=False)
class SparkSettings:
    """How to start Spark.

    Attributes:
        master: Spark's master URL, or the address of a server of Spark Connect (`sc://host:15002`). Such a server has
            its own memory, JARs and name.
        server: The address of a server of Spark Connect that is used if it answers; otherwise a Spark is started as if
            none were given. None: there is none.
        driver_memory: Heap of the driver's JVM, which in local mode is the whole of Spark (Spark's notation: `2g`).
        shuffle_partitions: Partitions of a shuffle. None: see `tuning.default_shuffle_partitions`.
        extra_conf: Further Spark properties; they override those that are set here, but JARs and packages are added to
            those of Delta.
        delta_jars: Comma-separated local JARs (delta-spark and delta-storage) to use instead of resolving them.
            None: they are resolved from Maven at the first start.
        app_name: The name of the application.
        on_s3: Whether batches or tables are on S3 or a store that speaks it. Spark then gets the connector that belongs
            to its Hadoop, what the variables `AWS_...` say, and a log store whose commits are exclusive.
            `SessionsConfig` sets it by the roots.

        shared_folders: Whether all machines of a cluster see the same local folders at the same paths. Without it,
            local folders are refused with a cluster, whose machines would each write into folders of their own.

    Raises:
        SettingsError: If one of them is not what it may be. The message is one sentence that names it.
    """

    master: str = "local[*]"
    driver_memory: str = "2g"
    shuffle_partitions: int | None = None
    extra_conf: Mapping[str, str] = field(default_factory=dict)
    delta_jars: str | None = None
    app_name: str = "sessions-dagster"
    on_s3: bool = False
    server: str | None = None
    shared_folders: bool = False

    def __repr__(self) -> str:
        """Without what may be a secret, such as a token in the address of a server or a key among the properties."""
        shown = (f"{each.name}={redacted(getattr(self, each.name))!r}" for each in fields(self))
        return f"{type(self).__name__}({', '.join(shown)})"

    def __post_init__(self) -> None:
        for name, (meaning, allowed, is_valid) in _CHECKS.items():
            value = getattr(self, name)
            if not is_valid(value):
                raise WrongSettingError(f"spark.{name}", meaning, allowed, value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_jar(location: str) -> bool:
    """Whether a location is that of a JAR. Without one Spark would only warn, and fail later at the first table.

    What is not on this machine is not looked for.
    """
    path = _FILE_URI.sub("", location)
    return "://" in path or ("\0" not in path and zipfile.is_zipfile(path))


def _is_like(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


_CHECKS: Final[Mapping[str, tuple[str, str, Callable[[object], bool]]]] = {
    "master": (
        "Spark's master",
        MASTERS,
        is_master,
    ),
    "driver_memory": (
        "the heap of Spark's driver",
        "a whole number greater than 0 and a unit, such as 2g or 2048m",
        _is_like("[1-9][0-9]*[kmgtKMGT]"),
    ),
    "shuffle_partitions": (
        "the number of partitions of a shuffle",
        "a whole number greater than 0, or None",
        lambda value: value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0),
    ),
    "extra_conf": (
        "further Spark properties",
        "a mapping of names to texts",
        lambda value: (
            isinstance(value, Mapping) and all(isinstance(each, str) for pair in value.items() for each in pair)
        ),
    ),
    "delta_jars": (
        "Delta's JARs",
        "the paths of the JARs of delta-spark and delta-storage with a comma between them, which are files on this "
        "machine, or None",
        lambda value: value is None or (_is_text(value) and all(map(_is_jar, str(value).split(",")))),
    ),
    "app_name": ("the name of the Spark application", "a text that is not empty", _is_text),
    "shared_folders": (
        "whether all machines of a cluster see the same local folders",
        "true or false",
        lambda value: isinstance(value, bool),
    ),
    "on_s3": ("whether files are on S3", "true or false", lambda value: isinstance(value, bool)),
    "server": (
        "a server of Spark Connect that is used if it answers",
        "an address such as sc://localhost:15002, or None",
        lambda value: value is None or is_address(value),
    ),
}
"""Of each setting what it is, what it may be, and whether a value may be it."""


def spark_conf(settings: SparkSettings) -> dict[str, str]:
    """The Spark properties for some settings.

    Args:
        settings: How to start Spark.

    Returns:
        Properties by name. If the master is not local, folders and addresses are left to the configuration of the
        cluster, and `start_spark` sets what follows from the cores, because their number is not known before.
    """
    conf = {
        "spark.app.name": settings.app_name,
        "spark.master": settings.master,
        "spark.driver.memory": settings.driver_memory,
        # Not extraJavaOptions, so that extra_conf can set those.
        _DEFAULT_JAVA_OPTIONS: f"-Duser.timezone=UTC -Dlog4j2.configurationFile={_LOG_SETTINGS.as_uri()}",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # To a Spark that starts, a property without its prefix is none of its own.
        **{name if name.startswith("spark.") else f"spark.hadoop.{name}": value for name, value in NEEDED.items()},
        # By default Spark keeps a hundred compiled plans. A run has more, so each run would compile all of them again.
        "spark.sql.codegen.cache.maxEntries": "2000",
        # PySpark would find out for each expression where in Python it was made, and send that to Java, which takes
        # most of the time in which a plan is built. Only the messages of errors in data lose these places.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        EXTENSIONS: DELTA_EXTENSION,
        CATALOG: DELTA_CATALOG,
    }
    cores = local_cores(settings.master)
    if cores is not None:
        conf["spark.driver.host"] = LOOPBACK
        # Here the length of a single pause does not matter, but the sum of all pauses does.
        conf[_DEFAULT_JAVA_OPTIONS] += " -XX:+UseParallelGC"
        # No table is stored there, but otherwise Spark would make an empty folder in every working directory.
        conf["spark.sql.warehouse.dir"] = str(Path(tempfile.gettempdir(), "spark-warehouse"))
        conf |= properties_for(cores, is_local=True)
    else:
        # If the file is not on a machine, as this package is not in its image, its executors log as Spark does.
        conf["spark.executor.defaultJavaOptions"] = conf[_DEFAULT_JAVA_OPTIONS]
    if settings.shuffle_partitions is not None:
        conf[SHUFFLE_PARTITIONS] = str(settings.shuffle_partitions)
    if settings.on_s3:
        conf |= s3.spark_properties(given=settings.extra_conf)
        if cores is not None and not brings_connector(settings):
            conf |= s3.file_system_properties()
    return conf | dict(settings.extra_conf) | jars_conf(settings)


def start_spark(settings: SparkSettings) -> SparkSession:
    """Begins a session with a server of Spark Connect, or starts Spark, and a JVM if this process has none yet.

    The JVM outlives the session: a second start in the same process keeps the memory and the JARs of the first one.

    Args:
        settings: How to start it.

    Returns:
        The session, to be stopped by the caller.

    Raises:
        NoSuitableJavaError: If there is no Java to start it with.
        SparkStartError: If Spark does not start, if Spark, Scala and Delta do not go together, or if the master is the
            address of a server that does not answer.
    """
    if settings.server is not None:
        try:
            return _session_at(settings.server, settings)
        except SparkStartError as error:
            logger.warning("a Spark of this process is started instead of using a server: %s", error)
    if is_address(settings.master):
        return connect(settings.master, _runtime_properties(settings))
    # It is inherited from a process that has a session with a server.
    os.environ.pop(CONNECT_MODE, None)
    use_java(os.environ, installed_lane().newest_java)
    use_utf8_for_names(os.environ)
    # Without it, Spark's launch script would ask the first python3 on the PATH where Spark is.
    home = os.environ.setdefault("SPARK_HOME", str(Path(pyspark.__file__).parent))
    check_versions(pyspark.__version__, installed_delta(), Path(home), settings.delta_jars)
    if settings.on_s3:
        check_s3(pyspark.__version__)
    check_answers(settings.master)
    try:
        conf, is_local = spark_conf(settings), local_cores(settings.master) is not None
        private = loopback_only(os.environ) | private_scratch(os.environ, conf) if is_local else {}
        with launched_quietly(os.environ), with_variables(os.environ, private):
            started = SparkSession.builder.config(map={**conf}).getOrCreate()
        if not is_local:
            _fit_to_cluster(started)
    except SPARK_ERRORS_OR_GONE as error:
        raise SparkStartError(_why_not_started(settings)) from error
    return started


def stop_spark(session: SparkSession) -> None:
    """Stop a session. If its JVM has ended, as that of a run that is cancelled, there is nothing to stop any more.

    A server of Spark Connect goes on; only the session with it ends.
    """
    if is_remote(session):
        disconnect(session)
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unable to cleanly shutdown Spark JVM process", RuntimeWarning)
        with suppress(*SPARK_ERRORS_OR_GONE, OSError):
            session.stop()


@contextmanager
def spark_session(settings: SparkSettings) -> Iterator[SparkSession]:
    """The session of this process: the one that is running, or else a new one, which ends with the context.

    Args:
        settings: How to start Spark. They are ignored if a session is already running, which only gets what every
            session needs.

    Yields:
        The session.

    Raises:
        NoSuitableJavaError: If there is no Java to start it with.
        SparkStartError: If Spark does not start.
    """
    running = running_session()
    if running is not None:
        prepare(running)
        yield running
        return
    started = start_spark(settings)
    try:
        yield started
    finally:
        stop_spark(started)


def submitted_master() -> str | None:
    """The master that `spark-submit` was given; None if it did not start this process."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return None
    SparkContext._ensure_initialized()
    return SparkConf().get("spark.master", None)


def running_session() -> SparkSession | None:
    """The session of this process; None if there is none."""
    try:
        return SparkSession.active()
    except PySparkRuntimeError:
        return None


def _session_at(server: str, settings: SparkSettings) -> SparkSession:
    """A session with a server, if the server has what cannot be set any more."""
    session = connect(server, _runtime_properties(settings))
    if settings.on_s3 and not s3.has_log_store(session.conf.get):
        disconnect(session)
        raise SparkStartError(
            "The server (SESSIONS_SPARK_SERVER) was started without the connector and the log store for S3. Start it "
            "again with the roots of this run in its environment."
        )
    return session


def _fit_to_cluster(started: SparkSession) -> None:
    """Set what follows from the cores of a cluster, except for what its configuration or the settings already set."""
    said = started.sparkContext.getConf()
    for name, value in properties_for(task_slots(started), is_local=False).items():
        if not said.contains(name):
            started.conf.set(name, value)


def _runtime_properties(settings: SparkSettings) -> dict[str, str]:
    """The properties of a session of Spark Connect: those that were asked for, as far as a running Spark takes them."""
    shuffles = settings.shuffle_partitions
    properties = {**({} if shuffles is None else {SHUFFLE_PARTITIONS: str(shuffles)}), **settings.extra_conf}
    # The server would keep its own log store, and whether that one is right could not be seen any more.
    return {name: value for name, value in properties.items() if name not in s3.ANY_LOG_STORE_PROPERTIES}


def _why_not_started(settings: SparkSettings) -> str:
    packages = jars_conf(settings).get("spark.jars.packages")
    if packages is not None:
        return (
            f"The JARs {packages} for Spark {pyspark.__version__} could not be resolved (Ivy's report is above). "
            "Without a way to a Maven repository, give the paths of the JARs of delta-spark and delta-storage of that "
            'version, separated by a comma, in the setting of Delta\'s JARs (docs/operations.md, "Settings"), and '
            "those of other packages in spark.jars of spark.extra_conf."
        )
    return (
        f"Spark {pyspark.__version__} did not start with master {redacted(settings.master)} (the setting spark.master, "
        f"SESSIONS_SPARK_MASTER) and driver memory {settings.driver_memory}. The output of its JVM is above."
    )
