"""The settings of one product: where its batches and tables are, its session rules, and how its names begin.

`SessionsConfig` is all that `build_defs` and the command line need. Nothing is read from the environment when this
module is imported; `SessionsConfig.from_env` is the one place that knows the variables `SESSIONS_*`.
"""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import date
from difflib import get_close_matches
from typing import Any, Final, Self, get_args

from sessions_dagster.alerts.settings import AlertSettings, WrongAlertSettingError
from sessions_dagster.errors import SettingsError, WrongSettingError
from sessions_dagster.input.formats import EpochUnit, InputFormat
from sessions_dagster.model.rejects import DEFAULT_BOT_LIMIT
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.tables import FORGOTTEN_USERS, TABLES
from sessions_dagster.s3 import is_on_s3
from sessions_dagster.settings import (
    ALERT_VARIABLES,
    INPUT_ROOT_VARIABLE,
    MAX_BOT_LIMIT,
    MAX_LANDING_DEADLINE_HOURS,
    MAX_SETTLE_SECONDS,
    OF_RULES,
    PARSERS,
    SETTINGS,
    SHARED_FOLDERS_VARIABLE,
    SPARK_VARIABLES,
    WAREHOUSE_ROOT_VARIABLE,
    checked_columns,
    checked_date,
    checked_names,
    checked_owners,
    checked_place,
    checked_schema,
    checked_tags,
    instance_of,
    listed,
    one_of,
    whole_number,
    without_quotes,
    wrong,
    yes_or_no,
)
from sessions_dagster.spark.master import is_elsewhere
from sessions_dagster.spark.session import SparkSettings
from sessions_dagster.storage.filesystem import canonical, is_local, is_within, table_root

DEFAULT_INPUT_ROOT: Final = "data/input"
DEFAULT_WAREHOUSE_ROOT: Final = "data/warehouse"
DEFAULT_GROUP: Final = "sessions"
DEFAULT_OWNERS: Final = ("team:data-engineering",)
DEFAULT_TAGS: Final[Mapping[str, str]] = {"domain": "user_sessions"}
DEFAULT_SETTLE_SECONDS: Final = 60
DEFAULT_LANDING_DEADLINE_HOURS: Final = 12

WAREHOUSE_SETTING: Final = f"{WAREHOUSE_ROOT_VARIABLE} (warehouse_root, {SETTINGS['warehouse_root'].meaning})"
"""What a message calls the warehouse root that does not know whether it came from the environment."""

DEFAULT_START_DATE: Final = "2025-01-01"
"""The first partition if the environment does not name one. In code it is always given."""

_PREFIX: Final = "SESSIONS_"
_ALIKENESS: Final = 0.7
"""How alike two names of variables are, from 0 to 1, when one of them is taken for a slip of the other."""

_OF_KUBERNETES: Final = re.compile(r"_SERVICE_(HOST|PORT)|_PORT(_|$)")


