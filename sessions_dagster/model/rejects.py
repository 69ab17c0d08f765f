"""Why landing does not accept a row."""

from enum import StrEnum
from typing import Final

DEFAULT_BOT_LIMIT: Final = 100_000
"""A user with more events than this in one batch is taken for a bot, unless landing is given another limit."""


class RejectReason(StrEnum):
    """Why landing did not accept a row: the values of `reason`. If several apply, the first one listed here counts."""

    UNREADABLE_RECORD = "unreadable_record"
    EMPTY_USER_ID = "empty_user_id"
    EMPTY_EVENT_ID = "empty_event_id"
    EMPTY_PRODUCT_CODE = "empty_product_code"
    UNUSABLE_ID = "unusable_id"
    MISSING_TIMESTAMP = "missing_timestamp"
    UNPARSABLE_TIMESTAMP = "unparsable_timestamp"
    AFTER_BATCH_DAY = "after_batch_day"
    TOO_LATE = "too_late"
    BOT = "bot"
