"""A program that runs one day as Dagster does, all assets and checks in one process, on tables that are anywhere.

    python sessions_dagster_tests/s3/daily_run.py ROOT FIRST_DAY DAY [PROPERTY=VALUE ...]

The input is in ROOT/input and the warehouse in ROOT/warehouse; the properties are further ones of Spark. It imports
only what is published, so that another version of the package can be run with it, by PYTHONPATH. That is how the
requests of two versions are compared.
"""

import sys
from datetime import date

import dagster as dg

from sessions_dagster import SessionsConfig, build_defs
from sessions_dagster.spark.session import SparkSettings


def main() -> None:
    """Run the day, and fail if a step or a check does."""
    root, first_day, day, *properties = sys.argv[1:]
    conf = {
        "spark.sql.shuffle.partitions": "1",
        "spark.databricks.delta.snapshotPartitions": "1",
        **dict(each.split("=", 1) for each in properties),
    }
    config = SessionsConfig(
        start_date=date.fromisoformat(first_day),
        input_root=f"{root}/input",
        warehouse_root=f"{root}/warehouse",
        spark=SparkSettings(master="local[2]", driver_memory="1g", extra_conf=conf),
    )
    defs = dg.Definitions.merge(build_defs(config), dg.Definitions(executor=dg.in_process_executor))
    with dg.DagsterInstance.ephemeral() as instance:
        run = defs.resolve_implicit_global_asset_job_def().execute_in_process(partition_key=day, instance=instance)
    assert run.success


if __name__ == "__main__":
    main()
