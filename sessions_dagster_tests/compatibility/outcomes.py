"""What becomes of a file: it is landed as the only file of a batch, and the tables are read back."""

import csv
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from pyspark.sql import SparkSession

from sessions_dagster.errors import BatchError
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.input.formats import InputFormat
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.pipeline.land import land_batch
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import landed_events
from sessions_dagster_tests.compatibility.writers.rows import ACTIONS, DAY, PRODUCTS, TIMES, UUIDS, texts
from sessions_dagster_tests.oracle import Event

LANDS: Final = "lands"
AS_TEXT: Final = "as text"
REJECTED: Final = "rejected"
REFUSED: Final = "refused"
WRONG: Final = "WRONG"

_WORDS: Final = 16
_ON_TIME: Final = 3


@dataclass(frozen=True)
class Outcome:
    """What becomes of the file of a case.

    Attributes:
        verdict: `lands`: the rows are in the tables exactly as they were written, and the late one is in quarantine.
            `as text`: the same of a CSV file whose ids are other texts than the numbers that the tool was given.
            `rejected`: rows that should land are in quarantine. `refused`: a `BatchError`. `WRONG`: anything else.
        detail: The reasons with the numbers of rows, or the first words of the error.
    """

    verdict: str
    detail: str = ""


class Lands:
    """Lands the files of cases, one after the other, in one warehouse."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self._spark = spark
        self._folder = folder
        self._warehouse = Warehouse(str(folder / "warehouse"))

    def outcome(self, case: str, file: Path) -> Outcome:
        """Land a file and read the tables.

        Args:
            case: The case that it is of, which says what is to be there: `user_id: UUID.parquet`.
            file: The file. Its name says which format it has.
        """
        root = InputRoot(str(self._folder / "input"))
        batch = Path(root.batch_folder(DAY))
        shutil.rmtree(batch, ignore_errors=True)
        batch.mkdir(parents=True)
        name = f"events{file.name[file.name.index('.') :]}"
        shutil.copy(file, batch / name)
        try:
            land_batch(
                self._spark,
                root,
                self._warehouse,
                DAY,
                _format_of(name),
                landed_at=datetime.now(UTC),
                rules=SessionRules(),
            )
        except BatchError as error:
            return Outcome(REFUSED, _first_words(str(error), batch))
        except Exception as error:  # Whatever it is, it would end a run without naming the batch.
            return Outcome(WRONG, _first_words(f"{type(error).__name__}: {error}", batch))
        return self._compared(case, file)

    def _compared(self, case: str, file: Path) -> Outcome:
        expected = Counter() if "without rows" in case else expected_events(case)
        rejected = self._rejected()
        late = Counter({"too_late": 1}) if expected else Counter[str]()
        landed = Counter(landed_events(self._warehouse.raw_events))
        if landed == expected and rejected == late:
            return Outcome(LANDS)
        if file.suffix == ".csv" and (landed, rejected) == (expected_events(case, users := _users_of_csv(file)), late):
            return Outcome(AS_TEXT, f"the ids are the texts of the file, such as {users[0]}")
        if landed <= expected and landed.total() + rejected.total() == expected.total() + late.total():
            reasons = ", ".join(f"{rows} {reason}" for reason, rows in sorted((rejected - late).items()))
            return Outcome(REJECTED, reasons)
        return Outcome(
            WRONG, f"{landed.total()} rows land and {rejected.total()} are rejected, not as they were written"
        )

    def _rejected(self) -> Counter[str]:
        table = DeltaTable(self._warehouse.rejected_events)
        found = pa.table(QueryBuilder().register("t", table).execute("SELECT reason FROM t").read_all())
        return Counter(found["reason"].to_pylist())


def expected_events(case: str, users: Sequence[str] | None = None) -> Counter[Event]:
    """The events that the file of a case has for the tables.

    Args:
        case: The case, which says what its file has.
        users: Their users; None: those that the tool was given.
    """
    if users is None:
        is_id = "UUID" in case or "raw bytes" in case
        users = [str(each) for each in UUIDS] if case.startswith("user_id") and is_id else texts()
    times = [each.replace(hour=0, minute=0, second=0, microsecond=0) for each in TIMES] if ": date." in case else TIMES
    events = [Event(*row) for row in zip(users, ACTIONS, PRODUCTS, times, strict=True)]
    return Counter(events[:_ON_TIME])


def _users_of_csv(file: Path) -> list[str]:
    """The ids that should land, as Python's own reader finds them."""
    with file.open(newline="", encoding="utf-8-sig") as rows:
        return [row["user_id"] for row in csv.DictReader(rows)]


def _format_of(name: str) -> InputFormat:
    return "parquet" if name.endswith(".parquet") else "csv" if ".csv" in name else "json"


def _first_words(message: str, batch: Path) -> str:
    """The beginning of a message, with the name of the file instead of its path."""
    text = re.sub(rf"(file:(//)?)?{re.escape(str(batch))}/?", "", message)
    words = text.split()
    return " ".join(words[:_WORDS]) + (" …" if len(words) > _WORDS else "")
