"""`SessionsComponent`: a product in a `defs.yaml`, for projects that are organized with `dg`.

    type: sessions_dagster.SessionsComponent
    attributes:
      start_date: 2025-09-01
      input_root: /data/events
      warehouse_root: /data/lake
      key_prefix: web
      rules:
        timeout_seconds: 600

The attributes are those of `SessionsConfig`. Give the project `dagster.in_process_executor` (see `defs.build_defs`).
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated, Any, Final

import dagster as dg
from pydantic import Field, StrictFloat, StrictInt, ValidationError

from sessions_dagster.alerts.settings import DEFAULT_UI_URL, AlertSettings
from sessions_dagster.config import (
    DEFAULT_GROUP,
    DEFAULT_INPUT_ROOT,
    DEFAULT_LANDING_DEADLINE_HOURS,
    DEFAULT_OWNERS,
    DEFAULT_SETTLE_SECONDS,
    DEFAULT_TAGS,
    DEFAULT_WAREHOUSE_ROOT,
    SessionsConfig,
)
from sessions_dagster.defs import build_defs
from sessions_dagster.input.formats import EpochUnit, InputFormat
from sessions_dagster.model.rejects import DEFAULT_BOT_LIMIT
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.settings import SETTINGS, wrong
from sessions_dagster.spark.session import SparkSettings

_DEFAULT_RULES = SessionRules()


def _seconds(value: Any) -> timedelta:
    if isinstance(value, bool):
        raise TypeError(value)
    return timedelta(seconds=float(value))


_OF_RULES: Final[Mapping[str, tuple[str, Callable[[Any], object]]]] = {
    "timeout_seconds": ("timeout", _seconds),
    "user_action_ids": ("user_action_ids", lambda value: value),
    "lateness_days": ("lateness_days", lambda value: int(value) if isinstance(value, str) else value),
}
"""For each attribute of the rules the field of `SessionRules`, and how its value is made."""


def _number(context: dg.ResolutionContext, value: Any) -> Any:
    """A number as it is written, or as its template gives it. A whole one may have a point: `250.0`, `1e5`."""
    resolved = context.resolve_value(value)
    return int(resolved) if isinstance(resolved, float) and resolved.is_integer() else resolved


def _text(context: dg.ResolutionContext, value: Any) -> Any:
    """A text as it is written, or as its template gives it. Dagster by itself makes a number of a text like "1"."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return None if value is None else str(value)
    if not any(mark in value for mark in ("{{", "{%")):
        return value
    resolved = context.resolve_value(value)
    if resolved is None or isinstance(resolved, str | list | dict):
        return resolved
    # The template makes a number of a text that looks like one, but not if there is something before it.
    return context.resolve_value(f"_{value}")[1:]


