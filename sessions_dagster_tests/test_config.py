"""The settings of a product: their possible values, the environment variables, and the errors for wrong values."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from sessions_dagster.config import SessionsConfig
from sessions_dagster.errors import SettingsError
from sessions_dagster.model.rejects import DEFAULT_BOT_LIMIT
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.spark.session import SparkSettings

DAY = date(2025, 9, 1)


def from_env(**variables: str) -> SessionsConfig:
    return SessionsConfig.from_env({f"SESSIONS_{name}": text for name, text in variables.items()})


def test_an_empty_environment_gives_the_default_settings() -> None:
    assert from_env() == SessionsConfig(start_date=date(2025, 1, 1), spark=SparkSettings())


def test_every_variable_sets_a_setting() -> None:
    config = from_env(
        START_DATE="2025-09-01",
        INPUT_ROOT="/data/events",
        WAREHOUSE_ROOT="s3://lake/tables",
        INPUT_FORMAT="csv",
        TIMEOUT_SECONDS="90.5",
        USER_ACTION_IDS="click, key",
        LATENESS_DAYS="7",
        CARRIED_COLUMNS="ide_version:string, clicks:INT",
        BOT_LIMIT="5",
        SETTLE_SECONDS="0",
        REQUIRE_SUCCESS_MARKER="True",
        SPARK_MASTER="local[1]",
        DELTA_JARS="a.jar,b.jar",
    )
    assert config == SessionsConfig(
        start_date=DAY,
        input_root="/data/events",
        warehouse_root="s3://lake/tables",
        input_format="csv",
        rules=SessionRules(timedelta(seconds=90.5), frozenset({"click", "key"}), lateness_days=7),
        carried_columns={"ide_version": "string", "clicks": "int"},
        bot_limit=5,
        settle_seconds=0,
        require_success_marker=True,
        spark=SparkSettings(master="local[1]", delta_jars="a.jar,b.jar"),
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
        ("TIMEOUT_SECONDS", "soon"),
        ("TIMEOUT_SECONDS", "0"),
        ("TIMEOUT_SECONDS", "nan"),
        ("TIMEOUT_SECONDS", "1e99"),
        ("USER_ACTION_IDS", "a,,b"),
        ("LATENESS_DAYS", "31"),
        ("LATENESS_DAYS", "-1"),
        ("LATENESS_DAYS", "5.5"),
        ("CARRIED_COLUMNS", "country"),
        ("CARRIED_COLUMNS", "country:text"),
        ("CARRIED_COLUMNS", "User_Id:string"),
        ("CARRIED_COLUMNS", "a b:string"),
        ("CARRIED_COLUMNS", "a:string,A:string"),
        ("BOT_LIMIT", "-1"),
        ("BOT_LIMIT", "many"),
        ("SETTLE_SECONDS", "-1"),
        ("REQUIRE_SUCCESS_MARKER", "perhaps"),
    ],
)
def test_an_error_names_the_wrong_variable_and_its_possible_values(variable: str, text: str) -> None:
    with pytest.raises(SettingsError) as error:
        from_env(**{variable: text})
    message = str(error.value)
    assert message.startswith(f"SESSIONS_{variable} (")
    assert message.endswith(f", not {text!r}.")
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
        ("spark", "local[2]"),
    ],
)
def test_an_error_names_the_wrong_field_and_its_possible_values(setting: str, value: Any) -> None:
    settings: dict[str, Any] = {"start_date": DAY, setting: value}
    with pytest.raises(SettingsError, match=rf"^{setting} \(.+\) must be .+, not .+\.$"):
        SessionsConfig(**settings)


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
