"""Computing a correction: what has to change so that `sessionized_events` reflects some batches, without writing it.

The steps, each of which looks at fewer rows than the one before:

1. The input delta: which deliveries of the pending batches the table does not know, and which it knows but that are
   retracted. A batch that never landed before is all new.
2. Append-only events of a new date are set aside. All other events become facts.
3. The facts say where in the table to look; what is found there becomes facts as well.
4. All facts are reconciled: every session is found, and every row says what is to be done with it.
5. The dependent rows of sessions whose bounds changed are added.
6. What became of the sessions of before is described.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from sessions_dagster.model.changes import (
    CHANGE,
    AppendOnlyRows,
    Change,
    ChangeSet,
    RowCounts,
    SessionChange,
    with_change,
)
from sessions_dagster.model.columns import (
    BATCH_DATE,
    DELIVERED_BY,
    EVENT_DATE,
    KIND,
    LANDED_AT,
    SESSION_ID,
)
from sessions_dagster.model.counts import number_of
from sessions_dagster.model.date_columns import among
from sessions_dagster.model.dates import counted
from sessions_dagster.model.delivery_bits import delivery_bits_type
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import NO_CARRIED_COLUMNS, sessionized_events_schema
from sessions_dagster.pipeline.pending import PendingBatch
from sessions_dagster.spark.tuning import broadcast_if_small
from sessions_dagster.transforms.append_only import (
    append_only_date,
    append_only_events,
    append_only_rows,
    keys_at_midnight,
    on_date,
    other_events,
)
from sessions_dagster.transforms.carried_columns import with_carried_columns
from sessions_dagster.transforms.checkpoint import checkpoint
from sessions_dagster.transforms.deliveries import (
    DELIVERY,
    changed_deliveries,
    deliveries_with_new_values,
    is_new,
    is_retracted,
    new_deliveries,
)
from sessions_dagster.transforms.existing import (
    dependent_rows,
    extent_of_changed_bounds,
    extent_of_lookup_ranges,
    extent_of_sessions,
    facts_in_ranges,
    facts_near_dates,
    facts_of_sessions,
    lookup_ranges,
    rebuilt_sessions,
    sessions_with_new_bounds,
    without_spans,
)
from sessions_dagster.transforms.facts import incoming_facts, is_session_span, retracted_facts
from sessions_dagster.transforms.reconcile import reconcile
from sessions_dagster.transforms.session_changes import CONTINUED, counts_of_changes, session_changes, with_batches
from sessions_dagster.transforms.sessionize import BEGINS_SESSION, session_id

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExistingEvents:
    """`sessionized_events` as it is before a correction.

    Attributes:
        rows: Its rows.
        dates: The event dates that it has rows of, in order.
    """

    rows: DataFrame
    dates: Sequence[date]

    def on(self, dates: Sequence[date]) -> DataFrame:
        """The rows of some event dates."""
        return self.rows.where(among(EVENT_DATE, dates))


@dataclass(frozen=True)
class IncomingBatches:
    """The batches to apply.

    Attributes:
        raw_events: The rows of `raw_events`, of these batches and of others.
        batches: The pending batches.
        row_count: How many rows these batches have in `raw_events`.
    """

    raw_events: DataFrame
    batches: Sequence[PendingBatch]
    row_count: int

    @property
    def dates(self) -> list[date]:
        """The dates of the batches."""
        return [batch.day for batch in self.batches]

    def deliveries_of(self, event_dates: Iterable[date], rules: SessionRules) -> DataFrame:
        """The rows of `raw_events` of all batches, pending or not, that can deliver events of some dates."""
        return self.raw_events.where(among(BATCH_DATE, rules.delivering_batches(event_dates)))

    def rows_of(self, batches: Sequence[PendingBatch]) -> DataFrame:
        """The rows of `raw_events` that these landings of some batches delivered."""
        rows = self.raw_events.where(among(BATCH_DATE, [batch.day for batch in batches]))
        # If a batch has landed again since it was found pending, its rows are left to the next run, which will find it
        # pending again.
        landings = [F.lit(batch.landed_at) for batch in batches if batch.landed_at is not None]
        # The logs say in milliseconds when a slice landed. Somebody else may have written it with more digits.
        landed_at = F.date_trunc("millisecond", LANDED_AT)
        return rows.where(F.array_contains(F.array(*landings).cast("array<timestamp>"), landed_at))


@dataclass(frozen=True)
class _InputDelta:
    """How the incoming batches differ from what the table knows of them.

    Attributes:
        events: Rows of `raw_events` that the table does not know.
        new_values: Deliveries that only bring other carried values; None if there are none.
        retracted: Facts of what the batches deliver no longer; None if there are none.
    """

    events: DataFrame
    new_values: DataFrame | None = None
    retracted: DataFrame | None = None


@dataclass(frozen=True)
class _Reconciled:
    """Reconciled rows.

    Attributes:
        rows: All of them.
        touched: Those that are not inserted, by themselves, because they are few and used several times.
        written: How many of `rows` are inserted or updated.
        written_dates: The event dates of these.
        begun: How many sessions begin in `rows`.
        corrected: How many of `rows` are updated or removed.
        changed_bounds: How many session spans have other bounds now.
        dates_of_changed_bounds: The dates that these sessions lay on.
    """

    rows: DataFrame
    touched: DataFrame
    written: int
    written_dates: Sequence[date]
    begun: int
    corrected: int
    changed_bounds: int
    dates_of_changed_bounds: Sequence[date]


def compute_changes(
    existing: ExistingEvents,
    incoming: IncomingBatches,
    rules: SessionRules,
    carried_columns: Mapping[str, str] = NO_CARRIED_COLUMNS,
) -> ChangeSet:
    """Compute what has to change so that the table reflects the incoming batches exactly. Nothing is written.

    Args:
        existing: `sessionized_events` before the correction.
        incoming: The batches to apply; at least one.
        rules: The session rules that the table was built with.
        carried_columns: The type of each carried column, by its name.

    Returns:
        The changes. All their rows are computed, except for the append-only ones.

    Raises:
        SizeError: If a Spark property of `spark.tuning.Sizes` is not a size.
    """
    batches = counted(incoming.dates, "batch", "batches")
    logger.info("comparing %s with the table", batches)
    delta = _input_delta(existing, incoming, rules, list(carried_columns))
    append_only, events = _split_append_only(existing, incoming, delta.events, rules, carried_columns)
    logger.info("finding the sessions changed by %s", batches)
    reconciled = _reconciled(existing, incoming, _incoming_facts(events, delta, rules), delta.retracted, rules)
    logger.info("gathering the rows of %s", number_of(reconciled.changed_bounds, "changed session"))
    rows = _table_rows(reconciled, existing, incoming, rules, carried_columns)
    by_kind, changes, continued = _session_changes(existing, incoming, reconciled, rules)
    return ChangeSet(
        rows=rows,
        counts=_counts(rows),
        append_only=append_only,
        session_changes=changes,
        session_counts=by_kind,
        sessions_begun=reconciled.begun - continued,
    )


def _input_delta(
    existing: ExistingEvents, incoming: IncomingBatches, rules: SessionRules, carried_columns: Sequence[str]
) -> _InputDelta:
    """Step 1."""
    again = [batch for batch in incoming.batches if batch.may_exist]
    dates = [day for day in existing.dates if any(rules.can_deliver(batch.day, day) for batch in again)]
    if not dates:
        return _InputDelta(incoming.rows_of(incoming.batches))
    changed, found = checkpoint(
        changed_deliveries(
            existing.on(dates), incoming.rows_of(again), [batch.day for batch in again], rules, carried_columns
        ),
        F.count_if(is_retracted()).alias("retracted"),
        F.count_if(~is_retracted() & ~is_new()).alias("new_values"),
    )
    new = [batch for batch in incoming.batches if not batch.may_exist]
    events = new_deliveries(changed, carried_columns)
    if new:
        events = events.unionByName(incoming.rows_of(new).select(*DELIVERY, *carried_columns))
    new_values = None
    if found["new_values"]:
        deliveries = incoming.deliveries_of(dates, rules)
        new_values, _ = checkpoint(deliveries_with_new_values(changed, deliveries, carried_columns, rules))
    return _InputDelta(
        events=events,
        new_values=new_values,
        retracted=retracted_facts(changed.where(is_retracted()), rules) if found["retracted"] else None,
    )


def _split_append_only(
    existing: ExistingEvents,
    incoming: IncomingBatches,
    events: DataFrame,
    rules: SessionRules,
    carried_columns: Mapping[str, str],
) -> tuple[AppendOnlyRows | None, DataFrame]:
    """Step 2: the append-only rows, if there can be any, and all other events."""
    day = append_only_date([batch.day for batch in incoming.batches if batch.landed_at is not None], existing.dates)
    if day is None:
        return None, events
    keys, found = checkpoint(keys_at_midnight(events, day, rules), F.count("*").alias("count"))
    at_midnight = broadcast_if_small(keys, found["count"])
    appended = append_only_events(events, day, at_midnight)
    metrics = Observation()
    rows = append_only_rows(appended, day, rules, list(carried_columns)).observe(
        metrics, F.count("*").alias("rows"), F.count_if(BEGINS_SESSION).alias("sessions")
    )
    complete = _in_schema(on_date(rows, day), rules, carried_columns)
    return AppendOnlyRows(day, appended, complete, incoming.row_count, metrics), other_events(events, day, at_midnight)


def _incoming_facts(events: DataFrame, delta: _InputDelta, rules: SessionRules) -> DataFrame:
    facts = incoming_facts(events, rules)
    if delta.new_values is None:
        return facts
    return facts.unionByName(incoming_facts(delta.new_values, rules, have_new_values=True))


def _reconciled(
    existing: ExistingEvents,
    incoming: IncomingBatches,
    facts: DataFrame,
    retracted: DataFrame | None,
    rules: SessionRules,
) -> _Reconciled:
    """Step 4, with the facts of step 3."""
    input_facts = facts if retracted is None else facts.unionByName(retracted)
    touchable = [day for day in existing.dates if rules.can_touch(incoming.dates, day)]
    found = _existing_facts(existing, input_facts, retracted, touchable, rules) if touchable else []
    is_written = F.col(CHANGE).isin(Change.INSERT.value, Change.UPDATE.value)
    rows, metrics = checkpoint(
        reconcile(reduce(DataFrame.unionByName, [input_facts, *found])),
        *extent_of_changed_bounds(),
        F.count_if(is_written).alias("written"),
        F.collect_set(F.when(is_written, F.col(EVENT_DATE))).alias("written_dates"),
        F.count_if(BEGINS_SESSION).alias("begun"),
        F.count_if(F.col(CHANGE).isin(Change.UPDATE.value, Change.REMOVE.value)).alias("corrected"),
    )
    touched = rows.where(F.col(CHANGE) != Change.INSERT.value)
    if existing.dates:
        touched, _ = checkpoint(touched)
    return _Reconciled(
        rows=rows,
        touched=touched,
        written=metrics["written"],
        written_dates=metrics["written_dates"],
        begun=metrics["begun"],
        corrected=metrics["corrected"],
        changed_bounds=metrics["count"],
        dates_of_changed_bounds=metrics["dates"],
    )


def _existing_facts(
    existing: ExistingEvents,
    input_facts: DataFrame,
    retracted: DataFrame | None,
    dates: Sequence[date],
    rules: SessionRules,
) -> list[DataFrame]:
    """Step 3: facts of what the table has on some dates and the input may touch."""
    ranges, found = checkpoint(
        lookup_ranges(facts_near_dates(input_facts, dates, rules), rules), *extent_of_lookup_ranges()
    )
    if not found["count"]:
        return []
    touched = facts_in_ranges(existing.on(found["dates"]), broadcast_if_small(ranges, found["count"]), rules)
    if retracted is None:
        return [touched]
    sessions, found = checkpoint(rebuilt_sessions(retracted, rules), *extent_of_sessions())
    if not found["count"]:
        return [touched]
    rebuilt = broadcast_if_small(sessions, found["count"])
    return [without_spans(touched, rebuilt), facts_of_sessions(existing.on(found["dates"]), rebuilt, rules)]


def _table_rows(
    reconciled: _Reconciled,
    existing: ExistingEvents,
    incoming: IncomingBatches,
    rules: SessionRules,
    carried_columns: Mapping[str, str],
) -> DataFrame:
    """Complete rows of the table with the column `__change`: the reconciled events, and step 5."""
    events = reconciled.rows.where(~is_session_span())
    if carried_columns:
        deliveries = incoming.deliveries_of(reconciled.written_dates, rules)
        written = with_change(events, Change.INSERT, Change.UPDATE)
        found = with_carried_columns(
            broadcast_if_small(written, reconciled.written), deliveries, list(carried_columns), rules
        )
        others = with_change(events, Change.REMOVE, Change.KEEP)
        events, _ = checkpoint(found.unionByName(others, allowMissingColumns=True))
    rows = _in_schema(events.withColumn(SESSION_ID, session_id()), rules, carried_columns, CHANGE)
    if not reconciled.changed_bounds:
        return rows
    sessions = sessions_with_new_bounds(reconciled.touched)
    corrected = with_change(reconciled.touched, Change.UPDATE, Change.REMOVE)
    dependent, _ = checkpoint(
        dependent_rows(
            existing.on(reconciled.dates_of_changed_bounds),
            broadcast_if_small(sessions, reconciled.changed_bounds),
            broadcast_if_small(corrected, reconciled.corrected),
        )
    )
    updated = dependent.withColumns({SESSION_ID: session_id(), CHANGE: F.lit(Change.UPDATE.value)})
    return rows.unionByName(_in_schema(updated, rules, carried_columns, CHANGE))


def _in_schema(rows: DataFrame, rules: SessionRules, carried_columns: Mapping[str, str], *further: str) -> DataFrame:
    """The columns of `sessionized_events` in their order, and some further ones."""
    stored = rows.withColumn(DELIVERED_BY, F.col(DELIVERED_BY).cast(delivery_bits_type(rules)))
    return stored.select(*sessionized_events_schema(rules, carried_columns).names, *further)


def _session_changes(
    existing: ExistingEvents, incoming: IncomingBatches, reconciled: _Reconciled, rules: SessionRules
) -> tuple[Mapping[SessionChange, int], DataFrame | None, int]:
    """Step 6: old sessions by what became of them, the changes of those that changed, and how many were continued."""
    if not existing.dates:
        return {}, None, 0
    changes, counts = checkpoint(session_changes(reconciled.touched, rules), *counts_of_changes())
    by_kind = {change: counts[change.value] for change in SessionChange if counts[change.value]}
    if not by_kind.keys() - {SessionChange.KEPT}:
        return by_kind, None, counts[CONTINUED]
    corrected = changes.where(F.col(KIND) != SessionChange.KEPT.value)
    return by_kind, with_batches(corrected, reconciled.rows, rules, incoming.dates), counts[CONTINUED]


def _counts(rows: DataFrame) -> RowCounts:
    counted = rows.groupBy(CHANGE, EVENT_DATE).agg(F.count("*").alias("rows"))
    counts: dict[Change, dict[date, int]] = {}
    for row in counted.collect():
        counts.setdefault(Change(row[CHANGE]), {})[row[EVENT_DATE]] = row["rows"]
    return {change: by_date for change, by_date in counts.items() if change is not Change.KEEP}
