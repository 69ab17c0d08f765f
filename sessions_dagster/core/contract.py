"""The contract in code: column names, table schemas, the session rules, and every constant they share.

Nothing here computes anything; the prose of the same rules is `docs/contract.md`.
All timestamps are Spark `timestamp` (microseconds, UTC); all dates are UTC dates.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from pyspark.sql.types import (
    ArrayType,
    ByteType,
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

LATENESS_DAYS: Final = 5
"""A batch of day D may bring events dated D-5 .. D."""

LATENESSES: Final = range(LATENESS_DAYS + 1)
"""How many days late an event can come, on time included."""

BOT_LIMIT: Final = 100_000
"""With more events than this in one batch a user is taken for a bot, unless landing is told another limit."""

USER: Final = "user_id"
EVENT: Final = "event_id"
PRODUCT: Final = "product_code"
TIMESTAMP: Final = "timestamp"
EVENT_DATE: Final = "event_date"
SESSION_START: Final = "session_start_ts"
SESSION_END: Final = "session_end_ts"
SESSION_ID: Final = "session_id"
DELIVERED_BY: Final = "delivered_by"
BATCH_DATE: Final = "batch_date"
LANDED_AT: Final = "landed_at"
REASON: Final = "reason"
RECORD: Final = "record"
SOURCE_FILE: Final = "source_file"
KIND: Final = "kind"
OLD_START: Final = "old_start_ts"
OLD_END: Final = "old_end_ts"
NEW_START: Final = "new_start_ts"
NEW_END: Final = "new_end_ts"
BATCHES: Final = "batches"
CORRECTED_AT: Final = "corrected_at"
EVENTS_VERSION: Final = "sessionized_events_version"
SESSION_DATE: Final = "session_date"
LAST_DATE: Final = "last_date"
DATES: Final = "dates"
MINUTES: Final = "minutes"
EVENTS: Final = "events"
USER_ACTIONS: Final = "user_actions"

KEY_COLUMNS: Final = (USER, EVENT, PRODUCT)
"""The string columns that every event must carry, non-empty."""

EVENT_IDENTITY: Final = (USER, EVENT, PRODUCT, TIMESTAMP)
"""Two deliveries that agree in these four columns are one event."""

SESSION_KEY: Final = (USER, PRODUCT)
"""Sessions of different keys never meet."""

SESSION_ID_FORMAT: Final = "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'"


class RejectReason(StrEnum):
    """Why landing did not accept a row: the values of `reason`. Of several the first one listed here counts."""

    UNREADABLE_RECORD = "unreadable_record"
    EMPTY_USER_ID = "empty_user_id"
    EMPTY_EVENT_ID = "empty_event_id"
    EMPTY_PRODUCT_CODE = "empty_product_code"
    MISSING_TIMESTAMP = "missing_timestamp"
    UNPARSABLE_TIMESTAMP = "unparsable_timestamp"
    AFTER_BATCH_DAY = "after_batch_day"
    TOO_LATE = "too_late"
    BOT = "bot"


@dataclass(frozen=True)
class SessionRules:
    """What makes a session: the rules a `sessionized_events` table was built with, and is kept with.

    Attributes:
        timeout: Two consecutive user actions are in one session iff they are less than this apart;
            a session ends this long after its last user action.
        user_action_ids: The `event_id`s that start and extend sessions. Every other event is an IDE event.

    Raises:
        ValueError: If the timeout is not positive, or no user action id is given, or one is empty.
    """

    timeout: timedelta = timedelta(minutes=5)
    user_action_ids: frozenset[str] = frozenset({"a", "b", "c"})

    def __post_init__(self) -> None:
        if self.timeout <= timedelta(0):
            raise ValueError(f"the session timeout must be positive, not {self.timeout}")
        if not self.user_action_ids or "" in self.user_action_ids:
            raise ValueError("at least one user action id is needed, and none of them may be empty")

    @property
    def timeout_us(self) -> int:
        """The timeout in whole microseconds, the unit sessions are compared in."""
        return self.timeout // timedelta(microseconds=1)


def _described(name: str, type_: DataType, text: str, *, null: bool = False) -> StructField:
    return StructField(name, type_, null, {"comment": text})


_EVENT_FIELDS: Final = (
    _described(USER, StringType(), "Who acted."),
    _described(
        EVENT,
        StringType(),
        "What happened in the IDE. Some ids are user actions (by default a, b, c), the others are IDE events.",
    ),
    _described(PRODUCT, StringType(), "The IDE it happened in."),
    _described(TIMESTAMP, TimestampType(), "When it happened (UTC, microseconds)."),
    _described(EVENT_DATE, DateType(), "The UTC date of `timestamp`."),
)

_SLICE_FIELDS: Final = (
    _described(
        BATCH_DATE,
        DateType(),
        "The batch (folder `date=...`) that delivered the row; landing it again replaces its rows.",
    ),
    _described(LANDED_AT, TimestampType(), "When this slice was landed (UTC): the same for all rows of a landing."),
)

RAW_EVENTS_SCHEMA: Final = StructType([*_EVENT_FIELDS, *_SLICE_FIELDS])

REJECTED_EVENTS_SCHEMA: Final = StructType(
    [
        _described(USER, StringType(), "As delivered.", null=True),
        _described(EVENT, StringType(), "As delivered.", null=True),
        _described(PRODUCT, StringType(), "As delivered.", null=True),
        _described(TIMESTAMP, StringType(), "As delivered, in text.", null=True),
        _described(
            RECORD, StringType(), "The whole row as delivered, as JSON; the text itself where it is not readable."
        ),
        _described(REASON, StringType(), "Why the row was not accepted."),
        _described(SOURCE_FILE, StringType(), "The input file the row came in."),
        *_SLICE_FIELDS,
    ]
)

SESSIONIZED_EVENTS_SCHEMA: Final = StructType(
    [
        *_EVENT_FIELDS,
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
        _described(
            DELIVERED_BY,
            ByteType(),
            "Bit k: the batch of event_date + k days delivered the event. So a corrected batch takes it away.",
        ),
    ]
)

SESSION_CORRECTIONS_SCHEMA: Final = StructType(
    [
        _described(USER, StringType(), "Whose session it is."),
        _described(PRODUCT, StringType(), "The IDE it happened in."),
        _described(KIND, StringType(), "What became of it: extended, merged, split, shrunk or removed."),
        _described(OLD_START, TimestampType(), "Its start before (UTC)."),
        _described(OLD_END, TimestampType(), "Its end before (UTC)."),
        _described(NEW_START, TimestampType(), "The start of the session it went into (UTC). NULL: none.", null=True),
        _described(NEW_END, TimestampType(), "The end of the session it went into (UTC). NULL: none.", null=True),
        _described(
            BATCHES,
            ArrayType(DateType()),
            "The batches that brought it user actions, or as they landed again no longer bring some.",
        ),
        _described(CORRECTED_AT, TimestampType(), "When the run that did it wrote this (UTC)."),
        _described(EVENTS_VERSION, LongType(), "The version of `sessionized_events` that holds the new bounds first."),
    ]
)

SESSIONS_SCHEMA: Final = StructType(
    [
        _described(USER, StringType(), "Who acted."),
        _described(PRODUCT, StringType(), "The IDE it happened in."),
        _described(SESSION_START, TimestampType(), "The first user action (UTC)."),
        _described(SESSION_END, TimestampType(), "The last user action plus the timeout (UTC), inclusive."),
        _described(
            SESSION_ID,
            StringType(),
            "`user_id#product_code#session_start_ts`: a label; join on user, product and start instead.",
        ),
        _described(MINUTES, DoubleType(), "Minutes from the start to the end, the timeout included."),
        _described(EVENTS, LongType(), "Events in it, user actions included."),
        _described(USER_ACTIONS, LongType(), "User actions in it."),
        _described(SESSION_DATE, DateType(), "The UTC date of `session_start_ts`."),
        _described(LAST_DATE, DateType(), "The UTC date of `session_end_ts`."),
        _described(DATES, IntegerType(), "How many dates it spans: those from `session_date` to `last_date`."),
    ]
)
