"""Secrets in a place, in an address or in a property of Spark are never shown: not in errors, not in Dagster's UI."""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value

from sessions_dagster.alerts.settings import AlertSettings
from sessions_dagster.component import SessionsComponent
from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.defs.resources import SparkResource
from sessions_dagster.errors import SettingsError, WrongSettingError, with_causes
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.redaction import HIDDEN, redacted
from sessions_dagster.spark.session import SparkSettings
from sessions_dagster.storage.warehouse import Warehouse

SECRETS: Final = ("s3cr3t", "wJalr/XUtn+FEMI/K7MDENG", "sv=2022&sig=abc%2Bdef%3D", "p@ss:w0rd?#;")
"""A plain one, one as Amazon gives them, one as Azure does, and one of marks that mean something in a URI."""

PARTS: Final = ("s3cr3t", "wJalr", "XUtn", "FEMI", "K7MDENG", "abc%2B", "def%3D", "ss:w0", "w0rd", "p@ss")
"""What must not be seen of them, in whatever way a URI is taken apart."""

ROOTS: Final = (
    *("s3://AKIA:{}@bucket/lake", "s3a://AKIA:{}@bucket", "S3://AKIA:{}@bucket/lake", "s3n://AKIA:{}@bucket/lake"),
    *("gs://user:{}@bucket/lake", "hdfs://user:{}@namenode:8020/lake", "s3:/AKIA:{}@bucket/lake", "s3:AKIA:{}@bucket"),
    *("s3a://bucket/lake?secret={}", "s3a://bucket/lake#{}", "gs://bucket/lake?access_token={}", "s3://bucket?{}"),
    *("abfss://c@account.dfs.core.windows.net/lake?{}", "abfss://c:{}@account.dfs.core.windows.net/lake"),
    *("abfs://c@account.dfs.core.windows.net?sig={}", "wasbs://c@account.blob.core.windows.net/lake?{}"),
    *("https://account.blob.core.windows.net/lake?sig={}", "http://user:{}@host/lake", "hdfs://namenode/lake?x={}"),
    *(" s3a://AKIA:{}@bucket/lake", "'s3a://AKIA:{}@bucket/lake'", "jdbc:x://user:{}@host/db", "ftp://u:{}@host"),
)
"""Places with a secret in them. Each is refused, as a place of batches and as one of tables."""


def in_yaml(**attributes: object) -> SessionsConfig:
    component = SessionsComponent.resolve_from_yaml(json.dumps({"start_date": "2025-09-01", **attributes}))
    config: SessionsConfig = component.config()
    return config


def seen(text: str) -> list[str]:
    return [part for part in PARTS if part in text]


@pytest.mark.parametrize("root", ROOTS)
def test_a_root_with_a_secret_is_refused_without_showing_it(root: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    # Behind a "#", a secret with a slash cannot be told from folders.
    for secret in [each for each in SECRETS if not ("#" in root and "/" in each)]:
        place = root.format(secret)
        takers = (
            lambda: SessionsConfig(start_date="2025-09-01", input_root=place),  # noqa: B023
            lambda: SessionsConfig(start_date="2025-09-01", warehouse_root=place),  # noqa: B023
            lambda: SessionsConfig(start_date="2025-09-01", warehouse_root=Path(place)),  # noqa: B023
            lambda: SessionsConfig.from_env({"SESSIONS_INPUT_ROOT": place}),  # noqa: B023
            lambda: SessionsConfig.from_env({"SESSIONS_WAREHOUSE_ROOT": place}),  # noqa: B023
            lambda: in_yaml(input_root=place),  # noqa: B023
            lambda: in_yaml(warehouse_root=place),  # noqa: B023
            lambda: InputRoot(place),  # noqa: B023
            lambda: Warehouse(place),  # noqa: B023
        )
        for take in takers:
            with pytest.raises(SettingsError) as error:
                take()
            assert seen(" ".join(map(str, with_causes(error.value)))) == []
            assert re.search("credentials belong in the environment|Tables cannot be in", str(error.value))
    assert seen(caplog.text) == []


@pytest.mark.parametrize(
    "root",
    [
        *(
            "s3a://bucket/a@b/c:d",
            "s3://bucket",
            "s3a://bucket/a#b/c",
            "gs://bucket/events",
            "hdfs://namenode:8020/x",
            "hdfs:///x/",
        ),
        *("abfss://container@account.dfs.core.windows.net/lake", "abfss://container/lake", "viewfs://cluster/x"),
        *("/data/a#b?c=d", "file:///data/a#b?c=d", "/data/key:s3cr3t@x"),
    ],
)
def test_a_place_without_a_secret_is_one_as_before(root: str) -> None:
    assert SessionsConfig(start_date="2025-09-01", input_root=root).input_root == root


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("s3a://bucket/a/b", "s3a://bucket/a/b"),
        ("abfss://c@account.dfs.core.windows.net/x", "abfss://c@account.dfs.core.windows.net/x"),
        ("spark://a:7077,b:7077", "spark://a:7077,b:7077"),
        ("k8s://https://host:443", "k8s://https://host:443"),
        ("sc://localhost:15002/;use_ssl=true;token=t", f"sc://localhost:15002/;{HIDDEN}"),
        ("C:\\data", "C:\\data"),
        ("2025-09-20 10:00:00", "2025-09-20 10:00:00"),
        ("country:strng", "country:strng"),
        ("/data/a@b/c?d", "/data/a@b/c?d"),
        ({"spark.x": "1", "fs.s3a.secret.key": "t"}, {"spark.x": "1", "fs.s3a.secret.key": HIDDEN}),
        (["s3://a:b@c", 7], [f"s3://{HIDDEN}@c", 7]),
        ("fs.s3a.secret.key=t, spark.x=1", f"fs.s3a.secret.key={HIDDEN}, spark.x=1"),
        ('{"password": "t", "user": "u"}', f'{{"password": "{HIDDEN}", "user": "u"}}'),
        (7, 7),
        (None, None),
    ],
)
def test_only_what_may_be_a_secret_is_hidden(value: Any, shown: Any) -> None:
    assert redacted(value) == shown


