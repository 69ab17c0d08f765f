"""The channels that need no library: a webhook, a command, e-mail.

An error of a channel says which one failed and why, and never has a URL, a user or a password in it.
"""

import json
import os
import signal
import smtplib
import ssl
import subprocess
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from http.client import HTTPException
from subprocess import DEVNULL, PIPE
from typing import IO, Any, Final, Protocol
from urllib.error import HTTPError
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from sessions_dagster.alerts.message import Alert
from sessions_dagster.alerts.settings import AlertSettings

TIMEOUT_SECONDS: Final = 10
"""How long a receiver may be silent. All of a tick has to fit into the minute that Dagster gives it."""


class DeliveryError(Exception):
    """A channel could not deliver an alert. It may succeed at another time."""


class Channel(Protocol):
    """A way to tell somebody."""

    @property
    def name(self) -> str:
        """What it is called in the log."""

    def send(self, alert: Alert) -> None:
        """Deliver an alert.

        Raises:
            DeliveryError: If it does not arrive.
        """


@dataclass(frozen=True)
class Webhook:
    """A POST with the alert as JSON. Any answer but 2xx is a failure, a redirection included.

    Attributes:
        url: Where it goes. It counts as a secret.
    """

    url: str
    name: str = "webhook"

    def send(self, alert: Alert) -> None:
        """See `Channel`.

        Raises:
            DeliveryError: If it does not arrive.
        """
        body = json.dumps(alert.as_json()).encode()
        request = Request(self.url, body, {"Content-Type": "application/json", "User-Agent": "sessions-dagster"})
        try:
            with build_opener(_NoRedirection).open(request, timeout=TIMEOUT_SECONDS):
                pass
        except HTTPError as error:
            error.close()
            raise DeliveryError(f"the answer was {error.code}") from None
        except (OSError, HTTPException, ValueError) as error:
            # Their texts may have the URL in them.
            raise DeliveryError(f"no answer ({_cause(error)})") from None


class _NoRedirection(HTTPRedirectHandler):
    """Follows none: the request after a redirection would be a GET without the alert, and its answer 200."""

    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> None:
        """No request."""


@dataclass(frozen=True)
class Command:
    """An executable that gets the alert as JSON on its standard input. Any exit code but 0 is a failure.

    Attributes:
        arguments: The executable and its arguments. It is started without a shell.
    """

    arguments: tuple[str, ...]
    name: str = "command"

    def send(self, alert: Alert) -> None:
        """See `Channel`.

        Raises:
            DeliveryError: If it does not arrive.
        """
        body = json.dumps(alert.as_json()).encode()
        try:
            # Nobody reads what it prints: there may be a secret of its own in it, and what it has left in the
            # background would keep a pipe open.
            process = subprocess.Popen(
                self.arguments, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True
            )
        except OSError as error:
            raise DeliveryError(f"it could not be started ({error.strerror})") from None
        try:
            process.communicate(body, timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            # With all that it has started: otherwise each tick would leave some more.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise DeliveryError(f"it took longer than {TIMEOUT_SECONDS} s") from None
        if process.returncode != 0:
            raise DeliveryError(f"its exit code was {process.returncode}")


@dataclass(frozen=True)
class Email:
    """An e-mail with the alert as plain text.

    Attributes:
        smtp_url: The server, with a user and a password if it wants them. It counts as a secret.
        sender: Whom it is from.
        recipients: Whom it is for.
    """

    smtp_url: str
    sender: str
    recipients: tuple[str, ...]
    name: str = "e-mail"

    def send(self, alert: Alert) -> None:
        """See `Channel`.

        Raises:
            DeliveryError: If it does not arrive.
        """
        message = EmailMessage()
        message["Subject"] = " ".join(alert.title.split())
        message["From"], message["To"] = self.sender, ", ".join(self.recipients)
        message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=self.sender.rsplit("@", 1)[1])
        message.set_content(alert.text)
        server = urlsplit(self.smtp_url)
        try:
            with _connect(server) as smtp:
                _log_in(smtp, server)
                smtp.send_message(message)
        except smtplib.SMTPResponseException as error:
            raise DeliveryError(f"the server answered {error.smtp_code}") from None
        except smtplib.SMTPException as error:
            raise DeliveryError(type(error).__name__) from None
        except OSError as error:
            raise DeliveryError(f"no connection ({_cause(error)})") from None


def built_in_channels(settings: AlertSettings) -> list[Channel]:
    """The channels of this module that the settings ask for."""
    channels: list[Channel] = []
    if settings.webhook_url:
        channels.append(Webhook(settings.webhook_url))
    if settings.command:
        channels.append(Command(settings.command))
    if settings.email_to and settings.smtp_url and settings.email_from:
        channels.append(Email(settings.smtp_url, settings.email_from, settings.email_to))
    return channels


def _connect(server: SplitResult) -> smtplib.SMTP:
    host, port = server.hostname or "", server.port or 0
    if server.scheme == "smtps":
        return smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_SECONDS, context=ssl.create_default_context())
    smtp = smtplib.SMTP(host, port, timeout=TIMEOUT_SECONDS)
    smtp.ehlo()
    if smtp.has_extn("starttls"):
        smtp.starttls(context=ssl.create_default_context())
        smtp.ehlo()
    elif server.password is not None:
        smtp.close()
        raise DeliveryError("the server does not encrypt (STARTTLS), so it was not given the password")
    return smtp


def _log_in(smtp: smtplib.SMTP, server: SplitResult) -> None:
    if server.username is not None:
        smtp.login(unquote(server.username), unquote(server.password or ""))


def _cause(error: BaseException) -> str:
    """What went wrong, without the text of the error, unless that is the operating system's."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return "a time-out"
    strerror = getattr(reason, "strerror", None)
    return strerror if isinstance(strerror, str) else type(reason).__name__
