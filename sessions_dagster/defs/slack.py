"""The Slack channel, by Dagster's own library, which is installed with the extra `alerts`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from sessions_dagster.alerts.channels import TIMEOUT_SECONDS, DeliveryError
from sessions_dagster.alerts.message import Alert
from sessions_dagster.errors import SettingsError

_PLAIN: Final[Mapping[str, Any]] = {"mrkdwn": False, "parse": "none", "unfurl_links": False, "unfurl_media": False}
"""The text has names of the sender's files in it: they are no format, and Slack opens nothing that they point to."""


@dataclass(frozen=True)
class Slack:
    """A message in a Slack channel.

    Attributes:
        channel: Where it is posted.
        token: The token of the app that posts it.

    Raises:
        SettingsError: If the library is not installed.
    """

    channel: str
    token: str = field(repr=False)
    name: str = "Slack"

    def __post_init__(self) -> None:
        # An alert that cannot be sent for want of a library has to show at the start, and not with the first failure.
        _library()

    def send(self, alert: Alert) -> None:
        """See `alerts.channels.Channel`.

        Raises:
            DeliveryError: If it does not arrive.
        """
        errors = import_module("slack_sdk.errors")
        client = _library().SlackResource(token=self.token).get_client()
        client.timeout = TIMEOUT_SECONDS
        try:
            client.chat_postMessage(channel=self.channel, text=_as_it_is(alert.text), **_PLAIN)
        except errors.SlackApiError as error:
            raise DeliveryError(f"Slack answered {error.response['error']}") from None
        except (errors.SlackClientError, OSError) as error:
            raise DeliveryError(f"no answer ({type(error).__name__})") from None


def _as_it_is(text: str) -> str:
    """A text that Slack shows as it is. Between `<` and `>` there would be a link, or a call to everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _library() -> ModuleType:
    try:
        return import_module("dagster_slack")
    except ImportError as error:
        raise SettingsError(
            "Alerts by Slack need the package dagster-slack: install sessions-dagster[alerts], or set another channel."
        ) from error
