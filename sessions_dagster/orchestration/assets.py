"""The two assets: `raw_events` lands batches, `sessionized_events` applies them. The work itself is in `core`."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import dagster as dg

from sessions_dagster.core.apply import apply_batches
from sessions_dagster.core.contract import RAW_EVENTS_SCHEMA, SESSIONIZED_EVENTS_SCHEMA
from sessions_dagster.core.landing import land_batch
from sessions_dagster.core.summary import summarize_dates
from sessions_dagster.orchestration.metadata import (
    column_schema,
    correction_metadata,
    day_metadata,
    landing_metadata,
    table_metadata,
)
from sessions_dagster.orchestration.partitions import daily_partitions, five_day_window
from sessions_dagster.orchestration.resources import LakeResource, SessionRulesResource, SparkResource

GROUP = "sessions"


@dg.asset(
    partitions_def=daily_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=GROUP,
    kinds={"spark", "deltalake"},
    metadata={"dagster/column_schema": column_schema(RAW_EVENTS_SCHEMA)},
)
def raw_events(context: dg.AssetExecutionContext, spark: SparkResource, lake: LakeResource) -> None:
    """The accepted events of each batch, as delivered; what is not accepted goes to the table `rejected_events`.

    Partition D is the batch in the folder `date=D/`. Materializing it again replaces what it delivered before.
    """
    days = _days(context.partition_keys)
    for number, day in enumerate(days, start=1):
        report = land_batch(
            spark.spark_session, lake.input, lake.warehouse, day, lake.input_format, landed_at=datetime.now(UTC)
        )
        context.log.info("landed batch %s (%d of %d): %s", day, number, len(days), report)
        context.add_asset_metadata(landing_metadata(report), partition_key=day.isoformat())
    context.add_asset_metadata(table_metadata(lake.table(lake.warehouse.raw_events)))


@dg.asset(
    partitions_def=daily_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[dg.AssetDep(raw_events, partition_mapping=five_day_window)],
    group_name=GROUP,
    kinds={"spark", "deltalake"},
    metadata={"dagster/column_schema": column_schema(SESSIONIZED_EVENTS_SCHEMA)},
)
def sessionized_events(
    context: dg.AssetExecutionContext, spark: SparkResource, lake: LakeResource, session_rules: SessionRulesResource
) -> None:
    """Every event with the session it is in, exactly, whatever came late.

    Materializing D applies the landed batches D-5 .. D that the table does not reflect yet, in one atomic commit:
    sessions written before grow, merge, split or shrink wherever they lie.
    """
    days = _days(context.partition_keys)
    window = _days(context.asset_partition_keys_for_input("raw_events"))
    report = apply_batches(spark.spark_session, lake.warehouse, window, session_rules.rules)
    context.log.info("applied %d batches: %s", len(report.applied), report)
    context.add_asset_metadata(
        correction_metadata(report) | table_metadata(lake.table(lake.warehouse.sessionized_events))
    )
    for summary in summarize_dates(spark.spark_session, lake.warehouse.sessionized_events, days):
        context.add_asset_metadata(day_metadata(summary, report), partition_key=summary.day.isoformat())


def _days(keys: Sequence[str]) -> list[date]:
    return [date.fromisoformat(key) for key in keys]
