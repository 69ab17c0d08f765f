"""The handles of a warehouse: what others commit is seen by whoever looks, and a step looks when it begins to write."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from sessions_dagster.storage.warehouse import Warehouse


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    warehouse = Warehouse(str(tmp_path))
    commit(warehouse)
    return warehouse


def commit(warehouse: Warehouse) -> None:
    """A commit of somebody else."""
    write_deltalake(warehouse.raw_events, pa.table({"row": ["any"]}), mode="append")


def version(warehouse: Warehouse) -> int:
    return warehouse.open_existing(warehouse.raw_events).version()


def test_what_others_commit_is_seen(warehouse: Warehouse) -> None:
    assert version(warehouse) == 0
    commit(warehouse)
    assert version(warehouse) == 1


def test_a_step_looks_once(warehouse: Warehouse) -> None:
    with warehouse.looking_once():
        assert version(warehouse) == 0
        commit(warehouse)
        assert version(warehouse) == 0
    assert version(warehouse) == 1


def test_to_begin_to_write_is_to_look_again(spark: SparkSession, warehouse: Warehouse) -> None:
    with warehouse.looking_once():
        assert version(warehouse) == 0
        commit(warehouse)
        with warehouse.writing(spark):
            assert version(warehouse) == 1
            commit(warehouse)
            assert version(warehouse) == 1


def test_a_step_that_is_tried_again_looks_again(warehouse: Warehouse) -> None:
    for expected in range(3):
        with warehouse.looking_once():
            assert version(warehouse) == expected
            commit(warehouse)
