"""The Dagster component: a product that is defined in the YAML of a team's project."""

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from sessions_dagster import AlertSettings, SessionRules, SessionsComponent, SessionsConfig, SparkSettings
from sessions_dagster.defs.resources import LakeResource
from sessions_dagster.errors import SettingsError

YAML = """
type: sessions_dagster.SessionsComponent
attributes:
  start_date: 2025-09-01
  input_root: /data/events
  warehouse_root: /data/lake
  input_format: json
  epoch_unit: seconds
  key_prefix: [shop, web]
  group: web
  owners: [team:web]
  rules:
    timeout_seconds: 600
    user_action_ids: [click]
    lateness_days: 7
  carried_columns:
    country: string
  bot_limit: 0
  settle_seconds: 5
  require_success_marker: true
  landing_deadline_hours: 6
  deletion_vectors: false
  catalog_schema: lake
  logs_through_spark: true
  alerts:
    command: [echo, --team, web]
    ui_url: https://dagster.example.com
  spark:
    master: local[1]
    extra_conf:
      spark.sql.shuffle.partitions: 3
"""

OF_YAML = SessionsConfig(
    start_date="2025-09-01",
    input_root="/data/events",
    warehouse_root="/data/lake",
    input_format="json",
    epoch_unit="seconds",
    key_prefix=["shop", "web"],
    group="web",
    owners=["team:web"],
    rules=SessionRules(timedelta(minutes=10), frozenset({"click"}), lateness_days=7),
    carried_columns={"country": "string"},
    bot_limit=None,
    settle_seconds=5,
    require_success_marker=True,
    landing_deadline_hours=6,
    deletion_vectors=False,
    catalog_schema="lake",
    logs_through_spark=True,
    alerts=AlertSettings(command=("echo", "--team", "web"), ui_url="https://dagster.example.com"),
    spark=SparkSettings(master="local[1]", extra_conf={"spark.sql.shuffle.partitions": "3"}),
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `defs` folder of a team's project."""
    defs = tmp_path / "teams_project" / "defs"
    defs.mkdir(parents=True)
    for folder in (defs, defs.parent):
        (folder / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "teams_project"\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "teams_project", raising=False)
    monkeypatch.delitem(sys.modules, "teams_project.defs", raising=False)
    return defs


def load(project: Path, **files: str) -> dg.Definitions:
    for name, text in files.items():
        (project / name).mkdir()
        (project / name / "defs.yaml").write_text(text)
    return dg.load_from_defs_folder(path_within_project=project)


def test_a_component_in_yaml_defines_a_product(project: Path) -> None:
    defs = load(project, web=YAML)
    keys = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert keys == {
        f"shop/web/{table}"
        for table in (
            "input_batches",
            "raw_events",
            "rejected_events",
            "sessionized_events",
            "session_corrections",
            "sessions",
        )
    }
    lake = (defs.resources or {})["shop_web_lake"]
    assert isinstance(lake, LakeResource)
    assert lake.input_root == "/data/events"


def test_the_example_of_the_documentation_defines_a_product(project: Path) -> None:
    documentation = (Path(__file__).parents[1] / "docs" / "library.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", documentation, re.DOTALL)
    assert len(load(project, web=example).resolve_asset_graph().get_all_asset_keys()) == 6


def test_two_components_define_two_products(project: Path) -> None:
    minimal = "type: sessions_dagster.SessionsComponent\nattributes: {start_date: 2025-09-01, key_prefix: ide}\n"
    assert len(load(project, web=YAML, ide=minimal).resolve_asset_graph().get_all_asset_keys()) == 12


def test_the_attributes_of_a_component_are_the_settings() -> None:
    attributes = YAML.split("attributes:")[1]
    component = SessionsComponent.resolve_from_yaml(attributes)
    assert component.config() == OF_YAML
    assert SessionsComponent.resolve_from_yaml("start_date: 2025-09-01").config() == SessionsConfig(
        start_date="2025-09-01"
    )


def test_a_component_has_an_attribute_for_every_setting() -> None:
    assert set(SessionsComponent.model_fields) == set(SessionsConfig.__dataclass_fields__)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("start_date: 2025-09-01\nwarehouse: /data/lake", "warehouse"),
        ("start_date: 2025-13-01", "start_date"),
        ("start_date: 2025-09-01\nrules: {lateness_days: 31}", "lateness_days"),
        ("start_date: 2025-09-01\nrules: {timeout: 31}", "timeout"),
    ],
)
def test_an_error_names_the_wrong_attribute(attributes: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        SessionsComponent.resolve_from_yaml(attributes).config()


WRONG_ATTRIBUTES = """
start_date: soon
input_root: dbfs:/x
warehouse_root: FILE:///x
input_format: orc
key_prefix: a b
group: a b
owners: [web]
tags: {a: b c}
rules: {lateness_days: 31}
rules: {timeout_seconds: soon}
rules: {timeout_seconds: -1}
rules: {user_action_ids: []}
carried_columns: {a: text}
bot_limit: -1
bot_limit: many
settle_seconds: abc
settle_seconds: -5
require_success_marker: perhaps
deletion_vectors: perhaps
catalog_schema: a b
spark: {master: 'local[0]'}
spark: {server: localhost}
spark: {delta_jars: /nope.jar}
warehouse_root: /data/a%20b
spark: {driver_memory: lots}
spark: {shuffle_partitions: 0}
spark: {shuffle_partitions: many}
spark: {driver_memory: '2'}
spark: {master: '5'}
spark: {extra_conf: x}
rules: {user_action_ids: abc}
rules: {user_action_ids: ['']}
rules: {lateness_days: 'five'}
rules: {timeout_seconds: '.inf'}
tags: x
owners: x
owners: ['5']
carried_columns: 'a:string'
input_root: ' /data'
input_root: /data/lake/raw_events
warehouse_root: '"/data"'
"""


@pytest.mark.parametrize("attribute", WRONG_ATTRIBUTES.strip().splitlines())
def test_a_wrong_attribute_is_refused_in_one_sentence(attribute: str) -> None:
    given = {"start_date": "start_date: 2025-09-01", "warehouse_root": "warehouse_root: /data/lake"} | {
        attribute.partition(":")[0]: attribute
    }
    with pytest.raises(SettingsError) as error:
        SessionsComponent.resolve_from_yaml("\n".join(given.values())).config()
    name, inner = re.fullmatch(r"(\w+): (?:\{(\w+): .*\}|.*)", attribute).groups()  # type: ignore[union-attr]
    path = f"{name}.{inner}" if name in {"rules", "spark"} else name
    assert re.fullmatch(rf"{re.escape(path)} \(.+\) must be .+, not .+\.", str(error.value))


LIKE_NUMBERS = ["1", "007", "1e3", "0x1F", "1_000", "True", "2025", "1.50", "a"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        *[(text, f"'{text}'") for text in [*LIKE_NUMBERS, "None", "[1]", "(1, 2)"]],
        *[(text, "'{{ env.THE_TEXT }}'") for text in LIKE_NUMBERS],
    ],
)
def test_a_text_stays_the_text_that_it_is(text: str, written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster makes a number of a text that looks like one, and other values of other texts."""
    monkeypatch.setenv("THE_TEXT", text)
    component = SessionsComponent.resolve_from_yaml(
        f"""
        start_date: 2025-09-01
        input_root: {written}
        tags: {{level: "1"}}
        rules: {{user_action_ids: [{written}, x]}}
        alerts: {{slack_channel: {written}, slack_token: {written}}}
        spark: {{extra_conf: {{spark.x: {written}}}}}
        """
    )
    config = component.config()
    assert (config.input_root, config.tags) == (text, {"level": "1"})
    assert config.rules.user_action_ids == {text, "x"}
    assert (config.alerts.slack_channel, config.alerts.slack_token) == (text, text)
    assert config.spark.extra_conf == {"spark.x": text}


@pytest.mark.parametrize("name", ["bot_limit", "settle_seconds", "landing_deadline_hours"])
def test_yes_is_no_number(name: str) -> None:
    with pytest.raises(Exception, match=name):
        SessionsComponent.resolve_from_yaml(f"start_date: 2025-09-01\n{name}: yes").config()


@pytest.mark.parametrize("number", ["250", "250.0", "2.5e2", "'250'"])
def test_a_whole_number_may_have_a_point(number: str) -> None:
    yaml = f"start_date: 2025-09-01\nbot_limit: {number}\nsettle_seconds: {number}"
    config = SessionsComponent.resolve_from_yaml(yaml).config()
    assert (config.bot_limit, config.settle_seconds) == (250, 250)


@pytest.mark.parametrize("yaml", ["bot_limit: 2.5", "landing_deadline_hours: .5", "rules: {lateness_days: 7.5}"])
def test_a_part_of_a_number_is_refused_in_one_sentence(yaml: str) -> None:
    with pytest.raises(SettingsError, match="must be"):
        SessionsComponent.resolve_from_yaml(f"start_date: 2025-09-01\n{yaml}").config()


def test_a_list_may_come_from_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIONS", "1,2")
    yaml = "start_date: 2025-09-01\nrules: {user_action_ids: \"{{ env.ACTIONS.split(',') }}\"}"
    assert SessionsComponent.resolve_from_yaml(yaml).config().rules.user_action_ids == {"1", "2"}


def test_a_variable_that_is_not_there_leaves_a_channel_unset() -> None:
    yaml = "start_date: 2025-09-01\nalerts: {webhook_url: '{{ env.NOT_THERE }}'}"
    assert not SessionsComponent.resolve_from_yaml(yaml).config().alerts.has_channel


@pytest.mark.parametrize("secret", ["4711", "4711.5", "(47, 11)"])
@pytest.mark.parametrize("attribute", ["webhook_url", "slack_token", "smtp_url"])
def test_an_error_never_shows_a_secret_that_came_from_the_environment(
    attribute: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_SECRET", secret)
    with pytest.raises(SettingsError) as error:
        SessionsComponent.resolve_from_yaml(
            f"start_date: 2025-09-01\nalerts: {{{attribute}: '{{{{ env.THE_SECRET }}}}'}}"
        ).config()
    assert "47" not in str(error.value)


@pytest.mark.slow
def test_dg_can_load_the_checkout_as_a_project() -> None:
    pytest.importorskip("dagster_dg_cli")
    command = [str(Path(sys.executable).with_name("dg")), "check", "defs"]
    checked = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "All definitions loaded successfully" in checked.stdout + checked.stderr