@dataclass(frozen=True, init=False)
class SessionsConfig:
    """The settings of one product. Several products can be in one Dagster deployment, each with its own prefix.

    Attributes:
        start_date: The first partition.
        input_root: The folder or URI that the batches arrive in, each in a folder `date=YYYY-MM-DD/`.
        warehouse_root: The folder or URI that the tables are right below.
        input_format: The format of all input files.
        epoch_unit: What a `timestamp` counts that is delivered as a number since 1970-01-01 00:00:00 UTC. None: a
            number is not a timestamp.
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
        landing_deadline_hours: How many hours after the end of its day (UTC) a batch has landed at the latest. Later
            than that it is missing, and the check `batches_have_landed` says so.
        deletion_vectors: Whether corrections only mark the rows of `sessionized_events` that they replace as deleted,
            which not every tool can read. Without, they write the files with these rows again.
        catalog_schema: The schema of Spark's catalogue in which the tables have their names: `schema`, or
            `catalogue.schema`. None: they are found by their location only.
        logs_through_spark: Whether the logs of the tables are read through Spark, for a warehouse that this process has
            no credentials for, but Spark has.
        alerts: Through which channels somebody is told of failures and of missing batches; by default nobody is.
        spark: How Spark is started.
    """

    start_date: date
    input_root: str
    warehouse_root: str
    input_format: InputFormat
    epoch_unit: EpochUnit | None
    key_prefix: tuple[str, ...]
    group: str
    owners: tuple[str, ...]
    tags: Mapping[str, str] = field(hash=False)
    rules: SessionRules
    carried_columns: Mapping[str, str] = field(hash=False)
    bot_limit: int | None
    settle_seconds: int
    require_success_marker: bool
    landing_deadline_hours: int
    deletion_vectors: bool
    catalog_schema: str | None
    logs_through_spark: bool
    alerts: AlertSettings
    spark: SparkSettings = field(hash=False)

    def __init__(
        self,
        *,
        start_date: date | str,
        input_root: str | os.PathLike[str] = DEFAULT_INPUT_ROOT,
        warehouse_root: str | os.PathLike[str] = DEFAULT_WAREHOUSE_ROOT,
        input_format: InputFormat = "parquet",
        epoch_unit: EpochUnit | None = None,
        key_prefix: str | Sequence[str] = (),
        group: str = DEFAULT_GROUP,
        owners: Sequence[str] = DEFAULT_OWNERS,
        tags: Mapping[str, str] = DEFAULT_TAGS,
        rules: SessionRules | None = None,
        carried_columns: Mapping[str, str] | None = None,
        bot_limit: int | None = DEFAULT_BOT_LIMIT,
        settle_seconds: int = DEFAULT_SETTLE_SECONDS,
        require_success_marker: bool = False,
        landing_deadline_hours: int = DEFAULT_LANDING_DEADLINE_HOURS,
        deletion_vectors: bool = True,
        catalog_schema: str | None = None,
        logs_through_spark: bool = False,
        alerts: AlertSettings | None = None,
        spark: SparkSettings | None = None,
    ) -> None:
        """Check all settings, and keep them in one spelling.

        Args:
            start_date: A date, or a text such as `2025-09-20`.
            input_root: See the class.
            warehouse_root: See the class.
            input_format: See the class.
            epoch_unit: See the class.
            key_prefix: One name, or several in order.
            group: See the class.
            owners: See the class.
            tags: See the class.
            rules: By default 5 minutes, the user actions a, b and c, and 5 days of lateness.
            carried_columns: See the class; by default none.
            bot_limit: See the class; 0 is the same as None.
            settle_seconds: See the class.
            require_success_marker: See the class.
            landing_deadline_hours: See the class; 0 to 720.
            deletion_vectors: See the class.
            catalog_schema: See the class.
            logs_through_spark: See the class.
            alerts: See the class.
            spark: By default a local Spark on all cores.

        Raises:
            SettingsError: If a setting is not what it may be. The message is one sentence that names it.
        """
        checked: dict[str, Any] = {
            "start_date": checked_date("start_date", start_date),
            "input_root": checked_place("input_root", input_root, canonical),
            "warehouse_root": checked_place("warehouse_root", warehouse_root, table_root),
            "input_format": one_of("input_format", input_format, get_args(InputFormat)),
            "epoch_unit": one_of("epoch_unit", epoch_unit, (None, *get_args(EpochUnit))),
            "key_prefix": checked_names("key_prefix", key_prefix),
            "group": checked_names("group", instance_of("group", group, str))[0],
            "owners": checked_owners("owners", owners),
            "tags": checked_tags("tags", tags),
            "rules": instance_of("rules", SessionRules() if rules is None else rules, SessionRules),
            "carried_columns": checked_columns("carried_columns", {} if carried_columns is None else carried_columns),
            "bot_limit": whole_number("bot_limit", 0 if bot_limit is None else bot_limit, MAX_BOT_LIMIT) or None,
            "settle_seconds": whole_number("settle_seconds", settle_seconds, MAX_SETTLE_SECONDS),
            "require_success_marker": instance_of("require_success_marker", require_success_marker, bool),
            "landing_deadline_hours": whole_number(
                "landing_deadline_hours", landing_deadline_hours, MAX_LANDING_DEADLINE_HOURS
            ),
            "deletion_vectors": instance_of("deletion_vectors", deletion_vectors, bool),
            "catalog_schema": checked_schema("catalog_schema", catalog_schema),
            "logs_through_spark": instance_of("logs_through_spark", logs_through_spark, bool),
            "alerts": instance_of("alerts", AlertSettings() if alerts is None else alerts, AlertSettings),
            "spark": instance_of("spark", SparkSettings() if spark is None else spark, SparkSettings),
        }
        if any(is_on_s3(canonical(str(checked[root]))) for root in ("input_root", "warehouse_root")):
            checked["spark"] = replace(checked["spark"], on_s3=True)
        assert checked.keys() == {each.name for each in fields(self)}, "every field is set"
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        self._check_input_is_in_no_table()
        for where in (self.spark.master, self.spark.server):
            if where is not None:
                self.check_folders_are_shared(where)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """The settings that the environment has, and the defaults for all others.

        An empty or blank variable counts as not set.

        Args:
            environ: Variables by name; by default those of this process.

        Raises:
            SettingsError: If a variable is not what it may be, or if its name is a slip of that of a setting. The
                message is one sentence that names it.
        """
        variables = os.environ if environ is None else environ
        _refuse_slips(variables)
        given = {
            name: text
            for name, setting in SETTINGS.items()
            if setting.variable is not None and (text := variables.get(setting.variable, "").strip())
        }
        settings: dict[str, Any] = {"start_date": DEFAULT_START_DATE}
        settings |= {name: _parsed(name, text) for name, text in given.items() if name not in OF_RULES}
        settings["rules"] = _rules({name: text for name, text in given.items() if name in OF_RULES})
        settings["alerts"] = _alert_settings(variables)
        settings["spark"] = _spark_settings(variables)
        try:
            return cls(**settings)
        except WrongSettingError as error:
            raise _of_variable(error, given.get(error.name, error.value)) from None

    def _check_input_is_in_no_table(self) -> None:
        """Check that the batches do not arrive in the folder of a table. A vacuum of the table would remove them.

        Raises:
            WrongSettingError: If they do.
        """
        for name in (*TABLES, FORGOTTEN_USERS):
            table = f"{table_root(self.warehouse_root)}/{name}"
            if is_within(canonical(self.input_root), table):
                meaning = SETTINGS["input_root"].meaning
                raise WrongSettingError("input_root", meaning, f"outside of the table {table}", self.input_root)

    def check_folders_are_shared(self, master: str) -> None:
        """Check that a Spark elsewhere is given no folder of this machine alone, which it does not have.

        Args:
            master: Spark's master, or the address of a server of Spark Connect.

        Raises:
            SettingsError: If it is.
        """
        if self.spark.shared_folders or not is_elsewhere(master):
            return
        for name, variable in (("input_root", INPUT_ROOT_VARIABLE), ("warehouse_root", WAREHOUSE_ROOT_VARIABLE)):
            root = canonical(str(getattr(self, name)))
            if is_local(root):
                raise SettingsError(
                    f"{name} ({variable}) must be a URI such as s3a://bucket/folder if Spark is on other machines "
                    f"({master.partition('/;')[0]}), and not {root}, of which each machine has its own; if it is a "
                    f"folder that all of them share, say so with spark.shared_folders ({SHARED_FOLDERS_VARIABLE}=true)."
                )

    def prefixed(self, name: str) -> str:
        """A name of this product, for everything that Dagster knows by a name: `web_new_batches`."""
        return "_".join([*self.key_prefix, name])

    def asset_key(self, name: str) -> tuple[str, ...]:
        """The parts of the key of an asset of this product: `("web", "raw_events")`."""
        return (*self.key_prefix, name)


