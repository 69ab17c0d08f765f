"""The sensor `alerts`: what is told of failed runs, failed checks and missing batches, and nothing twice."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import WILL_RETRY_TAG

from sessions_dagster.alerts.message import Alert
from sessions_dagster.alerts.settings import AlertSettings
from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.alerts import Memory, build_alerts_sensor, news
from sessions_dagster.defs.assets import SESSIONIZED_EVENTS
from sessions_dagster.defs.checks import BLOCKING_RULE, event_check_specs, newest_materialization
from sessions_dagster.defs.partitions import daily_partitions
from sessions_dagster.defs.retries import retry_or_fail
from sessions_dagster.errors import BatchError
from sessions_dagster.quality.events import Rule
from sessions_dagster_tests.receivers import HttpReceiver, http_receiver

DAY = date(2025, 9, 20)
BEFORE_THE_DEADLINE = datetime(2025, 9, 21, 6, tzinfo=UTC)
"""No batch is due yet, so that a test sees only what it is about."""

ERROR = "The batch folder /data/date=2025-09-20 has no data file. Deliver the batch."


@dataclass
class Product:
    """A product, its instance, and what its sensor remembers. Its runs are real, and do what a test wants."""

    folder: Path
    prefix: str = ""
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)
    memory: Memory = field(default_factory=lambda: Memory.from_cursor(None, BEFORE_THE_DEADLINE))

    @property
    def config(self) -> SessionsConfig:
        return SessionsConfig(
            start_date=DAY,
            warehouse_root=self.folder,
            key_prefix=self.prefix or (),
            alerts=AlertSettings(ui_url="https://dagster.example.com/"),
        )

    def run(self, body: Callable[[dg.AssetExecutionContext], None], asset: str = "raw_events") -> dg.DagsterRun:
        """Run an asset of the product with this body for the day."""

        @dg.asset(key=dg.AssetKey(self.config.asset_key(asset)), partitions_def=daily_partitions(self.config))
        def of_the_product(context: dg.AssetExecutionContext) -> None:
            with retry_or_fail(context):
                body(context)

        return self.execute(dg.Definitions(assets=[of_the_product]))

    def run_check(self, rule: Rule, *, passed: bool, day: date = DAY) -> dg.DagsterRun:
        """Run the step that has this check, with this result."""
        (spec,) = [each for each in event_check_specs(self.config) if each.name == rule.value]

        @dg.asset(key=spec.asset_key, partitions_def=daily_partitions(self.config))
        def sessionized_events() -> None:
            """Nothing."""

        @dg.multi_asset_check(specs=[spec])
        def session_checks(
            context: dg.AssetCheckExecutionContext,
        ) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
            yield dg.AssetCheckEvaluation(
                asset_key=spec.asset_key,
                check_name=spec.name,
                passed=passed,
                blocking=spec.blocking,
                partition=str(day),
                description="3 of 8 sessions offend.",
                target_materialization_data=newest_materialization(context.instance, spec.asset_key),
            )
            yield dg.Output(None, output_name=spec.get_python_identifier())

        return self.execute(dg.Definitions(assets=[sessionized_events], asset_checks=[session_checks]), day)

    def execute(self, defs: dg.Definitions, day: date = DAY) -> dg.DagsterRun:
        job = defs.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(instance=self.instance, partition_key=str(day), raise_on_error=False).dagster_run

    def tick(self, now: datetime = BEFORE_THE_DEADLINE) -> list[Alert]:
        """What a tick tells. The memory goes through the cursor, as it does from tick to tick."""
        found = news(self.instance, self.config, self.memory, now)
        self.memory = Memory.from_cursor(self.memory.to_cursor(), now)
        return found


@pytest.fixture
def product(tmp_path: Path) -> Product:
    return Product(tmp_path)


def fail(context: dg.AssetExecutionContext) -> None:
    raise BatchError(ERROR)


def test_a_failed_run_is_told_with_its_error_partition_job_asset_and_link(product: Product) -> None:
    run = product.run(fail)
    assert product.tick() == [
        Alert(
            kind="failed_run",
            error="The batch folder /data/date=2025-09-20 has no data file.",
            partitions=("2025-09-20",),
            assets=("raw_events",),
            url=f"https://dagster.example.com/runs/{run.run_id}",
            job="__ASSET_JOB",
            run_id=run.run_id,
        )
    ]


def test_an_error_that_dagster_wraps_is_told_as_it_was_raised(product: Product) -> None:
    def divide(context: dg.AssetExecutionContext) -> None:
        raise ZeroDivisionError("division by zero. At the worst time")

    product.run(divide)
    (alert,) = product.tick()
    assert alert.error == "division by zero."


def test_nothing_is_told_twice(product: Product) -> None:
    product.run(fail)
    assert product.tick()
    assert product.tick() == []
    product.instance.add_run_tags(product.instance.get_runs()[0].run_id, {"seen-by": "ada"})
    assert product.tick() == []


def test_every_failed_run_is_told(product: Product) -> None:
    product.run(fail)
    assert len(product.tick()) == 1
    product.run(fail)
    product.run(fail)
    assert len(product.tick()) == 2


def test_a_step_that_fails_first_and_then_succeeds_is_not_told(product: Product) -> None:
    def fail_once(context: dg.AssetExecutionContext) -> None:
        if context.retry_number == 0:
            raise dg.RetryRequested(1, 0)

    assert product.run(fail_once).is_success
    assert product.tick() == []


def test_a_run_that_is_tried_again_is_told_only_if_there_is_no_other_attempt(product: Product) -> None:
    run = product.run(fail)
    product.instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "true"})
    assert product.tick() == []
    # What Dagster does if it cannot start the retry after all.
    product.instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "false"})
    assert [alert.run_id for alert in product.tick()] == [run.run_id]


def test_a_cancelled_run_is_not_told(product: Product) -> None:
    @dg.op
    def compact_tables() -> None:
        """Nothing."""

    @dg.job
    def compaction() -> None:
        compact_tables()

    run = product.instance.create_run_for_job(compaction)
    product.instance.report_run_canceled(run)
    assert product.tick() == []


def test_runs_of_others_are_not_told(product: Product, tmp_path: Path) -> None:
    product.run(fail, asset="report_of_the_team")
    other = Product(tmp_path, prefix="web", instance=product.instance)
    other.run(fail)
    assert product.tick() == []
    assert [alert.assets for alert in other.tick()] == [("web/raw_events",)]


def test_a_failed_maintenance_job_is_told(product: Product) -> None:
    @dg.op
    def vacuum_tables() -> None:
        raise OSError("The disk is full.")

    @dg.job
    def vacuum() -> None:
        vacuum_tables()

    vacuum.execute_in_process(instance=product.instance, raise_on_error=False)
    (alert,) = product.tick()
    assert (alert.job, alert.partitions, alert.error) == ("vacuum", (), "The disk is full.")


def test_what_failed_before_the_first_tick_is_not_told(product: Product) -> None:
    product.run(fail)
    product.memory = Memory.from_cursor(None, datetime.now(UTC) + timedelta(seconds=1))
    assert product.tick() == []


def test_a_failed_check_is_told_until_it_has_passed_only_once(product: Product) -> None:
    run = product.run_check(Rule.UNIQUE_EVENTS, passed=False)
    (alert,) = product.tick()
    assert (alert.kind, alert.check, alert.assets) == ("failed_check", "events_are_unique", (SESSIONIZED_EVENTS,))
    assert (alert.error, alert.partitions) == ("3 of 8 sessions offend.", ("2025-09-20",))
    assert alert.url == f"https://dagster.example.com/runs/{run.run_id}"
    product.run_check(Rule.UNIQUE_EVENTS, passed=False)
    assert product.tick() == []
    product.run_check(Rule.UNIQUE_EVENTS, passed=True)
    assert product.tick() == []
    product.run_check(Rule.UNIQUE_EVENTS, passed=False)
    assert len(product.tick()) == 1


def test_a_blocking_check_is_told_as_a_check_and_not_as_a_failed_run_as_well(product: Product) -> None:
    assert not product.run_check(BLOCKING_RULE, passed=False).is_success
    (alert,) = product.tick()
    assert (alert.kind, alert.check) == ("failed_check", BLOCKING_RULE.value)


def test_the_days_of_a_check_are_told_together(product: Product) -> None:
    key = event_check_specs(product.config)[0].key
    for offset in range(5):
        product.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=key.asset_key, check_name=key.name, passed=False, partition=str(DAY + timedelta(offset))
            )
        )
    (alert,) = product.tick()
    assert alert.partitions == ("2025-09-20...2025-09-24",)


def test_missing_batches_are_told_once_a_day_and_not_while_they_stay_missing(product: Product) -> None:
    noon = datetime(2025, 9, 23, 12, tzinfo=UTC)
    (alert,) = product.tick(noon)
    assert (alert.kind, alert.partitions) == ("missing_batches", ("2025-09-20...2025-09-22",))
    assert alert.error == "The batch of 2025-09-22 has not landed, and was due on 2025-09-23 at 12:00 UTC."
    assert alert.url == ("https://dagster.example.com/assets/raw_events?view=checks&checkDetail=batches_have_landed")
    assert product.tick(noon + timedelta(hours=23)) == []
    (next_day,) = product.tick(noon + timedelta(days=1))
    assert next_day.partitions == ("2025-09-23",)


def test_a_failing_run_of_a_missing_day_does_not_tell_again_that_it_is_missing(product: Product) -> None:
    noon = datetime(2025, 9, 21, 12, tzinfo=UTC)
    assert [alert.kind for alert in product.tick(noon)] == ["missing_batches"]
    product.run(fail)
    assert [alert.kind for alert in product.tick(noon)] == ["failed_run"]


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as started:
        yield started


def evaluate(config: SessionsConfig, instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult:
    with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        result = build_alerts_sensor(config)(context)
    assert isinstance(result, dg.SensorResult)
    return result


def config_with(folder: Path, **alerts: Any) -> SessionsConfig:
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    return SessionsConfig(
        start_date=yesterday, warehouse_root=folder, landing_deadline_hours=0, alerts=AlertSettings(**alerts)
    )


@pytest.mark.parametrize("field_", ["since", "started"])
def test_a_cursor_with_a_time_without_a_zone_is_none_of_this_sensor(field_: str) -> None:
    stored = json.loads(Memory.from_cursor(None, BEFORE_THE_DEADLINE).to_cursor()) | {field_: "2025-09-21T06:00:00"}
    with pytest.raises(ValueError, match="has no time zone"):
        Memory.from_cursor(json.dumps(stored), BEFORE_THE_DEADLINE)


def test_the_sensor_is_off_until_a_channel_is_set(tmp_path: Path) -> None:
    off, on = config_with(tmp_path), config_with(tmp_path, command=("echo",))
    assert build_alerts_sensor(off).default_status is dg.DefaultSensorStatus.STOPPED
    assert build_alerts_sensor(on).default_status is dg.DefaultSensorStatus.RUNNING
    result = evaluate(off, dg.DagsterInstance.ephemeral(), None)
    assert "no channel" in str(result.skip_reason)


def test_what_a_receiver_did_not_get_it_gets_once_when_it_is_back(receiver: HttpReceiver, tmp_path: Path) -> None:
    config, instance = config_with(tmp_path, webhook_url=receiver.url), dg.DagsterInstance.ephemeral()
    receiver.status = 503
    first = evaluate(config, instance, None)
    assert "to be tried again: 1 by webhook." in str(first.skip_reason)
    receiver.status, receiver.bodies = 200, []
    second = evaluate(config, instance, first.cursor)
    third = evaluate(config, instance, second.cursor)
    assert [alert["kind"] for alert in receiver.alerts] == ["missing_batches"]
    assert "Nothing new to tell" in str(third.skip_reason)


def test_a_cursor_that_cannot_be_read_does_not_stop_the_sensor(receiver: HttpReceiver, tmp_path: Path) -> None:
    config = config_with(tmp_path, webhook_url=receiver.url)
    evaluate(config, dg.DagsterInstance.ephemeral(), "no cursor")
    assert len(receiver.alerts) == 1
