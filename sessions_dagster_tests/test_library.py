"""The package as a library: imports without side effects, two products in one code location, and their names."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster_deltalake import DeltaTableResource
from deltalake import DeltaTable, QueryBuilder
from pyspark.sql import SparkSession

import sessions_dagster
from sessions_dagster import SessionRules, SessionsConfig, SparkSettings, build_defs
from sessions_dagster.defs.resources import LakeResource, SparkResource, build_resources
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import write_batch
from sessions_dagster_tests.oracle import Event

DAY = date(2025, 9, 20)

EVENTS: Final = [
    Event("ada", "a", "idea", datetime(2025, 9, 20, 9, 0)),
    Event("ada", "click", "idea", datetime(2025, 9, 20, 9, 4)),
    Event("ada", "click", "idea", datetime(2025, 9, 20, 9, 12)),
]

DOCS: Final = Path(__file__).parents[1] / "docs"
DOCUMENTATION: Final = (DOCS / "library.md").read_text()
SETTINGS: Final = (DOCS / "operations.md").read_text().split("\n## Settings\n")[1].split("\n## ")[0]

VARIABLES: Final = (
    "START_DATE",
    "INPUT_ROOT",
    "INPUT_FORMAT",
    "EPOCH_UNIT",
    "WAREHOUSE_ROOT",
    "TIMEOUT_SECONDS",
    "USER_ACTION_IDS",
    "LATENESS_DAYS",
    "CARRIED_COLUMNS",
    "BOT_LIMIT",
    "SETTLE_SECONDS",
    "REQUIRE_SUCCESS_MARKER",
    "LANDING_DEADLINE_HOURS",
    "DELETION_VECTORS",
    "CATALOG_SCHEMA",
    "LOGS_THROUGH_SPARK",
    "ALERT_WEBHOOK_URL",
    "ALERT_COMMAND",
    "ALERT_SLACK_CHANNEL",
    "ALERT_SLACK_TOKEN",
    "ALERT_EMAIL_TO",
    "ALERT_EMAIL_FROM",
    "ALERT_SMTP_URL",
    "ALERT_UI_URL",
    "SPARK_MASTER",
    "DELTA_JARS",
    "SPARK_SERVER",
    "SHARED_FOLDERS",
)


def run_python(code: str, **variables: str) -> str:
    """Run code in another Python process. Returns its output."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | variables
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def deliver(root: Path) -> None:
    """Write the batch of the day, with an additional column of the sender."""
    folder = root / f"date={DAY}"
    write_batch(EVENTS, folder)
    events = pq.ParquetFile(folder / "events.parquet").read()
    country = pa.array(["AQ"] * events.num_rows)
    pq.write_table(events.append_column("country", country), folder / "events.parquet")


def rows(table_uri: str, columns: str) -> list[tuple[Any, ...]]:
    """The rows of a table, read by delta-rs, sorted."""
    found = QueryBuilder().register("t", DeltaTable(table_uri)).execute(f"SELECT {columns} FROM t").read_all()
    values = [tuple(map(_naive, row.values())) for row in pa.table(found).to_pylist()]
    return sorted(values, key=str)


def _naive(value: Any) -> Any:
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value


def test_importing_the_package_does_not_import_spark_or_dagster() -> None:
    code = "import sys, sessions_dagster; print({'dagster', 'pyspark', 'deltalake'} & set(sys.modules))"
    assert run_python(code) == "set()"


@pytest.mark.parametrize("name", ["AlertSettings", "SessionsConfig", "SessionRules", "SparkSettings"])
def test_settings_can_be_made_without_dagster(name: str) -> None:
    code = f"import sys; from sessions_dagster import {name}; print('dagster' in sys.modules)"
    assert run_python(code) == "False"


def test_the_command_runs_without_dagster() -> None:
    code = "import sys; import sessions_dagster.__main__; print('dagster' in sys.modules)"
    assert run_python(code) == "False"


def test_settings_made_in_code_read_nothing_from_the_environment() -> None:
    code = (
        "from sessions_dagster import SessionsConfig, SessionsComponent, build_defs\n"
        "config = SessionsConfig(start_date='2025-09-01')\n"
        "build_defs(config)\n"
        "print(config.input_root, config.rules.lateness_days, config.spark.master)"
    )
    wrong = {f"SESSIONS_{name}": "no good value" for name in VARIABLES}
    assert run_python(code, **wrong) == "data/input 5 local[*]"


