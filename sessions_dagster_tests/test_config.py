"""The settings of a product: their possible values, the environment variables, and the errors for wrong values."""

import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile

import pytest

from sessions_dagster.alerts.settings import AlertSettings
from sessions_dagster.config import SessionsConfig
from sessions_dagster.errors import SettingsError
from sessions_dagster.model.rejects import DEFAULT_BOT_LIMIT
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.redaction import redacted
from sessions_dagster.settings import SETTINGS, SPARK_VARIABLES
from sessions_dagster.spark.session import SparkSettings
from sessions_dagster.storage.warehouse import Warehouse

DAY = date(2025, 9, 1)

VARIABLES: Final = [each.variable for each in SETTINGS.values() if each.variable] + list(SPARK_VARIABLES.values())


def from_env(**variables: str) -> SessionsConfig:
    return SessionsConfig.from_env({f"SESSIONS_{name}": text for name, text in variables.items()})


def test_an_empty_environment_gives_the_default_settings() -> None:
    assert from_env() == SessionsConfig(start_date=date(2025, 1, 1), spark=SparkSettings())


def test_every_variable_sets_a_setting(tmp_path: Path) -> None:
    jars = [tmp_path / "a.jar", tmp_path / "b.jar"]
    for jar in jars:
        ZipFile(jar, "w").close()
    delta_jars = ",".join(map(str, jars))
    config = from_env(
        START_DATE="2025-09-01",
        INPUT_ROOT="/data/events",
        WAREHOUSE_ROOT="s3://lake/tables",
        INPUT_FORMAT="csv",
        EPOCH_UNIT="milliseconds",
        TIMEOUT_SECONDS="90.5",
        USER_ACTION_IDS="click, key",
        LATENESS_DAYS="7",
        CARRIED_COLUMNS="ide_version:string, clicks:INT",
        BOT_LIMIT="5",
        SETTLE_SECONDS="0",
        REQUIRE_SUCCESS_MARKER="True",
        LANDING_DEADLINE_HOURS="36",
        DELETION_VECTORS="no",
        CATALOG_SCHEMA="lake",
        LOGS_THROUGH_SPARK="true",
        ALERT_WEBHOOK_URL="https://hooks.example.com/secret",
        ALERT_COMMAND="echo --team 'data platform'",
        ALERT_SLACK_CHANNEL="#data",
        ALERT_SLACK_TOKEN="xoxb-1",
        ALERT_EMAIL_TO="ada@example.com, bob@example.com",
        ALERT_EMAIL_FROM="lake@example.com",
        ALERT_SMTP_URL="smtp://lake:p%40ss@mail.example.com:587",
        ALERT_UI_URL="https://dagster.example.com",
        SPARK_MASTER="local[1]",
        DELTA_JARS=delta_jars,
    )
    assert config == SessionsConfig(
        start_date=DAY,
        input_root="/data/events",
        warehouse_root="s3://lake/tables",
        input_format="csv",
        epoch_unit="milliseconds",
        rules=SessionRules(timedelta(seconds=90.5), frozenset({"click", "key"}), lateness_days=7),
        carried_columns={"ide_version": "string", "clicks": "int"},
        bot_limit=5,
        settle_seconds=0,
        require_success_marker=True,
        landing_deadline_hours=36,
        deletion_vectors=False,
        catalog_schema="lake",
        logs_through_spark=True,
        alerts=AlertSettings(
            webhook_url="https://hooks.example.com/secret",
            command=("echo", "--team", "data platform"),
            slack_channel="#data",
            slack_token="xoxb-1",
            email_to=("ada@example.com", "bob@example.com"),
            email_from="lake@example.com",
            smtp_url="smtp://lake:p%40ss@mail.example.com:587",
            ui_url="https://dagster.example.com",
        ),
        spark=SparkSettings(master="local[1]", delta_jars=delta_jars),
    )


def test_an_empty_variable_counts_as_not_set() -> None:
    assert from_env(START_DATE="", BOT_LIMIT=" ", REQUIRE_SUCCESS_MARKER="", DELTA_JARS="") == from_env()


