"""The settings of one product: where its batches and tables are, its session rules, and how its names begin.

`SessionsConfig` is all that `build_defs` and the command line need. Nothing is read from the environment when this
module is imported; `SessionsConfig.from_env` is the one place that knows the variables `SESSIONS_*`.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple, Self, cast, get_args

from sessions_dagster.errors import SettingsError
from sessions_dagster.input.formats import InputFormat
from sessions_dagster.model import columns
from sessions_dagster.model.rejects import DEFAULT_BOT_LIMIT
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import (
    CARRIED_TYPES,
)
from sessions_dagster.spark.session import SparkSettings

DEFAULT_INPUT_ROOT: Final = "data/input"
DEFAULT_WAREHOUSE_ROOT: Final = "data/warehouse"
DEFAULT_GROUP: Final = "sessions"
DEFAULT_OWNERS: Final = ("team:data-engineering",)
DEFAULT_TAGS: Final[Mapping[str, str]] = {"domain": "user_sessions"}
DEFAULT_SETTLE_SECONDS: Final = 60

DEFAULT_START_DATE: Final = "2025-01-01"
"""The first partition if the environment does not name one. In code it is always given."""

START_DATE_VARIABLE: Final = "SESSIONS_START_DATE"
INPUT_ROOT_VARIABLE: Final = "SESSIONS_INPUT_ROOT"
INPUT_FORMAT_VARIABLE: Final = "SESSIONS_INPUT_FORMAT"
WAREHOUSE_ROOT_VARIABLE: Final = "SESSIONS_WAREHOUSE_ROOT"
TIMEOUT_VARIABLE: Final = "SESSIONS_TIMEOUT_SECONDS"
USER_ACTION_IDS_VARIABLE: Final = "SESSIONS_USER_ACTION_IDS"
LATENESS_DAYS_VARIABLE: Final = "SESSIONS_LATENESS_DAYS"
CARRIED_COLUMNS_VARIABLE: Final = "SESSIONS_CARRIED_COLUMNS"
BOT_LIMIT_VARIABLE: Final = "SESSIONS_BOT_LIMIT"
SETTLE_SECONDS_VARIABLE: Final = "SESSIONS_SETTLE_SECONDS"
SUCCESS_MARKER_VARIABLE: Final = "SESSIONS_REQUIRE_SUCCESS_MARKER"
SPARK_MASTER_VARIABLE: Final = "SESSIONS_SPARK_MASTER"
DELTA_JARS_VARIABLE: Final = "SESSIONS_DELTA_JARS"

_YES: Final = {"true", "yes", "1"}
_NO: Final = {"false", "no", "0"}

_NAME: Final = re.compile(r"[A-Za-z0-9_]+")
_COLUMN: Final = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*")


class _Setting(NamedTuple):
    """What a message says about a setting: what it is, and what it may be."""

    meaning: str
    allowed: str
    variable: str | None = None


_SETTINGS: Final = {
    "start_date": _Setting("the first partition", "a date such as 2025-09-20", START_DATE_VARIABLE),
    "input_root": _Setting("where the batches arrive", "a folder or a URI", INPUT_ROOT_VARIABLE),
    "warehouse_root": _Setting("where the tables are", "a folder or a URI", WAREHOUSE_ROOT_VARIABLE),
    "input_format": _Setting(
        "the format of the input files", f"one of {', '.join(get_args(InputFormat))}", INPUT_FORMAT_VARIABLE
    ),
    "key_prefix": _Setting(
        "what the names of this product begin with", "a name, or several names, of letters, digits and underscores"
    ),
    "group": _Setting("the group of the assets", "a name of letters, digits and underscores"),
    "owners": _Setting(
        "the owners of the assets", "a list of e-mail addresses and names such as team:data-engineering"
    ),
    "tags": _Setting("the tags of the assets", "a mapping of texts to texts"),
    "rules": _Setting("what makes a session", "SessionRules"),
    "timeout": _Setting(
        "how far apart, in seconds, two user actions are when they are no longer in one session",
        "a number greater than 0",
        TIMEOUT_VARIABLE,
    ),
    "user_action_ids": _Setting(
        "the event ids that are user actions", "event ids with commas between them", USER_ACTION_IDS_VARIABLE
    ),
    "lateness_days": _Setting(
        "by how many days an event may be late", "a whole number from 0 to 30", LATENESS_DAYS_VARIABLE
    ),
    "carried_columns": _Setting(
        "the sender's own columns that are carried through, and their types",
        "name:type, with commas between several; the names are not used by the tables themselves and do not begin with "
        "two underscores, and the types are among "
        f"{', '.join(CARRIED_TYPES)}",
        CARRIED_COLUMNS_VARIABLE,
    ),
    "bot_limit": _Setting(
        "the number of events in one batch above which a user is a bot",
        "a whole number, where 0 means that nobody is a bot",
        BOT_LIMIT_VARIABLE,
    ),
    "settle_seconds": _Setting(
        "for how many seconds nothing may have changed in a complete folder",
        "a whole number, 0 or greater",
        SETTLE_SECONDS_VARIABLE,
    ),
    "require_success_marker": _Setting(
        "whether a complete folder has the file _SUCCESS", "true or false", SUCCESS_MARKER_VARIABLE
    ),
    "spark": _Setting("how Spark is started", "SparkSettings"),
}


class _WrongSettingError(SettingsError):
    """A setting that is not what it may be. The message names the field, or the variable that it came from."""

    def __init__(self, name: str, value: object, *, from_variable: bool = False) -> None:
        setting = _SETTINGS[name]
        self.name, self.value = name, value
        shown_name = (setting.variable or name) if from_variable else name
        super().__init__(f"{shown_name} ({setting.meaning}) must be {setting.allowed}, not {value!r}.")


@dataclass(frozen=True, init=False)
class SessionsConfig:
    """The settings of one product. Several products can be in one Dagster deployment, each with its own prefix.

    Attributes:
        start_date: The first partition.
        input_root: The folder or URI that the batches arrive in, each in a folder `date=YYYY-MM-DD/`.
        warehouse_root: The folder or URI that the tables are right below.
        input_format: The format of all input files.
        key_prefix: What the asset keys begin with. The names of jobs, schedules, the sensor, ops, the pool and the
            resources begin with it as well, so that two products with different prefixes never share one.
        group: The group of the assets.
        owners: The owners of the assets, as Dagster takes them.
        tags: The tags of the assets.
        rules: What makes a session, and how late an event may come. They are kept with the tables.
        carried_columns: Columns of the sender's own that go from a batch into `raw_events` and `sessionized_events`:
            the name and the Spark SQL type of each.
        bot_limit: A user with more events than this in one batch is a bot, and rejected. None: nobody is.
        settle_seconds: For how long nothing may have changed in a folder before the sensor lands it.
        require_success_marker: Whether the sensor waits for a file `_SUCCESS` in the folder instead.
        spark: How Spark is started.
    """

    start_date: date
    input_root: str
    warehouse_root: str
    input_format: InputFormat
    key_prefix: tuple[str, ...]
    group: str
    owners: tuple[str, ...]
    tags: Mapping[str, str] = field(hash=False)
    rules: SessionRules
    carried_columns: Mapping[str, str] = field(hash=False)
    bot_limit: int | None
    settle_seconds: int
    require_success_marker: bool
    spark: SparkSettings = field(hash=False)

    def __init__(
        self,
        *,
        start_date: date | str,
        input_root: str | os.PathLike[str] = DEFAULT_INPUT_ROOT,
        warehouse_root: str | os.PathLike[str] = DEFAULT_WAREHOUSE_ROOT,
        input_format: InputFormat = "parquet",
        key_prefix: str | Sequence[str] = (),
        group: str = DEFAULT_GROUP,
        owners: Sequence[str] = DEFAULT_OWNERS,
        tags: Mapping[str, str] = DEFAULT_TAGS,
        rules: SessionRules | None = None,
        carried_columns: Mapping[str, str] | None = None,
        bot_limit: int | None = DEFAULT_BOT_LIMIT,
        settle_seconds: int = DEFAULT_SETTLE_SECONDS,
        require_success_marker: bool = False,
        spark: SparkSettings | None = None,
    ) -> None:
        """Check all settings, and keep them in one spelling.

        Args:
            start_date: A date, or a text such as `2025-09-20`.
            input_root: See the class.
            warehouse_root: See the class.
            input_format: See the class.
            key_prefix: One name, or several in order.
            group: See the class.
            owners: See the class.
            tags: See the class.
            rules: By default 5 minutes, the user actions a, b and c, and 5 days of lateness.
            carried_columns: See the class; by default none.
            bot_limit: See the class; 0 is the same as None.
            settle_seconds: See the class.
            require_success_marker: See the class.
            spark: By default a local Spark on all cores.

        Raises:
            SettingsError: If a setting is not what it may be. The message is one sentence that names it.
        """
        checked = {
            "start_date": _date(start_date),
            "input_root": _place("input_root", input_root),
            "warehouse_root": _place("warehouse_root", warehouse_root),
            "input_format": _one_of("input_format", input_format, get_args(InputFormat)),
            "key_prefix": _names("key_prefix", (key_prefix,) if isinstance(key_prefix, str) else key_prefix),
            "group": _names("group", (group,))[0],
            "owners": _texts("owners", owners),
            "tags": _mapping("tags", tags),
            "rules": _instance("rules", SessionRules() if rules is None else rules, SessionRules),
            "carried_columns": _carried_columns({} if carried_columns is None else carried_columns),
            "bot_limit": None if bot_limit is None else (_whole_number("bot_limit", bot_limit) or None),
            "settle_seconds": _whole_number("settle_seconds", settle_seconds),
            "require_success_marker": _instance("require_success_marker", require_success_marker, bool),
            "spark": _instance("spark", SparkSettings() if spark is None else spark, SparkSettings),
        }
        assert checked.keys() == {each.name for each in fields(self)}, "every field is set"
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """The settings that the environment has, and the defaults for all others. An empty variable counts as not set.

        Args:
            environ: Variables by name; by default those of this process.

        Raises:
            SettingsError: If a variable is not what it may be. The message is one sentence that names it.
        """
        variables = os.environ if environ is None else environ
        given = {
            name: text
            for name, setting in _SETTINGS.items()
            if setting.variable is not None and (text := variables.get(setting.variable, "").strip())
        }
        settings: dict[str, Any] = {"start_date": DEFAULT_START_DATE}
        settings |= {name: _PARSERS.get(name, str)(text) for name, text in given.items() if name not in _OF_RULES}
        settings["rules"] = _rules({name: text for name, text in given.items() if name in _OF_RULES})
        settings["spark"] = _spark_settings(variables)
        try:
            return cls(**settings)
        except _WrongSettingError as error:
            raise _WrongSettingError(error.name, given.get(error.name, error.value), from_variable=True) from None

    def prefixed(self, name: str) -> str:
        """A name of this product, for everything that Dagster knows by a name: `web_new_batches`."""
        return "_".join([*self.key_prefix, name])

    def asset_key(self, name: str) -> tuple[str, ...]:
        """The parts of the key of an asset of this product: `("web", "raw_events")`."""
        return (*self.key_prefix, name)


def _date(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(cast("str", value))
    except (TypeError, ValueError):
        raise _WrongSettingError("start_date", value) from None


def _place(name: str, value: str | os.PathLike[str]) -> str:
    place = os.fspath(value) if isinstance(value, str | os.PathLike) else ""
    if not place.strip():
        raise _WrongSettingError(name, value)
    return place


def _one_of(name: str, value: object, allowed: Iterable[object]) -> object:
    if value not in allowed:
        raise _WrongSettingError(name, value)
    return value


def _texts(name: str, value: Sequence[str]) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(each, str) and each for each in value):
        raise _WrongSettingError(name, value)
    return tuple(value)


def _names(name: str, value: Sequence[str]) -> tuple[str, ...]:
    names = _texts(name, value)
    if not all(_NAME.fullmatch(each) for each in names):
        raise _WrongSettingError(name, value[0] if len(value) == 1 else value)
    return names


def _mapping(name: str, value: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for pair in value.items() for each in pair):
        raise _WrongSettingError(name, value)
    return dict(value)


def _carried_columns(value: Mapping[str, str]) -> dict[str, str]:
    carried = _mapping("carried_columns", value)
    used = {name.lower() for name in _own_columns()}
    if any(
        not _COLUMN.fullmatch(name) or name.lower() in used or type_ not in CARRIED_TYPES
        for name, type_ in carried.items()
    ) or len({name.lower() for name in carried}) < len(carried):
        raise _WrongSettingError("carried_columns", value)
    return carried


def _own_columns() -> set[str]:
    """The names of all columns of all tables, which is what `model.columns` has constants for."""
    return {name for name in vars(columns).values() if isinstance(name, str) and _COLUMN.fullmatch(name)}


def _instance(name: str, value: object, type_: type) -> object:
    if not isinstance(value, type_):
        raise _WrongSettingError(name, value)
    return value


def _whole_number(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _WrongSettingError(name, value)
    return value


def _rules(given: Mapping[str, str]) -> SessionRules:
    """The session rules that some variables have, with the names of the fields of `SessionRules`."""
    rules: dict[str, Any] = {}
    for name, text in given.items():
        try:
            rules[name] = _OF_RULES[name](text)
            SessionRules(**{name: rules[name]})
        except (ValueError, OverflowError):
            raise _WrongSettingError(name, text, from_variable=True) from None
    return SessionRules(**rules)


def _spark_settings(variables: Mapping[str, str]) -> SparkSettings:
    variable_of = {"master": SPARK_MASTER_VARIABLE, "delta_jars": DELTA_JARS_VARIABLE}
    given: dict[str, Any] = {name: variables.get(variable, "").strip() for name, variable in variable_of.items()}
    return SparkSettings(**{name: text for name, text in given.items() if text})


def _parsed(name: str, parse: Callable[[str], object]) -> Callable[[str], object]:
    def parser(text: str) -> object:
        try:
            return parse(text)
        except (KeyError, ValueError):
            raise _WrongSettingError(name, text, from_variable=True) from None

    return parser


def _yes_or_no(text: str) -> bool:
    return {**dict.fromkeys(_YES, True), **dict.fromkeys(_NO, False)}[text.lower()]


def _column_types(text: str) -> dict[str, str]:
    pairs = [pair.split(":") for pair in _listed(text)]
    return {name.strip(): type_.strip().lower() for name, type_ in pairs}


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")]


_PARSERS: Final[Mapping[str, Callable[[str], object]]] = {
    "bot_limit": _parsed("bot_limit", int),
    "settle_seconds": _parsed("settle_seconds", int),
    "require_success_marker": _parsed("require_success_marker", _yes_or_no),
    "carried_columns": _parsed("carried_columns", _column_types),
}

_OF_RULES: Final[Mapping[str, Callable[[str], object]]] = {
    "timeout": lambda text: timedelta(seconds=float(text)),
    "user_action_ids": lambda text: frozenset(_listed(text)),
    "lateness_days": int,
}