def _refuse_slips(variables: Mapping[str, str]) -> None:
    """Refuse a variable that nothing reads and whose name is much like that of a setting.

    Others that begin with `SESSIONS_` may belong to somebody else, and so do those that Kubernetes sets in every
    container beside a service `sessions`.

    Raises:
        SettingsError: If there is one. It would be ignored, and the default would be used instead.
    """
    known = [
        *(setting.variable for setting in SETTINGS.values() if setting.variable),
        *SPARK_VARIABLES.values(),
        *ALERT_VARIABLES.values(),
    ]
    for name, text in sorted(variables.items()):
        upper = name.upper()
        if name in known or not text.strip() or not upper.startswith(_PREFIX) or _OF_KUBERNETES.search(upper):
            continue
        if upper in _WITHOUT_VARIABLE:
            raise SettingsError(
                f"{name} is not read: the setting {_WITHOUT_VARIABLE[upper]} has no variable, and is given in Python "
                'or YAML (docs/operations.md, "Settings").'
            )
        meant = _alike(upper, known)
        if meant:
            raise SettingsError(f"{name} is not a setting; did you mean {' or '.join(meant)}?")


def _alike(name: str, known: Iterable[str]) -> list[str]:
    """The names that have all words of a name, or else those that are written much like it."""
    short = {each.removeprefix(_PREFIX): each for each in known}
    wanted = name.removeprefix(_PREFIX)
    having_all_words = [each for text, each in short.items() if set(wanted.split("_")) <= set(text.split("_"))]
    return having_all_words or [short[text] for text in get_close_matches(wanted, short, n=2, cutoff=_ALIKENESS)]


