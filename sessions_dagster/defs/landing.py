"""The batches of a run as Dagster sees them: each partition is materialized as soon as its batch has landed.

What belongs here is which event each outcome becomes, and when. The landing itself is in `pipeline.land_range`.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import dagster as dg
from dagster._core.storage.tags import BACKFILL_ID_TAG

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.metadata import (
    Metadata,
    failed_landing_metadata,
    landing_metadata,
    not_delivered_metadata,
    rejected_metadata,
    table_metadata,
)
from sessions_dagster.defs.resources import resources_of
from sessions_dagster.errors import BatchError, NotDeliveredError
from sessions_dagster.pipeline.land import LandingReport
from sessions_dagster.pipeline.land_range import (
    BatchOutcome,
    land_range,
    landing_failures,
    never_delivered,
    never_delivered_line,
)
from sessions_dagster.pipeline.summaries import landing_summary

LandingEvent = dg.AssetMaterialization | dg.AssetObservation


def landed(
    context: dg.AssetExecutionContext,
    config: SessionsConfig,
    days: Sequence[date],
    rejected_events: dg.AssetKey,
    sessionized_events: dg.AssetKey,
) -> Iterator[LandingEvent]:
    """Land the batches of a run, and materialize the partition of each as soon as it has landed.

    Args:
        context: The context of the step of `raw_events`.
        config: The product.
        days: The batches.
        rejected_events: The asset that is materialized with each batch.
        sessionized_events: The asset that applies the batches, in this run or in another one.

    Yields:
        The materializations, and an observation with the error of each batch that cannot land.

    Raises:
        BatchError: At the end, if there are batches that should have landed. It has the errors of all of them.
    """
    resources = resources_of(context, config)
    held_back = _held_back(context, config, days, sessionized_events)
    outcomes: list[BatchOutcome] = []
    later: list[dg.AssetMaterialization] = []
    for outcome in land_range(
        resources.spark,
        resources.lake.input,
        resources.warehouse,
        days,
        resources.lake.input_format,
        config.rules,
        bot_limit=config.bot_limit,
        carried_columns=config.carried_columns,
        epoch_unit=config.epoch_unit,
    ):
        outcomes.append(outcome)
        day, result = outcome.day, outcome.result
        if isinstance(result, LandingReport):
            context.log.info("landed batch %s (%d of %d): %s", day, len(outcomes), len(days), landing_summary(result))
            yield _materialization(rejected_events, day, rejected_metadata(result))
            uri = resources.warehouse.raw_events
            facts = table_metadata(uri, resources.warehouse.open_existing(uri))
            materialization = _materialization(context.asset_key, day, landing_metadata(result) | facts)
            if day in held_back:
                later.append(materialization)
            else:
                yield materialization
        elif not isinstance(result, NotDeliveredError):
            context.log.error("batch %s (%d of %d) cannot be landed: %s", day, len(outcomes), len(days), result)
            yield _failure(context.asset_key, day, result, outcome.fingerprint)
    yield from later
    holes = never_delivered(outcomes)
    if holes:
        context.log.warning(never_delivered_line(holes, resources.lake.input))
    if holes and _is_of_backfill(context):
        # A backfill waits for every partition that it has asked for, and fails if one never comes.
        yield from (_materialization(context.asset_key, day, not_delivered_metadata()) for day in holes)
    failures = landing_failures(outcomes)
    if failures:
        raise BatchError(*map(str, failures))


def _held_back(
    context: dg.AssetExecutionContext, config: SessionsConfig, days: Sequence[date], sessionized_events: dg.AssetKey
) -> set[date]:
    """The days of a run that are materialized only when all of them have landed: in most runs none.

    A backfill that lands in one run and applies in another one would start a run for each few days whose windows are
    complete, each with a Spark and a commit of its own. So every window has a day that is held back.
    """
    selected = context.run.asset_selection
    if not _is_of_backfill(context) or selected is None or sessionized_events in selected:
        return set()
    return {*days[:: config.rules.lateness_days + 1], days[-1]}


def _is_of_backfill(context: dg.AssetExecutionContext) -> bool:
    return BACKFILL_ID_TAG in context.run.tags


def _materialization(key: dg.AssetKey, day: date, metadata: Metadata) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(key, partition=day.isoformat(), metadata=metadata)


def _failure(key: dg.AssetKey, day: date, error: BatchError, fingerprint: str | None) -> dg.AssetObservation:
    """What the partition of a batch that cannot be landed shows. The sensor looks here, too."""
    metadata = failed_landing_metadata(error, fingerprint)
    return dg.AssetObservation(key, partition=day.isoformat(), description=str(error), metadata=metadata)
