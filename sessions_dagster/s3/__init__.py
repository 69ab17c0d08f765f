"""How S3, and stores that speak it, are reached: from the standard variables `AWS_…`, the same for all three readers.

Spark's connector, delta-rs and pyarrow each read a part of these variables by themselves, and differ in the rest. What
they would not find out is derived here. Keys are left to each of them, so that no secret is in a property of Spark.
"""

import os
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

import pyspark
from pyarrow.fs import FileSystem, S3FileSystem, resolve_s3_region

LOG_STORE_PROPERTY: Final = "spark.delta.logStore.s3a.impl"
"""The property of Spark that says how Delta commits on S3."""

LOG_STORE_JAR: Final = Path(__file__).with_name("log-store.jar")
"""The log store whose commits are exclusive; `make log-store` builds it from the source beside it."""

ANY_LOG_STORE_PROPERTIES: Final = (LOG_STORE_PROPERTY, "spark.delta.logStore.class")
"""The properties by which a session may say how it commits on S3."""

LOG_STORE: Final = "sessions_dagster.s3.ConditionalPutLogStore"
"""The class of the log store whose commits are exclusive."""

COMPILED_AGAINST: Final = "3.5.0"
"""The version of Hadoop that the JAR is compiled against, which is that of Spark 4.2."""

_FILE_SYSTEM: Final[Mapping[str, str]] = {
    "spark.hadoop.fs.s3a.impl": "sessions_dagster.s3.WriteOnceFileSystem",
    # It says itself what each object is, so that the reader has to know it only until it is read. In milliseconds.
    "spark.hadoop.fs.s3a.analytics.accelerator.physicalio.metadatastore.ttl": "60000",
}
"""The file system that asks once what the files of a table are, which is for a Spark that is one process."""

_NO_PROPERTIES: Final[Mapping[str, str]] = {}

ONE_WRITER_LOG_STORE: Final = "io.delta.storage.S3SingleDriverLogStore"
"""Delta's own log store, which looks whether a commit is there and then puts it."""

PUTS_IGNORE_CONDITIONS: Final = "CONDITIONAL_PUT_IGNORED"
"""What the log store says if the store does not keep two writers apart."""

CONNECTOR_LACKS_CONDITIONS: Final = "fs.option.create.conditional.overwrite"
"""What the connector names if it is older than conditional puts: Hadoop before 3.4.2."""

DEFAULT_REGION: Final = "us-east-1"
"""The region of a store that is not Amazon's, unless a variable names one: requests are signed for a region."""

_CREDENTIALS: Final = (
    "org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider",
    "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
    "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider",
)
"""Where Spark's connector looks for keys. The first two are what Spark copies from the variables to its executors; the
last is the AWS SDK's own list, with profiles, web identities and the roles of containers and instances."""


_NEEDED_BY_CONNECTOR: Final = re.compile(
    r'<dependency org="(software\.amazon\.[\w.]+)" name="([\w-]+)" rev="([\w.-]+)"[^>]* conf="compile'
)
"""What Ivy notes of a JAR that the connector does not work without."""


def is_on_s3(location: str) -> bool:
    """Whether a location, in the spelling of `storage.filesystem`, is on S3 or a store that speaks it."""
    return location.startswith("s3a://")


def has_log_store(property_of: Callable[[str, None], object]) -> bool:
    """Whether a Spark has been told how to commit on S3.

    Args:
        property_of: Gives the value of a property, or the second argument if it has none.
    """
    return any(property_of(name, None) for name in ANY_LOG_STORE_PROPERTIES)


def endpoint(environ: Mapping[str, str] = os.environ) -> str | None:
    """The address of a store that is not Amazon's; None if there is none."""
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or None


def region(environ: Mapping[str, str] = os.environ) -> str | None:
    """The region; None if no variable says it and the store is Amazon's, where each reader finds it out."""
    named = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    return named or (DEFAULT_REGION if endpoint(environ) else None)


def has_bucket_in_host(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the bucket is a part of the host's name, by default for Amazon only; else it is a part of the path."""
    text = environ.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "")
    return text.casefold() in {"1", "true", "yes", "on"} if text else endpoint(environ) is None


def file_system_properties() -> Mapping[str, str]:
    """The properties that make the connector of the installed Hadoop ask once what the files of a table are.

    There are none if the connector may have other methods than those that the JAR was compiled against.

    Raises:
        FileNotFoundError: If this Spark has no Hadoop.
    """
    return _FILE_SYSTEM if _line(hadoop_version()) == _line(COMPILED_AGAINST) else _NO_PROPERTIES


def _line(version: str) -> list[str]:
    return version.split(".")[:2]


