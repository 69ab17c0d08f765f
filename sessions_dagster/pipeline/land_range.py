"""Landing the batches of a range of days: what can land lands, and what cannot is known by its error.

How one batch lands is in `land`.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from pyspark.sql import SparkSession

from sessions_dagster.errors import BatchError, NotDeliveredError, is_retryable
from sessions_dagster.input.folders import InputRoot, batch_fingerprint
from sessions_dagster.input.formats import EpochUnit, InputFormat
from sessions_dagster.model.dates import date_list
from sessions_dagster.model.rejects import DEFAULT_BOT_LIMIT
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import NO_CARRIED_COLUMNS
from sessions_dagster.pipeline.land import LandingReport, land_batch
from sessions_dagster.spark.failures import SPARK_ERRORS, SPARK_ERRORS_OR_GONE
from sessions_dagster.storage.warehouse import Warehouse

logger = logging.getLogger(__name__)

_CANCELLED: Final = "cancelled"
"""Spark has no class for the error of a job that somebody cancels; only the text says so."""


@dataclass(frozen=True)
class BatchOutcome:
    """What became of a batch of a range.

    Attributes:
        day: The date of the batch.
        fingerprint: What lay in its folder before it was read; None if the folder cannot be listed, or if nobody knows
            whether its content is why it could not land. Then the sensor tries it once more.
        result: What landing it did, or why it could not land.
    """

    day: date
    fingerprint: str | None
    result: LandingReport | BatchError


def land_range(
    spark: SparkSession,
    input_root: InputRoot,
    warehouse: Warehouse,
    days: Sequence[date],
    input_format: InputFormat,
    rules: SessionRules,
    bot_limit: int | None = DEFAULT_BOT_LIMIT,
    carried_columns: Mapping[str, str] = NO_CARRIED_COLUMNS,
    epoch_unit: EpochUnit | None = None,
) -> Iterator[BatchOutcome]:
    """Land the batches of some days, one after the other. One that cannot land does not keep the others from it.

    That is also so if Spark fails and nobody knows why, as long as it works after that, and the failure is none that
    may pass (see `errors.is_retryable`). Until such a batch lands again, one table may be as before.

    The arguments are those of `land_batch`.

    Yields:
        What became of each batch, as soon as it is known.

    Raises:
        StorageError: If the storage of a batch fails.
        RulesMismatchError: If other batches landed with another lateness.
        SchemaMismatchError: If a table has other columns, and they cannot be added to it.
        SizeError: If a Spark property of `spark.tuning.Sizes` is not a size.
    """
    for number, day in enumerate(days, start=1):
        logger.info("landing batch %s (%d of %d)", day, number, len(days))
        # Taken before the batch is read: what changes meanwhile has another fingerprint, and lands again.
        fingerprint = batch_fingerprint(input_root, day)
        result: LandingReport | BatchError
        try:
            result = land_batch(
                spark,
                input_root,
                warehouse,
                day,
                input_format,
                landed_at=datetime.now(UTC),
                rules=rules,
                bot_limit=bot_limit,
                carried_columns=carried_columns,
                epoch_unit=epoch_unit,
            )
        except BatchError as error:
            result = error
        except SPARK_ERRORS as error:
            if is_retryable(error) or _CANCELLED in str(error) or not _works(spark):
                raise
            logger.exception("batch %s cannot be landed, and nobody knows why", day)
            result, fingerprint = _unexplained(input_root.batch_folder(day), error), None
        yield BatchOutcome(day, fingerprint, result)


def _works(spark: SparkSession) -> bool:
    """Whether Spark still runs jobs. If it does not, the batch is not to blame."""
    try:
        return spark.range(1).count() == 1
    except SPARK_ERRORS_OR_GONE:
        return False


def _unexplained(folder: str, error: Exception) -> BatchError:
    causes = re.findall(r"Caused by: (.+)", str(error)) or re.findall(r"\n: (.+)", str(error)) or [str(error)]
    return BatchError(
        f"{folder} cannot be landed: Spark failed ({causes[-1].strip()}). The log has the whole error. If other "
        "batches land, deliver this one again, written in another way; otherwise look at the warehouse."
    )


def never_delivered(outcomes: Sequence[BatchOutcome]) -> list[date]:
    """The days of a range that have no folder, such as weekends and holidays. They are no failure.

    None if no day of the range has one: then the days are wrong, or the input root is.
    """
    days = [outcome.day for outcome in outcomes if isinstance(outcome.result, NotDeliveredError)]
    return days if len(days) < len(outcomes) else []


def landing_failures(outcomes: Sequence[BatchOutcome]) -> list[BatchError]:
    """Why a range has failed: the errors of all its batches that should have landed."""
    holes = never_delivered(outcomes)
    return [each.result for each in outcomes if isinstance(each.result, BatchError) and each.day not in holes]


def never_delivered_line(days: Sequence[date], input_root: InputRoot) -> str:
    """One line for the log that names the days without a folder."""
    return (
        f"Never delivered, so nothing lands for these days and they stay as they are: {date_list(days)}. There is no "
        f"folder date=YYYY-MM-DD for them in {input_root.root}."
    )