@pytest.mark.parametrize(("text", "limit"), [("0", None), ("7", 7)])
def test_a_bot_limit_of_0_disables_the_bot_filter(text: str, limit: int | None) -> None:
    assert from_env(BOT_LIMIT=text).bot_limit == limit
    assert SessionsConfig(start_date=DAY, bot_limit=int(text)).bot_limit == limit


@pytest.mark.parametrize(("text", "is_required"), [("true", True), ("1", True), ("False", False), ("no", False)])
def test_a_marker_can_be_required(text: str, is_required: bool) -> None:
    assert from_env(REQUIRE_SUCCESS_MARKER=text).require_success_marker == is_required


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("START_DATE", "2025-13-01"),
        ("INPUT_FORMAT", "orc"),
        ("EPOCH_UNIT", "ms"),
        ("EPOCH_UNIT", "none"),
        ("TIMEOUT_SECONDS", "soon"),
        ("TIMEOUT_SECONDS", "0"),
        ("TIMEOUT_SECONDS", "nan"),
        ("TIMEOUT_SECONDS", "1e99"),
        ("USER_ACTION_IDS", "a,,b"),
        ("USER_ACTION_IDS", '"a,b"'),
        ("USER_ACTION_IDS", "'a','b'"),
        ("USER_ACTION_IDS", '["a", "b"]'),
        ("USER_ACTION_IDS", "[a, b]"),
        ("USER_ACTION_IDS", "{a,b}"),
        ("USER_ACTION_IDS", "a;b"),
        ("USER_ACTION_IDS", "a\nb"),
        ("LATENESS_DAYS", "31"),
        ("LATENESS_DAYS", "-1"),
        ("LATENESS_DAYS", "5.5"),
        ("CARRIED_COLUMNS", "country"),
        ("CARRIED_COLUMNS", "country:text"),
        ("CARRIED_COLUMNS", "User_Id:string"),
        ("CARRIED_COLUMNS", "a b:string"),
        ("CARRIED_COLUMNS", "a:string,A:string"),
        ("CARRIED_COLUMNS", "x:string,x:int"),
        ("CARRIED_COLUMNS", "x:int, x :int"),
        ("WAREHOUSE_ROOT", "/tmp/a%20b"),
        ("WAREHOUSE_ROOT", "file:///tmp/a%2520b"),
        ("WAREHOUSE_ROOT", "s3a://b/[x]"),
        ("WAREHOUSE_ROOT", "gs://b/x?y"),
        ("INPUT_ROOT", "'/data'"),
        ("INPUT_ROOT", "/"),
        ("INPUT_ROOT", "file:///"),
        ("INPUT_ROOT", "hdfs:///"),
        ("WAREHOUSE_ROOT", "//"),
        ("WAREHOUSE_ROOT", "/data/.."),
        ("WAREHOUSE_ROOT", '"/data"'),
        ("SHARED_FOLDERS", "perhaps"),
        ("SPARK_MASTER", "sc://"),
        ("SPARK_MASTER", "sc://localhost:0"),
        ("SPARK_MASTER", "sc://localhost:65536"),
        ("SPARK_MASTER", "sc://localhost:15002/path"),
        ("WAREHOUSE_ROOT", "s3a://KEY:SECRET@bucket/lake"),
        ("INPUT_ROOT", "s3://KEY@bucket/events"),
        ("SPARK_SERVER", "localhost:15002"),
        ("SPARK_SERVER", "local[*]"),
        ("SPARK_MASTER", "mesos://zk://a:2181/mesos"),
        ("SPARK_MASTER", "http://host:8080"),
        ("SPARK_MASTER", "spark://h:99999"),
        ("SPARK_MASTER", "spark://h:0"),
        ("SPARK_MASTER", "spark://a:7077,b:65536"),
        ("SPARK_MASTER", f"spark://h:{'7' * 5000}"[:150]),
        ("SPARK_MASTER", "k8s://https://host:99999"),
        ("SPARK_MASTER", "k8s://ftp://host"),
        ("SPARK_MASTER", "local[9999999999]"),
        ("SPARK_MASTER", "yarn://host"),
        ("DELTA_JARS", "/nope.jar"),
        ("BOT_LIMIT", "-1"),
        ("BOT_LIMIT", "many"),
        ("SETTLE_SECONDS", "-1"),
        ("REQUIRE_SUCCESS_MARKER", "perhaps"),
        ("DELETION_VECTORS", "off"),
        ("CATALOG_SCHEMA", "a.b.c"),
        ("LANDING_DEADLINE_HOURS", "noon"),
        ("LANDING_DEADLINE_HOURS", "-1"),
        ("LANDING_DEADLINE_HOURS", "721"),
    ],
)
def test_an_error_names_the_wrong_variable_and_its_possible_values(variable: str, text: str) -> None:
    with pytest.raises(SettingsError) as error:
        from_env(**{variable: text})
    message = str(error.value)
    assert message.startswith(f"SESSIONS_{variable} (")
    assert message.endswith(f", not {redacted(text)!r}.")
    assert " must be " in message


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("start_date", 20250901),
        ("input_root", ""),
        ("warehouse_root", None),
        ("input_format", "Parquet"),
        ("key_prefix", "web events"),
        ("key_prefix", ["web", ""]),
        ("group", "my group"),
        ("owners", "team:web"),
        ("tags", {"domain": 1}),
        ("rules", timedelta(minutes=5)),
        ("carried_columns", {"timestamp": "string"}),
        ("bot_limit", 0.5),
        ("bot_limit", True),
        ("settle_seconds", -1),
        ("require_success_marker", "yes"),
        ("deletion_vectors", "false"),
        ("catalog_schema", ".lake"),
        ("logs_through_spark", "true"),
        ("landing_deadline_hours", 0.5),
        ("spark", "local[2]"),
    ],
)
def test_an_error_names_the_wrong_field_and_its_possible_values(setting: str, value: Any) -> None:
    settings: dict[str, Any] = {"start_date": DAY, setting: value}
    with pytest.raises(SettingsError, match=rf"^{setting} \(.+\) must be .+, not .+\.$"):
        SessionsConfig(**settings)