PROPERTIES: Final[Mapping[str, str]] = {
    "spark.hadoop.fs.s3a.access.key": "AKIA-s3cr3t",
    "spark.hadoop.fs.s3a.secret.key": "s3cr3t",
    "spark.hadoop.fs.s3a.session.token": "s3cr3t",
    "fs.s3a.bucket.lake.secret.key": "s3cr3t",
    "spark.hadoop.fs.azure.account.key.lake.dfs.core.windows.net": "s3cr3t",
    "spark.hadoop.fs.azure.sas.container.lake.blob.core.windows.net": "s3cr3t",
    "spark.hadoop.google.cloud.auth.service.account.private.key": "s3cr3t",
    "spark.ssl.keyPassword": "s3cr3t",
    "spark.hadoop.javax.jdo.option.ConnectionPassword": "s3cr3t",
    "spark.hadoop.javax.jdo.option.ConnectionURL": "jdbc:postgresql://u:s3cr3t@host/db",
    "spark.jars.repositories": "https://ada:s3cr3t@nexus.example.com/maven",
}


@pytest.mark.parametrize("wrong", [7, "s3cr3t and more", None])
def test_an_error_about_properties_of_spark_shows_none_of_their_secrets(wrong: object) -> None:
    with pytest.raises(WrongSettingError) as error:
        SparkSettings(extra_conf={"spark.x": 7, **PROPERTIES, "spark.hadoop.fs.s3a.secret.key": wrong})  # type: ignore[dict-item]
    assert seen(str(error.value)) == []


def test_an_error_about_yaml_shows_none_of_their_secrets() -> None:
    with pytest.raises(SettingsError) as error:
        in_yaml(spark={"extra_conf": "spark.hadoop.fs.s3a.secret.key=s3cr3t"})
    assert seen(str(error.value)) == []


def config_with_secrets() -> SessionsConfig:
    return SessionsConfig(
        start_date="2025-09-01",
        spark=SparkSettings(
            master="sc://host:15002/;token=s3cr3t",
            server="sc://localhost:15003/;token=s3cr3t",
            extra_conf={"spark.x": "1", **PROPERTIES},
            shared_folders=True,
        ),
        alerts=AlertSettings(command=("true", "--token", "s3cr3t"), webhook_url="https://hooks.example.com/s3cr3t"),
    )


def test_settings_never_show_a_secret() -> None:
    shown = repr(config_with_secrets())
    assert seen(shown) == []
    assert "extra_conf={'spark.x': '1'" in shown


def test_dagster_is_told_no_secret() -> None:
    repository = build_defs(config_with_secrets()).get_repository_def()
    told = serialize_value(RepositorySnap.from_def(repository))
    assert "sc://host:15002/;..." in told
    assert seen(told) == []


def test_a_run_has_the_secrets_that_dagster_is_not_told() -> None:
    settings = config_with_secrets().spark
    found = []

    @dg.op(required_resource_keys={"spark"})
    def look(context: dg.OpExecutionContext) -> None:
        found.append(context.resources.spark.settings)

    @dg.job(resource_defs={"spark": SparkResource.of(settings)})
    def looking() -> None:
        look()

    assert looking.execute_in_process().success
    assert found == [settings]


def test_a_field_of_the_resource_that_was_given_another_value_has_that_one() -> None:
    resource = SparkResource.of(config_with_secrets().spark)
    other = type(resource)(master="local[1]", spark_config={"spark.hadoop.fs.s3a.secret.key": "another"})
    assert other.settings.master == "local[1]"
    assert other.settings.extra_conf == {"spark.hadoop.fs.s3a.secret.key": "another"}
