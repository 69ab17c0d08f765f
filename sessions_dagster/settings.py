"""What each setting of a product is and may be: values are checked, and texts of variables read, one by one.

A value that is not what it may be is a `WrongSettingError`, never another exception, whatever its type.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple, get_args

from sessions_dagster.errors import SettingsError, WrongSettingError
from sessions_dagster.input.formats import EpochUnit, InputFormat
from sessions_dagster.model import columns
from sessions_dagster.model.rules import MAX_LATENESS_DAYS, MAX_TIMEOUT
from sessions_dagster.model.schemas import CARRIED_TYPES
from sessions_dagster.storage.filesystem import PLACES, TABLE_PATHS

START_DATE_VARIABLE: Final = "SESSIONS_START_DATE"
INPUT_ROOT_VARIABLE: Final = "SESSIONS_INPUT_ROOT"
INPUT_FORMAT_VARIABLE: Final = "SESSIONS_INPUT_FORMAT"
EPOCH_UNIT_VARIABLE: Final = "SESSIONS_EPOCH_UNIT"
WAREHOUSE_ROOT_VARIABLE: Final = "SESSIONS_WAREHOUSE_ROOT"
TIMEOUT_VARIABLE: Final = "SESSIONS_TIMEOUT_SECONDS"
USER_ACTION_IDS_VARIABLE: Final = "SESSIONS_USER_ACTION_IDS"
LATENESS_DAYS_VARIABLE: Final = "SESSIONS_LATENESS_DAYS"
CARRIED_COLUMNS_VARIABLE: Final = "SESSIONS_CARRIED_COLUMNS"
BOT_LIMIT_VARIABLE: Final = "SESSIONS_BOT_LIMIT"
SETTLE_SECONDS_VARIABLE: Final = "SESSIONS_SETTLE_SECONDS"
SUCCESS_MARKER_VARIABLE: Final = "SESSIONS_REQUIRE_SUCCESS_MARKER"
LANDING_DEADLINE_VARIABLE: Final = "SESSIONS_LANDING_DEADLINE_HOURS"
CATALOG_SCHEMA_VARIABLE: Final = "SESSIONS_CATALOG_SCHEMA"
LOGS_THROUGH_SPARK_VARIABLE: Final = "SESSIONS_LOGS_THROUGH_SPARK"
DELETION_VECTORS_VARIABLE: Final = "SESSIONS_DELETION_VECTORS"
SPARK_MASTER_VARIABLE: Final = "SESSIONS_SPARK_MASTER"
DELTA_JARS_VARIABLE: Final = "SESSIONS_DELTA_JARS"
SPARK_SERVER_VARIABLE: Final = "SESSIONS_SPARK_SERVER"
SHARED_FOLDERS_VARIABLE: Final = "SESSIONS_SHARED_FOLDERS"

MAX_SETTLE_SECONDS: Final = 7 * 24 * 60 * 60
MAX_LANDING_DEADLINE_HOURS: Final = 30 * 24
MAX_BOT_LIMIT: Final = 2**63 - 1
"""The greatest number that Spark can compare a count with."""

FIRST_YEAR: Final = 1900
LAST_YEAR: Final = 2199
"""A first partition outside of these years is a slip, and at the ends of the calendar there is no room for lateness."""

_YES: Final = {"true", "yes", "1"}
_NO: Final = {"false", "no", "0"}

_OF_OTHER_LISTS: Final = re.compile(r"""["'].*|.*["']|\[.*\]|[\[{][^\]}]*|[^\[{]*[\]}]|.*[\x00-\x1f].*""", re.DOTALL)
"""What an id looks like that is part of a list written in another way than with commas."""

_WHOLE_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,100}")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")