def _of_variable(error: WrongSettingError, text: object) -> WrongSettingError:
    """The error of a field, for the variable that it came from."""
    return error.named(SETTINGS[error.name].variable or error.name, text)


def _parsed(name: str, text: str) -> object:
    try:
        return PARSERS.get(name, str)(text)
    except (KeyError, ValueError, OverflowError):
        raise _of_variable(wrong(name, text), text) from None


def _rules(given: Mapping[str, str]) -> SessionRules:
    """The session rules that some variables have, with the names of the fields of `SessionRules`."""
    rules: dict[str, Any] = {}
    for name, text in given.items():
        rules[name] = _parsed(name, text)
        try:
            SessionRules(**{name: rules[name]})
        except ValueError:
            raise _of_variable(wrong(name, text), text) from None
    return SessionRules(**rules)


def _alert_settings(variables: Mapping[str, str]) -> AlertSettings:
    texts = {name: variables.get(variable, "").strip() for name, variable in ALERT_VARIABLES.items()}
    parsers: Mapping[str, Callable[[str], object]] = {
        "command": shlex.split,
        "email_to": lambda text: listed(without_quotes(text)),
    }
    given: dict[str, Any] = {}
    for name, text in texts.items():
        try:
            given |= {name: parsers.get(name, without_quotes)(text)} if text else {}
        except ValueError:
            raise WrongAlertSettingError(name, ALERT_VARIABLES[name]) from None
    try:
        return AlertSettings(**given)
    except WrongAlertSettingError as error:
        raise WrongAlertSettingError(error.name, ALERT_VARIABLES[error.name]) from None


def _spark_settings(variables: Mapping[str, str]) -> SparkSettings:
    texts = {name: variables.get(variable, "").strip() for name, variable in SPARK_VARIABLES.items()}
    given: dict[str, Any] = {name: text for name, text in texts.items() if text}
    with suppress(KeyError):
        given["shared_folders"] = yes_or_no(given["shared_folders"])
    try:
        return SparkSettings(**given)
    except WrongSettingError as error:
        name = error.name.removeprefix("spark.")
        raise error.named(SPARK_VARIABLES[name], given[name]) from None


_WITHOUT_VARIABLE: Final = {
    f"{_PREFIX}{name.upper().replace('.', '_')}": name
    for name in [
        *(name for name, setting in SETTINGS.items() if setting.variable is None),
        *(f"spark.{each.name}" for each in fields(SparkSettings) if each.name not in SPARK_VARIABLES),
    ]
}
"""The settings that have no variable, by what one would think that it is called."""