TEXTS: Final = [
    *[
        "x",
        "-1",
        "-0.5",
        "0",
        "1e3",
        "nan",
        "inf",
        "-inf",
        "1.5",
        "٩",
        "1_000",
        "+5",
        "true",
        "None",
        "null",
        "[]",
        "{}",
        ",",
        "a,b",
        "a,,b",
        "a:b",
        "2gb",
    ],
    *["dbfs:/x", "FILE:///x", "file://host/x", "s3:/x", "s3://", "http://x/y", "~/x", "$HOME/x", "C:/x"],
    *["0001-01-01", "9999-12-31", "2025-02-30", "20250901", "2025-09-01T00:00:00"],
    *["local[", "local[0]", "local[-1]", "spark://", "spark://host"],
    *["9" * 30, "9" * 5000, "\0", "x\ny", "yarn cluster"],
]
VALUES: Final[list[Any]] = [
    *[*TEXTS, "", "  ", b"x", None, True, -1, 0, 1.5, float("nan"), float("inf"), 10**30, [], [None], [""], {}, set()],
    *[{"a": 1}, {1: "a"}, object(), DAY, datetime(2025, 9, 1), date.min, date.max, timedelta(-1), timedelta.max],
    *[Path("x"), Path("dbfs:/x")],
]  # fmt: skip

ACCEPTED: Final[dict[str, Any]] = {
    "start_date": "2025-09-01",
    "input_root": "/data/my events",
    "warehouse_root": "s3://lake/tables",
    "input_format": "json",
    "epoch_unit": "seconds",
    "key_prefix": ["shop", "web"],
    "group": "web",
    "owners": ["team:web", "ada@example.com"],
    "tags": {"domain": "web"},
    "rules": SessionRules(lateness_days=7),
    "carried_columns": {"country": "string"},
    "bot_limit": 7,
    "settle_seconds": 0,
    "require_success_marker": True,
    "landing_deadline_hours": 36,
    "deletion_vectors": False,
    "catalog_schema": "main.lake",
    "logs_through_spark": True,
    "alerts": AlertSettings(command=("echo",)),
    "spark": SparkSettings(master="local-cluster[2,1,1024]"),
}
"""A value of each field that is not its default."""