def test_the_code_location_is_configured_from_the_environment() -> None:
    code = "from sessions_dagster.definitions import defs; print(defs.resources['lake'].input_root)"
    assert run_python(code, SESSIONS_INPUT_ROOT="/data/events") == "/data/events"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    ["sessions_dagster.definitions", "dagster asset list -m sessions_dagster.definitions", "sessions_dagster sessions"],
)
def test_a_command_with_a_wrong_setting_says_one_sentence(command: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "SESSIONS_SETTLE_SECONDS": "abc"}
    words = [sys.executable, "-m", *command.split()]
    done = subprocess.run(words, env=environment, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"SESSIONS_SETTLE_SECONDS \(.+\) must be .+, not 'abc'\.\n", done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("home", ["relative", "/nope"])
def test_loading_the_code_location_says_what_is_wrong_with_the_home_of_dagster(home: str, tmp_path: Path) -> None:
    (tmp_path / "relative").mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "DAGSTER_HOME": home}
    words = [sys.executable, "-m", "sessions_dagster.definitions"]
    done = subprocess.run(words, env=environment, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(rf"DAGSTER_HOME \(.+\) must be the absolute path of a folder .+, not '{home}'\.\n", done.stderr)


@pytest.mark.slow
def test_loading_the_code_location_with_a_wrong_setting_begins_with_the_sentence(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "SESSIONS_START_DATE": "soon"}
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-m", "sessions_dagster.definitions"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, check=False, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "SESSIONS_START_DATE (the first partition) must be a date" in said.split("Stack Trace:")[0]
    assert "Traceback" not in said


def test_every_public_name_can_be_imported() -> None:
    assert set(sessions_dagster.__all__) <= set(dir(sessions_dagster))
    assert all(getattr(sessions_dagster, name) is not None for name in sessions_dagster.__all__)
    with pytest.raises(AttributeError, match="build_def"):
        _ = sessions_dagster.build_def


def test_an_unknown_argument_is_an_error() -> None:
    arguments: dict[str, Any] = {"spark": SparkResource()}
    with pytest.raises(TypeError, match="spark"):
        build_defs(SessionsConfig(start_date=DAY), **arguments)


class Greeting(dg.ConfigurableResource[Any]):
    """A resource of the team."""

    text: str


@dataclass(frozen=True)
class Deployment:
    """Two products in the definitions of a team, and the runs of their assets."""

    defs: dg.Definitions
    instance: dg.DagsterInstance
    products: Mapping[str, SessionsConfig]
    runs: Mapping[str, dg.ExecuteInProcessResult]

    def warehouse(self, product: str) -> Warehouse:
        return Warehouse(self.products[product].warehouse_root)


@pytest.fixture(scope="module")
def deployment(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    folder = tmp_path_factory.mktemp("two_products")
    products = {
        "ide": SessionsConfig(
            start_date="2025-09-15",
            input_root=folder / "ide" / "input",
            warehouse_root=folder / "ide" / "warehouse",
            key_prefix="ide",
        ),
        "web": SessionsConfig(
            start_date=date(2025, 9, 19),
            input_root=folder / "web" / "input",
            warehouse_root=folder / "web" / "warehouse",
            key_prefix=["shop", "web"],
            group="web",
            owners=["team:web"],
            rules=SessionRules(timedelta(minutes=10), frozenset({"click"}), lateness_days=2),
            carried_columns={"country": "string"},
        ),
    }
    for config in products.values():
        deliver(Path(config.input_root))

    @dg.asset(deps=[dg.AssetKey(["shop", "web", "sessions"])])
    def report(greeting: Greeting) -> None:
        """An asset of the team."""
        assert greeting.text == "hello"

    teams_own = dg.Definitions(
        assets=[report],
        jobs=[dg.define_asset_job("report_job", [report])],
        resources={"greeting": Greeting(text="hello")},
        executor=dg.in_process_executor,
    )
    merged = dg.Definitions.merge(*[build_defs(config) for config in products.values()], teams_own)
    instance = dg.DagsterInstance.ephemeral()
    runs = {product: materialize_all(merged, config, instance) for product, config in products.items()}
    assert all(run.success for run in runs.values())
    return Deployment(merged, instance, products, runs)


def materialize_all(
    defs: dg.Definitions, config: SessionsConfig, instance: dg.DagsterInstance
) -> dg.ExecuteInProcessResult:
    """Run all assets of a product, with their checks."""
    names = ("raw_events", "sessionized_events", "sessions")
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        partition_key=str(DAY),
        asset_selection=[dg.AssetKey(config.asset_key(name)) for name in names],
    )


def test_each_product_has_sessions_by_its_own_rules(deployment: Deployment) -> None:
    def at(minute: int) -> datetime:
        return datetime(2025, 9, 20, 9, minute)

    columns = "session_start_ts, session_end_ts, events, user_actions"
    assert rows(deployment.warehouse("ide").sessions, columns) == [(at(0), at(5), 2, 1)]
    assert rows(deployment.warehouse("web").sessions, columns) == [(at(4), at(22), 2, 2)]


def test_only_the_product_with_the_setting_carries_a_column(deployment: Deployment) -> None:
    assert set(rows(deployment.warehouse("web").sessionized_events, "country")) == {("AQ",)}
    ide = DeltaTable(deployment.warehouse("ide").sessionized_events)
    assert "country" not in [field.name for field in ide.schema().fields]


def test_every_asset_of_both_products_is_materialized(deployment: Deployment) -> None:
    tables = {"raw_events", "rejected_events", "sessionized_events", "sessions"}
    materialized = {tuple(key.path) for key in deployment.instance.all_asset_keys()}
    assert {("ide", table) for table in tables} <= materialized
    assert {("shop", "web", table) for table in tables} <= materialized


def test_the_checks_of_both_products_have_results(deployment: Deployment) -> None:
    for run in deployment.runs.values():
        found = run.get_asset_check_evaluations()
        assert len(found) == 6
        of_days_that_are_missing = {"window_is_complete", "batches_have_landed"}
        passed = {evaluation.passed for evaluation in found if evaluation.check_name not in of_days_that_are_missing}
        assert passed == {True}


def test_a_job_of_the_team_runs_beside_the_products(deployment: Deployment) -> None:
    job = deployment.defs.resolve_job_def("report_job")
    assert job.execute_in_process(instance=deployment.instance).success
    assert deployment.defs.executor is dg.in_process_executor


def test_maintenance_of_a_product_does_not_change_the_other_one(deployment: Deployment) -> None:
    ide, web = (DeltaTable(deployment.warehouse(product).sessionized_events) for product in ("ide", "web"))
    before = ide.version(), web.version()
    job = deployment.defs.resolve_job_def("shop_web_compaction")
    assert job.execute_in_process(instance=deployment.instance).success
    ide.update_incremental()
    web.update_incremental()
    assert ide.version() == before[0]
    assert web.version() > before[1]
    config = {"ops": {"shop_web_vacuum_tables": {"config": {"dry_run": True}}}}
    vacuum = deployment.defs.resolve_job_def("shop_web_vacuum")
    assert vacuum.execute_in_process(instance=deployment.instance, run_config=config).success


@dataclass(frozen=True)
class Names:
    """All Dagster names of a product."""

    assets: set[str]
    checks: set[str]
    jobs: set[str]
    schedules: set[str]
    sensors: set[str]
    resources: set[str]
    ops: set[str]
    pools: set[str]

    @classmethod
    def of(cls, **settings: Any) -> "Names":
        defs = build_defs(SessionsConfig(start_date=DAY, **settings))
        jobs = [
            defs.resolve_implicit_global_asset_job_def(),
            *(defs.resolve_job_def(job.name) for job in defs.jobs or []),
        ]
        ops = {node.name: node.definition for job in jobs for node in job.nodes}
        graph = defs.resolve_asset_graph()
        return cls(
            assets={key.to_user_string() for key in graph.get_all_asset_keys()},
            checks={f"{key.asset_key.to_user_string()}:{key.name}" for key in graph.asset_check_keys},
            jobs={job.name for job in defs.jobs or []},
            schedules={schedule.name for schedule in defs.schedules or []},
            sensors={sensor.name for sensor in defs.sensors or []},
            resources=set(defs.resources or {}),
            ops=set(ops),
            pools={pool for op in ops.values() for pool in getattr(op, "pools", ())},
        )


PUBLISHED = Names(
    assets={"input_batches", "raw_events", "rejected_events", "sessionized_events", "session_corrections", "sessions"},
    checks={
        "sessionized_events:session_end_is_last_user_action_plus_timeout",
        "sessionized_events:events_are_unique",
        "sessionized_events:sessions_do_not_overlap_or_miss_events",
        "sessionized_events:window_is_complete",
        "sessions:sessions_agree_with_sessionized_events",
        "raw_events:batches_have_landed",
    },
    jobs={"compaction", "forget", "vacuum", "audit", "rebuild"},
    schedules={"nightly_compaction", "weekly_vacuum"},
    sensors={"new_batches", "missing_batches", "alerts"},
    resources={"spark", "lake"},
    ops={
        "raw_events",
        "sessionized_events",
        "sessions",
        "session_checks",
        "sessions_check",
        "batches_check",
        "compact_tables",
        "forget_users",
        "vacuum_tables",
        "audit_tables",
        "rebuild_tables",
    },
    pools={"warehouse"},
)


def test_without_a_prefix_all_names_are_the_published_ones() -> None:
    assert Names.of() == PUBLISHED


def test_with_a_prefix_every_name_starts_with_it() -> None:
    names = Names.of(key_prefix=["shop", "web"])
    for name, published in vars(PUBLISHED).items():
        found: set[str] = getattr(names, name)
        assert len(found) == len(published)
        prefix = "shop/web/" if name in {"assets", "checks"} else "shop_web_"
        # Dagster names the op of an asset after the key of the asset.
        assert {each.replace("shop__web__", prefix) for each in found} == {f"{prefix}{each}" for each in published}


def test_group_owners_and_tags_are_settings() -> None:
    config = SessionsConfig(start_date=DAY, group="web", owners=["team:web"], tags={"domain": "web"})
    specs = build_defs(config).resolve_all_asset_specs()
    assert {(spec.group_name, *spec.owners, spec.tags["domain"]) for spec in specs} == {("web", "team:web", "web")}


def test_a_product_defines_no_executor() -> None:
    assert build_defs(SessionsConfig(start_date=DAY)).executor is None


def test_the_resources_are_configured_from_the_settings() -> None:
    settings = SparkSettings("local[3]", "3g", 7, {"spark.a": "b"}, "s3a://jars/a.jar", "web", server="sc://localhost")
    config = SessionsConfig(
        start_date=DAY, input_root="in", warehouse_root="out", input_format="csv", key_prefix="web", spark=settings
    )
    resources = build_resources(config)
    assert set(resources) == {"web_spark", "web_lake"}
    spark, lake = resources["web_spark"], resources["web_lake"]
    assert isinstance(spark, SparkResource)
    assert isinstance(lake, LakeResource)
    assert spark.settings == settings
    assert (lake.input_root, lake.warehouse_root, lake.input_format) == ("in", "out", "csv")


def test_the_lake_resource_shares_one_warehouse_and_opens_its_tables(
    spark: SparkSession, deployment: Deployment
) -> None:
    config = deployment.products["web"]
    lake = build_resources(config)[config.prefixed("lake")]
    assert isinstance(lake, LakeResource)
    warehouse = lake.tables(lambda: spark)
    assert lake.tables(lambda: spark) is warehouse
    table = lake.table(warehouse.sessions)
    assert isinstance(table, DeltaTableResource)
    assert table.load().version() >= 1


def test_the_example_of_the_documentation_defines_two_products() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENTATION, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert len(names["defs"].resolve_asset_graph().get_all_asset_keys()) == 2 * len(PUBLISHED.assets)


def test_every_variable_is_documented() -> None:
    table = "".join(line for line in SETTINGS.splitlines() if line.startswith("|"))
    assert {f"SESSIONS_{name}" for name in VARIABLES} == set(re.findall("`(SESSIONS_[A-Z_]+)`", table))
