"""The assets: `raw_events` lands batches, `sessionized_events` applies them, `sessions` is refreshed from it.

What belongs here is what Dagster has to know: partitions, dependencies, and what a partition shows. The work itself is
in `pipeline`.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, cast

import dagster as dg

# Dagster has no public way to materialize only some partitions of a range, and each at its own time.
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from pyspark.sql.types import StructType

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.landing import LandingEvent, landed
from sessions_dagster.defs.metadata import (
    ROWS_OF_DAY,
    Metadata,
    apply_metadata,
    corrections_metadata,
    day_metadata,
    definition_metadata,
    input_metadata,
    landing_settings,
    refresh_metadata,
    session_settings,
    table_metadata,
)
from sessions_dagster.defs.partitions import daily_partitions, days_of_step, upstream_window
from sessions_dagster.defs.progress import watched_in_log
from sessions_dagster.defs.resources import RunResources, resource_keys, resources_of
from sessions_dagster.defs.retries import retry_or_fail
from sessions_dagster.model.dates import counted
from sessions_dagster.model.schemas import (
    REJECTED_EVENTS_SCHEMA,
    SESSION_CORRECTIONS_SCHEMA,
    SESSIONS_SCHEMA,
    raw_events_schema,
    sessionized_events_schema,
)
from sessions_dagster.pipeline.apply import ApplyReport, apply_batches
from sessions_dagster.pipeline.refresh_sessions import events_to_follow, refresh_sessions
from sessions_dagster.pipeline.summaries import apply_summary, never_applied_line, refresh_summary
from sessions_dagster.pipeline.summarize import summarize_events
from sessions_dagster.storage.delta_log import partition_rows

INPUT_BATCHES: Final = "input_batches"
RAW_EVENTS: Final = "raw_events"
REJECTED_EVENTS: Final = "rejected_events"
SESSIONIZED_EVENTS: Final = "sessionized_events"
SESSION_CORRECTIONS: Final = "session_corrections"
SESSIONS: Final = "sessions"

MATERIALIZED: Final = (RAW_EVENTS, SESSIONIZED_EVENTS, SESSIONS)
"""The assets that have a step of their own, in the order in which a run materializes them."""

WAREHOUSE_POOL: Final = "warehouse"
"""The pool of every step that writes. The instance gives it its limit of one run (see `deploy/local/dagster.yaml`)."""

_AssetDecorator = Callable[[Callable[..., Any]], dg.AssetsDefinition]

_KINDS: Final = {"spark", "deltalake"}
_CODE_REFERENCES: Final = "dagster/code_references"


@dataclass(frozen=True)
class SessionsAssets:
    """The assets of a product.

    Attributes:
        input_batches: The folder that the batches arrive in, which others fill.
        raw_events: The accepted events of each batch.
        sessionized_events: Every event with its session.
        sessions: One row per session.
        rejected_events: The quarantine, which the step of `raw_events` writes.
        session_corrections: What became of sessions, which the step of `sessionized_events` writes.
    """

    input_batches: dg.AssetSpec
    raw_events: dg.AssetsDefinition
    sessionized_events: dg.AssetsDefinition
    sessions: dg.AssetsDefinition
    rejected_events: dg.AssetSpec
    session_corrections: dg.AssetSpec

    @property
    def materializable(self) -> list[dg.AssetsDefinition]:
        """Those with a step of their own, in the order in which a run materializes them."""
        return [self.raw_events, self.sessionized_events, self.sessions]

    @property
    def all(self) -> list[dg.AssetsDefinition | dg.AssetSpec]:
        """All of them."""
        return [self.input_batches, *self.materializable, self.rejected_events, self.session_corrections]


def build_assets(config: SessionsConfig) -> SessionsAssets:
    """The assets of a product. Those with a step link to the function here that the step runs."""
    with warnings.catch_warnings():
        # Code references are a beta feature of Dagster. We chose to use it, so users need no warning.
        warnings.simplefilter("ignore", dg.BetaWarning)
        assets = dg.with_source_code_references([_raw_events(config), _sessionized_events(config), _sessions(config)])
    raw_events, sessionized_events, sessions = cast("Sequence[dg.AssetsDefinition]", assets)
    return SessionsAssets(
        _input_batches(config),
        raw_events,
        sessionized_events,
        sessions,
        rejected_events=_written_beside(
            config,
            raw_events,
            REJECTED_EVENTS,
            REJECTED_EVENTS_SCHEMA,
            "The quarantine: every row that landing did not accept, as it was delivered and with the reason.",
            daily_partitions(config),
        ),
        session_corrections=_written_beside(
            config,
            sessionized_events,
            SESSION_CORRECTIONS,
            SESSION_CORRECTIONS_SCHEMA,
            "Why a session changed: every session that was written before and was then extended, merged, split, shrunk "
            "or removed, with the batches that caused it.",
        ),
    )


def asset_key(config: SessionsConfig, name: str) -> dg.AssetKey:
    """The key of an asset of a product."""
    return dg.AssetKey(config.asset_key(name))


def _input_batches(config: SessionsConfig) -> dg.AssetSpec:
    """Where the graph begins. It has no partitions: nothing says in Dagster which batches are there."""
    return dg.AssetSpec(
        asset_key(config, INPUT_BATCHES),
        description="The folder that the batches arrive in, each in a folder `date=YYYY-MM-DD/`. Their senders fill "
        "it, and the sensor looks for new and changed ones.",
        metadata=input_metadata(config),
        **_ownership(config) | {"kinds": {config.input_format}},
    )


def _raw_events(config: SessionsConfig) -> dg.AssetsDefinition:
    schema = raw_events_schema(config.carried_columns)

    @_table_asset(
        config,
        RAW_EVENTS,
        schema,
        landing_settings(config),
        deps=[asset_key(config, INPUT_BATCHES)],
        dagster_type=dg.Nothing,
    )
    def raw_events(context: dg.AssetExecutionContext) -> Iterator[LandingEvent | dg.Output[None]]:
        """The accepted events of each batch, as delivered. What is not accepted goes to the table `rejected_events`.

        Partition D is the batch in the folder `date=D/`. Materializing it again replaces what it delivered before. A
        run of many batches lands all it can. Each partition is materialized as soon as its batch has landed. Days that
        have no folder, such as holidays, stay as they are, and are no failure. If there are batches that cannot be
        landed, the run fails at the end, with all of them named: those partitions are failed then.
        """
        with retry_or_fail(context):
            days = days_of_step(context, config)
            with watched_in_log(context, f"landing {counted(days, 'batch', 'batches')}"):
                yield from landed(
                    context,
                    config,
                    days,
                    rejected_events=asset_key(config, REJECTED_EVENTS),
                    sessionized_events=asset_key(config, SESSIONIZED_EVENTS),
                )
            # Each partition has been materialized by itself. Without this key Dagster would do it for the whole range,
            # and without the output it would skip what depends on it.
            yield dg.Output(None, metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})

    return raw_events


def _sessionized_events(config: SessionsConfig) -> dg.AssetsDefinition:
    schema = sessionized_events_schema(config.rules, config.carried_columns)
    upstream = dg.AssetIn(
        asset_key(config, RAW_EVENTS), partition_mapping=upstream_window(config.rules), dagster_type=dg.Nothing
    )

    @_table_asset(config, SESSIONIZED_EVENTS, schema, session_settings(config), ins={RAW_EVENTS: upstream})
    def sessionized_events(context: dg.AssetExecutionContext) -> None:
        """Every event with the session it is in, exactly, however late other events came.

        Materializing D applies, in one atomic commit, the landed batches of its window that the table does not reflect
        yet: those that may deliver events of D or came before them by no more than the allowed lateness. Sessions that
        were written before are extended, merged, split or shrunk, whatever dates they are on.
        """
        with retry_or_fail(context), (resources := resources_of(context, config)).warehouse.looking_once():
            days = days_of_step(context, config)
            window = [date.fromisoformat(key) for key in context.asset_partition_keys_for_input(RAW_EVENTS)]
            with watched_in_log(context, f"applying the batches of {counted(window, 'day', 'days')}"):
                report = apply_batches(
                    resources.spark,
                    resources.warehouse,
                    window,
                    config.rules,
                    carried_columns=config.carried_columns,
                    deletion_vectors=config.deletion_vectors,
                )
                summaries = summarize_events(resources.spark, resources.warehouse, days, config.rules)
            context.log.info(apply_summary(report))
            _warn_of_days_before_the_first(context, config, report)
            if report.sessions_corrected:
                key = asset_key(config, SESSION_CORRECTIONS)
                context.log_event(dg.AssetMaterialization(key, metadata=corrections_metadata(report)))
            facts = _table_metadata(resources, resources.warehouse.sessionized_events)
            of_run = apply_metadata(report) | facts
            for summary in summaries:
                # Metadata without a partition would be shown before that of the day.
                metadata = day_metadata(summary, report) | of_run
                context.add_asset_metadata(metadata, partition_key=summary.day.isoformat())

    return sessionized_events


def _sessions(config: SessionsConfig) -> dg.AssetsDefinition:
    @_table_asset(config, SESSIONS, SESSIONS_SCHEMA, deps=[asset_key(config, SESSIONIZED_EVENTS)])
    def sessions(context: dg.AssetExecutionContext) -> None:
        """One row per session, for those who want sessions and not events.

        Partition D is the sessions that start on D. Materializing any of them makes the whole table reflect
        `sessionized_events` as it is now: the sessions that changed since the last run are rebuilt, in one atomic
        commit.
        """
        with retry_or_fail(context), (resources := resources_of(context, config)).warehouse.looking_once():
            warehouse = resources.warehouse
            days = days_of_step(context, config)
            # Before Spark starts: without events there is nothing to start it for.
            events_to_follow(warehouse)
            with watched_in_log(context, "refreshing sessions"):
                report = refresh_sessions(resources.spark, warehouse)
            context.log.info(refresh_summary(report))
            of_run = refresh_metadata(report) | _table_metadata(resources, warehouse.sessions)
            table = warehouse.open(warehouse.sessions)
            rows = {} if table is None else partition_rows(table)
            for day in days:
                metadata = {ROWS_OF_DAY: rows.get(day, 0)} | of_run
                context.add_asset_metadata(metadata, partition_key=day.isoformat())

    return sessions


def _table_asset(
    config: SessionsConfig, name: str, schema: StructType, settings: Mapping[str, Any] | None = None, **arguments: Any
) -> _AssetDecorator:
    """The decorator of an asset that is a table: everything that all of them have in common.

    Args:
        config: The product.
        name: The name of the asset without the prefix.
        schema: The columns of the table.
        settings: Metadata of the definition: the settings that the asset goes by.
        arguments: What only this asset has, as `dagster.asset` takes it.
    """
    decorator: _AssetDecorator = dg.asset(
        key=asset_key(config, name),
        partitions_def=daily_partitions(config),
        backfill_policy=dg.BackfillPolicy.single_run(),
        required_resource_keys=resource_keys(config),
        pool=config.prefixed(WAREHOUSE_POOL),
        metadata={**definition_metadata(config, name, schema), **(settings or {})},
        **_ownership(config),
        **arguments,
    )
    return decorator


def _written_beside(
    config: SessionsConfig,
    writer: dg.AssetsDefinition,
    name: str,
    schema: StructType,
    description: str,
    partitions_def: dg.PartitionsDefinition[str] | None = None,
) -> dg.AssetSpec:
    """A table that the step of another asset writes as well. It is in the graph, but has no step of its own."""
    references = {key: value for key, value in writer.metadata_by_key[writer.key].items() if key == _CODE_REFERENCES}
    return dg.AssetSpec(
        asset_key(config, name),
        partitions_def=partitions_def,
        deps=[writer.key],
        description=f"{description} `{writer.key.to_user_string()}` writes it.",
        metadata=definition_metadata(config, name, schema) | references,
        **_ownership(config),
    )


def _ownership(config: SessionsConfig) -> dict[str, Any]:
    """What all assets of a product have, those without a step included."""
    return {"group_name": config.group, "owners": config.owners, "tags": config.tags, "kinds": _KINDS}


def _warn_of_days_before_the_first(
    context: dg.AssetExecutionContext, config: SessionsConfig, report: ApplyReport
) -> None:
    """Name the landed batches that no run will ever apply, because the start date was moved past them."""
    days = [day for day in report.pending_elsewhere if day < config.start_date]
    if days:
        context.log.warning(never_applied_line(days, config.start_date))


def _table_metadata(resources: RunResources, table_uri: str) -> Metadata:
    table = resources.warehouse.open(table_uri)
    return {} if table is None else table_metadata(table_uri, table)
