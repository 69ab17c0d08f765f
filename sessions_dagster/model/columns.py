"""The names of the columns of all tables, and the groups of columns that the contract speaks of.

All timestamps are Spark `timestamp` (microseconds, UTC); all dates are UTC dates. Types and descriptions are in
`schemas`.
"""

from typing import Final

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
USER_HASH: Final = "user_hash"
FORGOTTEN_AT: Final = "forgotten_at"

KEY_COLUMNS: Final = (USER, EVENT, PRODUCT)
"""The string columns that every event must carry and that must not be empty."""

EVENT_IDENTITY: Final = (USER, EVENT, PRODUCT, TIMESTAMP)
"""Two deliveries that agree in these four columns are the same event."""

SESSION_KEY: Final = (USER, PRODUCT)
"""Sessions are formed for each of these keys by itself."""

SESSION_ID_FORMAT: Final = "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'"
