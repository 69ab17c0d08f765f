"""The assets: `raw_events` lands, `sessionized_events` applies, `sessions` follows; `core` does the work."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

import dagster as dg
from pyspark.sql.types import StructType

from sessions_dagster.core.apply import apply_batches
from sessions_dagster.core.batch import BatchError
from sessions_dagster.core.contract import (
    RAW_EVENTS_SCHEMA,
    REJECTED_EVENTS_SCHEMA,
    SESSION_CORRECTIONS_SCHEMA,
    SESSIONIZED_EVENTS_SCHEMA,
    SESSIONS_SCHEMA,
)
from sessions_dagster.core.landing import land_batch
from sessions_dagster.core.sessions import follow_events
from sessions_dagster.core.summary import summarize_dates
from sessions_dagster.lake.arrivals import batch_fingerprint
from sessions_dagster.lake.log import partition_rows
from sessions_dagster.orchestration.metadata import (
    Metadata,
    code_reference,
    column_schema,
    correction_metadata,
    correction_told,
    corrections_metadata,
    day_metadata,
    following_metadata,
    following_told,
    landing_metadata,
    landing_told,
    refusal_metadata,
    rejected_metadata,
    table_metadata,
)
from sessions_dagster.orchestration.partitions import daily_partitions, five_day_window
from sessions_dagster.orchestration.resources import LakeResource, LandingResource, SessionRulesResource, SparkResource
from sessions_dagster.orchestration.writing import WAREHOUSE_POOL, retried

GROUP: Final = "sessions"
OWNERS: Final = ("team:data-engineering",)
TAGS: Final = {"domain": "user_sessions"}

FRESH_BY_NOON: Final = dg.FreshnessPolicy.cron(deadline_cron="0 12 * * *", lower_bound_delta=timedelta(hours=12))
"""The batch of a day is complete when the day is over (UTC), and has landed and is applied by noon."""


@dg.asset(
    partitions_def=daily_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=GROUP,
    owners=OWNERS,
    tags=TAGS,
    kinds={"spark", "deltalake"},
    freshness_policy=FRESH_BY_NOON,
    pool=WAREHOUSE_POOL,
    metadata={"dagster/column_schema": column_schema(RAW_EVENTS_SCHEMA)},
)
@retried
def raw_events(
    context: dg.AssetExecutionContext, spark: SparkResource, lake: LakeResource, landing: LandingResource
) -> None:
    """The accepted events of each batch, as delivered; what is not accepted goes to the table `rejected_events`.

    Partition D is the batch in the folder `date=D/`. Materializing it again replaces what it delivered before. A run of
    many batches lands all it can, and fails at the end if there are some it cannot land, with all of them named: those
    partitions are failed then, all others are materialized.
    """
    days = _days(context.partition_keys)
    landed: dict[date, Metadata] = {}
    refused: list[BatchError] = []
    for number, day in enumerate(days, start=1):
        # Before the batch is read: what changes meanwhile has another fingerprint, and lands again.
        fingerprint = batch_fingerprint(lake.input, day)
        try:
            report = land_batch(
                spark.spark_session,
                lake.input,
                lake.warehouse,
                day,
                lake.input_format,
                landed_at=datetime.now(UTC),
                bot_limit=landing.limit,
            )
        except BatchError as error:
            refused.append(error)
            # For the sensor: it asks again for the other days of a run that fails for this one.
            observed = refusal_metadata(error, fingerprint)
            context.log_event(dg.AssetObservation(context.asset_key, partition=day.isoformat(), metadata=observed))
            continue
        context.log.info("landed batch %s (%d of %d): %s", day, number, len(days), landing_told(report))
        landed[day] = landing_metadata(report, fingerprint)
        rejected = rejected_metadata(report)
        context.log_event(dg.AssetMaterialization("rejected_events", partition=day.isoformat(), metadata=rejected))
    if refused:
        # By hand: of a step that fails Dagster takes no partition for materialized.
        for day, metadata in landed.items():
            context.log_event(dg.AssetMaterialization(context.asset_key, partition=day.isoformat(), metadata=metadata))
        raise BatchError("\n".join(map(str, refused)))
    for day, metadata in landed.items():
        context.add_asset_metadata(metadata, partition_key=day.isoformat())
    context.add_asset_metadata(table_metadata(lake.table(lake.warehouse.raw_events)))


@dg.asset(
    partitions_def=daily_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[dg.AssetDep(raw_events, partition_mapping=five_day_window)],
    group_name=GROUP,
    owners=OWNERS,
    tags=TAGS,
    kinds={"spark", "deltalake"},
    freshness_policy=FRESH_BY_NOON,
    pool=WAREHOUSE_POOL,
    metadata={"dagster/column_schema": column_schema(SESSIONIZED_EVENTS_SCHEMA)},
)
@retried
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
    context.log.info(correction_told(report))
    if report.sessions_corrected:
        context.log_event(dg.AssetMaterialization("session_corrections", metadata=corrections_metadata(report)))
    context.add_asset_metadata(
        correction_metadata(report) | table_metadata(lake.table(lake.warehouse.sessionized_events))
    )
    for summary in summarize_dates(spark.spark_session, lake.warehouse.sessionized_events, days):
        context.add_asset_metadata(day_metadata(summary, report), partition_key=summary.day.isoformat())


@dg.asset(
    partitions_def=daily_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[sessionized_events],
    group_name=GROUP,
    owners=OWNERS,
    tags=TAGS,
    kinds={"spark", "deltalake"},
    freshness_policy=FRESH_BY_NOON,
    pool=WAREHOUSE_POOL,
    metadata={"dagster/column_schema": column_schema(SESSIONS_SCHEMA)},
)
@retried
def sessions(context: dg.AssetExecutionContext, spark: SparkResource, lake: LakeResource) -> None:
    """One row per session, for those who want sessions and not events.

    Partition D is the sessions that start on D. Materializing any of them brings the whole table in step with
    `sessionized_events`: what changed there since the last time is made anew, in one atomic commit.
    """
    report = follow_events(spark.spark_session, lake.warehouse)
    context.log.info(following_told(report))
    context.add_asset_metadata(following_metadata(report) | table_metadata(lake.table(lake.warehouse.sessions)))
    rows = partition_rows(lake.table(lake.warehouse.sessions).load())
    for day in _days(context.partition_keys):
        context.add_asset_metadata({"dagster/row_count": rows.get(day, 0)}, partition_key=day.isoformat())


def _written_beside(
    asset: dg.AssetsDefinition,
    name: str,
    schema: StructType,
    description: str,
    partitions_def: dg.PartitionsDefinition[str] | None = None,
) -> dg.AssetSpec:
    """A table that the step of an asset writes as well: to be seen in the graph, not to be materialized by itself."""
    return dg.AssetSpec(
        name,
        partitions_def=partitions_def,
        deps=[asset],
        description=f"{description} `{asset.key.to_user_string()}` writes it.",
        metadata={"dagster/column_schema": column_schema(schema)} | code_reference(asset),
        group_name=GROUP,
        owners=OWNERS,
        tags=TAGS,
        kinds={"spark", "deltalake"},
    )


rejected_events = _written_beside(
    raw_events,
    "rejected_events",
    REJECTED_EVENTS_SCHEMA,
    "The quarantine: every row that landing did not accept, as it was delivered and with the reason.",
    daily_partitions,
)

session_corrections = _written_beside(
    sessionized_events,
    "session_corrections",
    SESSION_CORRECTIONS_SCHEMA,
    "Why a session changed: every session that was written before and then extended, merged, split, shrunk or removed, "
    "with the batches that did it.",
)


def _days(keys: Sequence[str]) -> list[date]:
    return [date.fromisoformat(key) for key in keys]