_NAME: Final = re.compile(r"[A-Za-z0-9_]+")
_COLUMN: Final = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*")
_SCHEMA: Final = re.compile(r"[^.\s\x00-\x1f\x7f]+(\.[^.\s\x00-\x1f\x7f]+)?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# What Dagster takes.
_OWNER: Final = re.compile(r"team:\S.*|[A-Za-z0-9._%+-]*[A-Za-z0-9_]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
_TAG_NAME: Final = re.compile(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")
_TAG_VALUE: Final = re.compile(r"[A-Za-z0-9_.-]{0,63}")


class Setting(NamedTuple):
    """What a message says about a setting: what it is, and what it may be."""

    meaning: str
    allowed: str
    variable: str | None = None


SETTINGS: Final = {
    "start_date": Setting(
        "the first partition",
        f"a date such as 2025-09-20, in a year from {FIRST_YEAR} to {LAST_YEAR}",
        START_DATE_VARIABLE,
    ),
    "input_root": Setting("where the batches arrive", PLACES, INPUT_ROOT_VARIABLE),
    "warehouse_root": Setting("where the tables are", f"{PLACES}, {TABLE_PATHS}", WAREHOUSE_ROOT_VARIABLE),
    "input_format": Setting(
        "the format of the input files", f"one of {', '.join(get_args(InputFormat))}", INPUT_FORMAT_VARIABLE
    ),
    "epoch_unit": Setting(
        "what a timestamp counts that is a number since 1970",
        f"one of {', '.join(get_args(EpochUnit))}",
        EPOCH_UNIT_VARIABLE,
    ),
    "key_prefix": Setting(
        "what the names of this product begin with", "a name, or several names, of letters, digits and underscores"
    ),
    "group": Setting("the group of the assets", "a name of letters, digits and underscores"),
    "owners": Setting("the owners of the assets", "a list of e-mail addresses and names such as team:data-engineering"),
    "tags": Setting(
        "the tags of the assets",
        "a mapping of texts to texts, each of up to 63 letters, digits, underscores, points and hyphens",
    ),
    "rules": Setting("what makes a session", "SessionRules"),
    "timeout": Setting(
        "how far apart, in seconds, two user actions are when they are no longer in one session",
        f"a number greater than 0 and not greater than {MAX_TIMEOUT.total_seconds():.0f}",
        TIMEOUT_VARIABLE,
    ),
    "user_action_ids": Setting(
        "the event ids that are user actions",
        "event ids with commas between them, none of them empty; in a variable, no quotes or brackets around them",
        USER_ACTION_IDS_VARIABLE,
    ),
    "lateness_days": Setting(
        "by how many days an event may be late",
        f"a whole number from 0 to {MAX_LATENESS_DAYS}",
        LATENESS_DAYS_VARIABLE,
    ),
    "carried_columns": Setting(
        "the sender's own columns that are carried through, and their types",
        "name:type, with commas between several; each name is there once, the names are not used by "
        "the tables themselves and do not begin with two underscores, and the types are among "
        f"{', '.join(CARRIED_TYPES)}",
        CARRIED_COLUMNS_VARIABLE,
    ),
    "bot_limit": Setting(
        "the number of events in one batch above which a user is a bot",
        f"a whole number from 0, which means that nobody is a bot, to {MAX_BOT_LIMIT}",
        BOT_LIMIT_VARIABLE,
    ),
    "settle_seconds": Setting(
        "for how many seconds nothing may have changed in a complete folder",
        f"a whole number from 0 to {MAX_SETTLE_SECONDS}, which is a week",
        SETTLE_SECONDS_VARIABLE,
    ),
    "require_success_marker": Setting(
        "whether a complete folder has the file _SUCCESS", "true or false", SUCCESS_MARKER_VARIABLE
    ),
    "landing_deadline_hours": Setting(
        "how many hours after the end of its day (UTC) a batch has landed at the latest",
        f"a whole number from 0 to {MAX_LANDING_DEADLINE_HOURS}",
        LANDING_DEADLINE_VARIABLE,
    ),
    "deletion_vectors": Setting(
        "whether rows of sessionized_events are only marked as deleted", "true or false", DELETION_VECTORS_VARIABLE
    ),
    "catalog_schema": Setting(
        "the schema of Spark's catalogue in which the tables have their names",
        "the name of a schema, or of a catalogue and a schema with a point in between, or None",
        CATALOG_SCHEMA_VARIABLE,
    ),
    "logs_through_spark": Setting(
        "whether the logs of the tables are read through Spark", "true or false", LOGS_THROUGH_SPARK_VARIABLE
    ),
    "alerts": Setting("through which channels somebody is told of failures", "AlertSettings"),
    "spark": Setting("how Spark is started", "SparkSettings"),
}
"""Of each field of `SessionsConfig`, and of each of `SessionRules`, which have variables of their own."""

SPARK_VARIABLES: Final = {
    "master": SPARK_MASTER_VARIABLE,
    "delta_jars": DELTA_JARS_VARIABLE,
    "server": SPARK_SERVER_VARIABLE,
    "shared_folders": SHARED_FOLDERS_VARIABLE,
}
"""The variables of fields of `SparkSettings`, which says itself what they are and may be."""

ALERT_VARIABLES: Final = {
    "webhook_url": "SESSIONS_ALERT_WEBHOOK_URL",
    "command": "SESSIONS_ALERT_COMMAND",
    "slack_channel": "SESSIONS_ALERT_SLACK_CHANNEL",
    "slack_token": "SESSIONS_ALERT_SLACK_TOKEN",
    "email_to": "SESSIONS_ALERT_EMAIL_TO",
    "email_from": "SESSIONS_ALERT_EMAIL_FROM",
    "smtp_url": "SESSIONS_ALERT_SMTP_URL",
    "ui_url": "SESSIONS_ALERT_UI_URL",
}
"""The variables of the fields of `AlertSettings`, which says itself what they may be, and never what they are."""


def wrong(name: str, value: object) -> WrongSettingError:
    """The error for a value that the setting may not have."""
    return WrongSettingError(name, SETTINGS[name].meaning, SETTINGS[name].allowed, value)


def checked_date(name: str, value: object) -> date:
    """A date of the setting, or of the text that it is written as.

    Raises:
        WrongSettingError: If it is none.
    """
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            value = date.fromisoformat(value)
        except ValueError:
            raise wrong(name, value) from None
    if not isinstance(value, date) or isinstance(value, datetime) or not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise wrong(name, value)
    return value


def checked_place(name: str, value: object, canonical: Callable[[str], str]) -> str:
    """A local folder or a URI, as it was written.

    Args:
        name: The setting.
        value: What it was given.
        canonical: Spells a location in one way, and refuses with a `SettingsError` what is none.

    Raises:
        WrongSettingError: If it is neither.
    """
    place = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(place, str):
        raise wrong(name, value)
    try:
        canonical(place)
    except SettingsError:
        raise wrong(name, value) from None
    return place


def one_of(name: str, value: object, allowed: Iterable[object]) -> object:
    """A value that is among those allowed.

    Raises:
        WrongSettingError: If it is not.
    """
    if value not in tuple(allowed):
        raise wrong(name, value)
    return value


def checked_names(name: str, value: object) -> tuple[str, ...]:
    """Names of letters, digits and underscores; a single text is one name.

    Raises:
        WrongSettingError: If one of them is not.
    """
    return _texts(name, (value,) if isinstance(value, str) else value, _NAME, value)


def checked_schema(name: str, value: object) -> str | None:
    """The name of a schema of a catalogue, or none.

    Raises:
        WrongSettingError: If it is neither.
    """
    if value is None or (isinstance(value, str) and _SCHEMA.fullmatch(value)):
        return value
    raise wrong(name, value)


def checked_owners(name: str, value: object) -> tuple[str, ...]:
    """Owners of assets, as Dagster takes them.

    Raises:
        WrongSettingError: If one of them is not.
    """
    return _texts(name, value, _OWNER, value)


def checked_tags(name: str, value: object) -> dict[str, str]:
    """Tags of assets, as Dagster takes them.

    Raises:
        WrongSettingError: If one of them is not.
    """
    tags = _mapping(name, value)
    if not all(_TAG_NAME.fullmatch(key) and _TAG_VALUE.fullmatch(text) for key, text in tags.items()):
        raise wrong(name, value)
    return tags


def checked_columns(name: str, value: object) -> dict[str, str]:
    """Carried columns: the name and the type of each.

    Raises:
        WrongSettingError: If a name is one of our own or is there twice, or a type is unknown.
    """
    carried = _mapping(name, value)
    used = {column.lower() for column in _own_columns()}
    if any(
        not _COLUMN.fullmatch(column) or column.lower() in used or type_ not in CARRIED_TYPES
        for column, type_ in carried.items()
    ) or len({column.lower() for column in carried}) < len(carried):
        raise wrong(name, value)
    return carried


def instance_of(name: str, value: object, type_: type) -> object:
    """A value of a type.

    Raises:
        WrongSettingError: If it is of another type.
    """
    if not isinstance(value, type_):
        raise wrong(name, value)
    return value


def whole_number(name: str, value: object, greatest: int) -> int:
    """A whole number from 0 to the greatest one.

    Raises:
        WrongSettingError: If it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= greatest:
        raise wrong(name, value)
    return value


def _texts(name: str, value: object, pattern: re.Pattern[str], shown: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise wrong(name, shown)
    if not all(isinstance(each, str) and pattern.fullmatch(each) for each in value):
        raise wrong(name, shown)
    return tuple(value)


def _mapping(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for pair in value.items() for each in pair):
        raise wrong(name, value)
    return dict(value)


def _own_columns() -> set[str]:
    """The names of all columns of all tables, which is what `model.columns` has constants for."""
    return {name for name in vars(columns).values() if isinstance(name, str) and _COLUMN.fullmatch(name)}


def _whole_number(text: str) -> int:
    if not _WHOLE_NUMBER.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _seconds(text: str) -> timedelta:
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return timedelta(seconds=float(text))


def yes_or_no(text: str) -> bool:
    """The truth that a variable says.

    Raises:
        KeyError: If it says something else.
    """
    return {**dict.fromkeys(_YES, True), **dict.fromkeys(_NO, False)}[text.lower()]


def _column_types(text: str) -> dict[str, str]:
    pairs = [(name.strip(), type_.strip().lower()) for name, type_ in (pair.split(":") for pair in listed(text))]
    if len(dict(pairs)) < len(pairs):
        raise ValueError(text)
    return dict(pairs)


def _event_ids(text: str) -> frozenset[str]:
    """The ids that a text lists, if it is no list in another notation: its quotes would make ids that nobody has."""
    ids = listed(text)
    if any(_OF_OTHER_LISTS.fullmatch(each) for each in ids) or (len(ids) == 1 and ";" in text):
        raise ValueError(text)
    return frozenset(ids)


def without_quotes(text: str) -> str:
    """A text itself. `docker --env-file` hands quotes on, which are no part of it.

    Raises:
        ValueError: If it is in quotes.
    """
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        raise ValueError(text)
    return text


def listed(text: str) -> list[str]:
    """What a text lists with commas in between."""
    return [each.strip() for each in text.split(",")]


_PARSERS_OF_RULES: Final[Mapping[str, Callable[[str], object]]] = {
    "timeout": _seconds,
    "user_action_ids": _event_ids,
    "lateness_days": _whole_number,
}

PARSERS: Final[Mapping[str, Callable[[str], object]]] = {
    "bot_limit": _whole_number,
    "settle_seconds": _whole_number,
    "landing_deadline_hours": _whole_number,
    "require_success_marker": yes_or_no,
    "deletion_vectors": yes_or_no,
    "logs_through_spark": yes_or_no,
    "carried_columns": _column_types,
    **_PARSERS_OF_RULES,
}
"""How the text of a variable becomes the value of a setting; without a parser the text is the value.

They raise a `ValueError`, a `KeyError` or an `OverflowError` if it is none.
"""

OF_RULES: Final = tuple(_PARSERS_OF_RULES)
"""The settings that are fields of `SessionRules`."""
