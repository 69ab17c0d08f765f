"""How S3 is reached: what follows from the standard variables, and which JARs Spark gets. Without a server."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import pyspark
import pytest
from pyspark.sql import SparkSession

from sessions_dagster import s3
from sessions_dagster.config import SessionsConfig
from sessions_dagster.errors import SettingsError
from sessions_dagster.spark.session import SparkSettings, spark_conf
from sessions_dagster.spark.tuning import spark_property
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests import log_store

MINIO = {"AWS_ENDPOINT_URL": "http://minio:9000"}
CONNECTOR = [
    "org.apache.hadoop_hadoop-aws-{hadoop}.jar",
    "software.amazon.awssdk_bundle-2.35.4.jar",
    "software.amazon.s3.analyticsaccelerator_analyticsaccelerator-s3-1.3.1.jar",
]
FILE_SYSTEM = "spark.hadoop.fs.s3a.impl"
DESCRIBED = """
<dependency org="software.amazon.awssdk" name="bundle" rev="2.35.4" force="true" conf="compile->compile(*)"/>
<dependency org="software.amazon.encryption.s3" name="client" rev="4.0.0" conf="provided->compile(*)"/>
<dependency org="software.amazon.s3.analyticsaccelerator" name="analyticsaccelerator-s3" rev="1.3.1" conf="compile->x"/>
"""


@pytest.mark.parametrize(
    ("variables", "spark", "delta_rs"),
    [
        pytest.param(
            {}, {"path.style.access": "false"}, {"aws_virtual_hosted_style_request": "true"}, id="Amazon, and no region"
        ),
        pytest.param(
            {"AWS_DEFAULT_REGION": "eu-west-1"},
            {"path.style.access": "false", "endpoint.region": "eu-west-1"},
            {"aws_virtual_hosted_style_request": "true", "aws_region": "eu-west-1"},
            id="a region of Amazon's",
        ),
        pytest.param(
            {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "us-west-2"},
            {"path.style.access": "false", "endpoint.region": "us-west-2"},
            {"aws_virtual_hosted_style_request": "true", "aws_region": "us-west-2"},
            id="AWS_REGION before AWS_DEFAULT_REGION",
        ),
        pytest.param(
            MINIO,
            {"path.style.access": "true", "endpoint": "http://minio:9000", "endpoint.region": "us-east-1"},
            {
                "aws_virtual_hosted_style_request": "false",
                "aws_endpoint": "http://minio:9000",
                "aws_allow_http": "true",
                "aws_region": "us-east-1",
            },
            id="a store of one's own without encryption",
        ),
        pytest.param(
            {"AWS_ENDPOINT_URL": "https://all", "AWS_ENDPOINT_URL_S3": "https://s3", "AWS_REGION": "auto"},
            {"path.style.access": "true", "endpoint": "https://s3", "endpoint.region": "auto"},
            {
                "aws_virtual_hosted_style_request": "false",
                "aws_endpoint": "https://s3",
                "aws_allow_http": "false",
                "aws_region": "auto",
            },
            id="the address of S3 alone before that of all services",
        ),
        pytest.param(
            {**MINIO, "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"},
            {"path.style.access": "false", "endpoint": "http://minio:9000", "endpoint.region": "us-east-1"},
            {
                "aws_virtual_hosted_style_request": "true",
                "aws_endpoint": "http://minio:9000",
                "aws_allow_http": "true",
                "aws_region": "us-east-1",
            },
            id="the bucket in the name of the host",
        ),
    ],
)
def test_the_readers_are_told_the_same(
    variables: Mapping[str, str], spark: Mapping[str, str], delta_rs: Mapping[str, str]
) -> None:
    properties = s3.spark_properties(variables)
    told = {name: properties.get(f"spark.hadoop.fs.s3a.{name}") for name in spark}
    assert told == spark
    assert s3.delta_rs_options(variables) == delta_rs
    assert s3.endpoint(variables) == spark.get("endpoint")
    assert s3.has_bucket_in_host(variables) == (spark["path.style.access"] == "false")


def test_no_secret_is_in_a_property() -> None:
    keys = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "hidden", "AWS_SESSION_TOKEN": "token"}
    assert not {"AKIA", "hidden", "token"} & {*s3.spark_properties(keys).values(), *s3.delta_rs_options(keys).values()}


@pytest.mark.parametrize(
    ("input_root", "warehouse_root", "on_s3"),
    [("in", "out", False), ("s3://b/in", "out", True), ("in", "s3a://b/out", True), ("gs://b/in", "gs://b/out", False)],
)
def test_the_roots_say_whether_spark_needs_s3(input_root: str, warehouse_root: str, on_s3: bool) -> None:
    config = SessionsConfig(start_date="2025-09-01", input_root=input_root, warehouse_root=warehouse_root)
    assert config.spark.on_s3 == on_s3


def test_without_s3_nothing_of_it_is_set() -> None:
    assert not [name for name in spark_conf(SparkSettings()) if "s3" in name]


def test_the_connector_is_that_of_the_installed_hadoop() -> None:
    jars = Path(pyspark.__file__).parent / "jars"
    (hadoop,) = jars.glob("hadoop-client-runtime-*.jar")
    assert hadoop.name == f"hadoop-client-runtime-{s3.hadoop_version()}.jar"


@pytest.fixture
def ivy_home(tmp_path: Path) -> Path:
    """A folder in which Ivy has resolved the connector."""
    (tmp_path / "jars").mkdir()
    for name in CONNECTOR:
        (tmp_path / "jars" / name.format(hadoop=s3.hadoop_version())).write_bytes(b"")
    described = tmp_path / "cache" / "org.apache.hadoop" / "hadoop-aws" / f"ivy-{s3.hadoop_version()}.xml"
    described.parent.mkdir(parents=True)
    described.write_text(DESCRIBED)
    return tmp_path


@pytest.mark.parametrize(
    ("hadoop", "has_it"), [("3.5.0", True), ("3.5.1", True), ("3.4.2", False), ("3.6.0", False), ("3.50.0", False)]
)
def test_the_file_system_is_for_the_hadoop_that_it_was_compiled_against(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hadoop: str, has_it: bool
) -> None:
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / f"hadoop-client-api-{hadoop}.jar").touch()
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    assert (FILE_SYSTEM in conf_on_s3(tmp_path)) == has_it
    assert FILE_SYSTEM not in conf_on_s3(tmp_path, "spark://host:7077")
    assert FILE_SYSTEM not in conf_on_s3(tmp_path, **{"spark.jars": "/mine/hadoop-aws-3.5.0.jar"})


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        ({}, "create,mkdir,delete"),
        ({s3.LOG_STORE_PROPERTY: s3.LOG_STORE}, "create,mkdir,delete"),
        ({s3.LOG_STORE_PROPERTY: s3.ONE_WRITER_LOG_STORE}, "mkdir,delete"),
    ],
)
def test_what_is_there_is_looked_for_unless_commits_are_put_on_a_condition(
    tmp_path: Path, given: Mapping[str, str], flags: str
) -> None:
    assert conf_on_s3(tmp_path, **given)["spark.hadoop.fs.s3a.performance.flags"] == flags


def conf_on_s3(ivy_home: Path, master: str = "local[2]", **extra: str) -> dict[str, str]:
    extra = {"spark.jars.ivy": str(ivy_home), **extra}
    return spark_conf(SparkSettings(master=master, extra_conf=extra, on_s3=True))


def test_the_connector_is_resolved_once(tmp_path: Path) -> None:
    assert s3.connector_coordinate() in conf_on_s3(tmp_path)["spark.jars.packages"].split(",")


def test_a_resolved_connector_is_on_the_class_path_of_a_local_spark(ivy_home: Path) -> None:
    conf = conf_on_s3(ivy_home)
    names = [Path(jar).name for jar in conf["spark.driver.extraClassPath"].split(":")]
    assert names == [name.format(hadoop=s3.hadoop_version()) for name in CONNECTOR]
    assert "hadoop-aws" not in conf["spark.jars"] + conf["spark.jars.packages"]


def test_a_cluster_gets_the_connector_with_the_application(ivy_home: Path) -> None:
    conf = conf_on_s3(ivy_home, "spark://host:7077")
    assert "spark.driver.extraClassPath" not in conf
    assert "hadoop-aws" in conf["spark.jars"]


def test_a_connector_with_the_settings_is_used_instead(tmp_path: Path) -> None:
    for name in ("spark.jars", "spark.driver.extraClassPath", "spark.jars.packages"):
        conf = conf_on_s3(tmp_path, **{name: "/mine/hadoop-aws-3.5.0.jar"})
        assert s3.connector_coordinate() not in conf["spark.jars.packages"].split(",")
        assert str(s3.LOG_STORE_JAR) in conf["spark.jars"]


def test_a_connector_that_is_half_there_is_resolved_again(ivy_home: Path) -> None:
    (ivy_home / "jars" / CONNECTOR[1]).unlink()
    assert s3.connector_coordinate() in conf_on_s3(ivy_home)["spark.jars.packages"].split(",")


@pytest.mark.slow
def test_the_jar_of_the_log_store_is_that_of_its_source() -> None:
    assert log_store.build() == s3.LOG_STORE_JAR.read_bytes()


@pytest.mark.parametrize("set_while_it_runs", [False, True])
def test_a_session_that_was_started_without_the_log_store_writes_nothing(
    spark: SparkSession, set_while_it_runs: bool
) -> None:
    given = spark_property(spark, s3.LOG_STORE_PROPERTY, s3.LOG_STORE) if set_while_it_runs else nullcontext()
    warehouse = Warehouse("s3a://bucket/lake")
    with given, pytest.raises(SettingsError, match=s3.LOG_STORE_PROPERTY), warehouse.writing(spark):
        raise AssertionError("nothing is written")
