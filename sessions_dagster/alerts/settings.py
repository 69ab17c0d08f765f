"""The settings of alerts: through which channels somebody is told."""

from dataclasses import dataclass, field
from shutil import which
from typing import Final
from urllib.parse import urlsplit

from sessions_dagster.errors import SettingsError

DEFAULT_UI_URL: Final = "http://127.0.0.1:3000"
"""Where Dagster's own commands start the UI if they are not told otherwise."""

ALLOWED: Final = {
    "webhook_url": "a URL that begins with https:// or http://, without a user, and with all but ASCII percent-encoded",
    "command": "an executable file, or the name of one on the PATH, with its arguments",
    "slack_channel": "a channel, given together with a token",
    "slack_token": "a token without quotes around it, given together with a channel",
    "email_to": "addresses with commas between them, given together with email_from and smtp_url",
    "email_from": "one address, given together with email_to and smtp_url",
    "smtp_url": "such as smtp://user:password@mail.example.com:587 or smtps://..., given together with email_to and "
    "email_from",
    "ui_url": "a URL that begins with https:// or http://, without a user, and without ? and #",
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
    command: tuple[str, ...] = field(default=(), repr=False)
    slack_channel: str | None = None
    slack_token: str | None = field(default=None, repr=False)
    email_to: tuple[str, ...] = ()
    email_from: str | None = None
    smtp_url: str | None = field(default=None, repr=False)
    ui_url: str = DEFAULT_UI_URL

    def __post_init__(self) -> None:
        for name in ("command", "email_to"):
            # A text alone would be taken for as many words as it has letters.
            if not isinstance(getattr(self, name), list | tuple):
                raise WrongAlertSettingError(name)
            object.__setattr__(self, name, tuple(getattr(self, name)))
        wrong = [
            *(["webhook_url"] if self.webhook_url is not None and not _is_web_page(self.webhook_url) else []),
            *(["ui_url"] if not _is_web_page(self.ui_url) or any(mark in self.ui_url for mark in "?#") else []),
            *(["smtp_url"] if self.smtp_url is not None and not _is_url(self.smtp_url, {"smtp", "smtps"}) else []),
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


def _is_web_page(value: str) -> bool:
    """Whether a value is a URL that Python can send a request to."""
    if not _is_url(value, {"http", "https"}):
        return False
    parts = urlsplit(value)
    return parts.username is None and f"{parts.netloc}{parts.path}{parts.query}".isascii()


def _is_url(value: object, schemes: set[str]) -> bool:
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
        host, port = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:
        return False
    return parts.scheme in schemes and bool(host) and port != 0


def _is_command(words: tuple[object, ...]) -> bool:
    if not all(isinstance(each, str) and each and "\0" not in each for each in words):
        return False
    return not words or which(str(words[0])) is not None


def _is_address(value: object) -> bool:
    if not isinstance(value, str) or not value.isprintable() or any(each in " ,;<>()" for each in value):
        return False
    parts = value.split("@")
    return len(parts) == 2 and all(parts)
