"""The sensor and its runs on S3, in Dagster: a store that fails delays a batch, and no more."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.storage.tags import RUN_KEY_TAG
from pyspark.sql import SparkSession

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs, retries, run_planning
from sessions_dagster.defs.sensors import build_sensor
from sessions_dagster.errors import is_retryable
from sessions_dagster_tests.builders import World, put_batch
from sessions_dagster_tests.oracle import Event, sessionize
from sessions_dagster_tests.s3.proxy import Fault, Proxy

D19, D20 = date(2025, 9, 19), date(2025, 9, 20)

BATCHES = {
    D19: [Event("ada", "a", "idea", datetime(2025, 9, 19, 23, 58))],
    D20: [Event("ada", "a", "idea", datetime(2025, 9, 20, 0, 1)), Event("ada", "x", "idea", datetime(2025, 9, 19, 12))],
}


@dataclass
class Product:
    """A product on S3, a Dagster instance, and what its daemon does."""

    world: World
    instance: dg.DagsterInstance
    cursor: str | None = None
    run_keys: set[str] = field(default_factory=set)

    @property
    def config(self) -> SessionsConfig:
        """Its settings."""
        return SessionsConfig(
            start_date=D19,
            input_root=self.world.input.root,
            warehouse_root=self.world.warehouse.root,
            settle_seconds=0,
        )

    def deliver(self, *days: date) -> None:
        """Put batches into their folders."""
        for day in days:
            put_batch(BATCHES[day], self.world.input.batch_folder(day))

    def tick(self) -> list[dg.RunRequest]:
        """What a tick of the sensor requests, without the runs that there are. A tick that fails changes nothing."""
        definitions = build_defs(self.config)
        with dg.build_sensor_context(self.instance, self.cursor, definitions=definitions) as context:
            data: SensorExecutionData = build_sensor(self.config).evaluate_tick(context)
        self.cursor = data.cursor
        return [request for request in data.run_requests or [] if request.run_key not in self.run_keys]

    def run(self, requests: Sequence[dg.RunRequest]) -> bool:
        """Execute a single requested run."""
        (request,) = requests
        self.run_keys.add(str(request.run_key))
        job = build_defs(self.config).resolve_job_def(str(request.job_name))
        result = job.execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            partition_key=request.partition_key,
            asset_selection=request.asset_selection,
            tags={**request.tags, RUN_KEY_TAG: str(request.run_key)},
        )
        return result.success

    def has_landed(self, *days: date) -> bool:
        """Whether the tables have some batches and nothing else, and the sensor finds nothing more to do."""
        expected = sessionize(event for day in days for event in BATCHES[day])
        return set(self.world.table()) == expected and not self.tick()


@pytest.fixture
def product(spark: SparkSession, proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Product]:
    """A product with a batch that has not landed yet."""
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0)
    monkeypatch.setattr(run_planning, "FIRST_PAUSE", timedelta(0))
    with dg.DagsterInstance.ephemeral() as instance:
        product = Product(World(spark, bucket), instance)
        product.deliver(D20)
        yield product


OF_INPUT, OF_TABLES = r"/input/.*\.parquet$", r"/sessionized_events/.*\.parquet$"

FAULTS = [
    pytest.param(Fault.SLOW_DOWN, OF_INPUT, id="input is busy"),
    pytest.param(Fault.NOT_THE_SAME, OF_INPUT, id="input is not the same"),
    pytest.param(Fault.NO_ANSWER, OF_INPUT, id="input breaks off"),
    pytest.param(Fault.TOO_LATE, OF_INPUT, id="input comes too late"),
    pytest.param(Fault.SLOW_DOWN, OF_TABLES, id="tables are busy"),
]


@pytest.mark.parametrize(("fault", "path"), FAULTS)
def test_a_step_that_the_store_fails_is_tried_again(
    product: Product, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, fault: Fault, path: str
) -> None:
    failures = []

    def works_again_from_now_on(error: BaseException) -> bool:
        failures.append(error)
        proxy.reset()
        return is_retryable(error)

    requests = product.tick()
    monkeypatch.setattr(retries, "is_retryable", works_again_from_now_on)
    proxy.meets(fault, path)
    assert product.run(requests)
    assert failures
    assert product.has_landed(D20)


@pytest.mark.parametrize(("fault", "path"), [FAULTS[0], FAULTS[-1]])
def test_a_day_is_not_given_up_if_the_store_fails_longer_than_a_run_tries(
    product: Product, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, fault: Fault, path: str
) -> None:
    monkeypatch.setattr(retries, "MAX_RETRIES", 1)
    proxy.meets(fault, path)
    for _ in range(2):
        assert not product.run(product.tick())
    proxy.reset()
    assert product.run(product.tick())
    assert product.has_landed(D20)


def lists_input(proxy: Proxy) -> None:
    proxy.meets(Fault.SLOW_DOWN, r"list-type=2.*input", method="GET")


def answers_too_late(proxy: Proxy) -> None:
    proxy.meets(Fault.TOO_LATE, r"list-type=2.*input", method="GET")


def reads_logs(proxy: Proxy) -> None:
    proxy.meets(Fault.NOT_THE_SAME, "_delta_log")


@pytest.mark.parametrize("fails_when_it", [lists_input, answers_too_late, reads_logs])
def test_a_tick_that_the_store_fails_requests_nothing_and_forgets_nothing(
    product: Product, proxy: Proxy, fails_when_it: Callable[[Proxy], None]
) -> None:
    assert product.run(product.tick())
    product.deliver(D19)
    cursor = product.cursor
    fails_when_it(proxy)
    with pytest.raises(Exception) as error:  # noqa: PT011, Dagster wraps it
        product.tick()
    assert is_retryable(error.value)
    assert product.cursor == cursor
    proxy.reset()
    assert product.run(product.tick())
    assert product.has_landed(D19, D20)