def refusals(
    make: Callable[[Any], object], values: Iterable[Any], errors: tuple[type[Exception], ...] = (SettingsError,)
) -> dict[str, str]:
    """The message for each value that is refused, by its `repr`. An error of another kind is let through."""
    messages = {}
    for value in values:
        try:
            make(value)
        except errors as error:
            messages[repr(value)] = str(error)
    return messages


def assert_sentence(message: str, name: str) -> None:
    assert re.fullmatch(rf"{re.escape(name)} \(.+\) must be .+, not .+\.", message), message
    assert len(message) < 700


@pytest.mark.parametrize("name", [each.name for each in fields(SessionsConfig)])
def test_every_field_is_checked_and_its_error_is_one_sentence(name: str) -> None:
    def make(value: Any) -> SessionsConfig:
        return SessionsConfig(**{"start_date": DAY, name: value})

    make(ACCEPTED[name])
    messages = refusals(make, VALUES)
    assert len(messages) > 10, "nothing is refused, so nothing is checked"
    for message in messages.values():
        assert_sentence(message, name)


@pytest.mark.parametrize("name", [each.name for each in fields(SparkSettings)])
def test_every_field_of_spark_is_checked_and_its_error_is_one_sentence(name: str) -> None:
    messages = refusals(lambda value: SparkSettings(**{name: value}), VALUES)
    assert len(messages) > 10
    for message in messages.values():
        assert_sentence(message, f"spark.{name}")


@pytest.mark.parametrize("name", [each.name for each in fields(SessionRules)])
def test_every_rule_is_checked_and_its_error_names_it(name: str) -> None:
    messages = refusals(lambda value: SessionRules(**{name: value}), VALUES, (TypeError, ValueError))
    assert len(messages) > 10
    assert not [message for message in messages.values() if name not in message]


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_text_that_is_no_value_of_a_variable_is_refused_in_one_sentence(variable: str) -> None:
    messages = refusals(lambda text: SessionsConfig.from_env({variable: text}), TEXTS)
    assert messages, "every text is accepted"
    for message in messages.values():
        assert_sentence(message, variable)


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_blank_variable_counts_as_not_set(variable: str) -> None:
    assert SessionsConfig.from_env({variable: " "}) == SessionsConfig.from_env({variable: ""}) == from_env()


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_name_of_a_variable_with_a_slip_is_refused(variable: str) -> None:
    short = variable.removeprefix("SESSIONS_")
    slips = [
        short.lower(),
        short[:-1],
        f"{short}S",
        short.replace("_", ""),
        short[1:],
        f"{short[1]}{short[0]}{short[2:]}",
    ]
    for slip in {f"SESSIONS_{each}" for each in slips} - set(VARIABLES):
        with pytest.raises(SettingsError, match=rf"^{slip} is not a setting; did you mean .*{variable}.*\?$"):
            SessionsConfig.from_env({slip: "x"})


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("WAREHOUSE", "WAREHOUSE_ROOT"),
        ("WAREHOUSE_DIR", "WAREHOUSE_ROOT"),
        ("START", "START_DATE"),
        ("INPUT_PATH", "INPUT_ROOT"),
        ("TIMEOUT", "TIMEOUT_SECONDS"),
        ("LATENESS", "LATENESS_DAYS"),
        ("MASTER", "SPARK_MASTER"),
    ],
)
def test_a_part_of_the_name_of_a_variable_is_refused(slip: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=rf"^SESSIONS_{slip} is not a setting; did you mean .*SESSIONS_{meant}\b"):
        from_env(**{slip: "x"})