def spark_properties(
    environ: Mapping[str, str] = os.environ, given: Mapping[str, str] = _NO_PROPERTIES
) -> dict[str, str]:
    """The properties by which Spark reaches the store, and commits there exclusively.

    Args:
        environ: The variables.
        given: The properties that override these ones.
    """
    is_exclusive = given.get(LOG_STORE_PROPERTY, LOG_STORE) == LOG_STORE
    properties = {
        LOG_STORE_PROPERTY: LOG_STORE,
        "fs.s3a.aws.credentials.provider": ",".join(_CREDENTIALS),
        "fs.s3a.path.style.access": str(not has_bucket_in_host(environ)).lower(),
        # The default reader of Hadoop 3.5 gets a small file with one request, but would remember for as long as the JVM
        # lives what an object was, and fail on one that was replaced since. In milliseconds; 0 is refused.
        "fs.s3a.analytics.accelerator.physicalio.metadatastore.ttl": "1",
        # Without a look at what is there, `create` replaces it, whatever it is told. Our log store asks the store not
        # to do that; for another one the look is all there is.
        "fs.s3a.performance.flags": "create,mkdir,delete" if is_exclusive else "mkdir,delete",
        # By default it would keep blocks of up to 2 GB in the heap. In bytes.
        "fs.s3a.analytics.accelerator.physicalio.max.memory.limit": str(256 << 20),
        # To write the checksum of a version takes 18 requests, and to read it saves five.
        "spark.databricks.delta.writeChecksumFile.enabled": "false",
        # Of new tables. Each commit since the last checkpoint is a request of each reader.
        "spark.databricks.delta.properties.defaults.checkpointInterval": "5",
    }
    of_variables = {"fs.s3a.endpoint": endpoint(environ), "fs.s3a.endpoint.region": region(environ)}
    properties |= {name: value for name, value in of_variables.items() if value is not None}
    return {
        (name if name.startswith("spark.") else f"spark.hadoop.{name}"): value for name, value in properties.items()
    }


def delta_rs_options(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The storage options for delta-rs, which are added to what it finds in the variables."""
    address = endpoint(environ)
    options = {"aws_virtual_hosted_style_request": str(has_bucket_in_host(environ)).lower()}
    if address is not None:
        options["aws_endpoint"] = address
        # Who names an address without encryption wants it.
        options["aws_allow_http"] = str(address.startswith("http://")).lower()
    where = region(environ)
    return options if where is None else options | {"aws_region": where}


def pyarrow_filesystem(bucket: str, environ: Mapping[str, str] = os.environ) -> FileSystem:
    """The file system for pyarrow, in which a path begins with the bucket. It is made once, and keeps its connections.

    Args:
        bucket: The bucket that is wanted: if nothing says the region, pyarrow asks for that of the bucket.
        environ: The variables.

    Raises:
        OSError: If the region cannot be found out.
    """
    # The keys are read when it is made.
    return _pyarrow_filesystem(
        bucket if region(environ) is None else None,
        frozenset((name, value) for name, value in environ.items() if name.startswith("AWS_")),
    )


@lru_cache
def _pyarrow_filesystem(bucket: str | None, variables: frozenset[tuple[str, str]]) -> FileSystem:
    environ = dict(variables)
    return S3FileSystem(
        region=region(environ) if bucket is None else resolve_s3_region(bucket),
        endpoint_override=endpoint(environ),
        force_virtual_addressing=has_bucket_in_host(environ),
        # A small file is put with one request and not with three.
        allow_delayed_open=True,
    )


def connector_coordinate() -> str:
    """The Maven coordinate of the connector that belongs to the Hadoop of the installed Spark.

    Raises:
        FileNotFoundError: If this Spark has no Hadoop.
    """
    return f"org.apache.hadoop:hadoop-aws:{hadoop_version()}"


def hadoop_version() -> str:
    """The version of the Hadoop of the installed Spark.

    Raises:
        FileNotFoundError: If this Spark has no Hadoop.
    """
    jars = jars_of_spark()
    for jar in sorted(jars.glob("hadoop-client-api-*.jar")):
        return jar.stem.removeprefix("hadoop-client-api-")
    raise FileNotFoundError(f"There is no hadoop-client-api-*.jar in {jars}, so no connector for S3 belongs to it.")


def jars_of_spark(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of the JARs of the Spark that is started: the one of SPARK_HOME, or the installed package."""
    return Path(environ.get("SPARK_HOME") or Path(pyspark.__file__).parent, "jars")


def resolved_connector(ivy_home: Path) -> list[Path] | None:
    """The JARs of the connector, if Ivy resolved them at an earlier start; otherwise None."""
    version = hadoop_version()
    described = ivy_home / "cache" / "org.apache.hadoop" / "hadoop-aws" / f"ivy-{version}.xml"
    if not described.is_file():
        return None
    needed = _NEEDED_BY_CONNECTOR.findall(described.read_text())
    jars = [
        f"org.apache.hadoop_hadoop-aws-{version}.jar",
        *(f"{group}_{name}-{rev}.jar" for group, name, rev in needed),
    ]
    paths = [ivy_home / "jars" / jar for jar in jars]
    return paths if all(path.is_file() for path in paths) else None
