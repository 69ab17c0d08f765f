"""The schemas of the tables, with the description of every column as it is kept in the table.

Two of them depend on the installation: `raw_events` and `sessionized_events` end with the columns that are carried
through (see docs/contract.md, "Carried columns"), and the type of `delivered_by` follows from the session rules.
"""

from collections.abc import Mapping
from typing import Final

from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DateType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from sessions_dagster.model.columns import (
    BATCH_DATE,
    BATCHES,
    CORRECTED_AT,
    DATES,
    DELIVERED_BY,
    EVENT,
    EVENT_DATE,
    EVENTS,
    EVENTS_VERSION,
    FORGOTTEN_AT,
    KIND,
    LANDED_AT,
    LAST_DATE,
    MINUTES,
    NEW_END,
    NEW_START,
    OLD_END,
    OLD_START,
    PRODUCT,
    REASON,
    RECORD,
    SESSION_DATE,
    SESSION_END,
    SESSION_ID,
    SESSION_START,
    SOURCE_FILE,
    TIMESTAMP,
    USER,
    USER_ACTIONS,
    USER_HASH,
)
from sessions_dagster.model.delivery_bits import delivery_bits_type
from sessions_dagster.model.rules import SessionRules

CARRIED_TYPES: Final[Mapping[str, DataType]] = {
    "string": StringType(),
    "boolean": BooleanType(),
    "int": IntegerType(),
    "bigint": LongType(),
    "double": DoubleType(),
    "date": DateType(),
    "timestamp": TimestampType(),
}
"""The types that a carried column can have, by their names in Spark SQL."""

NO_CARRIED_COLUMNS: Final[Mapping[str, str]] = {}


def raw_events_schema(carried_columns: Mapping[str, str]) -> StructType:
    """The columns of `raw_events`.

    Args:
        carried_columns: The type of each carried column (one of `CARRIED_TYPES`), by its name.
    """
    return StructType([*_EVENT_FIELDS, *_SLICE_FIELDS, *_carried_fields(carried_columns)])


def sessionized_events_schema(rules: SessionRules, carried_columns: Mapping[str, str]) -> StructType:
    """The columns of `sessionized_events`: first those of the contract, in its order, and then our own.

    Args:
        rules: The session rules; the type of `delivered_by` has a bit for each day of lateness.
        carried_columns: The type of each carried column (one of `CARRIED_TYPES`), by its name.
    """
    delivered_by = _described(
        DELIVERED_BY,
        delivery_bits_type(rules),
        "Bit k is set: the batch of event_date + k days delivered the event. A corrected batch clears it.",
    )
    return StructType([*_EVENT_FIELDS, *_SESSION_FIELDS, delivered_by, *_carried_fields(carried_columns)])


def _carried_fields(carried_columns: Mapping[str, str]) -> list[StructField]:
    return [
        _described(name, CARRIED_TYPES[type_], "A column of the sender, carried through as delivered.", null=True)
        for name, type_ in carried_columns.items()
    ]


def _described(name: str, type_: DataType, text: str, *, null: bool = False) -> StructField:
    return StructField(name, type_, null, {"comment": text})


_EVENT_FIELDS: Final = (
    _described(USER, StringType(), "The user who acted."),
    _described(
        EVENT,
        StringType(),
        "What happened in the IDE. Some ids are user actions (by default a, b, c), the others are IDE events.",
    ),
    _described(PRODUCT, StringType(), "The IDE in which it happened."),
    _described(TIMESTAMP, TimestampType(), "When it happened (UTC, microseconds)."),
    _described(EVENT_DATE, DateType(), "The UTC date of `timestamp`."),
)

_SLICE_FIELDS: Final = (
    _described(
        BATCH_DATE,
        DateType(),
        "The batch (folder `date=...`) that delivered the row. When the batch lands again, its rows are replaced.",
    ),
    _described(LANDED_AT, TimestampType(), "When the batch landed (UTC); the same for all rows of a landing."),
)


REJECTED_EVENTS_SCHEMA: Final = StructType(
    [
        _described(USER, StringType(), "As delivered.", null=True),
        _described(EVENT, StringType(), "As delivered.", null=True),
        _described(PRODUCT, StringType(), "As delivered.", null=True),
        _described(TIMESTAMP, StringType(), "As delivered, in text.", null=True),
        _described(RECORD, StringType(), "The whole row as delivered, as JSON; if it cannot be read, its text."),
        _described(REASON, StringType(), "Why the row was not accepted."),
        _described(SOURCE_FILE, StringType(), "The input file that contained the row."),
        *_SLICE_FIELDS,
    ]
)

_SESSION_FIELDS: Final = (
    _described(
        SESSION_START,
        TimestampType(),
        "The first user action of the event's session (UTC). NULL: the event is in no session.",
        null=True,
    ),
    _described(
        SESSION_END, TimestampType(), "The session's last user action plus the timeout (UTC), inclusive.", null=True
    ),
    _described(
        SESSION_ID,
        StringType(),
        "`user_id#product_code#session_start_ts`: a label; join on user, product and start instead.",
        null=True,
    ),
)

SESSION_CORRECTIONS_SCHEMA: Final = StructType(
    [
        _described(USER, StringType(), "The user whose session it is."),
        _described(PRODUCT, StringType(), "The IDE in which the session took place."),
        _described(KIND, StringType(), "What became of the session: extended, merged, split, shrunk or removed."),
        _described(OLD_START, TimestampType(), "Its start before the correction (UTC)."),
        _described(OLD_END, TimestampType(), "Its end before the correction (UTC)."),
        _described(
            NEW_START,
            TimestampType(),
            "The start of the session that has its events now (UTC). NULL: none.",
            null=True,
        ),
        _described(
            NEW_END,
            TimestampType(),
            "The end of the session that has its events now (UTC). NULL: none.",
            null=True,
        ),
        _described(
            BATCHES,
            ArrayType(DateType()),
            "The batches that added user actions to it, or that landed again without some of them.",
        ),
        _described(CORRECTED_AT, TimestampType(), "When the run that corrected the session wrote this row (UTC)."),
        _described(EVENTS_VERSION, LongType(), "The first version of `sessionized_events` that has the new bounds."),
    ]
)

SESSIONS_SCHEMA: Final = StructType(
    [
        _described(USER, StringType(), "The user who acted."),
        _described(PRODUCT, StringType(), "The IDE in which the session took place."),
        _described(SESSION_START, TimestampType(), "The first user action (UTC)."),
        _described(SESSION_END, TimestampType(), "The last user action plus the timeout (UTC), inclusive."),
        _described(
            SESSION_ID,
            StringType(),
            "`user_id#product_code#session_start_ts`: a label; join on user, product and start instead.",
        ),
        _described(MINUTES, DoubleType(), "Minutes from the start to the end, the timeout included."),
        _described(EVENTS, LongType(), "The number of its events, user actions included."),
        _described(USER_ACTIONS, LongType(), "The number of its user actions."),
        _described(SESSION_DATE, DateType(), "The UTC date of `session_start_ts`."),
        _described(LAST_DATE, DateType(), "The UTC date of `session_end_ts`."),
        _described(DATES, IntegerType(), "The number of dates from `session_date` to `last_date`, both included."),
    ]
)

FORGOTTEN_USERS_SCHEMA: Final = StructType(
    [
        _described(USER_HASH, StringType(), "SHA-256 of the table property `sessions.salt` and the user's id, in hex."),
        _described(FORGOTTEN_AT, TimestampType(), "When the user was put on the list (UTC)."),
    ]
)