@pytest.mark.parametrize(
    ("variable", "name"),
    [("KEY_PREFIX", "key_prefix"), ("GROUP", "group"), ("SPARK_DRIVER_MEMORY", "spark.driver_memory")],
)
def test_a_variable_for_a_setting_without_one_is_refused(variable: str, name: str) -> None:
    with pytest.raises(SettingsError, match=rf"^SESSIONS_{variable} is not read: the setting {name} has no variable"):
        from_env(**{variable: "x"})


def test_variables_of_others_are_left_alone() -> None:
    others = [
        "PROGRAMS",
        "SERVICE_HOST",
        "PORT",
        "PORT_80_TCP_ADDR",
        "INPUT_PORT",
        "INPUT_SERVICE_HOST",
        "DB_URL",
        "API_KEY",
    ]
    assert from_env(**dict.fromkeys(others, "x"), WAREHOUSE=" ") == from_env()


@pytest.mark.parametrize(
    "place",
    [
        "events",
        "/data/my events",
        "a:b",
        "data/50% [x]",
        "file:///data",
        "file:/data",
        "s3a://b",
        "hdfs:///x",
        "gs://b/x",
    ],
)
def test_a_place_is_a_folder_or_a_uri(place: str) -> None:
    assert from_env(INPUT_ROOT=place).input_root == place


@pytest.mark.parametrize(
    "master",
    [
        "local",
        "local[2]",
        "local[*]",
        "local[*, 3]",
        "local-cluster[1,1,1024]",
        "spark://a:7077,b:7077",
        "yarn",
        "k8s://x",
        "k8s://https://host:443",
        "k8s://https://10.0.0.1:6443/k8s/clusters/c-1",
        "k8s://http://[::1]:8001",
        "spark://host:65535",
    ],
)
def test_a_master_of_spark(master: str) -> None:
    assert from_env(SPARK_MASTER=master, SHARED_FOLDERS="yes").spark.master == master


REMOTE: Final = [
    "sc://host",
    "sc://host:15002/;token=t",
    "sc://10.0.0.1",
    "sc://[2001:db8::1]:15002",
    "sc://localhost.com",
]


@pytest.mark.parametrize(
    "address",
    [
        "sc://localhost",
        "sc://LocalHost:15002",
        "sc://localhost.:1",
        "sc://127.0.0.1",
        "sc://127.1.2.3",
        "sc://[::1]:15002",
    ],
)
def test_a_server_on_this_machine_has_its_folders(address: str) -> None:
    for setting in ("SPARK_MASTER", "SPARK_SERVER"):
        assert from_env(**{setting: address}, INPUT_ROOT="/data").input_root == "/data"


@pytest.mark.parametrize("address", REMOTE)
def test_a_server_of_another_machine_gets_no_folder_of_this_one(address: str) -> None:
    with pytest.raises(SettingsError, match=r"SESSIONS_INPUT_ROOT\) .*SESSIONS_SHARED_FOLDERS=true") as raised:
        from_env(SPARK_SERVER=address, INPUT_ROOT="/data", WAREHOUSE_ROOT="s3a://bucket/lake")
    assert "token" not in str(raised.value)


@pytest.mark.parametrize("master", ["spark://a:7077,b:7077", "yarn", "k8s://https://host:443", *REMOTE])
def test_a_cluster_gets_no_folder_of_one_machine_unless_it_is_said_to_be_shared(master: str) -> None:
    roots = {"INPUT_ROOT": "s3a://bucket/input", "WAREHOUSE_ROOT": "s3a://bucket/lake"}
    assert from_env(SPARK_MASTER=master, **roots).spark.master == master
    for name, folder in ((name, folder) for name in roots for folder in ("/data", "data", "file:///data")):
        assert from_env(SPARK_MASTER=master, SHARED_FOLDERS="true", **{**roots, name: folder}).spark.shared_folders
        for shared in ({}, {"SHARED_FOLDERS": "no"}):
            with pytest.raises(SettingsError, match=rf"SESSIONS_{name}\) .*SESSIONS_SHARED_FOLDERS=true"):
                from_env(SPARK_MASTER=master, **shared, **{**roots, name: folder})