def _texts(context: dg.ResolutionContext, value: Any) -> Any:
    """The same for each text in a list or a mapping."""
    if isinstance(value, Mapping):
        return {name: _text(context, each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_text(context, each) for each in value]
    resolved = _text(context, value)
    return resolved if isinstance(resolved, str | None) else _texts(context, resolved)


# What an attribute may be in YAML. In Python it may be anything, and `SessionsConfig` and its parts refuse in one
# sentence what it may not be: Dagster reports an error in here with its whole traceback, and with the value, which may
# be a secret.
_Text = Annotated[Any, dg.Resolver(_text, model_field_type=str, inject_before_resolve=False)]
_OptionalText = Annotated[Any, dg.Resolver(_text, model_field_type=str | None, inject_before_resolve=False)]
_Texts = Annotated[Any, dg.Resolver(_texts, model_field_type=list[str], inject_before_resolve=False)]
_TextOrTexts = Annotated[Any, dg.Resolver(_texts, model_field_type=str | list[str], inject_before_resolve=False)]
_TextsByName = Annotated[Any, dg.Resolver(_texts, model_field_type=dict[str, str], inject_before_resolve=False)]
_ValuesByName = Annotated[Any, dg.Resolver(_texts, model_field_type=dict[str, Any], inject_before_resolve=False)]
_Number = Annotated[Any, dg.Resolver(_number, model_field_type=StrictInt | StrictFloat, inject_before_resolve=False)]
_OptionalNumber = Annotated[
    Any, dg.Resolver(_number, model_field_type=StrictInt | StrictFloat | None, inject_before_resolve=False)
]


class RulesAttributes(dg.Resolvable, dg.Model):
    """`SessionRules` as YAML has them.

    A text is a number as well. What is none is refused by `rules`.
    """

    timeout_seconds: _Number = Field(
        default=_DEFAULT_RULES.timeout.total_seconds(),
        description="Two user actions that are less than this apart are in one session.",
    )
    user_action_ids: _Texts = Field(
        default=sorted(_DEFAULT_RULES.user_action_ids), description="The event ids that are user actions."
    )
    lateness_days: _Number = Field(
        default=_DEFAULT_RULES.lateness_days, description="By how many days an event may be late: 0 to 30."
    )

    def rules(self) -> SessionRules:
        """The rules.

        Raises:
            SettingsError: If one of them is not what it may be. The message is one sentence that names it.
        """
        rules: dict[str, Any] = {}
        for attribute, (name, convert) in _OF_RULES.items():
            value = getattr(self, attribute)
            try:
                rules[name] = convert(value)
                SessionRules(**{name: rules[name]})
            except (TypeError, ValueError, OverflowError):
                raise wrong(name, value).named(f"rules.{attribute}", value) from None
        return SessionRules(**rules)


class AlertAttributes(dg.Resolvable, dg.Model):
    """`AlertSettings` as YAML has them. Secrets are better given as `"{{ env.NAME }}"`."""

    webhook_url: _OptionalText = Field(default=None, description="Gets a POST with the alert as JSON.")
    command: _Texts = Field(default=[], description="An executable that gets the alert as JSON on standard input.")
    slack_channel: _OptionalText = Field(default=None, description="The Slack channel that a message is posted to.")
    slack_token: _OptionalText = Field(default=None, description="The token of the Slack app that posts it.")
    email_to: _Texts = Field(default=[], description="The addresses that an e-mail is sent to.")
    email_from: _OptionalText = Field(default=None, description="The address that it is from.")
    smtp_url: _OptionalText = Field(default=None, description="The mail server: smtp:// or smtps://.")
    ui_url: _Text = Field(default=DEFAULT_UI_URL, description="Where Dagster's UI is, for the links.")

    def settings(self) -> AlertSettings:
        """The settings.

        Raises:
            SettingsError: If one of them is not what it may be.
        """
        return AlertSettings(
            webhook_url=self.webhook_url,
            command=self.command,
            slack_channel=self.slack_channel,
            slack_token=self.slack_token,
            email_to=self.email_to,
            email_from=self.email_from,
            smtp_url=self.smtp_url,
            ui_url=self.ui_url,
        )


class SparkAttributes(dg.Resolvable, dg.Model):
    """`SparkSettings` as YAML has them."""

    master: _Text = Field(default="local[*]", description="Spark's master URL.")
    driver_memory: _Text = Field(default="2g", description="Heap of the driver; in local mode that is all of Spark.")
    shuffle_partitions: _OptionalNumber = Field(default=None, description="Partitions of a shuffle.")
    extra_conf: _ValuesByName = Field(default={}, description="Further Spark properties.")
    delta_jars: _OptionalText = Field(default=None, description="Local JARs of Delta, separated by commas.")
    server: _OptionalText = Field(default=None, description="A server of Spark Connect that is used if it answers.")
    shared_folders: bool = Field(default=False, description="Whether a cluster sees the local folders of this machine.")

    def settings(self) -> SparkSettings:
        """The settings."""
        return SparkSettings(
            master=self.master,
            driver_memory=self.driver_memory,
            shuffle_partitions=self.shuffle_partitions,
            extra_conf=self.extra_conf,
            delta_jars=self.delta_jars,
            server=self.server,
            shared_folders=self.shared_folders,
        )


class SessionsComponent(dg.Component, dg.Resolvable, dg.Model):
    """Exact user sessions from late batches: one product, with its own input, tables, rules and names."""

    start_date: _Text = Field(description="The first partition, for example 2025-09-01.")
    input_root: _Text = Field(
        default=DEFAULT_INPUT_ROOT, description="Folder or URI with the folders `date=YYYY-MM-DD/`."
    )
    warehouse_root: _Text = Field(default=DEFAULT_WAREHOUSE_ROOT, description="Folder or URI that holds the tables.")
    input_format: InputFormat = Field(default="parquet", description="Format of the input files.")
    epoch_unit: EpochUnit | None = Field(
        default=None, description="What a timestamp counts that is a number since 1970; by default numbers are refused."
    )
    key_prefix: _TextOrTexts = Field(default=[], description="What all names of this product begin with.")
    group: _Text = Field(default=DEFAULT_GROUP, description="The group of the assets.")
    owners: _Texts = Field(default=list(DEFAULT_OWNERS), description="The owners of the assets.")
    tags: _TextsByName = Field(default=dict(DEFAULT_TAGS), description="The tags of the assets.")
    rules: RulesAttributes = Field(default_factory=RulesAttributes, description="What makes a session.")
    carried_columns: _TextsByName = Field(
        default={}, description="The sender's own columns that are carried through: the name and the type of each."
    )
    bot_limit: _OptionalNumber = Field(
        default=DEFAULT_BOT_LIMIT, description="With more events than this in one batch a user is a bot; 0: nobody is."
    )
    settle_seconds: _Number = Field(
        default=DEFAULT_SETTLE_SECONDS, description="For how long nothing may have changed in a complete folder."
    )
    require_success_marker: bool = Field(
        default=False, description="Whether the sensor waits for a file `_SUCCESS` in the folder instead."
    )
    landing_deadline_hours: _Number = Field(
        default=DEFAULT_LANDING_DEADLINE_HOURS,
        description="How many hours after the end of its day (UTC) a batch has landed at the latest.",
    )
    deletion_vectors: bool = Field(
        default=True, description="Whether corrections only mark the rows that they replace as deleted."
    )
    catalog_schema: _OptionalText = Field(
        default=None, description="The schema of Spark's catalogue in which the tables have their names."
    )
    logs_through_spark: bool = Field(
        default=False, description="Whether the logs of the tables are read through Spark, which has the credentials."
    )
    alerts: AlertAttributes = Field(
        default_factory=AlertAttributes, description="Through which channels somebody is told of failures."
    )
    spark: SparkAttributes = Field(default_factory=SparkAttributes, description="How Spark is started.")

    def __init__(self, **attributes: Any) -> None:
        """Take the attributes as Dagster has read them.

        Raises:
            SettingsError: If one of them has another type than it may have. The message is one sentence that names it.
        """
        try:
            super().__init__(**attributes)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            if name not in SETTINGS:
                raise
            raise wrong(name, first["input"]) from None

    def config(self) -> SessionsConfig:
        """The settings of the product.

        Raises:
            SettingsError: If one of them is not what it may be.
        """
        return SessionsConfig(
            start_date=self.start_date,
            input_root=self.input_root,
            warehouse_root=self.warehouse_root,
            input_format=self.input_format,
            epoch_unit=self.epoch_unit,
            key_prefix=self.key_prefix,
            group=self.group,
            owners=self.owners,
            tags=self.tags,
            rules=self.rules.rules(),
            carried_columns=self.carried_columns,
            bot_limit=self.bot_limit,
            settle_seconds=self.settle_seconds,
            require_success_marker=self.require_success_marker,
            landing_deadline_hours=self.landing_deadline_hours,
            deletion_vectors=self.deletion_vectors,
            catalog_schema=self.catalog_schema,
            logs_through_spark=self.logs_through_spark,
            alerts=self.alerts.settings(),
            spark=self.spark.settings(),
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002
        """The definitions of the product."""
        return build_defs(self.config())
