"""The settings of alerts: through which channels somebody is told."""

from dataclasses import dataclass, field
from shutil import which
from typing import Final
from urllib.parse import urlsplit

from sessions_dagster.errors import SettingsError

DEFAULT_UI_URL: Final = "http://127.0.0.1:3000"
"""Where Dagster's own commands start the UI if they are not told otherwise."""

ALLOWED: Final = {
    "webhook_url": "a URL that begins with https:// or http://",
    "command": "an executable file, or the name of one on the PATH, with its arguments",
    "slack_channel": "a channel, given together with a token",
    "slack_token": "a token, given together with a channel",
    "email_to": "addresses with commas between them, given together with email_from and smtp_url",
    "email_from": "one address, given together with email_to and smtp_url",
    "smtp_url": "such as smtp://user:password@mail.example.com:587 or smtps://..., given together with email_to and "
    "email_from",
    "ui_url": "a URL that begins with https:// or http://",
}
"""What each field may be, for a message."""


class WrongAlertSettingError(SettingsError):
    """A setting of alerts is not what it may be. The message never has the value, which may be a secret.

    Attributes:
        name: The field.
    """

    def __init__(self, name: str, shown_name: str | None = None) -> None:
        self.name = name
        super().__init__(f"{shown_name or name} (alerts) must be {ALLOWED[name]}.")


@dataclass(frozen=True)
class AlertSettings:
    """Through which channels somebody is told. Without any nobody is.

    Attributes:
        webhook_url: Gets a POST with the alert as JSON.
        command: An executable with its arguments, which gets the alert as JSON on its standard input.
        slack_channel: The channel that a message is posted to, such as `#data`.
        slack_token: The token of the Slack app that posts it.
        email_to: The addresses that an e-mail is sent to.
        email_from: The address that it is from.
        smtp_url: The server that it is sent through: `smtp://` with STARTTLS if the server has it, or `smtps://`. A
            user and a password are in it, and special characters in them percent-encoded.
        ui_url: Where Dagster's UI is, for the links.

    Raises:
        WrongAlertSettingError: If one of them is not what it may be.
    """

    webhook_url: str | None = field(default=None, repr=False)
    command: tuple[str, ...] = ()
    slack_channel: str | None = None
    slack_token: str | None = field(default=None, repr=False)
    email_to: tuple[str, ...] = ()
    email_from: str | None = None
    smtp_url: str | None = field(default=None, repr=False)
    ui_url: str = DEFAULT_UI_URL

    def __post_init__(self) -> None:
        object.__setattr__(self, "command", tuple(self.command))
        object.__setattr__(self, "email_to", tuple(self.email_to))
        wrong = [
            *(name for name in ("webhook_url", "ui_url") if not _is_url(getattr(self, name), {"http", "https"})),
            *(["smtp_url"] if not _is_url(self.smtp_url, {"smtp", "smtps"}) else []),
            *(["command"] if not _is_command(self.command) else []),
            *(["email_to"] if not all(map(_is_address, self.email_to)) else []),
            *(["email_from"] if self.email_from is not None and not _is_address(self.email_from) else []),
            *self._lacking("slack_channel", "slack_token"),
            *self._lacking("email_to", "email_from", "smtp_url"),
        ]
        if wrong:
            raise WrongAlertSettingError(wrong[0])

    @property
    def has_channel(self) -> bool:
        """Whether there is anybody to be told."""
        return bool(self.webhook_url or self.command or self.slack_channel or self.email_to)

    def _lacking(self, *names: str) -> list[str]:
        """Those of some settings that are not given although others of them are."""
        given = [name for name in names if getattr(self, name)]
        return [name for name in names if name not in given] if given else []


def _is_url(value: str | None, schemes: set[str]) -> bool:
    if value is None:
        return True
    try:
        parts = urlsplit(value)
        _ = parts.port
    except (ValueError, AttributeError):
        return False
    return parts.scheme in schemes and bool(parts.hostname) and not any(each.isspace() for each in value)


def _is_command(words: tuple[object, ...]) -> bool:
    if not all(isinstance(each, str) and each and "\0" not in each for each in words):
        return False
    return not words or which(str(words[0])) is not None


def _is_address(value: object) -> bool:
    return isinstance(value, str) and value.count("@") == 1 and not any(each.isspace() or each == "," for each in value)