@pytest.mark.parametrize("master", ["local", "local[*]", "local-cluster[2,1,1024]"])
def test_executors_on_this_machine_have_its_folders(master: str) -> None:
    for folder in ("/data", "data", "file:///data"):
        assert from_env(SPARK_MASTER=master, INPUT_ROOT=folder).spark.master == master


def test_an_unknown_argument_is_an_error() -> None:
    settings: dict[str, Any] = {"start_date": DAY, "input_rot": "/data/events"}
    with pytest.raises(TypeError, match="input_rot"):
        SessionsConfig(**settings)


def test_equivalent_ways_to_write_a_setting_are_normalized() -> None:
    config = SessionsConfig(start_date="2025-09-01", key_prefix="web", input_root=Path("events"), owners=["team:web"])
    assert (config.start_date, config.key_prefix, config.input_root) == (DAY, ("web",), "events")
    assert config == SessionsConfig(start_date=DAY, key_prefix=["web"], input_root="events", owners=("team:web",))


def test_names_have_the_prefix() -> None:
    assert SessionsConfig(start_date=DAY).prefixed("new_batches") == "new_batches"
    config = SessionsConfig(start_date=DAY, key_prefix=["shop", "web"])
    assert config.prefixed("new_batches") == "shop_web_new_batches"
    assert config.asset_key("sessions") == ("shop", "web", "sessions")


def test_the_default_bot_limit_is_that_of_the_contract() -> None:
    assert SessionsConfig(start_date=DAY).bot_limit == DEFAULT_BOT_LIMIT == 100_000


@pytest.mark.parametrize("mark", ["'", '"'])
@pytest.mark.parametrize("place", ["/data", "data", "s3a://b/x"])
@pytest.mark.parametrize("name", ["INPUT_ROOT", "WAREHOUSE_ROOT"])
def test_a_place_in_quotes_that_no_shell_has_taken_away_is_refused(name: str, place: str, mark: str) -> None:
    """`docker --env-file` hands quotes on."""
    with pytest.raises(SettingsError, match=f"SESSIONS_{name} "):
        from_env(**{name: f"{mark}{place}{mark}"})
    assert from_env(**{name: f"{place}{mark}s"})


@pytest.mark.parametrize("ids", ["{6F9619FF-8B86},b", "tap[0],b", "don't,b", "a;b,c", 'b"x,c', "a:b,c=d"])
def test_ids_of_user_actions_may_have_any_marks_within(ids: str) -> None:
    assert from_env(USER_ACTION_IDS=ids).rules.user_action_ids == set(ids.split(","))


def test_the_folders_of_the_tables_are_those_of_the_warehouse() -> None:
    data = Warehouse("/data")
    made = (data.raw_events, data.rejected_events, data.sessionized_events, data.session_corrections, data.sessions)
    assert data.tables == made


@pytest.mark.parametrize("table", Warehouse("/data").tables)
@pytest.mark.parametrize("below", ["", "/", "/x", "/../sessions/x"])
def test_batches_do_not_arrive_in_the_folder_of_a_table(table: str, below: str) -> None:
    with pytest.raises(
        SettingsError, match=re.escape("SESSIONS_INPUT_ROOT (where the batches arrive) must be outside")
    ):
        from_env(INPUT_ROOT=f"{table}{below}", WAREHOUSE_ROOT="file:///data/")


@pytest.mark.parametrize(
    ("input_root", "warehouse_root"),
    [
        ("/data", "/data"),
        ("/data/input", "/data"),
        ("/data", "/data/lake"),
        ("/data/raw_events2", "/data"),
        ("/raw_events", "/data"),
        ("s3://a/raw_events", "s3://b"),
    ],
)
def test_batches_may_arrive_beside_the_tables(input_root: str, warehouse_root: str) -> None:
    assert from_env(INPUT_ROOT=input_root, WAREHOUSE_ROOT=warehouse_root).input_root == input_root


def test_the_tables_of_an_object_store_are_known_by_both_spellings() -> None:
    with pytest.raises(SettingsError, match="must be outside of the table s3a://b/sessions"):
        SessionsConfig(start_date=DAY, input_root="s3a://b/sessions", warehouse_root="s3://b")
